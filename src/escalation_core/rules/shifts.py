"""A schedule that is a list of shifts, for example what a calendar holds."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from ..checks import check_instant, check_text
from ..errors import InvalidValue


def check_person(value: object, field: str = "person") -> str:
    """Return the name of a person: 1 to 200 printable characters, not blank at either end."""
    name = check_text(value, field)
    if not 1 <= len(name) <= 200 or name != name.strip() or not name.isprintable():
        raise InvalidValue(field, "is not a valid person", "give 1 to 200 printable characters")
    return name


def _start(value: object) -> datetime:
    return check_instant(value, "start").astimezone(UTC)


def _end(value: object) -> datetime:
    return check_instant(value, "end").astimezone(UTC)


def _horizon(value: object) -> datetime:
    return check_instant(value, "horizon").astimezone(UTC)


@attrs.frozen(kw_only=True)
class Shift:
    """One person is on call from ``start``, and no longer at ``end``. Both are aware instants, kept in UTC.

    Raises:
        InvalidValue: the person or an instant is not valid, or the shift does not end after it starts.
    """

    person: str = attrs.field(converter=check_person)
    start: datetime = attrs.field(converter=_start)
    end: datetime = attrs.field(converter=_end)

    def __attrs_post_init__(self) -> None:
        """Check that the shift ends after it starts."""
        if self.end <= self.start:
            raise InvalidValue("end", "is not after start", "give an end after the start")


def _known_from(value: object) -> datetime | None:
    return None if value is None else check_instant(value, "known_from").astimezone(UTC)


def _shifts(value: Sequence[Shift]) -> tuple[Shift, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, Shift) for each in value):
        raise InvalidValue("shifts", "is not a valid list of shifts", "give a list of Shift(...)")
    return tuple(sorted(value, key=lambda each: (each.start, each.end, each.person)))


@attrs.frozen(kw_only=True)
class Shifts:
    """A schedule of given shifts, up to a horizon. Shifts may overlap: then several people are on call.

    ``known_from`` is for shifts of a part of the past only: about earlier instants ``on_call`` raises InvalidValue, so
    that they are unknown, and no gap.

    Raises:
        InvalidValue: the shifts or the horizon are not valid.
    """

    shifts: tuple[Shift, ...] = attrs.field(converter=_shifts)
    horizon: datetime = attrs.field(converter=_horizon)
    known_from: datetime | None = attrs.field(default=None, converter=_known_from)
    digest: str = attrs.field(init=False)
    """The sha256 of shifts, horizon and ``known_from``."""
    _edges: Sequence[datetime] = attrs.field(init=False, repr=False, eq=False)
    """Each instant at which the answer changes, in order."""
    _people: Sequence[frozenset[str]] = attrs.field(init=False, repr=False, eq=False)
    """Who is on call from each of these instants on."""

    def __attrs_post_init__(self) -> None:
        """Compute the digest, and who is on call when."""
        said = [[each.person, each.start.isoformat(), each.end.isoformat()] for each in self.shifts]
        span = [self.horizon.isoformat(), *(() if self.known_from is None else (self.known_from.isoformat(),))]
        text = json.dumps([*span, said], separators=(",", ":"), ensure_ascii=False)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())
        edges, people = _changes(self.shifts)
        object.__setattr__(self, "_edges", edges)
        object.__setattr__(self, "_people", people)

    def on_call(self, at: datetime) -> frozenset[str]:
        """Return who is on call; empty in a gap.

        Raises:
            InvalidValue: the instant lies before ``known_from``.
        """
        if self.known_from is not None and check_instant(at, "at") < self.known_from:
            raise InvalidValue("at", f"lies before {self.known_from.isoformat()}", "ask about later instants")
        number = bisect_right(self._edges, check_instant(at, "at"))
        return self._people[number - 1] if number else frozenset()

    def next_change(self, after: datetime) -> datetime | None:
        """Return the next instant at which other people are on call; None if there is none before the horizon."""
        number = bisect_right(self._edges, check_instant(after, "after"))
        return self._edges[number] if number < len(self._edges) and self._edges[number] < self.horizon else None


def _changes(shifts: Sequence[Shift]) -> tuple[list[datetime], list[frozenset[str]]]:
    """Return the instants at which the people on call change, and who they are from then on."""
    begins_ends = sorted(
        [(each.start, 1, each.person) for each in shifts] + [(each.end, -1, each.person) for each in shifts],
        key=lambda each: each[0],
    )
    count: dict[str, int] = {}
    edges: list[datetime] = []
    people: list[frozenset[str]] = []
    for number, (at, change, person) in enumerate(begins_ends):
        count[person] = count.get(person, 0) + change
        if not count[person]:
            del count[person]
        if number + 1 < len(begins_ends) and begins_ends[number + 1][0] == at:
            continue
        now = frozenset(count)
        if now != (people[-1] if people else frozenset()):
            edges.append(at)
            people.append(now)
    return edges, people
