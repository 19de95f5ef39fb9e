"""Checks of values from outside. Each check returns the value or raises InvalidValue."""

import difflib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, TypeGuard

from .errors import MAX_QUOTED_CHARS, InvalidValue, shortened

TWICE = "occurs twice"
"""The fault of a name that occurs more than once in a JSON object."""
MAX_KEY_BYTES = 512
"""The longest incident key, in bytes of UTF-8. A PostgreSQL btree refuses entries above 2704 bytes."""
_SPAN = re.compile(r"([0-9]{1,8})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def check_key(value: object, field: str = "incident_key") -> str:
    """Return an incident key: text of 1 to 512 bytes of UTF-8 without control characters."""
    text = check_text(value, field)
    size = len(text.encode())
    if not 1 <= size <= MAX_KEY_BYTES:
        raise InvalidValue(field, f"has {size} bytes", f"give 1 to {MAX_KEY_BYTES} bytes of UTF-8")
    if not text.isprintable() and any(unicodedata.category(char) == "Cc" for char in text):
        raise InvalidValue(field, "holds a control character", "give printable text")
    return text


def check_text(value: object, field: str) -> str:
    """Return a text that every store can save: a str without NUL and without lone surrogates."""
    if not isinstance(value, str):
        raise InvalidValue(field, f"is {type(value).__name__}", "give a str")
    if "\0" in value:
        raise InvalidValue(field, "holds a NUL character", "leave it out")
    # Raised outside of any except block: UnicodeEncodeError would become its context, and that error has the text.
    if not value.isascii() and not _encodable(value):
        raise InvalidValue(field, "holds a lone surrogate", "give text that UTF-8 can encode")
    return value


def is_web_url(value: object, *, allow_http: bool) -> TypeGuard[str]:
    """Return whether a value is an https URL (or http if allowed) of printable characters without blanks."""
    schemes = ("https://", "http://") if allow_http else ("https://",)
    return isinstance(value, str) and value.lower().startswith(schemes) and value.isprintable() and " " not in value


def visible(text: str) -> str:
    """Return a text in which every invisible character is an escape: controls, direction characters, zero widths.

    ``str.isprintable`` decides: it is False for Unicode's categories "other" and "separator", except for the space.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def quoted(value: object, most: int = MAX_QUOTED_CHARS) -> str:
    """Return the ``repr`` of a value on one line, at most ``most`` characters long, with escapes."""
    return shortened(repr(value), most)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_optional_text(value: object, field: str) -> str | None:
    """Return None, or a text that passes ``check_text``."""
    return None if value is None else check_text(value, field)


def check_labels(value: object, field: str = "labels") -> dict[str, str]:
    """Return a copy of labels: a mapping of text to text."""
    if not isinstance(value, Mapping):
        raise InvalidValue(field, f"is {type(value).__name__}", "give a mapping of str to str")
    return {check_text(name, field): check_text(text, f"{field}[{name!r}]") for name, text in value.items()}


def check_instant(value: object, field: str) -> datetime:
    """Return an aware datetime, converted to UTC.

    Python compares datetimes of one zone by wall clock, which is wrong around changes to and from summer time.
    """
    if not isinstance(value, datetime):
        raise InvalidValue(field, f"is {type(value).__name__}", "give a datetime with a time zone")
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise InvalidValue(field, "has no time zone", "give an aware datetime, for example datetime.now(UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(field, "lies outside the years 1 to 9999", "give an instant within them") from None


def check_span(value: object, field: str) -> timedelta:
    """Return a timedelta above zero."""
    if not isinstance(value, timedelta) or value <= timedelta():
        shown = f"is {value}" if isinstance(value, timedelta) else f"is {type(value).__name__}"
        raise InvalidValue(field, shown, "give a timedelta above zero")
    return value


def check_mapping(value: object, field: str, remedy: str) -> Mapping[Any, Any]:
    """Return a mapping. Its keys and values are not checked."""
    if not isinstance(value, Mapping):
        raise InvalidValue(field, f"is {type(value).__name__}", remedy)
    return value


def check_count(value: object, field: str, least: int, most: int | None = None) -> int:
    """Return an int of at least ``least`` and at most ``most``. A bool is refused."""
    legal = f"give a whole number of at least {least}" if most is None else f"give a whole number, {least} to {most}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidValue(field, f"is {type(value).__name__}", legal)
    if value < least or (most is not None and value > most):
        raise InvalidValue(field, f"is {value}", legal)
    return value


def read_span(text: str) -> timedelta | None:
    """Return the span of a text such as ``30s``, ``15m``, ``24h``, ``7d`` or ``2w``; None for any other text."""
    match = _SPAN.fullmatch(text)
    return None if match is None else timedelta(**{_UNITS[match[2]]: int(match[1])})


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most like ``name``. There must be one."""
    return difflib.get_close_matches(name[:MAX_QUOTED_CHARS], sorted(known), n=1, cutoff=0)[0]


def strict_json(text: str) -> Any:
    """Return the value of a JSON text, read strictly: no name twice in one object, no NaN, no Infinity (RFC 8259).

    Raises:
        InvalidValue: the text is not valid. The field is the name that occurs twice, or ``JSON``.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise InvalidValue(name, TWICE, "give it once")
            found[name] = value
        return found

    def refuse_constant(name: str) -> NoReturn:
        raise InvalidValue("JSON", f"holds {name}, which is not valid JSON", "write numbers")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=refuse_constant)
    except InvalidValue:
        raise
    except (ValueError, RecursionError):
        raise InvalidValue("JSON", "is not JSON", "write JSON as RFC 8259 defines it") from None
