"""The days of a zone, some of which have 23 or 25 hours, and who is on call on each."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import attrs

from escalation_core import Cover, handovers
from escalation_core.rules.wall_clock import even_until, first_shown, offset_at

TICK_HOURS = (0, 3, 6, 9, 12, 15, 18, 21)
"""The hours of a day that a scale names, besides its end."""
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)
_SECOND = timedelta(seconds=1)
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@attrs.frozen
class Day:
    """A day of a zone, from ``start`` until ``end``."""

    date: date
    zone: ZoneInfo
    start: datetime
    end: datetime

    @property
    def label(self) -> str:
        """The date, for example ``Sun 05 Jan``."""
        return f"{WEEKDAYS[self.date.weekday()]} {self.date.day:02} {_MONTHS[self.date.month - 1]}"

    @property
    def hours(self) -> float:
        """How many hours the day has."""
        return (self.end - self.start) / _HOUR

    @property
    def clock_change(self) -> tuple[datetime, timedelta] | None:
        """The instant at which the clock is changed, and by how much; None on most days."""
        # Where the clock skips midnight, the day begins with the change.
        before = self.start - _SECOND
        at = even_until(before, self.end - _SECOND, self.zone)
        change = offset_at(at, self.zone) - offset_at(before, self.zone)
        return (at, change) if change else None

    @property
    def scale(self) -> Sequence[tuple[float, str]]:
        """Where a scale names an hour: the hours since the day began, and the hour on the clock."""
        # Where the clock skips an hour, the next one stands in its place.
        ticks = [first_shown(datetime.combine(self.date, time(hour)), self.zone) for hour in TICK_HOURS]
        named = [((at - self.start) / _HOUR, f"{at.astimezone(self.zone):%H}") for at in ticks]
        return [*named, (self.hours, "24")]

    def of(self, spans: Sequence[Cover]) -> Sequence[Cover]:
        """Return the parts of the spans that lie within the day."""
        return [
            attrs.evolve(span, start=max(span.start, self.start), end=min(span.end, self.end))
            for span in spans
            if span.start < self.end and span.end > self.start
        ]


@attrs.frozen
class Rota:
    """Who is on call for a schedule on some days of a zone."""

    schedule: str
    days: Sequence[Day]
    spans: Sequence[Cover]

    @property
    def zone(self) -> str:
        """The name of the zone."""
        return self.days[0].zone.key

    def with_scales(self) -> Iterator[tuple[Day, bool]]:
        """Yield the days, and whether a scale stands above: at first, and wherever it differs from the one before."""
        scale: Sequence[tuple[float, str]] = ()
        for day in self.days:
            yield day, day.scale != scale
            scale = day.scale

    @property
    def handovers(self) -> Sequence[datetime]:
        """The instants at which the people change."""
        return [handover.at for handover in handovers(self.spans)]


def days_from(at: datetime, count: int, zone: ZoneInfo) -> Sequence[Day]:
    """Return days of a zone, from the one that has the instant. A day that the zone left out is not among them."""
    first = at.astimezone(zone).date()
    midnights = [first_shown(datetime.combine(first + number * _DAY, time()), zone) for number in range(count + 1)]
    return [
        Day(first + number * _DAY, zone, start, end)
        for number, (start, end) in enumerate(pairwise(midnights))
        if start < end
    ]


def change_text(change: timedelta) -> str:
    """Return how a clock is changed, for example ``clock +1 h``."""
    sign, length = ("-" if change < timedelta() else "+"), abs(change)
    return f"clock {sign}{length // _MINUTE} min" if length % _HOUR else f"clock {sign}{length // _HOUR} h"


def people_text(span: Cover) -> str:
    """Return who is on call, in words."""
    if span.people is None:
        return "not known"
    return ", ".join(sorted(span.people)) or "no one"
