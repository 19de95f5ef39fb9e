"""What the wall clock of a zone shows: at which instant it shows a reading, and when its offset changes."""

from datetime import UTC, datetime, timedelta, tzinfo

from ..errors import InvalidValue

FIRST = datetime.min.replace(tzinfo=UTC) + timedelta(days=3)
LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=3)
"""Outside of these a local reading may lie beyond what a datetime can express."""
_STEP = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


def later(instant: datetime, span: timedelta) -> datetime:
    """Return ``instant + span``, at most the last instant that a datetime can express."""
    try:
        return instant + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def check_reading(value: object, field: str) -> datetime:
    """Return a local reading, which is a datetime without a zone."""
    if not isinstance(value, datetime):
        raise InvalidValue(field, f"is {type(value).__name__}", "give a datetime without a time zone")
    if value.tzinfo is not None:
        raise InvalidValue(field, "has a time zone", "give a local time: the schedule's zone decides")
    return value


def offset_at(instant: datetime, zone: tzinfo) -> timedelta:
    """Return the offset of the zone from UTC at an instant."""
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - an aware datetime has an offset
    return offset


def even_until(first: datetime, last: datetime, zone: tzinfo) -> datetime:
    """Return ``last``, or the first instant after ``first`` at which the zone's offset changes."""
    offset, at = offset_at(first, zone), first
    if offset_at(last, zone) == offset and offset_at(first + (last - first) / 2, zone) == offset:
        return last
    while at < last:
        step = min(at + _STEP, last)
        if offset_at(step, zone) != offset:
            while step - at > _SECOND:
                middle = at + (step - at) / 2
                at, step = (middle, step) if offset_at(middle, zone) == offset else (at, middle)
            return step.replace(microsecond=0)  # offsets change on whole seconds
        at = step
    return last


def first_shown(reading: datetime, zone: tzinfo) -> datetime:
    """Return the first instant, in UTC, at which the zone's clock shows ``reading`` or a later reading.

    For a reading that summer time skips, this is the instant of the change; for one that it repeats, the first of the
    two. A reading near either end of the calendar gives the first or the last instant that a datetime can express.
    """
    try:
        earlier, repeated = (reading.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC) if reading.year == 1 else datetime.max.replace(tzinfo=UTC)
    # Of a skipped reading, fold 0 gives an instant after the change, and fold 1 one before it.
    return even_until(repeated, earlier, zone) if repeated < earlier else earlier
