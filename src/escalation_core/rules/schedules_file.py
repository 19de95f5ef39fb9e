"""The schedules and the people of a policies file: the fields as they are written, and what they mean together."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime

import attrs

from ..errors import InvalidValue
from . import policies_values as values
from .layer import Layer
from .rotation import Override, Rotation
from .wall_clock import first_shown

Fault = tuple[str, InvalidValue]
"""The path of a value, and its fault."""


@attrs.frozen(kw_only=True)
class WrittenOverride:
    """An override as a file has it."""

    start: datetime
    """An instant if it is aware, else a local time of the schedule's first layer."""
    end: datetime
    person: str


@attrs.frozen(kw_only=True)
class WrittenSchedule:
    """A schedule as a file has it."""

    name: str
    rotation: Layer | None = None
    layers: tuple[Layer, ...] | None = None
    ical: str | None = None
    overrides: tuple[WrittenOverride, ...] | None = None


@attrs.frozen(kw_only=True)
class Schedules:
    """The schedules of a file."""

    rotations: Mapping[str, Rotation]
    calendars: Mapping[str, str]
    """Paths of calendars, or their URLs, which are secrets."""


def read_schedules(written: Mapping[str, WrittenSchedule], people: AbstractSet[str], faults: list[Fault]) -> Schedules:
    """Return the schedules, and add to ``faults`` what is wrong with them. ``people`` are those of the file."""
    rotations: dict[str, Rotation] = {}
    calendars: dict[str, str] = {}
    for name, each in written.items():
        path = values.joined("schedules", name)
        found = list(_shape_faults(path, each))
        if not found and each.ical is not None:
            calendars[name] = each.ical
        elif not found:
            rotation = _rotation(path, each, people, found)
            if rotation is not None:
                rotations[name] = rotation
        faults += found
    return Schedules(rotations=rotations, calendars=calendars)


def _shape_faults(path: str, written: WrittenSchedule) -> Iterator[Fault]:
    kinds = [kind for kind in ("rotation", "layers", "ical") if getattr(written, kind) is not None]
    if len(kinds) != 1:
        fault = f"has {' and '.join(kinds)}" if kinds else "has no rotation, no layers and no ical"
        yield path, InvalidValue("schedule", fault, "write one of rotation, layers and ical")
    elif written.ical is not None and written.overrides is not None:
        yield f"{path}.overrides", InvalidValue("overrides", "stand beside a calendar", "change the calendar")


def _rotation(path: str, written: WrittenSchedule, people: AbstractSet[str], faults: list[Fault]) -> Rotation | None:
    layers = written.layers or (() if written.rotation is None else (written.rotation,))
    known = {*people, *(person for layer in layers for person in layer.people)}
    overrides = []
    for index, each in enumerate(written.overrides or ()):
        place = f"{path}.overrides[{index}]"
        start, end = (_instant(moment, layers[0]) for moment in (each.start, each.end))
        if each.person not in known:
            faults.append((f"{place}.person", values.unknown("names the person", each.person, known)))
        if end <= start:
            faults.append((f"{place}.to", _end_fault(each, layers[0])))
        else:
            overrides.append(Override(start=start, end=end, person=each.person))
    try:
        return Rotation(layers=layers, overrides=overrides)
    except InvalidValue as fault:
        faults.append((f"{path}.{fault.field}", fault))
        return None


def _end_fault(written: WrittenOverride, layer: Layer) -> InvalidValue:
    if written.start.tzinfo is None and written.end.tzinfo is None and written.start < written.end:
        return InvalidValue(
            "to", f"is never shown by the clock of {layer.zone}, nor is from", "write times that it shows"
        )
    return InvalidValue("to", "is not after from", "write a later end")


def _instant(moment: datetime, layer: Layer) -> datetime:
    return first_shown(moment, layer.clock) if moment.tzinfo is None else moment


def read_people(section: Mapping[str, object], faults: list[Fault]) -> Mapping[str, str]:
    """Return the target of each person, and add to ``faults`` what is wrong with them."""
    found = {}
    for key, raw in section.items():
        try:
            found[values.person(key)] = values.target(raw)
        except InvalidValue as fault:
            faults.append((values.joined("people", key), fault))
    return found
