"""From a variable's text to a value, strictly: what is not exactly legal is a fault with a remedy."""

import json
import re
from datetime import timedelta
from typing import Any, NoReturn, TypeVar, get_origin

from ..errors import InvalidValue, Problem
from ..rules.routing import Route, check_target

_Document = TypeVar("_Document", dict[str, Any], list[Any])


class Fault(Exception):
    """A text that is no legal value."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault)
        self.problem = Problem(fault, remedy)


def boolean(text: str) -> bool:
    """Read ``true`` or ``false``, and nothing else: ``yes``, ``1`` and ``True`` mean too many things to people."""
    if text not in ("true", "false"):
        raise Fault(f"{text!r} is not a boolean", "write true or false")
    return text == "true"


def whole(text: str) -> int:
    """Read a whole number in ASCII digits: no blanks, signs of other scripts, underscores or units."""
    if not re.fullmatch(r"-?[0-9]{1,15}", text):
        raise Fault(f"{text!r} is not a whole number", "write digits alone, such as 15")
    return int(text)


def minutes(text: str) -> timedelta:
    """Read whole minutes."""
    return timedelta(minutes=_reachable(whole(text)))


def milliseconds(text: str) -> timedelta:
    """Read whole milliseconds."""
    return timedelta(milliseconds=_reachable(whole(text)))


def words(text: str) -> str:
    """Read a text that is not empty and has no surrounding blanks."""
    if not text or text != text.strip():
        raise Fault("is empty or has surrounding blanks", "write the value alone, or leave the variable out")
    return text


def severity_minutes(text: str) -> dict[str, timedelta]:
    """Read a JSON object from severity to whole minutes."""
    document = _json(text, dict[str, Any], '{"high": 10}')
    spans: dict[str, timedelta] = {}
    for severity, value in document.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise Fault(f"the value of {severity!r} is not a whole number", "write minutes as a JSON number")
        spans[severity] = timedelta(minutes=_reachable(value))
    return spans


def targets(text: str) -> dict[str, str]:
    """Read a JSON object from target name to URL. The text is a secret: no fault shows any of it but a name."""
    document = _json(text, dict[str, Any], '{"slack:ops": "https://..."}')
    for name, url in document.items():
        try:
            check_target(name, "target")
        except InvalidValue as fault:
            raise Fault(f"a name {fault.fault}", fault.remedy) from None
        if not isinstance(url, str):
            raise Fault(f"the URL of {name!r} is not text", "write it as a JSON string")
    return document


def routes(text: str) -> tuple[Route, ...]:
    """Read a JSON list of routes."""
    found: list[Route] = []
    for number, entry in enumerate(_json(text, list[Any], '[{"severity": "critical", "targets": ["slack:ops"]}]'), 1):
        if not isinstance(entry, dict):
            raise Fault(f"route {number} is not an object", "write {...} for each route")
        unknown = sorted(set(entry) - {"severity", "min_level", "labels", "targets"})
        if unknown:
            raise Fault(f"route {number} has no field {unknown[0]!r}", "use severity, min_level, labels and targets")
        if "targets" not in entry:
            raise Fault(f"route {number} names no targets", "add a list of targets' names")
        try:
            found.append(Route(**entry))
        except InvalidValue as fault:
            raise Fault(f"route {number}, {fault.field} {fault.fault}", fault.remedy) from None
    return tuple(found)


def target(text: str) -> str:
    """Read a target's name."""
    try:
        return check_target(text, "target")
    except InvalidValue as fault:
        raise Fault(fault.fault, fault.remedy) from None


def _reachable(number: int) -> int:
    if abs(number) > 10**12:
        raise Fault(f"{number} is out of reach", "write a number within the limits")
    return number


def _json(text: str, kind: type[_Document], example: str) -> _Document:
    def refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise Fault("names one field twice", "name each once")
        return dict(pairs)

    def refuse_constant(name: str) -> NoReturn:
        raise Fault(f"{name} is no JSON", "write numbers")

    try:
        document = json.loads(text, object_pairs_hook=refuse_twice, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise Fault("is not JSON", f"write such as {example}") from None
    wanted = get_origin(kind) or kind
    if not isinstance(document, wanted):
        raise Fault(f"is not a JSON {'object' if wanted is dict else 'list'}", f"write such as {example}")
    return document
