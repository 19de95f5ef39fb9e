"""How long the runner sleeps. Pure: it never spins, and it is never late by more than it must."""

from datetime import datetime, timedelta

from .gate import Gate, Mode
from .report import TickReport
from .settings import Settings


def until_next_tick(
    report: TickReport, *, earliest: datetime | None, now: datetime, gate: Gate, settings: Settings
) -> timedelta:
    """Return how long to sleep after the tick that ``report`` tells of.

    ``earliest`` is the least next_due_at of the rows this engine may escalate, None if there is none, as seen at
    ``now``. The sleep ends there, or with the pause, and lasts one tick interval at most, for what hosts write unseen.
    """
    longest = settings.tick_interval
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if report.dry_run or not gate.pages or earliest is None:
        return longest
    if earliest > now:
        return min(earliest - now, longest)
    # The tick had its chance at what was due at its own instant, unless a pause held it: others hold those rows. What
    # fell due since is new to it, for a timer may ring early, and between the tick and ``now`` counts may be taken.
    had_its_chance = report.mode is Mode.OPEN and earliest <= (report.at or now)
    return longest if had_its_chance and not report.changed else timedelta()


def until_next_claim(*, earliest: datetime | None, now: datetime, gate: Gate, settings: Settings) -> timedelta:
    """Return how long the delivery loop sleeps when nothing could be claimed."""
    longest = settings.tick_interval
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if settings.dry_run or not gate.pages or earliest is None:
        return longest
    return min(max(earliest - now, timedelta(milliseconds=50)), longest)
