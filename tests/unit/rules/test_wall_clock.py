"""Readings of a wall clock, and the instants at which it shows them. Instants are worked out by hand."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue
from escalation_core.rules.wall_clock import check_reading, first_shown

MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("zone", "reading", "instant"),
    [
        ("Europe/Berlin", "2026-01-05 09:00", "2026-01-05 08:00"),
        ("Europe/Berlin", "2026-07-05 09:00", "2026-07-05 07:00"),
        # Berlin skips 2:00 to 3:00, and repeats it in autumn.
        ("Europe/Berlin", "2026-03-29 01:59:59", "2026-03-29 00:59:59"),
        ("Europe/Berlin", "2026-03-29 02:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 02:30", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-03-29 03:00", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-10-25 02:30", "2026-10-25 00:30"),
        ("Europe/Berlin", "2026-10-25 03:00", "2026-10-25 02:00"),
        # Lord Howe moves its clock by half an hour, Santiago at midnight, Apia once by a day.
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:30"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04 14:45"),
        ("America/Santiago", "2026-09-06 00:00", "2026-09-06 04:00"),
        ("Pacific/Apia", "2011-12-30 09:00", "2011-12-30 10:00"),
        ("Pacific/Apia", "2011-12-31 00:00", "2011-12-30 10:00"),
    ],
)
def test_first_shown(zone: str, reading: str, instant: str) -> None:
    """A skipped reading gives the instant of the change, and a repeated one the first of its two instants."""
    shown = first_shown(datetime.fromisoformat(reading), ZoneInfo(zone))
    assert datetime.fromisoformat(instant).replace(tzinfo=UTC) == shown


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/New_York"])
def test_the_ends_of_the_calendar(zone: str) -> None:
    """A reading whose instant lies outside the calendar gives an end of it."""
    first, last = (first_shown(end, ZoneInfo(zone)) for end in (datetime(1, 1, 1), datetime(9999, 12, 31, 23)))  # noqa: DTZ001 - local times
    assert first <= datetime(1, 1, 2, tzinfo=UTC)
    assert last >= datetime(9999, 12, 31, tzinfo=UTC)


@given(
    reading=st.datetimes(datetime(2010, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001 - local times
    zone=st.sampled_from(["Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Cairo", "Asia/Kathmandu"]),
)
def test_nothing_later_was_shown_before(reading: datetime, zone: str) -> None:
    """At the instant the clock shows the reading or a later one, and just before it an earlier one."""

    def shows(instant: datetime) -> datetime:
        return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

    instant = first_shown(reading, ZoneInfo(zone))
    assert shows(instant) >= reading
    assert shows(instant - MICROSECOND) < reading
    assert shows(instant - timedelta(hours=1)) < reading


def test_a_reading_has_no_zone() -> None:
    """Anything else than a datetime without a zone is refused."""
    assert datetime(2026, 1, 5, 9) == check_reading(datetime(2026, 1, 5, 9), "start")  # noqa: DTZ001 - a local time
    with pytest.raises(InvalidValue, match=r"^start: has a time zone; give a local time: the schedule's zone decides$"):
        check_reading(datetime(2026, 1, 5, 9, tzinfo=UTC), "start")
    with pytest.raises(InvalidValue, match=r"^start: is str; give a datetime without a time zone$"):
        check_reading("2026-01-05", "start")
