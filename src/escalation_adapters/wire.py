"""How values are written outside of Python: spans such as ``30s``, instants of ISO 8601, and records as JSON."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

MAX_SPAN = timedelta(days=99_999)
"""Longer spans are refused on the command line, and cut to it in requests."""
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})"
)
"""RFC 3339, and what ISO 8601 has beside it; Python's own reading takes any character between date and time."""
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_span(text: str) -> timedelta | None:
    """Return the span that a text such as ``30s``, ``15m``, ``24h``, ``7d`` or ``2w`` names, None if it names none."""
    match = _SPAN.fullmatch(text)
    return None if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})


def read_instant(text: str) -> datetime | None:
    """Return the instant in UTC that a text of ISO 8601 with a zone names, None if it names none."""
    if _INSTANT.fullmatch(text):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    return None


def to_json(value: Any) -> Any:
    """Return a value as JSON has it: instants as ISO 8601 text, spans as seconds, records as objects."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if attrs.has(type(value)):
        return {field.name: to_json(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return value
