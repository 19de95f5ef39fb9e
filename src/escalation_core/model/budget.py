"""The budget of a target: a token bucket kept as one instant, the generic cell rate algorithm of ITU-T I.371."""

from datetime import datetime, timedelta

import attrs

from ..errors import InvalidValue

MAX_RATE, MIN_RATE = 10_000.0, 0.001
MAX_BURST = 1000


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

    @property
    def spare(self) -> int:
        """How many slots notices leave to pages: half of a burst."""
        return self.burst // 2

    def next_slot(self, free_at: datetime | None, now: datetime, *, spare: bool = False) -> datetime:
        """Return when the next message may be sent. With ``spare``, when it leaves those slots to others."""
        taken = self.burst - 1 - (self.spare if spare else 0)
        return max(self._taken_until(free_at, now) - taken * self.gap, now)

    def _taken_until(self, free_at: datetime | None, now: datetime) -> datetime:
        """Return until when slots are taken, ``now`` if none is.

        All slots together take ``burst`` gaps, and a little more if the rate has grown since. If ``free_at`` lies much
        further ahead, the clock was set back, or the budget was raised. Then no slot is taken: a target must not be
        silent until the clock has caught up.
        """
        taken = free_at is not None and now < free_at <= now + 2 * self.burst * self.gap
        return free_at if taken and free_at is not None else now
