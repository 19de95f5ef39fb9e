"""Operators' pauses: while one lasts nothing escalates and no page is sent, whichever worker asks.

They are rows beside the schedule of the settings. Paused is who is paused by either: see ``paused_at``.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from .errors import InvalidValue
from .pause import PauseSchedule

LONGEST = timedelta(hours=24)
"""The longest pause that an operator may set; one that is needed for longer is set again."""
SCHEDULE = "schedule"
"""Who paused when it was the schedule."""
_MOST_LINKS = 1000


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


def paused_at(schedule: PauseSchedule | None, pauses: Sequence[Pause], now: datetime) -> Paused | None:
    """Return what pauses paging at ``now``: the union of the rows and of the schedule; None if nothing does.

    ``until`` is where the union ends: pauses that overlap or touch are one.
    """
    until = now
    for _ in range(_MOST_LINKS):
        end = _end(schedule, pauses, until)
        if end is None:
            break
        until = end
    if until == now:
        return None
    standing = [pause for pause in pauses if pause.covers(now) and not pause.lifts_schedule]
    if not standing:
        return Paused(until, SCHEDULE)
    longest = max(standing, key=lambda pause: pause.ends_at)
    return Paused(until, longest.actor, longest.reason)


def _end(schedule: PauseSchedule | None, pauses: Sequence[Pause], at: datetime) -> datetime | None:
    """Return when what pauses at this instant ends, the latest of all; None if nothing does."""
    standing = [pause for pause in pauses if pause.covers(at)]
    ends = [pause.ends_at for pause in standing if not pause.lifts_schedule]
    if schedule is not None and not any(pause.lifts_schedule for pause in standing):
        end = schedule.paused_until(at)
        if end is not None:
            ends.append(end)
    return max(ends, default=None)


def pause_from(now: datetime, until: datetime | timedelta, *, actor: str | None, reason: str | None) -> Pause:
    """Return the pause from now until an instant, or for a span.

    Raises:
        InvalidValue: it would be over already, or longer than 24 hours.
    """
    end = now + max(timedelta(), min(until, 2 * LONGEST)) if isinstance(until, timedelta) else until
    if end <= now:
        raise InvalidValue("until", "is over already", "give an instant to come, or a span")
    if end > now + LONGEST:
        raise InvalidValue("until", "is more than 24 hours away", "pause for 24 hours at most, and again if need be")
    return Pause(starts_at=now, ends_at=end, actor=actor, reason=reason)
