"""A pause: while it lasts nothing escalates and no page is sent, whichever worker asks."""

from datetime import datetime

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

    def covers(self, instant: datetime) -> bool:
        """Tell whether the row counts at this instant."""
        return self.starts_at <= instant < self.ends_at


@attrs.frozen
class Paused:
    """That paging is paused: until when, by whom and why."""

    until: datetime
    by: str | None = None
    reason: str | None = None
