"""The sleep rules decide how long a worker waits: until the next row or page is due, without a busy loop."""

from datetime import datetime, timedelta

from .gate import Gate, Mode

MIN_CLAIM_SLEEP = timedelta(milliseconds=50)
"""The sleep of the delivery loop if a page is due that it could not claim: others have locked it."""
LEAST_WAIT = timedelta(milliseconds=2)
"""The shortest sleep of the delivery loop until a page is due or a slot is free: a limit for very large budgets."""


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

    ``earliest`` is the earliest next_due_at at ``now`` of the rows that this engine may escalate; None without a row.
    The sleep ends at that instant or with the pause. It lasts at most ``longest``, because hosts may write rows
    meanwhile. ``ticked_until`` is the instant up to which the tick claimed rows; None if a pause or a switch kept it
    from claiming. ``changed`` is whether the tick wrote any row.
    """
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if not gate.may_escalate or earliest is None:
        return longest
    if earliest > now:
        return min(earliest - now, longest)
    # The tick could claim every row that was due at its instant. If it wrote none, other transactions lock those rows,
    # and an immediate tick would find them locked again. A row that became due later is new to the next tick.
    had_its_chance = ticked_until is not None and earliest <= ticked_until
    return longest if had_its_chance and not changed else timedelta()


def until_next_claim(*, earliest: datetime | None, now: datetime, gate: Gate, longest: timedelta) -> timedelta:
    """Return how long the delivery loop sleeps after a claim that found no page."""
    if gate.mode is Mode.PAUSED and gate.until is not None:
        return min(max(gate.until - now, timedelta()), longest)
    if not gate.may_escalate or earliest is None:
        return longest
    wait = earliest - now
    return min(max(wait, LEAST_WAIT) if wait > timedelta() else MIN_CLAIM_SLEEP, longest)
