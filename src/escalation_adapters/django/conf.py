"""Read ``ESCALATION`` of Django's settings: where the engine's tables are, and the engine's own settings.

Names in small letters are Django's part, for example ``database``. Names in capitals are the engine's variables, for
example ``ESC_TICK_MS``. All problems are reported at once.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

import attrs
from django.conf import settings as django_settings
from django.db import connections

from escalation_core import InvalidValue, Policies, Settings, SettingsError
from escalation_core.errors import Problem
from escalation_core.settings import SECRETS
from escalation_core.settings.fields import FIELDS

from ..files import read_secret

_VARIABLES = tuple(field.variable for field in FIELDS if field.name != "database_url")
_DATABASE = "ESC_DATABASE_URL"
_OF_DATABASES = "leave it out: ESCALATION['database'] names an alias of DATABASES"


@attrs.frozen(kw_only=True)
class Configuration:
    """What ``ESCALATION`` says."""

    database: str = "default"
    """The alias of the database that has the engine's tables."""
    schema: str = "public"
    table: str = "incidents"
    """The host's table, as in ``AttachEscalation``; the admin shows it."""
    columns: Mapping[str, str] = attrs.field(factory=dict)
    """The engine's names of columns, and the host's, as in ``AttachEscalation``."""
    status: Mapping[str, Any] | None = None
    """The host's status column and its words, as in ``AttachEscalation``."""
    notifiers: str | None = None
    """The dotted path of a function that returns notifiers."""
    policies: Policies | None = None
    """The policies, if they do not come from the file of ESC_POLICIES."""
    settings: Settings = attrs.field(factory=Settings)


_HOST_KEYS = tuple(attrs.fields_dict(Configuration))
_KEYS = (*_HOST_KEYS, *_VARIABLES, *(f"{name}_FILE" for name in SECRETS if name != _DATABASE))
_cached: tuple[object, object, Configuration] | None = None


def read() -> Configuration:
    """Return what Django's settings say. The same settings are read once.

    Raises:
        SettingsError: a key or a value is wrong. The error has all problems, and no secret.
    """
    global _cached  # noqa: PLW0603 - each request asks, and reading takes long
    given, databases = getattr(django_settings, "ESCALATION", None), connections.settings
    if _cached is None or _cached[0] is not given or _cached[1] is not databases:
        _cached = (given, databases, _read({} if given is None else given))
    return _cached[2]


def read_or_default() -> Configuration:
    """Return what Django's settings say, or the defaults if they are wrong: then a system check reports it."""
    try:
        return read()
    except SettingsError:
        return Configuration()


def _read(given: object) -> Configuration:
    if not isinstance(given, Mapping):
        raise SettingsError({"ESCALATION": Problem(f"is {type(given).__name__}", "write a dict")})
    problems = {_named(key): _unknown(key) for key in given if key not in _KEYS}
    values: dict[str, Any] = {}
    for name in _HOST_KEYS:
        if given.get(name) is not None:
            problem = _CHECKS[name](given[name])
            if problem is None:
                values[name] = given[name]
            else:
                problems[_named(name)] = problem
    problems |= _mapping_problems(values)
    variables = {name: given[name] for name in _KEYS if name.isupper() and given.get(name) is not None}
    if variables and given.get("settings") is not None:
        problems[_named("settings")] = Problem("is set beside variables", "set one of the two")
    elif given.get("settings") is None:
        values["settings"], wrong = _engine_settings(variables)
        problems |= wrong
    if "policies" in values and getattr(values.get("settings"), "policies_file", None) is not None:
        problems[_named("policies")] = Problem("is set beside ESC_POLICIES", "set one of the two")
    if problems:
        raise SettingsError(problems)
    return Configuration(**values)


def _named(key: object) -> str:
    return f"ESCALATION[{key!r}]"


def _unknown(key: object) -> Problem:
    if key in (_DATABASE, f"{_DATABASE}_FILE"):
        return Problem("is not a key of ESCALATION", _OF_DATABASES)
    near = difflib.get_close_matches(str(key), _KEYS, n=1, cutoff=0)
    return Problem("is not a known key", f"the nearest is {near[0]!r}")


def _engine_settings(variables: Mapping[str, object]) -> tuple[Settings | None, dict[str, Problem]]:
    """Return the engine's settings of variables, and their problems."""
    texts, problems = {}, {}
    for name, value in variables.items():
        try:
            texts[name] = _text(value)
        except InvalidValue as fault:
            problems[_named(name)] = Problem(fault.fault, fault.remedy)
    try:
        return Settings.from_env(texts, read_file=read_secret), problems
    except SettingsError as error:
        return None, problems | {_named(name): problem for name, problem in error.problems.items()}


def _text(value: object) -> str:
    """Return a value as a variable holds it: True as ``true``, and a dict or a list as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float | Mapping | list | tuple):
        try:
            return json.dumps(dict(value) if isinstance(value, Mapping) else value)
        except (TypeError, ValueError):  # the error's text may hold a part of a secret
            raise InvalidValue("value", "cannot be written as JSON", "write texts, numbers, lists and dicts") from None
    raise InvalidValue("value", f"is {type(value).__name__}", "write a text, a number, True, False, a dict or a list")


def _alias(value: object) -> Problem | None:
    if isinstance(value, str) and value in connections.settings:
        return None
    return Problem(f"is {value!r}, which DATABASES does not have", "name an alias of DATABASES")


def _name(value: object) -> Problem | None:
    return None if isinstance(value, str) and value else Problem(f"is {value!r}", "write a name")


def _names(value: object) -> Problem | None:
    if isinstance(value, Mapping) and all(isinstance(text, str) for pair in value.items() for text in pair):
        return None
    return Problem("is not a valid mapping of names", "write for example {'first_seen': 'created_at:read'}")


def check_words(value: object) -> Problem | None:
    """Return what is wrong with the form of a status mapping, None if it has all parts."""
    if isinstance(value, Mapping):
        try:
            from ..postgres import StatusMapping
        except ImportError:
            return None  # a system check reports what is not installed
        fields = attrs.fields_dict(StatusMapping)
        if {name for name, field in fields.items() if field.default is attrs.NOTHING} <= {*value} <= {*fields}:
            return None
    remedy = "write {'column': ..., 'open': [...], 'acknowledged': [...], 'resolved': [...]}"
    return Problem("is not a valid status mapping", remedy)


def _path(value: object) -> Problem | None:
    if isinstance(value, str) and all(part.isidentifier() for part in value.split(".")) and "." in value:
        return None
    return Problem(f"is {value!r}", "write the dotted path of a function that returns notifiers: 'app.pages.notifiers'")


def _policies(value: object) -> Problem | None:
    if isinstance(value, Policies):
        return None
    return Problem(f"is {type(value).__name__}", "give Policies.from_mapping(...), or set 'ESC_POLICIES' to a file")


def _whole(value: object) -> Problem | None:
    if not isinstance(value, Settings):
        return Problem(f"is {type(value).__name__}", "give a Settings, or set variables such as 'ESC_TICK_MS'")
    return None if value.database_url is None else Problem("has a database_url", _OF_DATABASES)


_CHECKS = {
    "database": _alias,
    "schema": _name,
    "table": _name,
    "columns": _names,
    "status": check_words,
    "notifiers": _path,
    "policies": _policies,
    "settings": _whole,
}


def _mapping_problems(values: Mapping[str, Any]) -> dict[str, Problem]:
    """Return what is wrong with the names of columns and the words of the status, where psycopg is installed."""
    if not values.keys() & {"columns", "status"}:
        return {}
    try:
        from ..postgres.mapping import StatusMapping, split_columns
    except ImportError:
        return {}  # a system check reports what is not installed
    problems = {}
    for name, check in (("columns", split_columns), ("status", lambda status: StatusMapping(**status))):
        try:
            if name in values:
                check(values[name])
        except InvalidValue as fault:
            problems[_named(name)] = Problem(fault.fault, fault.remedy)
    return problems
