"""Whom a level pages at an instant: its targets, and the people that its schedules name. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import attrs

from ..errors import InvalidValue
from ..model import ShiftOverride
from ..ports import Schedule
from .shifts import check_person

ONCALL = "oncall:"
"""The prefix of a schedule's name in the ``to`` of a level."""
OVERRIDE = "override"
"""The digest that a page keeps if an operator's override named the person."""

_NEVER = datetime.max.replace(tzinfo=UTC)
MAX_DIGEST_CHARS = 64
_MAX_STEPS = 1000
"""How many instants at which nothing changes are looked at, until the search for a change ends."""


@attrs.frozen
class Recipient:
    """A target, and the schedule that named its person."""

    target: str
    via: str | None = None
    """For example ``oncall:primary``; None if the level names the target itself."""
    digest: str | None = None
    """The digest of this schedule."""


@attrs.frozen
class Recipients:
    """Whom a level pages. If it names no one at all, neither targets nor schedules, the router decides."""

    known: tuple[Recipient, ...] = ()
    """Each target once: its first mention counts."""
    unknown: tuple[str, ...] = ()
    """What cannot be resolved: schedules that are not known at this instant, and people without a target."""
    gaps: tuple[str, ...] = ()
    """Schedules that name no one at this instant."""

    @property
    def empty(self) -> bool:
        """Whether the level has only schedules that all name no one."""
        return bool(self.gaps) and not self.known and not self.unknown


ROUTED = Recipients()
"""A level that names no one at all: the router decides."""


@attrs.frozen(kw_only=True)
class OnCall:
    """Who is on call, as one transaction knows it: the schedules, the targets of people, and operators' overrides."""

    schedules: Mapping[str, Schedule] = attrs.field(factory=dict)
    people: Mapping[str, str] = attrs.field(factory=dict)
    overrides: Sequence[ShiftOverride] = ()
    """In the order in which they were made."""
    _asked: dict[tuple[str, datetime], tuple[frozenset[str] | None, str]] = attrs.field(
        init=False, factory=dict, eq=False, repr=False
    )
    """The answers so far: a tick asks for all of its incidents at one instant."""

    def recipients(self, to: tuple[str, ...], at: datetime) -> Recipients:
        """Return whom a level pages that names ``to``."""
        if not any(name.startswith(ONCALL) for name in to):
            return _targets(to)
        found: dict[str, Recipient] = {}
        unknown: list[str] = []
        gaps: list[str] = []
        for name in to:
            schedule = schedule_of(name)
            if schedule is None:
                found.setdefault(name, Recipient(name))
                continue
            people, digest = self.on_call(schedule, at)
            if people is None:
                unknown.append(name)
            elif not people:
                gaps.append(name)
            for person in sorted(people or ()):
                target = self.people.get(person)
                if target is None:
                    unknown.append(f"{person} of {name}")
                else:
                    found.setdefault(target, Recipient(target, name, digest))
        return Recipients(tuple(found.values()), tuple(unknown), tuple(gaps))

    def on_call(self, schedule: str, at: datetime) -> tuple[frozenset[str] | None, str]:
        """Return the people who are on call, and the digest of what says so. None for the people: it is not known.

        An override counts before the schedule, and also while the schedule is not known. A schedule is not known from
        its horizon on, or if it raises an error.
        """
        found = self._asked.get((schedule, at))
        if found is None:
            found = self._asked[schedule, at] = self._ask(schedule, at)
        return found

    def _ask(self, schedule: str, at: datetime) -> tuple[frozenset[str] | None, str]:
        override = self.override(schedule, at)
        if override is not None:
            return frozenset({override.person}), OVERRIDE
        known = self.schedules.get(schedule)
        try:
            if known is None or known.horizon <= at:
                return None, ""
            people = known.on_call(at)
            if not isinstance(people, frozenset):
                return None, ""
            return frozenset(map(check_person, people)), check_digest(known.digest)
        except BaseException as error:
            # A host's schedule must not stop the escalation, whatever it raises.
            if ends_program(error):
                raise
            return None, ""

    def override(self, schedule: str, at: datetime) -> ShiftOverride | None:
        """Return the override in force for a schedule; None if there is none."""
        return override_at(self.overrides_of(schedule), at)

    def overrides_of(self, schedule: str) -> Sequence[ShiftOverride]:
        """Return the overrides of a schedule, in the order in which they were made."""
        return [one for one in self.overrides if one.schedule == schedule]

    def next_change(self, schedule: str, after: datetime) -> datetime | None:
        """Return the next instant at which other people are on call, as ``Schedule.next_change`` does."""
        people, at = self.on_call(schedule, after)[0], after
        for _ in range(_MAX_STEPS):
            at_next = self._next_edge(schedule, at)
            if at_next is None or self.on_call(schedule, at_next)[0] != people:
                return at_next
            at = at_next
        return None

    def _next_edge(self, schedule: str, after: datetime) -> datetime | None:
        try:
            return min(self._edges(schedule, after), default=None)
        except BaseException as error:
            if ends_program(error):
                raise
            return None  # a host's schedule does not say

    def _edges(self, schedule: str, after: datetime) -> Iterator[datetime]:
        """Yield instants after ``after`` at which the answer may change."""
        for one in self.overrides_of(schedule):
            yield from (edge for edge in (one.starts_at, one.ends_at) if edge > after)
        known = self.schedules.get(schedule)
        if known is not None:
            # A schedule whose horizon is the end of the calendar does not end.
            horizon = None if known.horizon >= _NEVER else known.horizon
            yield from (edge for edge in (known.next_change(after), horizon) if edge is not None and edge > after)


def override_at(overrides: Sequence[ShiftOverride], at: datetime) -> ShiftOverride | None:
    """Return the override of a schedule that counts at an instant: of those that cover it, the one made last."""
    return next((one for one in reversed(overrides) if one.covers(at)), None)


def check_digest(value: object) -> str:
    """Return the digest of a schedule: 1 to 64 printable characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_DIGEST_CHARS or not value.isprintable():
        remedy = f"give 1 to {MAX_DIGEST_CHARS} printable characters"
        raise InvalidValue("digest", "is not a valid digest of a schedule", remedy)
    return value


def ends_program(error: BaseException) -> bool:
    """Return whether an error is meant for the whole program, and not a fault of the code that raised it."""
    return isinstance(error, KeyboardInterrupt | SystemExit)


@lru_cache(maxsize=1000)
def _targets(to: tuple[str, ...]) -> Recipients:
    return Recipients(tuple(Recipient(name) for name in to))


def schedule_of(name: str) -> str | None:
    """Return the schedule that a level names; None if it names a target."""
    return name.removeprefix(ONCALL) if name.startswith(ONCALL) else None


def schedules_of(to: Sequence[str]) -> Iterator[str]:
    """Yield the schedules among what a level names."""
    return (schedule for name in to if (schedule := schedule_of(name)) is not None)
