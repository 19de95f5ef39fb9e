"""Hours of a policies file, read the slow way: pieces of time between two changes, each inside or outside.

A piece ends where the zone's offset changes, or where the local reading comes to an end of a window or to midnight.
Within a piece the local reading moves with the instant, so its beginning decides whether all of it is inside.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
LOOK = timedelta(hours=6)
"""Two changes of an offset lie farther apart than this in every zone since 1970."""
LONGEST = timedelta(days=6 * 366)
"""A gap ends within five years, or its policy is refused."""


@dataclass(frozen=True)
class Window:
    """Readings from ``begin`` up to ``end``, which is excluded; an end that is not later lies in the next day."""

    days: frozenset[int]
    begin: timedelta
    end: timedelta


@dataclass(frozen=True)
class Hours:
    """Windows on the wall clock of a zone, and dates on which no window begins."""

    zone: str
    windows: tuple[Window, ...]
    closed: frozenset[date]


def read_hours(mapping: Mapping[str, Any]) -> Hours:
    """Return the hours that a mapping of the file describes; ``windows`` without ``days`` begin on every day."""
    windows = tuple(
        Window(read_days(window.get("days", "mon-sun")), clock_time(window["from"]), clock_time(window["to"]))
        for window in mapping["windows"]
    )
    closed = (day if isinstance(day, date) else date.fromisoformat(day) for day in mapping.get("closed", ()))
    return Hours(mapping["zone"], windows, frozenset(closed))


def read_days(days: str) -> frozenset[int]:
    """Return the weekdays, Monday as 0, of a text such as ``mon-fri`` or ``mon,wed-fri``."""
    found = set()
    for part in days.split(","):
        first, _, last = part.strip().partition("-")
        day, end = DAYS.index(first), DAYS.index(last or first)
        found.add(day)
        while day != end:
            day = (day + 1) % 7
            found.add(day)
    return frozenset(found)


def clock_time(text: str) -> timedelta:
    """Return the time since midnight that ``HH:MM`` names."""
    hours, minutes = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def is_open(hours: Hours, instant: datetime) -> bool:
    """Tell whether the local reading of an instant lies in a window."""
    return _inside(hours, _reading(instant, ZoneInfo(hours.zone)))


def next_open(hours: Hours, instant: datetime) -> datetime:
    """Return the first instant from this one on that is inside.

    Raises:
        ValueError: No window opens within six years.
    """
    for begin, _, inside in _pieces(hours, instant):
        if inside:
            return begin
    raise ValueError(f"{hours} do not open within six years of {instant}")


def add(hours: Hours | None, instant: datetime, span: timedelta) -> datetime:
    """Return the instant at which this much time inside the hours has passed; without hours all time counts.

    A span of 0 ends at once, also outside. A span that fills a window ends at the end of the window.

    Raises:
        ValueError: The span does not end within six years.
    """
    if hours is None or not span:
        return instant + span
    left = span
    for begin, end, inside in _pieces(hours, instant):
        if inside:
            if left <= end - begin:
                return begin + left
            left -= end - begin
    raise ValueError(f"{span} in {hours} do not end within six years of {instant}")


def _reading(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def _inside(hours: Hours, reading: datetime) -> bool:
    today = reading.date()
    clock = reading - datetime.combine(today, time())
    for window in hours.windows:
        if window.end > window.begin:
            if window.begin <= clock < window.end and _begins(hours, window, today):
                return True
        elif (clock >= window.begin and _begins(hours, window, today)) or (
            clock < window.end and _begins(hours, window, today - DAY)
        ):
            return True
    return False


def _begins(hours: Hours, window: Window, day: date) -> bool:
    return day.weekday() in window.days and day not in hours.closed


def _pieces(hours: Hours, instant: datetime) -> Iterator[tuple[datetime, datetime, bool]]:
    """Yield the beginning and the end of each piece, and whether it is inside, from an instant on."""
    zone = ZoneInfo(hours.zone)
    ends = sorted({timedelta(), DAY} | {each for window in hours.windows for each in (window.begin, window.end)})
    begin = instant.astimezone(UTC)
    while begin - instant < LONGEST:
        reading = _reading(begin, zone)
        clock = reading - datetime.combine(reading.date(), time())
        end = begin + next(each for each in ends if each > clock) - clock
        change = _next_change(hours.zone, begin, end)
        if change is not None:
            end = change
        yield begin, end, _inside(hours, reading)
        begin = end


def _next_change(zone: str, after: datetime, until: datetime) -> datetime | None:
    """Return the first change of the zone's offset later than ``after`` and before ``until``, or None."""
    day = after.date()
    while day <= until.date():
        for change in _changes(zone, day):
            if after < change < until:
                return change
        day += DAY
    return None


@lru_cache(maxsize=100_000)
def _changes(zone: str, day: date) -> tuple[datetime, ...]:
    """Return the instants of a UTC day at which the zone's offset changes, found by bisection."""
    where = ZoneInfo(zone)
    found = []
    # One second early: a change at midnight belongs to this day.
    low = datetime.combine(day, time(), UTC) - SECOND
    last = low + DAY
    while low < last:
        high = min(low + LOOK, last)
        if _offset(low, where) != _offset(high, where):
            before, behind = low, high
            while behind - before > SECOND:
                middle = before + ((behind - before) // 2 // SECOND) * SECOND
                if _offset(middle, where) == _offset(low, where):
                    before = middle
                else:
                    behind = middle
            found.append(behind)
        low = high
    return tuple(found)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None
    return offset
