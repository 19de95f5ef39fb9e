"""Records of a pause. During a pause no worker escalates an incident or claims a page."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Pause:
    """One row: a pause that an operator set, or a maintenance window of the schedule that an operator lifted."""

    starts_at: datetime
    ends_at: datetime
    actor: str | None = None
    reason: str | None = None
    lifts_schedule: bool = False
    """True if the row pauses nothing, but suspends the schedule of the settings from start to end."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "Pause":
        """Return the pause in a store's row: the values in the order of the fields."""
        start, end, actor, reason, lifts = row
        return cls(
            starts_at=instant(start), ends_at=instant(end), actor=actor, reason=reason, lifts_schedule=bool(lifts)
        )

    def covers(self, instant: datetime) -> bool:
        """Return whether the row is in force at this instant; its end is excluded."""
        return self.starts_at <= instant < self.ends_at


@attrs.frozen
class Paused:
    """The pause in force: when it ends, who set it and why."""

    until: datetime
    by: str | None = None
    reason: str | None = None
