"""What the commands about people on call read, and how they write instants."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs

from escalation_core import Cover, Engine, EscalationError, InvalidValue, Rotation, coverage
from escalation_core.checks import nearest, quoted
from escalation_core.ports import Schedule
from escalation_core.rules.on_call import OnCall

from ..oncall_picture.days import WEEKDAYS
from .output import Times, on_terminal, show, zone_name


@attrs.frozen
class Zones:
    """The zone in which the instants of each schedule are shown."""

    schedules: Mapping[str, Schedule]
    now: datetime
    given: ZoneInfo | None = None
    """The zone of ``--zone``."""

    def of(self, schedule: str) -> ZoneInfo:
        """Return the zone of ``--zone``, or else the zone of a rotation that has only one, or else UTC."""
        known = self.schedules.get(schedule)
        if self.given is None and isinstance(known, Rotation):
            names = {layer.zone for layer in known.layers}
            if len(names) == 1:
                return ZoneInfo(*names)
        return self.given or ZoneInfo("UTC")

    def at(self, schedule: str, instant: datetime) -> str:
        """Return an instant: on a terminal with its weekday and its zone, elsewhere in UTC, ISO 8601."""
        if not on_terminal():
            return show(instant)
        there = instant.astimezone(self.of(schedule))
        return f"{WEEKDAYS[there.weekday()]} {there:%Y-%m-%d %H:%M} {zone_name(there)}"

    def when(self, schedule: str, instant: datetime) -> str:
        """Return an instant as ``at``, on a terminal with its distance from now, for example ``(in 4 min)``."""
        distance = f" ({Times(self.now).relative(instant)})" if on_terminal() else ""
        return self.at(schedule, instant) + distance


@attrs.frozen
class Snapshot:
    """Who is on call, as the store and the schedules say at one instant."""

    now: datetime
    on_call: OnCall
    names: Sequence[str]
    """The schedules, also those that could not be loaded."""

    def chosen(self, name: str | None) -> Sequence[str]:
        """Return the schedules that a command shows: the given one, or else all of them.

        Raises:
            InvalidValue: there is no such schedule. The remedy has the nearest one.
        """
        if name is None:
            return self.names
        if name not in self.names:
            known = f"the nearest is {nearest(name, self.names)!r}" if self.names else "there is none"
            raise InvalidValue("schedule", f"{quoted(name)} is not a known schedule", known)
        return [name]

    def coverage(self, schedule: str, start: datetime, end: datetime) -> Sequence[Cover]:
        """Return who is on call for a schedule between two instants, with operators' overrides."""
        return coverage(self.on_call.schedules.get(schedule), start, end, self.on_call.overrides_of(schedule))

    def after(self, until: datetime | timedelta) -> datetime:
        """Return the instant that an option names: a span counts from now."""
        return self.now + until if isinstance(until, timedelta) else until


async def read(engine: Engine, *, past: timedelta = timedelta()) -> Snapshot:
    """Load the schedules of all sources, and return who is on call. ``past`` is how far back overrides matter."""
    if engine.policies_fault is not None:
        # Without the file there would be no schedule, and so no gap.
        raise EscalationError(f"the policies file could not be loaded: {engine.policies_fault}")
    await engine.load_schedules()
    now, policies = await engine.now(), engine.policies
    schedules = engine.schedules
    named = () if policies is None else policies.calendars
    people = {} if policies is None else policies.people
    overrides = await engine.overrides(now - past)
    on_call = OnCall(schedules=schedules, people=people, overrides=overrides)
    return Snapshot(now.astimezone(UTC), on_call, sorted({*schedules, *named}))
