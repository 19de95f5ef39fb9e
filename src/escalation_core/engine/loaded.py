"""A schedule as a source loaded it, and the checks that it must pass to take the place of the one before."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import attrs

from ..errors import InvalidValue, error_place
from ..ports import Schedule
from ..rules.coverage import runs_out
from ..rules.on_call import check_digest, ends_program
from ..rules.wall_clock import later
from .tasks import monotonic

ENDS_SOON = timedelta(days=7)
"""How long before the end of what a schedule knows health and the log begin to warn."""
_PROBES = tuple(timedelta(hours=hours) for hours in range(1, 25))
"""How long ago: for these instants a schedule must not change its answers while its digest stays the same."""

Origin = tuple[int, str | None]
"""The number of a source, and the path or URL of a calendar; None for a host's own source."""


@attrs.frozen
class Loaded:
    """A schedule as a source loaded it."""

    schedule: Schedule
    origin: Origin
    at: float
    """When it was loaded, by the loop's clock."""
    digest: str
    horizon: datetime
    past: Mapping[datetime, frozenset[str]]
    """What it answered about the day before."""
    runs_out: datetime | None = None
    """From when on it names no one, if that is soon: its last shift ends then."""

    def health(self, now: datetime) -> "ScheduleHealth":
        """Return what health says about it. ``now`` is the store's instant."""
        return ScheduleHealth(
            age=monotonic() - self.at,
            horizon=self.horizon,
            ends_soon=self.horizon - now < ENDS_SOON,
            runs_out=self.runs_out,
        )


@attrs.frozen(kw_only=True)
class ScheduleHealth:
    """What health says about one schedule of a source."""

    age: float
    """Seconds since it was loaded."""
    horizon: datetime
    ends_soon: bool
    """Whether it ends within a week."""
    runs_out: datetime | None = None
    """From when on it names no one, if that is within a week of its load; None if it goes on."""

    def warning(self, name: str) -> str | None:
        """Return a warning if it is soon not known who is on call, or no one is any more."""
        if self.ends_soon:
            return f"schedule {name!r} ends at {self.horizon.isoformat()}: from then on it is not known who is on call"
        if self.runs_out is not None:
            since = self.runs_out.isoformat()
            return f"schedule {name!r} has no shift after {since}: from then on no one is on call; add shifts"
        return None


def sound(schedule: object, origin: Origin, before: Loaded | None, now: datetime) -> Loaded | str:
    """Return a loaded schedule, or what is wrong with it. ``before`` is the one in force under its name."""
    try:
        fault = _fault(schedule, origin, before, now)
        if fault is not None or not isinstance(schedule, Schedule):
            return fault or "is not a schedule"
        past = {now - ago: schedule.on_call(now - ago) for ago in _PROBES}
        until = runs_out(schedule, now, later(now, ENDS_SOON))
        horizon = schedule.horizon.astimezone(UTC)
        return Loaded(schedule, origin, monotonic(), schedule.digest, horizon, past, until)
    except InvalidValue as fault:
        return f"is refused: {fault}"
    except BaseException as error:
        # A host's schedule may raise anything.
        if ends_program(error):
            raise
        return f"raised {error_place(error)}"


def _fault(schedule: object, origin: Origin, before: Loaded | None, now: datetime) -> str | None:
    if not isinstance(schedule, Schedule):
        return "is not a schedule"
    check_digest(schedule.digest)
    if not isinstance(schedule.on_call(now), frozenset):
        return "returns something other than a frozenset of people from on_call"
    schedule.next_change(now)
    if schedule.horizon <= now:
        return f"ends at {schedule.horizon.isoformat()}, which is over: it is old"
    if before is None or before.origin != origin or not _knows(before.schedule, now):
        return None
    if schedule.horizon < before.horizon:
        known = before.horizon.isoformat()
        return f"ends at {schedule.horizon.isoformat()}, and was known until {known}: it is old, or restart to use it"
    return _changed(schedule, before)


def _knows(schedule: Schedule, now: datetime) -> bool:
    """Return whether a schedule answers about now: a calendar that was read with a clock far ahead does not."""
    try:
        schedule.on_call(now)
    except InvalidValue:
        return False
    return True


def _changed(schedule: Schedule, before: Loaded) -> str | None:
    """Return why a schedule changes its mind about the past without another digest; None if it does not."""
    if before.digest != schedule.digest:
        return None
    for at, people in before.past.items():
        if schedule.on_call(at) != people:
            if before.schedule is schedule:
                return f"has changed its answer about {at.isoformat()}: a load must return a new object"
            return f"has the same digest, but another answer about {at.isoformat()}: it must not change"
    return None
