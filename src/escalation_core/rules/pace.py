"""The pace of a target: how many messages it may get now, by its budget, and by how often its receiver throttled it.

A budget is a token bucket that is kept as one instant, the generic cell rate algorithm of ITU-T I.371: ``free_at`` is
when all slots are free again, and each message moves it by the time between two. A receiver that asks for fewer
(429) throttles the target and halves the rate. Each message that follows raises it a little, and each quiet minute
doubles it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

import attrs

from ..checks import check_mapping
from ..errors import InvalidValue
from ..model import DueTarget, Pace

MAX_RATE, MIN_RATE = 10_000.0, 0.001
MAX_BURST = 1000
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


@attrs.frozen(kw_only=True)
class Budget:
    """How many messages all workers together send to a target: ``rate`` a second, and at most ``burst`` at once.

    A bundle is one message.

    Raises:
        InvalidValue: the rate is not between 0.001 and 10,000 messages a second, or the burst not between 1 and 1,000.
    """

    rate: float
    burst: int = 1

    def __attrs_post_init__(self) -> None:
        """Refuse values that cannot work."""
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float):
            raise InvalidValue("rate", f"is {type(self.rate).__name__}", "give a number of messages a second")
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise InvalidValue("rate", f"is {self.rate}", f"give {MIN_RATE:g} to {MAX_RATE:g} messages a second")
        if isinstance(self.burst, bool) or not isinstance(self.burst, int) or not 1 <= self.burst <= MAX_BURST:
            raise InvalidValue("burst", f"is {self.burst!r}", f"give 1 to {MAX_BURST} messages")

    @property
    def gap(self) -> timedelta:
        """The time between two messages."""
        return timedelta(seconds=1 / self.rate)

    def slots(self, free_at: datetime | None, now: datetime) -> int:
        """Return how many messages may be sent now."""
        return max(self.burst - -(-(self._taken_until(free_at, now) - now) // self.gap), 0)

    def after(self, free_at: datetime | None, count: int, now: datetime) -> datetime:
        """Return when all slots are free again, once ``count`` messages have taken theirs."""
        return self._taken_until(free_at, now) + count * self.gap

    def next_slot(self, free_at: datetime | None, now: datetime) -> datetime:
        """Return when the next message may be sent."""
        return max(self._taken_until(free_at, now) - (self.burst - 1) * self.gap, now)

    def _taken_until(self, free_at: datetime | None, now: datetime) -> datetime:
        """Return until when slots are taken, ``now`` if none is.

        All slots together take ``burst`` gaps, and a little more if the rate has grown since. If ``free_at`` lies much
        further ahead, the clock was set back, or the budget was raised. Then no slot is taken: a target must not be
        silent until the clock has caught up.
        """
        taken = free_at is not None and now < free_at <= now + 2 * self.burst * self.gap
        return free_at if taken and free_at is not None else now


def budgets_of(notifiers: Mapping[str, object], given: Mapping[str, Budget | None]) -> Mapping[str, Budget]:
    """Return the budgets of targets that have one: the settings' or, without an entry there, their notifier's.

    Raises:
        InvalidValue: the ``budgets`` of a notifier are not budgets.
    """
    found: dict[str, Budget] = {}
    for target, notifier in notifiers.items():
        if target in given:
            budget = given[target]
        else:
            own = check_mapping(getattr(notifier, "budgets", {}), "the notifier's budgets", "map targets to budgets")
            budget = own.get(target)
        if budget is None:
            continue
        if not isinstance(budget, Budget):
            fault = f"the notifier of {target!r} has {type(budget).__name__} for its budget"
            raise InvalidValue("notifiers", fault, "give Budget(rate=..., burst=...), or leave it out")
        found[target] = budget
    return found


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


def may_send_at(budget: Budget | None, due: DueTarget, now: datetime) -> datetime:
    """Return when the earliest page to a target may be sent."""
    pace, current = due.pace, in_force(budget, due.pace, now)
    if pace is None:
        return due.due_at
    held = due.due_at if pace.held_until is None else max(due.due_at, pace.held_until)
    return held if current is None else max(held, current.next_slot(pace.free_at, now))
