"""Hours: windows of the wall clock, also in the nights in which the clock changes. Instants are worked out by hand."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from escalation_core import InvalidValue
from escalation_core.rules import hours as module
from escalation_core.rules.hours import Hours, Window

from ..kit import DAY, HOUR, MINUTE, SECOND

NIGHT = Window(start=time(2, 10), end=time(2, 50))
LONG = Window(start=time(1), end=time(4))


def hours(*windows: Window, zone: str = "UTC", **fields: Any) -> Hours:
    """Return hours with these windows."""
    return Hours(name="h", zone=zone, windows=windows, **fields)


def at(text: str) -> datetime:
    """Return an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


OFFICE = hours(Window(days=frozenset(range(5)), start=time(9), end=time(17)), closed=frozenset({date(2025, 1, 6)}))


def test_a_window_has_its_start_and_not_its_end() -> None:
    """A window is open from its start on, up to the instant before its end."""
    assert not OFFICE.is_open(at("2025-01-01 08:59:59.999999"))
    assert OFFICE.is_open(at("2025-01-01 09:00"))
    assert OFFICE.is_open(at("2025-01-01 16:59:59.999999"))
    assert not OFFICE.is_open(at("2025-01-01 17:00"))


def test_days_and_closed_dates() -> None:
    """Windows begin on their weekdays alone, and on no closed date."""
    # 2025-01-03 is a Friday, and Monday is closed.
    assert at("2025-01-03 16:00") == OFFICE.next_open(at("2025-01-03 16:00"))
    assert at("2025-01-07 09:00") == OFFICE.next_open(at("2025-01-03 17:00"))
    assert not OFFICE.is_open(at("2025-01-04 12:00"))
    assert not OFFICE.is_open(at("2025-01-06 12:00"))


def test_time_is_added_inside() -> None:
    """Added time runs in the windows alone, over nights, weekends and closed dates."""
    friday = at("2025-01-03 16:30")
    assert friday == OFFICE.add(friday, timedelta())
    assert at("2025-01-03 17:00") == OFFICE.add(friday, 30 * MINUTE)
    assert at("2025-01-07 09:00:01") == OFFICE.add(friday, 30 * MINUTE + SECOND)
    assert at("2025-01-07 17:00") == OFFICE.add(friday, 8.5 * HOUR)
    assert at("2025-01-08 10:30") == OFFICE.add(friday, 10 * HOUR)
    night = at("2025-01-03 20:00")
    assert night == OFFICE.add(night, timedelta())


def test_a_window_over_midnight_belongs_to_its_first_day() -> None:
    """A window that runs into the next day is open there, unless the day on which it begins is closed."""
    one = hours(Window(days=frozenset({4}), start=time(22), end=time(6)))
    assert one.is_open(at("2025-01-04 05:59"))
    assert not one.is_open(at("2025-01-04 06:00"))
    assert not one.is_open(at("2025-01-03 05:00"))
    closed = hours(*one.windows, closed=frozenset({date(2025, 1, 3)}))
    assert not closed.is_open(at("2025-01-04 05:59"))
    morning = hours(*one.windows, closed=frozenset({date(2025, 1, 4)}))
    assert morning.is_open(at("2025-01-04 05:59"))


def test_a_whole_day() -> None:
    """A window whose end is its start lasts a day."""
    assert DAY == Window(start=time(8), end=time(8)).span
    one = hours(Window(days=frozenset({2}), start=time(8), end=time(8)))
    assert [False, True, True, False] == [
        one.is_open(at(text))
        for text in ("2025-01-01 07:59", "2025-01-01 08:00", "2025-01-02 07:59", "2025-01-02 08:00")
    ]


def test_windows_that_touch_or_overlap_count_once() -> None:
    """Time in two windows at once counts once."""
    one = hours(
        Window(start=time(9), end=time(12)), Window(start=time(11), end=time(13)), Window(start=time(13), end=time(14))
    )
    assert at("2025-01-01 14:00") == one.add(at("2025-01-01 08:00"), 5 * HOUR)
    assert at("2025-01-02 09:00:01") == one.add(at("2025-01-01 08:00"), 5 * HOUR + SECOND)


# --- nights in which the clock changes


def test_berlin_in_spring() -> None:
    """Readings that summer time skips never occur: 2:10 to 2:50 is left out, and 1:00 to 4:00 lasts two hours."""
    short, long = (hours(one, zone="Europe/Berlin") for one in (NIGHT, LONG))
    assert at("2025-03-29 01:10") == short.next_open(at("2025-03-29 00:00"))
    # 2025-03-30, 2:00 to 3:00, does not exist; on the 31st the offset is two hours.
    assert at("2025-03-31 00:10") == short.next_open(at("2025-03-29 02:00"))
    assert not short.is_open(at("2025-03-30 01:10"))
    assert at("2025-03-30 02:00") == long.add(at("2025-03-29 23:00"), 2 * HOUR)
    assert at("2025-03-30 23:00:01") == long.add(at("2025-03-29 23:00"), 2 * HOUR + SECOND)


def test_berlin_in_autumn() -> None:
    """Readings that occur twice count both times."""
    short, long = (hours(one, zone="Europe/Berlin") for one in (NIGHT, LONG))
    assert short.is_open(at("2025-10-26 00:10"))
    assert not short.is_open(at("2025-10-26 00:50"))
    assert short.is_open(at("2025-10-26 01:10"))
    assert at("2025-10-26 01:10") == short.next_open(at("2025-10-26 00:50"))
    assert at("2025-10-26 01:30") == short.add(at("2025-10-26 00:00"), HOUR)
    assert at("2025-10-26 03:00") == long.add(at("2025-10-25 22:30"), 4 * HOUR)


def test_new_york() -> None:
    """The same in New York: 2:10 to 2:50 is left out in March, and 1:10 to 1:50 occurs twice in November."""
    short = hours(NIGHT, zone="America/New_York")
    assert at("2025-03-10 06:10") == short.next_open(at("2025-03-08 08:00"))
    early = hours(Window(start=time(1, 10), end=time(1, 50)), zone="America/New_York")
    assert at("2025-11-02 06:50") == early.add(at("2025-11-02 05:00"), 80 * MINUTE)


def test_lord_howe() -> None:
    """Lord Howe's clock changes by half an hour."""
    # 2025-10-05, 2:00 to 2:30, does not exist: the offset goes from 10:30 to 11:00.
    skipped = hours(Window(start=time(2, 5), end=time(2, 25)), zone="Australia/Lord_Howe")
    assert at("2025-10-05 15:05") == skipped.next_open(at("2025-10-04 15:00"))
    # 2025-04-06, 1:30 to 2:00, occurs twice.
    twice = hours(Window(start=time(1, 40), end=time(1, 50)), zone="Australia/Lord_Howe")
    assert at("2025-04-05 15:15") == twice.add(at("2025-04-05 14:30"), 15 * MINUTE)


def test_apia() -> None:
    """In Apia there was no 2011-12-30: after Thursday's window comes Saturday's."""
    daily = hours(Window(start=time(9), end=time(17)), zone="Pacific/Apia")
    assert at("2011-12-30 19:00") == daily.next_open(at("2011-12-30 03:00"))
    friday = hours(Window(days=frozenset({4}), start=time(9), end=time(17)), zone="Pacific/Apia")
    # The next Friday is 2012-01-06, 9:00 at +14:00.
    assert at("2012-01-05 19:00") == friday.next_open(at("2011-12-29 12:00"))


# --- the edges


def test_hours_that_do_not_open() -> None:
    """Hours that are closed for a year never open, and time added to them ends at the end of the calendar."""
    every = frozenset(date(2025, 1, 1) + number * DAY for number in range(500))
    one = hours(Window(start=time(9), end=time(17)), closed=every)
    assert None is one.next_open(at("2025-01-01 00:00"))
    assert datetime.max.replace(tzinfo=UTC) == one.add(at("2025-01-01 00:00"), MINUTE)
    assert timedelta() == one.least_open(365)


def test_the_least_open_time() -> None:
    """The least open time of a week is that of the week with the closed Monday."""
    assert 32 * HOUR == OFFICE.least_open(7)
    assert 40 * HOUR == hours(*OFFICE.windows).least_open(7)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"zone": "Europe/Berlln"}, "Europe/Berlln"),
        ({"windows": ()}, "windows: is empty"),
        ({"name": 5}, "name"),
    ],
)
def test_wrong_hours(fields: dict[str, Any], field: str) -> None:
    """An unknown zone, no windows, and a name that is no text are refused."""
    with pytest.raises(InvalidValue, match=field):
        Hours(**{"name": "h", "zone": "UTC", "windows": (NIGHT,), **fields})


def test_naive_instants_are_refused() -> None:
    """An instant without a zone is refused."""
    with pytest.raises(InvalidValue, match="instant"):
        OFFICE.is_open(datetime(2025, 1, 1))  # noqa: DTZ001


def test_the_days_of_a_gap_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick asks for the same days for each of its incidents: hours read the zone's clock once for each day."""
    hours = Hours(name="h", zone="Europe/Berlin", windows=(NIGHT,))
    began, gap = datetime(2026, 3, 1, tzinfo=UTC), timedelta(hours=500)
    ends = hours.add(began, gap)
    monkeypatch.setattr(Hours, "_open_between", None)  # a day that is read again fails
    assert ends == hours.add(began, gap)
    assert ends == hours.add(began + timedelta(minutes=1), gap)


def test_hours_forget_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours keep a limited number of days, and the answers stay the same."""
    began, gap = datetime(2026, 3, 1, tzinfo=UTC), timedelta(hours=500)
    ends = Hours(name="h", zone="Europe/Berlin", windows=(NIGHT,)).add(began, gap)
    monkeypatch.setattr(module, "_MAX_KEPT", 3)
    few = Hours(name="h", zone="Europe/Berlin", windows=(NIGHT,))
    assert [ends, ends] == [few.add(began, gap), few.add(began, gap)]
    assert len(few._spans) <= 3


def test_next_change() -> None:
    """The hours change as they open and as they close. Windows that meet or overlap close once."""
    assert at("2025-01-03 17:00") == OFFICE.next_change(at("2025-01-03 09:00"))
    assert at("2025-01-07 09:00") == OFFICE.next_change(at("2025-01-03 17:00"))
    one = hours(
        Window(start=time(9), end=time(12)), Window(start=time(11), end=time(13)), Window(start=time(13), end=time(14))
    )
    assert at("2025-01-01 14:00") == one.next_change(at("2025-01-01 10:00"))
    assert at("2025-01-02 09:00") == one.next_change(at("2025-01-01 14:00"))
    night = hours(NIGHT, zone="Europe/Berlin")
    assert at("2025-10-26 00:50") == night.next_change(at("2025-10-26 00:10"))
    assert at("2025-10-26 01:10") == night.next_change(at("2025-10-26 00:50"))
    long = hours(LONG, zone="Europe/Berlin")
    assert at("2025-03-30 02:00") == long.next_change(at("2025-03-30 00:30"))


def test_next_change_of_hours_that_do_not_change() -> None:
    """Hours that close only on a date in more than two years do not change; one that is nearer is found."""
    whole = Window(start=time(), end=time())
    assert hours(whole).next_change(at("2025-01-01 00:00")) is None
    shut = hours(whole, closed=frozenset({date(2027, 1, 1)}))
    assert at("2027-01-01 00:00") == shut.next_change(at("2025-01-01 00:00"))
    assert shut.next_change(at("2024-06-01 00:00")) is None
    assert hours(whole, closed=frozenset()).next_change(at("9999-12-30 00:00")) is None
