"""Readers: return the value of a variable's text, or raise InvalidValue. They accept no near misses."""

import re
from datetime import timedelta
from typing import Any

from ..checks import TWICE, strict_json
from ..errors import InvalidValue
from ..model import Budget, NoticeKind
from ..rules.routing import Route, check_kinds, check_target

_MAX_DIGITS = 12
"""Max digits of a number. Every limit is far below, and a timedelta can still hold as many minutes."""


def boolean(text: str) -> bool:
    """Read ``true`` or ``false``. Refuse all else, for example ``yes``, ``1`` and ``True``."""
    if text not in ("true", "false"):
        raise InvalidValue("boolean", f"{text!r} is not a valid boolean", "write true or false")
    return text == "true"


def integer(text: str) -> int:
    """Read a whole number in ASCII digits, without blanks, digits of other scripts, underscores or units."""
    if not re.fullmatch(r"-?[0-9]+", text):
        raise InvalidValue("integer", f"{text!r} is not a valid whole number", "write digits alone, for example 15")
    if len(text.lstrip("-0")) > _MAX_DIGITS:
        size, other = ("small", "greater") if text.startswith("-") else ("large", "smaller")
        raise InvalidValue("integer", f"{text} is too {size}", f"write a {other} number")
    return int(text)


def minutes(text: str) -> timedelta:
    """Read whole minutes."""
    return timedelta(minutes=integer(text))


def seconds(text: str) -> timedelta:
    """Read whole seconds."""
    return timedelta(seconds=integer(text))


def milliseconds(text: str) -> timedelta:
    """Read whole milliseconds."""
    return timedelta(milliseconds=integer(text))


def text(value: str) -> str:
    """Read a text. It must not be empty or have surrounding blanks. It may be a secret, so no error quotes it."""
    if not value or value != value.strip():
        remedy = "write the value alone, or leave the variable out"
        raise InvalidValue("text", "is empty or has surrounding blanks", remedy)
    return value


def severity_minutes(text: str) -> dict[str, timedelta]:
    """Read a JSON object from severity to whole minutes."""
    spans = {}
    for severity, value in _json(text, dict, '{"high": 10}').items():
        if not isinstance(value, int) or isinstance(value, bool):
            fault = f"the value of {severity!r} is not a valid whole number"
            raise InvalidValue("windows", fault, "write minutes as a JSON number")
        try:
            spans[severity] = minutes(str(value))
        except InvalidValue as error:
            raise InvalidValue("windows", f"{severity!r}: {error.fault}", error.remedy) from None
    return spans


def targets(text: str) -> dict[str, Any]:
    """Read a JSON object from target name to URL. The text is a secret, so no error quotes any part of it."""
    document: dict[str, Any] = _json(text, dict, '{"slack:ops": "https://..."}')
    return document


def budgets(text: str) -> dict[str, Budget | None]:
    """Read a JSON object from target name to rate and burst; null means no budget."""
    document = _json(text, dict, '{"slack:ops": {"rate": 1, "burst": 3}, "slack:bulk": null}')
    # A name that is a URL is a secret, so it is refused before an error can quote it.
    named = {check_target(name, "budgets"): entry for name, entry in document.items()}
    return {name: None if entry is None else _budget(name, entry) for name, entry in named.items()}


def _budget(name: str, entry: object) -> Budget:
    if not isinstance(entry, dict) or "rate" not in entry or set(entry) - {"rate", "burst"}:
        raise InvalidValue("budgets", f"{name!r} has no rate and burst", 'write {"rate": 1, "burst": 3}, or null')
    try:
        return Budget(**entry)
    except InvalidValue as fault:
        raise InvalidValue("budgets", f"{name!r}, {fault.field} {fault.fault}", fault.remedy) from None


def notices(text: str) -> dict[str, frozenset[NoticeKind]]:
    """Read a JSON object from target name to a list of kinds of notices, which may be empty."""
    document = _json(text, dict, '{"slack:ops": ["acknowledged", "resolved"], "slack:bulk": []}')
    named = {check_target(name, "notices"): kinds for name, kinds in document.items()}
    return {name: _kinds(name, kinds) for name, kinds in named.items()}


def _kinds(name: str, kinds: object) -> frozenset[NoticeKind]:
    try:
        return check_kinds(kinds)
    except InvalidValue as fault:
        raise InvalidValue("notices", f"{name!r}: {fault.fault}", fault.remedy) from None


def fallbacks(text: str) -> dict[str, Any]:
    """Read a JSON object from target name to the name of its fallback."""
    document: dict[str, Any] = _json(text, dict, '{"slack:ops": "mail:ops"}')
    return document


def severities(text: str) -> tuple[Any, ...]:
    """Read a JSON list of severities."""
    return tuple(_json(text, list, '["critical", "warning"]'))


def plugins(text: str) -> tuple[str, ...]:
    """Read names of factories with a comma between two of them. Blanks beside a comma do not matter."""
    return tuple(name.strip() for name in text.split(","))


def routes(text: str) -> tuple[Route, ...]:
    """Read a JSON list of routes."""
    entries = _json(text, list, '[{"severity": "critical", "targets": ["slack:ops"]}]')
    return tuple(_route(f"route {number}", entry) for number, entry in enumerate(entries, 1))


def _route(name: str, entry: object) -> Route:
    if not isinstance(entry, dict):
        raise InvalidValue("routes", f"{name} is not a valid object", "write {...} for each route")
    unknown = sorted(set(entry) - {"severity", "min_level", "labels", "targets", "notices"})
    if unknown:
        remedy = "use severity, min_level, labels, targets and notices"
        raise InvalidValue("routes", f"{name} has no field {unknown[0]!r}", remedy)
    if "targets" not in entry:
        raise InvalidValue("routes", f"{name} names no targets", "add a list of targets' names")
    try:
        return Route(**entry)
    except InvalidValue as fault:
        raise InvalidValue("routes", f"{name}, {fault.field} {fault.fault}", fault.remedy) from None


def _json(text: str, kind: type, example: str) -> Any:
    remedy = f"write for example {example}"
    try:
        document = strict_json(text)
    except InvalidValue as fault:
        if fault.fault == TWICE:
            raise InvalidValue("JSON", "names one field twice", "name each once") from None
        raise InvalidValue("JSON", fault.fault, remedy) from None
    if not isinstance(document, kind):
        raise InvalidValue("JSON", f"is not a valid JSON {'object' if kind is dict else 'list'}", remedy)
    return document
