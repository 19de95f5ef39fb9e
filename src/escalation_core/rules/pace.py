"""The pace of a target: how many messages it may get now, by its budget, and by how often its receiver throttled it.

A budget is a token bucket that is kept as one instant, the generic cell rate algorithm of ITU-T I.371: ``free_at`` is
when all slots are free again, and each message moves it by the time between two. A receiver that asks for fewer
(429) throttles the target and halves the rate. Each message that follows raises it a little, and each quiet minute
doubles it.
"""

from datetime import datetime, timedelta

import attrs

from ..model import Budget, DueTarget, Pace

FIRST_RATE = 1.0
"""Messages a second to a target without a budget whose receiver has asked for fewer."""
LEAST_RATE = 0.2
"""Throttling lowers a rate no further than to this. A receiver that needs longer waits says so in its Retry-After."""
FREE_RATE = 100.0
"""A target without a budget has no limit again once its lowered rate would be this."""
GROWTH = 1.02
"""The factor by which each message raises a lowered rate. From half of a rate to all of it takes 35 messages, so a
receiver that throttles whatever exceeds its rate throttles about 1 message in 36."""
_SECOND = timedelta(seconds=1)
QUIET = timedelta(minutes=1)
"""A lowered rate doubles with each such time in which no message takes a slot."""


def in_force(budget: Budget | None, pace: Pace | None, now: datetime) -> Budget | None:
    """Return the budget of a target as it is now: lowered if its receiver has asked for fewer messages."""
    if pace is None or not pace.slowed:
        return budget
    whole = FREE_RATE if budget is None else budget.rate
    before = min(pace.rate or (2 * FIRST_RATE if budget is None else whole), whole)
    if pace.refused:
        return Budget(rate=max(before / 2, min(whole, LEAST_RATE)))
    last = max((at for at in (pace.free_at, pace.held_until) if at is not None), default=now)
    rate = before * 2.0 ** min(max(now - last, timedelta()) / QUIET, 20.0)
    return budget if rate >= whole else Budget(rate=rate)


def after_taking(budget: Budget | None, pace: Pace, count: int, now: datetime) -> Pace:
    """Return the pace of a target after ``count`` messages have taken their slots."""
    current = in_force(budget, pace, now)
    if current is None:
        return attrs.evolve(pace, rate=None, refused=False)
    free_at = current.after(pace.free_at, count, now)
    grown = current.rate * GROWTH**count
    if pace.free_at is not None and now > pace.free_at:
        # The messages come more slowly than the rate allows, so they do not show that the receiver takes as many.
        grown = min(grown, max(current.rate, 2 * count / ((now - pace.free_at + current.gap) / _SECOND)))
    whole = current == budget or grown >= (FREE_RATE if budget is None else budget.rate)
    return attrs.evolve(pace, free_at=free_at, rate=None if whole else grown, refused=False)


def may_send_at(budget: Budget | None, due: DueTarget, now: datetime, *, spare: bool = False) -> datetime:
    """Return when the earliest page to a target may be sent. With ``spare``, a slot must be left for another one."""
    pace, current = due.pace, in_force(budget, due.pace, now)
    if pace is None:
        return due.due_at
    held = due.due_at if pace.held_until is None else max(due.due_at, pace.held_until)
    return held if current is None else max(held, current.next_slot(pace.free_at, now, spare=spare))
