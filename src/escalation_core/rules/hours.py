"""Hours: wall-clock windows of a zone, in which a policy's clock runs or a level may page."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any

import attrs

from ..checks import check_instant, check_text
from ..errors import InvalidValue
from .maintenance import check_zone
from .wall_clock import FIRST, LAST, even_until, offset_at

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = timedelta(days=1)
_MAX_SEARCH = timedelta(days=367)
"""Hours that do not open within a year are refused at load."""
_MAX_KEPT = 8000
"""How many open spans each hours keep, about 2 MB: with four windows, the five years within which a gap ends."""


@attrs.frozen(kw_only=True)
class Window:
    """A window [start, end) of local time on some days of the week. It belongs to the day on which it begins.

    If ``end`` is not after ``start``, the window ends on the next day. ``days`` counts from Monday, which is 0.
    """

    days: frozenset[int] = frozenset(range(7))
    start: time
    end: time

    @property
    def span(self) -> timedelta:
        """The window's length on a day without a clock change."""
        span = _from_midnight(self.end) - _from_midnight(self.start)
        return span if span > timedelta() else span + _DAY


@attrs.frozen(kw_only=True)
class Hours:
    """Named hours: the windows of each week in an IANA zone, without the windows that begin on a closed date.

    Local readings decide, as for the maintenance schedule: a reading that summer time skips never occurs, and one that
    it repeats counts both times.

    Raises:
        InvalidValue: the zone is unknown, or there is no window.
    """

    name: str
    zone: str
    windows: tuple[Window, ...]
    closed: frozenset[date] = frozenset()
    _tz: tzinfo = attrs.field(init=False, repr=False, eq=False)
    _spans: dict[datetime, Sequence[tuple[datetime, datetime]]] = attrs.field(
        init=False, repr=False, eq=False, factory=dict
    )
    """The open spans of days in UTC: a tick asks for the same days for each of its incidents."""

    def __attrs_post_init__(self) -> None:
        """Load the zone."""
        check_text(self.name, "name")
        object.__setattr__(self, "_tz", check_zone(self.zone))
        if not self.windows:
            raise InvalidValue("windows", "is empty", "give a window, or leave the hours out")

    def is_open(self, instant: datetime) -> bool:
        """Return whether the local reading of ``instant`` lies in a window."""
        return self._covers(self._reading(check_instant(instant, "instant")))

    def next_open(self, instant: datetime) -> datetime | None:
        """Return ``instant`` if the hours are open then, else the next instant at which they open.

        Return None if they do not open within a year.
        """
        for opens, closes in self._openings(check_instant(instant, "instant")):
            if closes > instant:
                return max(opens, instant)
        return None

    def next_change(self, instant: datetime) -> datetime | None:
        """Return the first instant after ``instant`` at which the hours open or close.

        Return None if they do not change within two years, or do not open within one.
        """
        if not self.is_open(instant):
            return self.next_open(instant)
        until = instant
        for opens, closes in self._openings(instant):
            if opens > until:
                return until
            until = max(until, closes)
            if until - instant > 2 * _MAX_SEARCH:
                return None
        return until if until < LAST else None

    def add(self, instant: datetime, span: timedelta) -> datetime:
        """Return the instant at which ``span`` of open time has passed since ``instant``.

        A span of zero ends at once, inside or outside. A span that fills a window ends when the window closes. If
        the hours do not open for a year, return the last instant of the calendar.
        """
        instant = check_instant(instant, "instant")
        left = span
        if left <= timedelta():
            return instant
        for opens, closes in self._openings(instant):
            begin = max(opens, instant)
            if closes - begin >= left:
                return begin + left
            left -= max(closes - begin, timedelta())
        return datetime.max.replace(tzinfo=UTC)

    def least_open(self, days: int) -> timedelta:
        """Return the least open time in any ``days`` days in a row, as the wall clock of a zone without changes shows.

        Only weekdays and closed dates count, so the answer does not depend on the day on which it is computed.
        """
        open_on = lru_cache(maxsize=None)(self._open_time)
        closed = {day.toordinal() for day in self.closed}
        # From a week in which nothing is closed, over all spans that hold a closed date, to such a week again.
        first = min(closed, default=1) - days - 7
        last = max(closed, default=1) + days + 7
        times = [open_on((day - 1) % 7, day in closed, day - 1 in closed) for day in range(first, last + 1)]
        total = least = sum(times[:days], timedelta())
        for gone, come in zip(times, times[days:], strict=False):
            total += come - gone
            least = min(least, total)
        return least

    def as_mapping(self) -> Mapping[str, Any]:
        """Return the hours as the policies file writes them, without their name."""
        return {
            "zone": self.zone,
            "windows": [
                {
                    "days": [DAYS[day] for day in sorted(window.days)],
                    "from": window.start.isoformat(),
                    "to": window.end.isoformat(),
                }
                for window in self.windows
            ],
            "closed": sorted(day.isoformat() for day in self.closed),
        }

    def _open_time(self, weekday: int, closed: bool, closed_before: bool) -> timedelta:
        """Return the open time of one day; a window of the day before may run into it."""
        spans = []
        for window in self.windows:
            begin = _from_midnight(window.start)
            if weekday in window.days and not closed:
                spans.append((begin, min(begin + window.span, _DAY)))
            if (weekday - 1) % 7 in window.days and not closed_before:
                spans.append((timedelta(), max(begin + window.span - _DAY, timedelta())))
        total = until = timedelta()
        for begin, end in sorted(spans):
            total += max(end - max(begin, until), timedelta())
            until = max(until, end)
        return total

    def _reading(self, instant: datetime) -> datetime:
        return instant.astimezone(self._tz).replace(tzinfo=None)

    def _covers(self, reading: datetime) -> bool:
        today = reading.date()
        return any(begin <= reading < end for begin, end in self._windows_of(today - _DAY, today))

    def _windows_of(self, first: date, last: date) -> Sequence[tuple[datetime, datetime]]:
        """Return the local begin and end of each window that begins on these days, sorted."""
        found = []
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            day = date.fromordinal(ordinal)
            if day in self.closed:
                continue
            for window in self.windows:
                if day.weekday() in window.days:
                    begin = datetime.combine(day, window.start)
                    found.append((begin, begin + window.span))
        return sorted(found)

    def _openings(self, instant: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the spans of instants in which the hours are open, in order, from the one that may cover ``instant``.

        A span may end where the next one begins, or before ``instant``. The search ends a year after the last span.
        """
        first = min(max(instant, FIRST), LAST)
        found = at = datetime(first.year, first.month, first.day, tzinfo=UTC)
        while at - found <= _MAX_SEARCH and at < LAST:
            spans = self._spans.get(at)
            for span in self._spans_of(at) if spans is None else spans:
                yield span
                found = span[1]
            at += _DAY

    def _spans_of(self, day: datetime) -> Sequence[tuple[datetime, datetime]]:
        """Return the open spans of a day in UTC, and keep them."""
        if len(self._spans) * len(self.windows) >= _MAX_KEPT:
            self._spans.clear()
        self._spans[day] = spans = tuple(self._open_between(day, min(day + _DAY, LAST)))
        return spans

    def _open_between(self, first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the open spans within [first, last), in order. Readings run evenly between changes of the offset."""
        at = first
        while at < last:
            until = even_until(at, last, self._tz)
            offset = offset_at(at, self._tz)
            reading = (at + offset).replace(tzinfo=None)
            end = (until + offset).replace(tzinfo=None)
            closed_until = reading
            for begin, finish in self._windows_of(reading.date() - _DAY, end.date()):
                begins, finishes = max(begin, closed_until), min(finish, end)
                if begins < finishes:
                    yield begins.replace(tzinfo=UTC) - offset, finishes.replace(tzinfo=UTC) - offset
                    closed_until = finishes
            at = until


def _from_midnight(at: time) -> timedelta:
    return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond)
