"""How long the runner sleeps. Pure: it never spins, and it is never late by more than it must."""

from datetime import datetime, timedelta

from .gate import Gate, Mode
from .report import TickReport
from .settings import Settings


def until_next_tick(
    report: TickReport, *, earliest: datetime | None, now: datetime, gate: Gate, settings: Settings
) -> timedelta:
    """Return how long to sleep after the tick that ``report`` tells of.

    ``earliest`` is the least next_due_at of the rows this engine may escalate, None if there is none. The sleep ends
    there, or with the pause, and lasts one tick interval at most, for what hosts write unseen.
    """
    longest = settings.tick_interval
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if report.dry_run or not gate.pages or earliest is None:
        return longest
    if earliest <= now:
        # What is due now was due for the last tick as well, unless that changed something: others hold those rows.
        return timedelta() if report.changed else longest
    return min(earliest - now, longest)


def until_next_claim(*, earliest: datetime | None, now: datetime, gate: Gate, settings: Settings) -> timedelta:
    """Return how long the delivery loop sleeps when nothing could be claimed."""
    longest = settings.tick_interval
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if settings.dry_run or not gate.pages or earliest is None:
        return longest
    return min(max(earliest - now, timedelta(milliseconds=50)), longest)
