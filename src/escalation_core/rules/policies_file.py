"""Read a policies file that is a plain mapping: every problem at once, each with its path."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import time
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from ..checks import strict_json
from ..errors import InvalidValue, PoliciesError, Problem
from ..model import BUILTIN
from . import policies_values as values
from .assignment import Assignment
from .hours import Hours, Window
from .policies_converter import faults_of, field_names, make_converter
from .policies_limits import hours_faults, policy_faults
from .policies_values import shown
from .policy import Policy
from .schedules_file import Fault, Schedules, WrittenSchedule, read_people, read_schedules

if TYPE_CHECKING:
    from cattrs import Converter

Kind = TypeVar("Kind")

WHOLE = "the file"
"""The path of a problem of the whole mapping."""
MAX_VALUES = 50_000
"""The most values of a file, counted as often as they occur."""
MAX_DEPTH = 10
_ROOT = ("policies", "hours", "assign", "schedules", "people")
_STAND_IN = Hours(name="-", zone="UTC", windows=(Window(start=time(), end=time()),))
"""Stands for hours that are wrong, so that the policies that name them can be checked."""


@attrs.frozen(kw_only=True)
class Content:
    """What a file says."""

    policies: Mapping[str, Policy]
    hours: Mapping[str, Hours]
    assignments: tuple[Assignment, ...]
    schedules: Schedules
    people: Mapping[str, str]


class _Problems(dict[str, Problem]):
    """The problems found so far, by path."""

    def add(self, path: str, fault: InvalidValue) -> None:
        """Add a problem, unless its place has one already."""
        self.setdefault(path, Problem(fault.fault, fault.remedy))


def read_content(mapping: object) -> Content:
    """Return what a file says.

    Raises:
        PoliciesError: the file is wrong.
    """
    try:
        _check_bounds(mapping)
        root = _mapping(mapping, "write a mapping with the key policies")
    except InvalidValue as fault:
        raise PoliciesError({WHOLE: Problem(fault.fault, fault.remedy)}) from None
    return _content(root)


def _content(root: Mapping[str, Any]) -> Content:
    problems = _Problems()
    for key in root:
        if key not in _ROOT:
            problems.add(values.joined("", key), values.unknown("is the field", key, _ROOT))
    hours: dict[str, Hours] = {}
    converter = make_converter(hours, {BUILTIN, *_names(root.get("policies"))})
    _named(root.get("hours", {}), "hours", Hours, converter, hours, problems)
    for name, each in hours.items():
        _note(hours_faults(values.joined("hours", name), each), problems)
    sound = dict(hours)
    for name in _names(root.get("hours")):
        hours.setdefault(name, _STAND_IN)
    policies: dict[str, Policy] = {}
    _named(root.get("policies"), "policies", Policy, converter, policies, problems)
    for name, policy in policies.items():
        _note(policy_faults(values.joined("policies", name), policy), problems)
    assignments = _structure(root.get("assign", []), tuple[Assignment, ...], "assign", converter, problems) or ()
    schedules, people = _who_is_on_call(root, converter, problems)
    if problems:
        raise PoliciesError(problems)
    return Content(policies=policies, hours=sound, assignments=assignments, schedules=schedules, people=people)


def _who_is_on_call(
    root: Mapping[str, Any], converter: "Converter", problems: _Problems
) -> tuple[Schedules, Mapping[str, str]]:
    """Read the schedules and the targets of people."""
    written: dict[str, WrittenSchedule] = {}
    _named(root.get("schedules", {}), "schedules", WrittenSchedule, converter, written, problems)
    faults: list[Fault] = []
    people: Mapping[str, str] = {}
    try:
        people = read_people(_mapping(root.get("people", {}), "write a mapping of people to targets"), faults)
    except InvalidValue as fault:
        faults.append(("people", fault))
    schedules = read_schedules(written, _names(root.get("people")), faults)
    _note(iter(faults), problems)
    return schedules, people


def read_version(name: str, text: str) -> Policy:
    """Return the policy of which ``Policy.text`` returned this text.

    Raises:
        PoliciesError: the text is not the text of a policy.
    """
    try:
        version = _mapping(strict_json(text), "give a text of Policy.text()")
    except InvalidValue as fault:
        raise PoliciesError({WHOLE: Problem(fault.fault, fault.remedy)}) from None
    # The bounds of a file do not apply: a text writes out what the file may leave to defaults, so it has more values.
    found = _content({"policies": {name: version.get("policy")}, "hours": version.get("hours", {})})
    return found.policies[name]


def _check_bounds(mapping: object) -> None:
    """Check how many values there are, how deep they are, and that keys are text. A cycle is too deep."""
    count, todo = 0, [(mapping, 1)]
    while todo:
        value, depth = todo.pop()
        count += 1
        if isinstance(value, Mapping):
            strange = [key for key in value if not isinstance(key, str)]
            if strange:
                raise InvalidValue("key", f"has the key {shown(strange[0])}, which is not text", "write it in quotes")
            inner = list(value.values())
        elif isinstance(value, list | tuple):
            inner = list(value)
        else:
            continue
        if depth > MAX_DEPTH and inner:
            raise InvalidValue("depth", f"has more than {MAX_DEPTH} levels of nesting, or a cycle", "nest less")
        if count + len(inner) > MAX_VALUES:
            raise InvalidValue("size", f"has more than {MAX_VALUES} values", "write fewer policies")
        todo += [(each, depth + 1) for each in inner]


def _mapping(value: object, remedy: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise values.wrong(value, remedy)
    return value


def _names(section: object) -> AbstractSet[str]:
    return {name for name in section if isinstance(name, str)} if isinstance(section, Mapping) else set()


def _note(faults: Iterator[tuple[str, InvalidValue]], problems: _Problems) -> None:
    for path, fault in faults:
        problems.add(path, fault)


def _named(
    section: object,
    path: str,
    kind: type[Kind],
    converter: "Converter",
    found: dict[str, Kind],
    problems: _Problems,
) -> None:
    """Read a mapping of names to policies, hours or schedules into ``found``."""
    try:
        if section is None and kind is Policy:
            raise InvalidValue("policies", "is missing", "name at least one policy")
        entries = _mapping(section, "write a mapping of names")
        if not entries and kind is Policy:
            raise InvalidValue("policies", "is empty", "name at least one policy")
    except InvalidValue as fault:
        problems.add(path, fault)
        return
    seen: dict[str, str] = {}
    for key, raw in entries.items():
        place = values.joined(path, key)
        try:
            name = values.name(key)
            if kind is Policy and name == BUILTIN:
                raise InvalidValue("name", "is the name of the built-in policy", "choose another name")
            other = seen.setdefault(name.casefold(), name)
            if other != name:
                raise InvalidValue("name", f"differs from {shown(other)} only in case", "choose another name")
            fields = _mapping(raw, "write a mapping of fields")
        except InvalidValue as fault:
            problems.add(place, fault)
            continue
        if "name" in fields:
            problems.add(f"{place}.name", values.unknown("is the field", "name", field_names(kind)))
            continue
        read = _structure({"name": name, **fields}, kind, place, converter, problems)
        if read is not None:
            found[name] = read


def _structure(raw: object, kind: type[Kind], path: str, converter: "Converter", problems: _Problems) -> Kind | None:
    """Return the record of a raw value, or note its problems and return None."""
    try:
        return converter.structure(raw, kind)
    except Exception as error:  # noqa: BLE001 - cattrs wraps what its hooks raise; faults_of raises anything else again
        _note(faults_of(error, path), problems)
        return None
