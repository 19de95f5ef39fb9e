"""A layer of a rotation: people who take turns on the wall clock of a zone."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from ..checks import check_text
from ..errors import InvalidValue
from .hours import Hours
from .maintenance import check_zone
from .policy import MAX_SPAN
from .shifts import check_person
from .wall_clock import FIRST, LAST, check_reading, first_shown

MIN_TURN = timedelta(hours=1)
MAX_PEOPLE = 1000
_DAY = timedelta(days=1)

_NEVER = datetime.max.replace(tzinfo=UTC)


def check_turn(value: object) -> timedelta:
    """Return the length of a turn: 1 hour to a year, in whole seconds."""
    if not isinstance(value, timedelta):
        raise InvalidValue("turn", f"is {type(value).__name__}", "give a timedelta")
    if not MIN_TURN <= value <= MAX_SPAN:
        raise InvalidValue("turn", f"is {value}", f"give 1 hour to {MAX_SPAN.days} days")
    if value.microseconds:
        raise InvalidValue("turn", f"is {value}", "give whole seconds")
    return value


def check_people(value: object) -> tuple[str, ...]:
    """Return the people of a layer: 1 to 1000 names, each once."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidValue("people", f"is {type(value).__name__}", "give a list of names")
    if not 1 <= len(value) <= MAX_PEOPLE:
        raise InvalidValue("people", f"has {len(value)} people", f"give 1 to {MAX_PEOPLE}")
    people = tuple(check_person(each) for each in value)
    for index, person in enumerate(people):
        if person in people[:index]:
            fault = f"has the same person at places {people.index(person) + 1} and {index + 1}"
            raise InvalidValue("people", fault, "name each person once")
    return people


def _start(value: object) -> datetime:
    return check_reading(value, "start")


def _until(value: object) -> datetime | None:
    return None if value is None else check_reading(value, "until")


@attrs.frozen(kw_only=True)
class Layer:
    """People who take turns, in this order, from ``start`` on. Turn n goes to the person n modulo their number.

    If ``turn`` is a whole number of days, turns are days of the zone: each begins when the zone's clock shows the time
    of ``start``. A reading that summer time skips counts when the clock changes, and one that it repeats the first
    time. Any other turn is elapsed time since the start.

    Raises:
        InvalidValue: a field is not valid, the layer ends before it starts, or its hours do not open before its end.
    """

    zone: str
    start: datetime = attrs.field(converter=_start)
    """The local time, without a time zone, at which the first turn begins. Before it the layer names no one."""
    turn: timedelta = attrs.field(converter=check_turn)
    """1 hour to 365 days."""
    people: tuple[str, ...] = attrs.field(converter=check_people)
    hours: Hours | None = None
    """The hours in which the layer names its person. None: always. They may have another zone."""
    until: datetime | None = attrs.field(default=None, converter=_until)
    """The local time at which the layer ends. None: it does not end."""
    clock: ZoneInfo = attrs.field(init=False, repr=False, eq=False)
    """The zone's wall clock."""
    begins: datetime = attrs.field(init=False, repr=False, eq=False)
    """The instant at which the first turn begins."""
    ends: datetime = attrs.field(init=False, repr=False, eq=False)
    """The instant at which the layer ends; the end of the calendar without ``until``."""

    def __attrs_post_init__(self) -> None:
        """Load the zone, and find the instants of start and end."""
        try:
            zone = check_zone(check_text(self.zone, "zone"))
        except InvalidValue as error:
            raise InvalidValue("zone", error.fault, error.remedy) from None
        if self.until is not None and self.until <= self.start:
            raise InvalidValue("until", "is not after start", "give a later local time, or leave it out")
        object.__setattr__(self, "clock", zone)
        object.__setattr__(self, "begins", first_shown(self.start, zone))
        object.__setattr__(self, "ends", _NEVER if self.until is None else first_shown(self.until, zone))
        opens = None if self.until is None or self.hours is None else self.hours.next_open(self.begins)
        if opens is not None and opens >= self.ends:
            raise InvalidValue("hours", "do not open before the layer ends", "write other hours, or a later until")

    def person(self, at: datetime) -> str | None:
        """Return whom the layer names at an instant; None before its start, after its end and outside its hours."""
        at = min(max(at, FIRST), LAST)
        if not self.begins <= at < self.ends:
            return None
        if self.hours is not None and not self.hours.is_open(at):
            return None
        return self.people[self._turn_at(at) % len(self.people)]

    def next_edge(self, at: datetime) -> datetime | None:
        """Return the next instant after ``at`` at which the layer may name another person, or begins or ceases to."""
        edges: list[datetime | None] = [None if self.until is None else self.ends]
        since = min(max(at, FIRST), LAST)
        if self.person(at) is None:
            begin = max(since, self.begins)
            edges.append(begin if self.hours is None else self.hours.next_open(begin))
        else:
            edges += [
                self._begin(self._turn_at(since) + 1) if len(self.people) > 1 else None,
                None if self.hours is None else self.hours.next_change(since),
            ]
        return min((edge for edge in edges if edge is not None and edge > at), default=None)

    def as_mapping(self) -> Mapping[str, Any]:
        """Return the layer as the policies file writes it, with its hours by name."""
        return {
            "zone": self.zone,
            "start": self.start.isoformat(),
            "turn": f"{self.turn // timedelta(seconds=1)}s",
            "people": list(self.people),
            **({} if self.hours is None else {"hours": self.hours.name}),
            **({} if self.until is None else {"until": self.until.isoformat()}),
        }

    def _turn_at(self, at: datetime) -> int:
        """Return the number of the turn that runs at an instant after the start."""
        if self.turn % _DAY:
            return (at - self.begins) // self.turn
        # The clock may have shown later readings before it was set back.
        number = (at.astimezone(self.clock).replace(tzinfo=None) - self.start) // self.turn
        while (begin := self._begin(number + 1)) is not None and begin <= at:
            number += 1
        return number

    def _begin(self, number: int) -> datetime | None:
        """Return the instant at which a turn begins; None beyond the calendar."""
        try:
            if self.turn % _DAY:
                return self.begins + number * self.turn
            return first_shown(self.start + number * self.turn, self.clock)
        except OverflowError:
            return None
