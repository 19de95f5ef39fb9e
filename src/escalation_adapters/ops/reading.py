"""Parse bodies and queries of requests: strict JSON, and fields of the right type. A problem names one fault."""

import re
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from escalation_core import InvalidValue
from escalation_core.checks import TWICE, check_text, read_span, strict_json

from ..wire import MAX_SPAN, read_instant
from .messages import Problem

MISSING: Any = object()
MAX_LISTED = 1000
"""How many entries a response contains at most."""
DEEPEST = 8
"""Deepest nesting of a body that is parsed; the bodies of actions are flat."""
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def bad(field: str, fault: str, remedy: str) -> Problem:
    """Return the problem of a field whose value cannot be used."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {fault}; {remedy}", field=field)


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body: UTF-8, no name twice, no NaN, no deep nesting."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not UTF-8", field="body") from None
    if _depth(text) > DEEPEST:
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body nests deeper than {DEEPEST} levels", field="body")
    try:
        value = strict_json(text)
    except InvalidValue as fault:
        if fault.fault != TWICE:
            raise Problem(HTTPStatus.BAD_REQUEST, f"the body {fault.fault} (RFC 8259)", field="body") from None
        shown = _shown(fault.field)
        raise Problem(HTTPStatus.BAD_REQUEST, f"{shown}: {fault.fault}; {fault.remedy}", field=shown) from None
    if not isinstance(value, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "the body is not a valid JSON object", field="body")
    return value


def query(text: str, known: tuple[str, ...]) -> dict[str, str]:
    """Return the parameters of a query, each once and none unknown."""
    try:
        if _BROKEN_ESCAPE.search(text):
            raise ValueError
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=16)
    except ValueError:  # UnicodeDecodeError is a ValueError
        raise Problem(HTTPStatus.BAD_REQUEST, "the query cannot be read; write name=value", field="query") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise unknown(name, known)
        if name in found:
            raise bad(name, "occurs twice", "give it once")
        found[name] = value
    return found


def unknown(name: str, known: tuple[str, ...]) -> Problem:
    """Return the problem of an unknown field."""
    shown = _shown(name)
    remedy = f"the fields are {', '.join(known)}" if known else "there are no fields"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{shown}: is unknown; {remedy}", field=shown)


def text(fields: Mapping[str, Any], name: str, default: Any = MISSING) -> Any:
    """Return a text that every store can hold; null is the same as a missing field."""
    value = _typed(fields, name, default, str, "a text")
    return value if value is default else check_text(value, name)


def flag(fields: Mapping[str, Any], name: str, default: Any = MISSING) -> Any:
    """Return true or false."""
    return _typed(fields, name, default, bool, "true or false", none=False)


def number(fields: Mapping[str, Any], name: str, least: int, most: int, default: Any = MISSING) -> Any:
    """Return a whole number within limits."""
    value = _typed(fields, name, default, int, f"a whole number, {least} to {most}", none=False)
    if value is not default and not least <= value <= most:
        raise bad(name, f"is {value}" if abs(value) < 10**9 else "is out of range", f"give {least} to {most}")
    return value


def count(value: str, name: str, what: str) -> int:
    """Return the number of entries that a query asks for."""
    if not value.isascii() or not value.isdigit() or len(value) > 4 or not 1 <= int(value) <= MAX_LISTED:
        raise bad(name, f"is not a valid number of {what}", f"give 1 to {MAX_LISTED}")
    return int(value)


def instant(value: str, name: str) -> datetime:
    """Return an instant: ISO 8601 with a zone."""
    found = read_instant(value)
    if found is None:
        raise bad(name, "is not a valid instant with a zone", "write for example 2025-01-31T12:00:00Z")
    return found


def since(value: str, name: str, now: datetime) -> datetime:
    """Return the instant of a text: an instant with a zone, or a span before now, for example ``24h``."""
    span = read_span(value)
    return instant(value, name) if span is None else now - min(span, MAX_SPAN)


def _typed(fields: Mapping[str, Any], name: str, default: Any, kind: type, wanted: str, *, none: bool = True) -> Any:
    """Return a field, or the default if it is missing; null is the same as missing only if it may be ``none``.

    Null is not a valid flag or number: ``{"dry_run": null}`` does not ask for a real tick.
    """
    value = fields.get(name)
    if value is None and name in fields and not none:
        raise bad(name, "is null", f"give {wanted}, or leave it out")
    if value is None:
        if default is MISSING:
            raise bad(name, "is missing", f"give {wanted}")
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise bad(name, "is of a wrong type", f"give {wanted}")
    return value


def _shown(name: str) -> str:
    """Return a field's name for a message: short, in ASCII, never empty."""
    return name[:64].encode("ascii", "backslashreplace").decode() or '""'


def _depth(text: str) -> int:
    """Return the deepest nesting of brackets, without a parser, which deep nesting could crash."""
    deepest = depth = 0
    quoted = escaped = False
    for char in text:
        if quoted:
            quoted, escaped = escaped or char != '"', char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest
