"""A schedule that is a rotation: layers of people who take turns, and overrides that take precedence."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from ..checks import check_instant
from ..errors import InvalidValue
from .hours import Hours
from .layer import Layer
from .shifts import check_person
from .wall_clock import later

MAX_LAYERS = 50
MAX_OVERRIDES = 1000
_MAX_SEARCH = timedelta(days=732)
"""Two years and a day: how far ``next_change`` looks."""
_MAX_EDGES = 5000
_Known = tuple[str | None, datetime | None]
"""Whom a layer names, and the next instant at which that may change."""
_UNASKED: _Known = (None, datetime.min.replace(tzinfo=UTC))


def _start(value: object) -> datetime:
    return check_instant(value, "start")


def _end(value: object) -> datetime:
    return check_instant(value, "end")


@attrs.frozen(kw_only=True)
class Override:
    """One person is on call from ``start``, and no longer at ``end``, whatever the layers say. Both are instants.

    Raises:
        InvalidValue: a field is not valid, or the override does not end after it starts.
    """

    start: datetime = attrs.field(converter=_start)
    end: datetime = attrs.field(converter=_end)
    person: str = attrs.field(converter=check_person)

    def __attrs_post_init__(self) -> None:
        """Check that the override ends after it starts."""
        if self.end <= self.start:
            raise InvalidValue("end", "is not after start", "give an end after the start")


def _layers(value: Sequence[Layer]) -> tuple[Layer, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, Layer) for each in value):
        raise InvalidValue("layers", "is not a valid list of layers", "give a list of Layer(...)")
    if not 1 <= len(value) <= MAX_LAYERS:
        raise InvalidValue("layers", f"has {len(value)} layers", f"give 1 to {MAX_LAYERS}")
    return tuple(value)


def _overrides(value: Sequence[Override]) -> tuple[Override, ...]:
    valid = not isinstance(value, str) and isinstance(value, Sequence)
    if not valid or not all(isinstance(each, Override) for each in value):
        raise InvalidValue("overrides", "is not a valid list of overrides", "give a list of Override(...)")
    if len(value) > MAX_OVERRIDES:
        raise InvalidValue("overrides", f"has {len(value)} overrides", f"give at most {MAX_OVERRIDES}")
    return tuple(value)


@attrs.frozen(kw_only=True)
class Rotation:
    """A schedule of layers and overrides. The last override that covers an instant decides, or else the last layer.

    A layer that names no one at the instant leaves it to the layers before it. If none of them names a person, it is
    a gap. Nothing is unknown: the horizon is the end of the calendar.

    Raises:
        InvalidValue: there is no layer, there are too many of something, or a layer never applies.
    """

    layers: tuple[Layer, ...] = attrs.field(converter=_layers)
    overrides: tuple[Override, ...] = attrs.field(default=(), converter=_overrides)
    horizon: datetime = attrs.field(init=False, repr=False, default=datetime.max.replace(tzinfo=UTC))
    digest: str = attrs.field(init=False, eq=False)
    """The sha256 of layers, their hours, and overrides."""

    def __attrs_post_init__(self) -> None:
        """Refuse layers that never apply, and compute the digest."""
        for number in range(len(self.layers) - 1):
            if self._never_decides(number):
                fault = "never applies: whenever it names a person, a later layer names one instead"
                raise InvalidValue(f"layers[{number}]", fault, "leave it out, or change the order of the layers")
        hours = [None if layer.hours is None else layer.hours.as_mapping() for layer in self.layers]
        text = json.dumps([self.as_mapping(), hours], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def hours(self) -> Mapping[str, Hours]:
        """The hours that the layers use, by name."""
        return {layer.hours.name: layer.hours for layer in self.layers if layer.hours is not None}

    @property
    def people(self) -> Sequence[str]:
        """Everyone whom a layer or an override names, each once."""
        named = [person for layer in self.layers for person in layer.people]
        return tuple(dict.fromkeys([*named, *(override.person for override in self.overrides)]))

    def on_call(self, at: datetime) -> frozenset[str]:
        """Return the one person who is on call; empty in a gap."""
        person = next(self._named(check_instant(at, "at")), None)
        return frozenset() if person is None else frozenset({person})

    def next_change(self, after: datetime) -> datetime | None:
        """Return the first instant after ``after`` at which another person is on call, or none, or one again.

        None: nothing changes within two years.
        """
        at = check_instant(after, "after")
        last = later(at, _MAX_SEARCH)
        known: dict[int, _Known] = {}
        now, edge = self._until(at, known)
        while edge is not None and edge <= last:
            person, following = self._until(edge, known)
            if person != now:
                return edge
            edge = following
        return None

    def as_mapping(self) -> Mapping[str, Any]:
        """Return the rotation as the policies file writes it, with hours by name."""
        layers = [layer.as_mapping() for layer in self.layers]
        overrides = [
            {"from": each.start.isoformat(), "to": each.end.isoformat(), "person": each.person}
            for each in self.overrides
        ]
        return {
            **({"rotation": layers[0]} if len(layers) == 1 else {"layers": layers}),
            **({"overrides": overrides} if overrides else {}),
        }

    def _named(self, at: datetime) -> Iterator[str]:
        """Yield the people whom overrides and layers name at an instant; the first one takes precedence."""
        for override in reversed(self.overrides):
            if override.start <= at < override.end:
                yield override.person
        for layer in reversed(self.layers):
            person = layer.person(at)
            if person is not None:
                yield person

    def _until(self, at: datetime, known: dict[int, _Known]) -> _Known:
        """Return who is on call at ``at``, and the next instant at which the answer may change.

        What an override takes precedence over does not matter before its end.
        """
        edges: list[datetime] = []
        for override in reversed(self.overrides):
            if at < override.start:
                edges.append(override.start)
            elif at < override.end:
                return override.person, min([*edges, override.end])
        _, person, edge = self._deciding(at, known)
        return person, min(edges if edge is None else [*edges, edge], default=None)

    def _deciding(self, at: datetime, known: dict[int, _Known]) -> tuple[int | None, str | None, datetime | None]:
        """Return which layer decides at ``at``, whom it names, and the next instant at which that may change.

        What it takes precedence over does not matter before that. ``known`` keeps what each layer said, until its next
        edge: with many layers, few of them change at once.
        """
        edges: list[datetime] = []
        for number, layer in reversed([*enumerate(self.layers)]):
            person, edge = known.get(number, _UNASKED)
            if edge is not None and edge <= at:
                person, edge = known[number] = layer.person(at), layer.next_edge(at)
            if edge is not None:
                edges.append(edge)
            if person is not None:
                return number, person, min(edges, default=None)
        return None, None, min(edges, default=None)

    def _never_decides(self, number: int) -> bool:
        """Return whether a layer decides at no instant.

        Once all layers have begun, and those that end have ended, two years show all that can happen. After 5,000
        changes the answer is no, so that a file with very many of them loads in time.
        """
        layer, known = self.layers[number], dict[int, _Known]()
        ends = [each.ends for each in self.layers if each.until is not None]
        settled = max(*ends, *(each.begins for each in self.layers))
        at, last = layer.begins, min(layer.ends, later(settled, _MAX_SEARCH))
        for _ in range(_MAX_EDGES):
            deciding, _, edge = self._deciding(at, known)
            if deciding == number:
                return False
            if edge is None or edge >= last:
                return True
            at = edge
        return False
