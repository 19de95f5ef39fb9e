"""How long a worker sleeps. It never spins, and it is never late by more than it must."""

from datetime import datetime, timedelta

from .gate import Gate, Mode

MIN_CLAIM_SLEEP = timedelta(milliseconds=50)
"""The shortest sleep of the delivery loop when nothing could be claimed."""


def until_next_tick(
    *,
    earliest: datetime | None,
    now: datetime,
    gate: Gate,
    longest: timedelta,
    ticked_until: datetime | None,
    changed: bool,
) -> timedelta:
    """Return how long to sleep after a tick.

    ``earliest`` is the least next_due_at of the rows this engine may escalate, None if there is none, as seen at
    ``now``. The sleep ends there, or with the pause, and lasts ``longest`` at most, for what hosts write meanwhile.
    ``ticked_until`` is the instant up to which the tick claimed rows, None if a pause or a switch held it;
    ``changed`` is whether it wrote any.
    """
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if not gate.may_escalate or earliest is None:
        return longest
    if earliest > now:
        return min(earliest - now, longest)
    # The tick could claim what was due at its own instant: if it changed nothing, other transactions lock those rows.
    # What fell due since is new to it, for a timer may ring early, and counts may be taken before ``now``.
    had_its_chance = ticked_until is not None and earliest <= ticked_until
    return longest if had_its_chance and not changed else timedelta()


def until_next_claim(*, earliest: datetime | None, now: datetime, gate: Gate, longest: timedelta) -> timedelta:
    """Return how long the delivery loop sleeps when nothing could be claimed."""
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if not gate.may_escalate or earliest is None:
        return longest
    return min(max(earliest - now, MIN_CLAIM_SLEEP), longest)
