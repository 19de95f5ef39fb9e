"""Structure the mappings of a policies file into records with cattrs, with a strict reader for each type."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NewType, get_args, get_origin

import attrs

from ..errors import InvalidValue
from . import policies_values as values
from .assignment import Assignment
from .hours import Hours, Window
from .layer import MAX_PEOPLE, Layer
from .policy import MAX_LEVELS, Anchor, Level, OnExpiry, Policy, Repeat
from .rotation import MAX_LAYERS, MAX_OVERRIDES
from .schedules_file import WrittenOverride, WrittenSchedule

if TYPE_CHECKING:
    from cattrs import Converter

MAX_WINDOWS = 100
MAX_TARGETS = 100
"""The most targets of a level."""
MAX_REPEATS = 99
_MANY = 10_000
"""The most closed dates of hours, and the most assignments."""
_FILE_NAMES: Mapping[type, Mapping[str, str]] = {
    record: {"start": "from", "end": "to"} for record in (Window, WrittenOverride)
}
"""The names in the file of those fields that have another name in code."""
_NOT_IN_FILE: Mapping[type, Sequence[str]] = {
    Assignment: ("min_level",),
    **dict.fromkeys((Policy, Hours, WrittenSchedule), ("name",)),
}
"""Fields that are no keys of the file. The name of a policy, of hours or of a schedule is the key of its mapping."""
_Recipient = NewType("_Recipient", str)
_Person = NewType("_Person", str)


def field_names(kind: type) -> Sequence[str]:
    """Return the keys that the file may have for a record."""
    names = [field.name for field in attrs.fields(kind) if field.init and field.name not in _NOT_IN_FILE.get(kind, ())]
    return [_FILE_NAMES.get(kind, {}).get(name, name) for name in names]


def _repeats(value: object) -> int:
    number = values.whole_number(value)
    if not 0 <= number <= MAX_REPEATS:
        raise values.wrong(value, f"write 0 to {MAX_REPEATS}")
    return number


def _one_of(kind: type[StrEnum], value: object) -> StrEnum:
    if not isinstance(value, str) or value not in list(kind):
        raise values.wrong(value, f"write {' or '.join(kind)}")
    return kind(value)


_READERS: Sequence[tuple[object, Callable[[Any], object]]] = (
    (str, values.text),
    (str | None, values.text),
    (_Recipient, values.recipient),
    (_Person, values.person),
    (date, values.closed_date),
    (datetime, values.moment),
    (datetime | None, values.reading),
    (timedelta, values.span),
    (timedelta | None, values.span),
    (int, _repeats),
    (Anchor, partial(_one_of, Anchor)),
    (OnExpiry, partial(_one_of, OnExpiry)),
    (frozenset[int], values.days),
)
"""The reader of each type of a field."""
_LISTS: Sequence[tuple[object, str, int, int]] = (
    (tuple[Level, ...], "levels", 1, MAX_LEVELS),
    (tuple[Window, ...], "windows", 1, MAX_WINDOWS),
    (frozenset[date], "dates", 0, _MANY),
    (tuple[Assignment, ...], "assignments", 0, _MANY),
    (tuple[Layer, ...], "layers", 1, MAX_LAYERS),
    (tuple[WrittenOverride, ...], "overrides", 0, MAX_OVERRIDES),
    (tuple[_Person, ...], "people", 1, MAX_PEOPLE),
)
"""Lists: the type, the word for its items, and the least and the most of them."""


def make_converter(hours: Mapping[str, Hours], policies: AbstractSet[str]) -> "Converter":
    """Return a converter of files. Policies may name these hours, and assignments these policies.

    Hours may still be added later.
    """
    # Imported here: every host imports this module, and few have a policies file.
    from cattrs import Converter  # noqa: PLC0415
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415

    converter = Converter(detailed_validation=True)

    def hook(kind: object, read: Callable[[Any], object]) -> None:
        if isinstance(kind, type):
            converter.register_structure_hook(kind, lambda value, _: read(value))
        else:  # for example Hours | None
            converter.register_structure_hook_func(lambda each: each == kind, lambda value, _: read(value))

    for kind, read in _READERS:
        hook(kind, read)
    for kind, what, least, most in _LISTS:
        hook(kind, partial(_listed, converter, kind, what, least, most))
    hook(tuple[str, ...], partial(_recipients, converter))
    for kind in (Layer, tuple[Layer, ...], tuple[WrittenOverride, ...]):
        hook(kind | None, partial(_present, converter, kind))
    hook(Mapping[str, str], partial(_labels, converter))
    hook(Hours | None, lambda value: hours[_known("hours", values.text(value), hours)])
    fields = {
        Window: {
            "start": override(rename="from", struct_hook=lambda value, _: values.begin(value)),
            "end": override(rename="to", struct_hook=lambda value, _: values.end(value)),
        },
        Hours: {"zone": override(struct_hook=lambda value, _: values.zone(value))},
        Assignment: {
            "policy": override(struct_hook=lambda value, _: _known("policy", values.text(value), policies)),
            "min_level": override(omit=True),
        },
        Layer: {
            "zone": override(struct_hook=lambda value, _: values.zone(value)),
            "start": override(struct_hook=lambda value, _: values.reading(value)),
            "people": override(struct_hook=lambda value, _: converter.structure(value, tuple[_Person, ...])),
        },
        WrittenOverride: {
            "start": override(rename="from"),
            "end": override(rename="to"),
            "person": override(struct_hook=lambda value, _: values.person(value)),
        },
        WrittenSchedule: {"ical": override(struct_hook=lambda value, _: values.calendar(value))},
    }
    for record in (Window, Hours, Level, Repeat, Policy, Assignment, Layer, WrittenOverride, WrittenSchedule):
        # Any: the function takes the fields as keywords, beside options of its own.
        options: dict[str, Any] = {"_cattrs_forbid_extra_keys": True, **fields.get(record, {})}
        structure = make_dict_structure_fn(record, converter, **options)
        hook(record, partial(_record, record, structure))
    return converter


def _record(kind: type, structure: Callable[[Any, Any], Any], value: object) -> Any:
    if not isinstance(value, Mapping):
        raise values.wrong(value, f"write a mapping of {', '.join(field_names(kind))}")
    return structure(value, kind)


def _listed(converter: "Converter", kind: Any, what: str, least: int, most: int, value: object) -> Any:
    """Return a tuple or a frozenset of the items of a list."""
    if not isinstance(value, list | tuple):
        raise values.wrong(value, f"write a list of {what}")
    if not least <= len(value) <= most:
        raise InvalidValue(what, f"has {len(value)} {what}", f"write {least} to {most}")
    items: Any = list.__class_getitem__(get_args(kind)[0])  # list[kind], for a kind that is a value
    return get_origin(kind)(converter.structure(value, items))


def _present(converter: "Converter", kind: Any, value: object) -> Any:
    """Return the record or the list of a field that may be left out."""
    return converter.structure(value, kind)


def _recipients(converter: "Converter", value: object) -> tuple[str, ...]:
    """Return what a level pages, each once, from a list of names or from one name."""
    if not isinstance(value, list | tuple):
        return (values.recipient(value),)
    return tuple(dict.fromkeys(_listed(converter, tuple[_Recipient, ...], "targets", 1, MAX_TARGETS, value)))


def _labels(converter: "Converter", value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise values.wrong(value, "write a mapping, for example {team: db}")
    return converter.structure(value, dict[str, str])


def _known(what: str, name: str, known: Iterable[str]) -> str:
    if name not in known:
        raise values.unknown(f"names the {what}", name, known)
    return name


def faults_of(error: Exception, path: str) -> Iterator[tuple[str, InvalidValue]]:
    """Yield each fault of a value at ``path``, with its own path, from what the converter raised.

    Raises:
        Exception: ``error``, if it is not about a value.
    """
    from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError  # noqa: PLC0415

    if isinstance(error, InvalidValue):
        yield path, error
    elif isinstance(error, KeyError):
        yield path, InvalidValue("field", "is missing", "write it")
    elif isinstance(error, ForbiddenExtraKeysError):
        for key in sorted(error.extra_fields):
            yield values.joined(path, key), values.unknown("is the field", key, field_names(error.cl))
    elif isinstance(error, IterableValidationError):
        for inner, note in error.group_exceptions()[0]:
            place = f"{path}[{note.index}]" if isinstance(note.index, int) else values.joined(path, str(note.index))
            yield from faults_of(inner, place)
    elif isinstance(error, ClassValidationError):
        noted, other = error.group_exceptions()
        names = _FILE_NAMES.get(error.cl, {})
        for inner, about in noted:
            yield from faults_of(inner, values.joined(path, names.get(about.name, about.name)))
        for inner in other:  # from the record's own checks, which name the field
            own = inner.field if isinstance(inner, InvalidValue) and inner.field in field_names(error.cl) else ""
            yield from faults_of(inner, f"{path}.{own}" if own else path)
    else:
        raise error
