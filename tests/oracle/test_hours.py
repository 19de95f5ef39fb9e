"""Hours of the oracle, by figures worked out by hand: the nights on which clocks change, closed days, gaps."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .hours import add, is_open, next_open, read_days, read_hours
from .strategies import NIGHTS, hours

MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def daily(zone: str, begin: str, end: str, days: str = "mon-sun", **more: Any) -> dict[str, Any]:
    return {"zone": zone, "windows": [{"days": days, "from": begin, "to": end}], **more}


def test_days() -> None:
    """Days are single or from one to another, also across the end of the week."""
    assert [read_days(text) for text in ("mon-fri", "sat", "fri-mon", "mon,wed-thu")] == [
        frozenset(range(5)),
        {5},
        {4, 5, 6, 0},
        {0, 2, 3},
    ]


@pytest.mark.parametrize(
    ("hours", "after", "opens"),
    [
        # The reading 02:10 is skipped in the night of the spring change, and does not move to 03:10.
        (daily("Europe/Berlin", "02:10", "02:50"), "2026-03-29T00:00", "2026-03-30T00:10"),
        (daily("Europe/Berlin", "02:10", "02:50"), "2026-10-25T00:50", "2026-10-25T01:10"),
        (daily("America/New_York", "01:30", "01:45"), "2026-11-01T05:45", "2026-11-01T06:30"),
        (daily("Australia/Lord_Howe", "02:00", "02:30"), "2026-10-03T15:30", "2026-10-04T15:00"),
        # Friday, 30 December 2011, does not exist: the day after Thursday was Saturday.
        (daily("Pacific/Apia", "09:00", "17:00", "mon-fri"), "2011-12-30T03:00", "2012-01-01T19:00"),
        (daily("Pacific/Apia", "09:00", "17:00", "fri"), "2011-12-30T03:00", "2012-01-05T19:00"),
        # A window that begins on a closed date does not begin; that of the day before runs into it.
        (daily("UTC", "22:00", "06:00", closed=["2026-12-25"]), "2026-12-25T05:00", "2026-12-25T05:00"),
        (daily("UTC", "22:00", "06:00", closed=["2026-12-25"]), "2026-12-25T06:00", "2026-12-26T22:00"),
        (daily("UTC", "09:00", "09:00", "mon"), "2026-03-03T08:59", "2026-03-03T08:59"),
        (daily("UTC", "09:00", "09:00", "mon"), "2026-03-03T09:00", "2026-03-09T09:00"),
    ],
)
def test_next_open(hours: dict[str, Any], after: str, opens: str) -> None:
    """The next opening is an instant at which the local reading comes into a window."""
    assert next_open(read_hours(hours), utc(after)) == utc(opens)


@pytest.mark.parametrize(
    ("hours", "begin", "minutes", "end"),
    [
        # Skipped readings count nothing.
        (daily("Europe/Berlin", "01:30", "03:30"), "2026-03-29T00:00", 60, "2026-03-29T01:30"),
        (daily("America/New_York", "01:30", "03:30"), "2026-03-08T06:00", 60, "2026-03-08T07:30"),
        (daily("Australia/Lord_Howe", "01:45", "02:45"), "2026-10-03T15:00", 30, "2026-10-03T15:45"),
        (daily("Pacific/Apia", "09:00", "17:00"), "2011-12-29T19:00", 480 + 60, "2011-12-30T20:00"),
        # Repeated readings count twice.
        (daily("Europe/Berlin", "02:10", "02:50"), "2026-10-25T00:00", 60, "2026-10-25T01:30"),
        (daily("America/New_York", "01:30", "01:45"), "2026-11-01T05:00", 30, "2026-11-01T06:45"),
        (daily("Australia/Lord_Howe", "01:30", "02:00"), "2026-04-04T14:00", 60, "2026-04-04T15:30"),
        # A gap that fills a window ends at its end, and not at the next beginning.
        (daily("UTC", "09:00", "17:00"), "2026-03-02T16:30", 30, "2026-03-02T17:00"),
        (daily("UTC", "09:00", "17:00"), "2026-03-02T16:30", 31, "2026-03-03T09:01"),
        # A gap of 0 ends at once, also outside.
        (daily("UTC", "09:00", "17:00"), "2026-03-02T20:00", 0, "2026-03-02T20:00"),
    ],
)
def test_add(hours: dict[str, Any], begin: str, minutes: int, end: str) -> None:
    """Only the time inside counts."""
    assert add(read_hours(hours), utc(begin), timedelta(minutes=minutes)) == utc(end)


def test_a_missing_day() -> None:
    """In Apia no reading lies on 30 December 2011, but the window that would have begun on it is read on the 31st."""
    thursday = read_hours(daily("Pacific/Apia", "22:00", "06:00", "thu"))
    friday = read_hours(daily("Pacific/Apia", "22:00", "06:00", "fri"))
    instants = [utc(f"2011-12-30T{hour:02}:30") for hour in (7, 8, 9, 10, 15, 16)]
    assert [is_open(thursday, each) for each in instants] == [False, True, True, False, False, False]
    assert [is_open(friday, each) for each in instants] == [False, False, False, True, True, False]


def test_hours_that_never_open() -> None:
    """Hours that never open are an error, and not a search without end."""
    never = read_hours({"zone": "UTC", "windows": []})
    with pytest.raises(ValueError, match="do not open"):
        next_open(never, utc("2026-03-02T00:00"))
    with pytest.raises(ValueError, match="do not end"):
        add(never, utc("2026-03-02T00:00"), MINUTE)


@given(hours(), st.sampled_from(sorted(NIGHTS)), st.integers(-1500, 1500), st.integers(1, 1500))
def test_add_counts_minutes_inside(mapping: dict[str, Any], night: str, offset: int, minutes: int) -> None:
    """Counted minute by minute, as much time inside passes up to the end of the gap as the gap is long."""
    described, zone_night = read_hours(mapping), NIGHTS[night]
    begin = zone_night + offset * MINUTE
    end = add(described, begin, minutes * MINUTE)
    counted = 0
    at = begin
    while at < end:
        counted += is_open(described, at)
        at += MINUTE
    assert (counted, is_open(described, end - MINUTE)) == (minutes, True)


@given(hours(), st.sampled_from(sorted(NIGHTS)), st.integers(-1500, 1500))
def test_next_open_is_the_first(mapping: dict[str, Any], night: str, offset: int) -> None:
    """The next opening is inside, and no minute before it is."""
    described = read_hours(mapping)
    begin = NIGHTS[night] + offset * MINUTE
    opens = next_open(described, begin)
    assert is_open(described, opens)
    assert opens == begin or not is_open(described, opens - timedelta(microseconds=1))
    assert not any(is_open(described, begin + each * MINUTE) for each in range((opens - begin) // MINUTE))
