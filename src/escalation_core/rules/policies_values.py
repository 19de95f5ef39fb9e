"""The values of a policies file: spans, times, dates, days, names. A reader returns a value or raises InvalidValue.

A reader of YAML may give every scalar as text, so each reader takes text. TOML has dates and times of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import TypeVar

from ..checks import check_text, nearest, read_span, visible
from ..errors import InvalidValue, shortened
from .hours import DAYS
from .maintenance import check_zone
from .on_call import ONCALL, schedule_of
from .policy import MAX_SPAN
from .routing import check_target
from .shifts import check_person

Day = TypeVar("Day", date, datetime)

MAX_NAME_CHARS = 60
YEARS = (1970, 2199)
"""The first and the last year of a closed date."""
_MAX_SHOWN_CHARS = 60
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_NAME_CHARS}}}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ALMOST_SPAN = re.compile(
    r"([0-9]{1,8}) *(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)", re.IGNORECASE
)
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?(?P<offset>Z|[+-].*)?")
_OFFSET = re.compile(r"Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]")
_HUGE = 10**20
"""From here on a whole number is described and not written: Python writes none of more than 4,300 digits."""


def shown(value: object) -> str:
    """Return a value for a message. A text with ``://`` is not quoted: the URL of a target is a secret."""
    if isinstance(value, str):
        return "a URL" if "://" in value else f'"{visible(shortened(value, _MAX_SHOWN_CHARS))}"'
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "a very large number"
    return str(value)[:_MAX_SHOWN_CHARS] if isinstance(value, int | float | date | time) else type(value).__name__


def wrong(value: object, remedy: str) -> InvalidValue:
    """Return the error about a value that is not valid."""
    return InvalidValue("value", f"is {shown(value)}", remedy)


def unknown(what: str, name: str, known: Iterable[str]) -> InvalidValue:
    """Return the error about an unknown name, with the nearest known one."""
    near = sorted(known)
    remedy = f"the nearest is {shown(nearest(name, near))}" if near else "there is none: leave it out"
    return InvalidValue("name", f"{what} {shown(name)}, which is not known", remedy)


def joined(path: str, key: str) -> str:
    """Return the path of a key. A key that is not a plain name is quoted."""
    try:
        plain = "." not in name(key)
    except InvalidValue:
        plain = False
    if not plain:
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if path else key


def text(value: object) -> str:
    """Read a text that every store can save."""
    if not isinstance(value, str):
        raise wrong(value, "write text")
    if not value.strip():
        raise InvalidValue("text", "is empty", "write text, or leave the field out")
    return check_text(value, "text")


def name(value: object) -> str:
    """Read the name of a policy or of hours: 1 to 60 ASCII letters, digits, ``-``, ``_`` and ``.``."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        remedy = f"write 1 to {MAX_NAME_CHARS} letters (a to z), digits, and - _ ."
        raise InvalidValue("name", f"{shown(value)} is not a valid name", remedy)
    return value


def whole_number(value: object) -> int:
    """Read a whole number: an int, or ASCII digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    raise wrong(value, "write a whole number in digits, for example 2")


def span(value: object) -> timedelta:
    """Read a span of 0 to a year: a number and its unit."""
    found = read_span(value) if isinstance(value, str) else None
    if found is None:
        near = _ALMOST_SPAN.fullmatch(value.strip()) if isinstance(value, str) else None
        example = "write a number and its unit, for example 90s, 5m, 2h or 3d"
        raise wrong(value, f"write {int(near[1])}{near[2][0].lower()}" if near else example)
    if found > MAX_SPAN:
        raise wrong(value, f"write at most {MAX_SPAN.days}d")
    return found


def begin(value: object) -> time:
    """Read the begin of a window: ``HH:MM`` or ``HH:MM:SS``."""
    if isinstance(value, time) and value.tzinfo is None and not value.microsecond:
        return value
    if isinstance(value, str) and _TIME.fullmatch(value):
        return time.fromisoformat(value)
    short = isinstance(value, str) and _TIME.fullmatch(f"0{value}")
    raise wrong(value, f"write 0{value}" if short else "write the time of day, for example 09:00 or 17:30:00")


def end(value: object) -> time:
    """Read the end of a window, which may be ``24:00``."""
    return time() if value in ("24:00", "24:00:00") else begin(value)


def _existing(value: str, read: Callable[[str], Day]) -> Day:
    try:
        return read(value)
    except ValueError:
        raise InvalidValue("date", f"{shown(value)} does not exist", "write a day of the calendar") from None


def _usable(found: Day | None, value: object, remedy: str) -> Day:
    """Return what was read, if it was, and lies in a year that files may name."""
    if found is None:
        raise wrong(value, remedy)
    if not YEARS[0] <= found.year <= YEARS[1]:
        raise wrong(value, f"write a year from {YEARS[0]} to {YEARS[1]}")
    return found


def closed_date(value: object) -> date:
    """Read a closed date, ``YYYY-MM-DD``."""
    found = value if isinstance(value, date) and not isinstance(value, datetime) else None
    if isinstance(value, str) and _DATE.fullmatch(value):
        found = _existing(value, date.fromisoformat)
    return _usable(found, value, "write a date, for example 2026-12-25")


def days(value: object) -> frozenset[int]:
    """Read days of the week: ``mon-fri``, ``sat,sun``, or a list of those. A range may go on after Sunday."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts:
        raise wrong(value, "write days, for example mon-fri or sat,sun")
    found: set[int] = set()
    for part in parts:
        first, dash, last = part.strip(" ").partition("-") if isinstance(part, str) else ("", "", "")
        if first not in DAYS or (last if dash else first) not in DAYS:
            raise InvalidValue("days", f"{shown(part)} is not a valid day", f"write {', '.join(DAYS)}, or mon-fri")
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        found |= {(start + day) % 7 for day in range(length + 1)}
    return frozenset(found)


def zone(value: object) -> str:
    """Read the IANA name of a time zone."""
    try:
        return check_zone(value).key
    except InvalidValue:
        raise wrong(value, "write an IANA name, for example Europe/Berlin") from None


def moment(value: object) -> datetime:
    """Read a date and a time of day, with an offset from UTC or without one: it is aware or naive."""
    found = value if isinstance(value, datetime) and not value.microsecond else None
    if isinstance(value, str) and (match := _MOMENT.fullmatch(value)) and _OFFSET.fullmatch(match["offset"] or "Z"):
        found = _existing(value, datetime.fromisoformat)
    return _usable(found, value, "write a date and a time, for example 2026-01-05T09:00")


def reading(value: object) -> datetime:
    """Read a date and a time of day on the clock of a zone, ``YYYY-MM-DDTHH:MM`` or with seconds."""
    found = moment(value)
    if found.tzinfo is not None:
        raise wrong(value, "leave the offset out: the zone decides")
    return found


def target(value: object) -> str:
    """Read the name of a target."""
    found = check_target(text(value), "target")
    if found.startswith(ONCALL):
        raise InvalidValue("target", f"{shown(found)} names a schedule", "name a target, for example slack:ops")
    return found


def recipient(value: object) -> str:
    """Read what a level pages: the name of a target, or ``oncall:`` and the name of a schedule."""
    schedule = schedule_of(text(value))
    return target(value) if schedule is None else ONCALL + name(schedule)


def person(value: object) -> str:
    """Read the name of a person."""
    return check_person(text(value))


def calendar(value: object) -> str:
    """Read the place of a calendar: a path, or an https URL."""
    found = text(value)
    if not found.isprintable():
        raise InvalidValue("ical", "holds a character that is not printable", "write a path or an https URL")
    if "://" in found and not found.startswith("https://"):
        raise InvalidValue("ical", "is a URL that does not begin with https://", "write an https URL, or a path")
    return found
