"""Text forms of values: spans, for example ``30s``, instants of ISO 8601, and records as JSON."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

MAX_SPAN = timedelta(days=99_999)
"""Longest span. The command line refuses a longer one, and requests cut it."""
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})"
)
"""RFC 3339 and other forms of ISO 8601. Python's own parser takes any character between date and time."""


def read_instant(text: str) -> datetime | None:
    """Return the instant, in UTC, of an ISO 8601 text with a zone; None for any other text."""
    if _INSTANT.fullmatch(text):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    return None


def to_json(value: Any) -> Any:
    """Return a value for JSON: instants as ISO 8601 text, spans as seconds, records as objects."""
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
