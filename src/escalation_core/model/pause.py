"""A pause: while it lasts nothing escalates and no page is sent, whichever worker asks."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Pause:
    """One row: a pause that an operator set, or the scheduled window that one lifted."""

    starts_at: datetime
    ends_at: datetime
    actor: str | None = None
    reason: str | None = None
    lifts_schedule: bool = False
    """From start to end the schedule does not count."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "Pause":
        """Return the pause of a store's row: values in the order of the fields."""
        start, end, actor, reason, lifts = row
        return cls(
            starts_at=instant(start), ends_at=instant(end), actor=actor, reason=reason, lifts_schedule=bool(lifts)
        )

    def covers(self, instant: datetime) -> bool:
        """Tell whether the row counts at this instant."""
        return self.starts_at <= instant < self.ends_at


@attrs.frozen
class Paused:
    """That paging is paused: until when, by whom and why."""

    until: datetime
    by: str | None = None
    reason: str | None = None
