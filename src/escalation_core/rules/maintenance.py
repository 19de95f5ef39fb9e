"""Maintenance windows: a schedule of pauses from a cron expression and a length, in the local time of a zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import attrs

from ..checks import check_count, check_instant, check_text
from ..errors import InvalidValue

MINUTE = timedelta(minutes=1)
MAX_PAUSE = timedelta(minutes=10_080)
"""A week: the longest scheduled pause."""
_HOUR = timedelta(hours=1)
_SEARCHED = timedelta(days=400)
"""If pauses follow each other without a gap for longer than this, about a year and a month, they never end."""
_SEARCHED_DAILY = timedelta(days=2)
"""The same for a schedule that is the same on all days. A search through 400 days may take half a minute."""
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 20, tzinfo=UTC)
"""Outside of these a local time, or the end of a pause, may lie beyond what a datetime can express."""


def _matches(cron: str, reading: datetime, *, backwards: bool = False) -> Iterator[datetime]:
    """Return the matches after a local time, or those before it, latest first; ValueError for an invalid ``cron``."""
    # Imported here: every host imports this module, and few have a schedule.
    from cronsim import CronSim, CronSimError  # noqa: PLC0415

    try:
        return CronSim(cron, reading, reverse=backwards)
    except CronSimError as error:
        raise ValueError(str(error)) from None


def check_zone(name: object) -> ZoneInfo:
    """Return the time zone of an IANA name."""
    try:
        return ZoneInfo(check_text(name, "tz"))
    except (ValueError, OSError, KeyError):
        raise InvalidValue(
            "tz", f"{name!r} is not a valid time zone", "give an IANA name, for example Europe/Berlin"
        ) from None


def check_cron(expression: object) -> str:
    """Return a cron expression of five fields. Libraries disagree on a sixth: it means seconds or years."""
    text = " ".join(check_text(expression, "cron").split())
    if len(text.split(" ")) != 5:
        remedy = "give minute, hour, day of month, month and weekday, for example '0 22 * * *'"
        raise InvalidValue("cron", f"{text!r} does not have five fields", remedy)
    try:
        _matches(text, datetime(2024, 1, 1))  # noqa: DTZ001 - cron expressions are about local times
    except ValueError as error:
        raise InvalidValue("cron", f"{text!r} is not a valid cron expression ({error})", "correct the field") from None
    return text


def check_duration(value: object) -> timedelta:
    """Return the length of a pause as a timedelta. An int counts as minutes."""
    span = value
    if isinstance(value, int) and not isinstance(value, bool):
        span = timedelta(minutes=check_count(value, "duration", 1, MAX_PAUSE // MINUTE))
    if not isinstance(span, timedelta):
        raise InvalidValue("duration", f"is {type(value).__name__}", "give a timedelta or a number of minutes")
    if not MINUTE <= span <= MAX_PAUSE:
        raise InvalidValue("duration", f"is {span}", "give 1 minute to 7 days (10080 minutes)")
    return span


@attrs.frozen
class PauseSchedule:
    """A schedule that pauses paging for ``duration`` from each match of ``cron``, in the local time of ``tz``.

    An instant is paused if its local time w satisfies m <= w < m + duration for some match m, in naive datetimes.
    A local time that summer time skips never occurs; one that it repeats is paused both times. The last days of the
    year 9999 are never paused, because no pause could end in them.

    Raises:
        InvalidValue: the cron expression does not have five valid fields, never fires or never ends; the duration is
            not 1 minute to 7 days; the zone is unknown.
    """

    cron: str = attrs.field(converter=check_cron)
    duration: timedelta = attrs.field(converter=check_duration)
    """A timedelta, or a number of minutes."""
    tz: str = attrs.field(default="UTC")
    _zone: ZoneInfo = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        """Load the zone, and refuse a schedule that never fires or never ends."""
        object.__setattr__(self, "_zone", check_zone(self.tz))
        start = datetime(2024, 1, 1)  # noqa: DTZ001 - a local time
        first = next(_matches(self.cron, start - MINUTE), None)
        if first is None:
            raise InvalidValue("cron", f"{self.cron!r} never fires", "give days that exist")
        if self._end(first) > first + self._searched:
            raise InvalidValue("cron", f"{self.cron!r} with {self.duration} never ends", "leave a gap between pauses")

    @property
    def _searched(self) -> timedelta:
        return _SEARCHED_DAILY if self.cron.split(" ")[2:] == ["*", "*", "*"] else _SEARCHED

    def is_paused(self, instant: datetime) -> bool:
        """Return whether this instant lies within a pause."""
        return self._covering(check_instant(instant, "instant")) is not None

    def paused_until(self, instant: datetime) -> datetime | None:
        """Return the end of the pause that covers ``instant``, in UTC; None if no pause covers it."""
        instant = check_instant(instant, "instant")
        if not self.is_paused(instant):
            return None
        while (match := self._covering(instant)) is not None:
            instant = self._until_reading(instant, self._end(match) - self._reading(instant))
        return instant

    def _covering(self, instant: datetime) -> datetime | None:
        """Return the latest match whose pause covers this instant."""
        return self._match(self._reading(instant)) if _FIRST <= instant <= _LAST else None

    def _reading(self, instant: datetime) -> datetime:
        return instant.astimezone(self._zone).replace(tzinfo=None)

    def _latest(self, reading: datetime) -> datetime | None:
        """Return the latest match at or before this local time."""
        minute = reading.replace(second=0, microsecond=0)
        try:
            return next(_matches(self.cron, minute + MINUTE, backwards=True), None)
        except OverflowError:  # the match would lie before the year 1
            return None

    def _match(self, reading: datetime) -> datetime | None:
        """Return the latest match whose pause covers this local time."""
        match = self._latest(reading)
        return match if match is not None and reading < match + self.duration else None

    def _end(self, match: datetime) -> datetime:
        """Return the local end of this match's pause, joined with all later pauses that overlap or touch it."""
        last = _LAST.replace(tzinfo=None)
        give_up = min(match, last - self._searched) + self._searched
        while match <= give_up:
            latest = self._latest(match + self.duration)
            if latest is None or latest == match:
                break
            match = latest
        return match + self.duration

    def _until_reading(self, instant: datetime, span: timedelta) -> datetime:
        """Return ``instant + span``; if the zone's offset changes before that, return the instant of the change."""
        end, offset = instant + span, self._offset(instant)
        while instant < end:
            step = min(instant + _HOUR, end)
            if self._offset(step) != offset:
                return self._change(instant, step, offset)
            instant = step
        return end

    def _change(self, before: datetime, after: datetime, offset: timedelta | None) -> datetime:
        """Return the instant between the two at which the zone's offset changes. Zones change on whole seconds."""
        while after - before > timedelta(seconds=1):
            middle = before + (after - before) / 2
            if self._offset(middle) == offset:
                before = middle
            else:
                after = middle
        return after.replace(microsecond=0)

    def _offset(self, instant: datetime) -> timedelta | None:
        return instant.astimezone(self._zone).utcoffset()
