"""Who is on call: schedules, people and overrides, and whom a level pages by them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

PREFIX = "oncall:"
"""What a level writes before the name of a schedule."""
UNROUTABLE = ""
"""The target of the page that is recorded if the router names no target."""


@dataclass(frozen=True)
class Shifts:
    """A schedule: who is on call from one instant up to another."""

    spans: tuple[tuple[datetime, datetime, str], ...] = ()
    horizon: datetime | None = None
    """The instant from which on nothing is known; None: there is none."""


@dataclass(frozen=True)
class Override:
    """An operator's word that one person is on call from ``begin`` up to ``end``."""

    schedule: str
    person: str
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Roster:
    """What a worker knows of schedules, of people, and of targets."""

    people: Mapping[str, str] = field(default_factory=dict)
    """The target of each person."""
    schedules: Mapping[str, Shifts | None] = field(default_factory=dict)
    """None: the schedule cannot be read."""
    served: frozenset[str] | None = None
    """The targets that have a notifier; None: all have one."""
    default: str | None = None
    router: tuple[str, ...] = ("router",)

    def serves(self, target: str) -> bool:
        """Tell whether a notifier serves a target."""
        return target != UNROUTABLE and (self.served is None or target in self.served)

    def on_call(self, schedule: str, at: datetime, overrides: Sequence[Override]) -> frozenset[str] | None:
        """Return the people on call, or None if they are unknown. Of several overrides the last one counts."""
        for override in reversed(overrides):
            if override.schedule == schedule and override.begin <= at < override.end:
                return frozenset({override.person})
        shifts = self.schedules.get(schedule)
        if shifts is None or (shifts.horizon is not None and shifts.horizon <= at):
            return None
        return frozenset(person for begin, end, person in shifts.spans if begin <= at < end)

    def instead(self) -> dict[str, str | None]:
        """Return the targets that are paged in the place of something unknown, without a schedule."""
        default = self.default
        return dict.fromkeys(self.routed() if default is None or not self.serves(default) else (default,))

    def routed(self) -> tuple[str, ...]:
        """Return the router's targets."""
        return self.router or (UNROUTABLE,)

    def recipients(
        self, to: tuple[str, ...] | None, at: datetime, overrides: Sequence[Override]
    ) -> dict[str, str | None]:
        """Return the targets of a level, each with the schedule that names it. An empty level has none."""
        if to is None:
            return dict.fromkeys(self.routed())
        found: dict[str, str | None] = {}
        for target, via in self._named(to, at, overrides):
            if target is None or not self.serves(target):
                # What was found before stays as it is: the first mention of a target counts.
                found = found | self.instead() | found
            else:
                found.setdefault(target, via)
        return found

    def _named(
        self, to: tuple[str, ...], at: datetime, overrides: Sequence[Override]
    ) -> Iterator[tuple[str | None, str | None]]:
        for name in to:
            if not name.startswith(PREFIX):
                yield name, None
                continue
            schedule = name.removeprefix(PREFIX)
            people = self.on_call(schedule, at, overrides)
            if people is None:
                yield None, None
            else:
                yield from ((self.people.get(person), schedule) for person in sorted(people))
