"""Records of who is on call."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ShiftOverride:
    """One row: from ``starts_at``, and no longer at ``ends_at``, this person alone is on call for the schedule.

    Of several rows that cover an instant, the one that was made last counts.
    """

    schedule: str
    person: str
    starts_at: datetime
    ends_at: datetime
    made_at: datetime
    actor: str | None = None
    reason: str | None = None

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "ShiftOverride":
        """Return the override in a store's row: the values in the order of the fields."""
        schedule, person, starts, ends, made, actor, reason = row
        return cls(
            schedule=schedule,
            person=person,
            starts_at=instant(starts),
            ends_at=instant(ends),
            made_at=instant(made),
            actor=actor,
            reason=reason,
        )

    def after_step(self, now: datetime) -> "ShiftOverride":
        """Return the override as it counts at ``now``.

        If it was made later than now, the clock was set back meanwhile. One that had begun then has begun now as well.
        """
        if self.made_at <= now or not now < self.starts_at <= self.made_at:
            return self
        return attrs.evolve(self, starts_at=now)

    def covers(self, at: datetime) -> bool:
        """Return whether the override is in force at this instant."""
        return self.starts_at <= at < self.ends_at
