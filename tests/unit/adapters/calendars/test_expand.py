"""What a calendar says is read as it is meant, or the calendar is refused."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from escalation_adapters.calendars.expand import MAX_OCCURRENCES, expand, person_of
from escalation_core import InvalidValue

from .texts import OWN_ZONE, START, calendar, event, rows, utc

HOUR = ("DTSTART:20260302T090000Z", "DURATION:PT1H")
BERLIN_HOUR = ("DTSTART;TZID=Europe/Berlin:20260323T090000", "DURATION:PT1H")
DAY = ("DTSTART;VALUE=DATE:20260329", "DTEND;VALUE=DATE:20260330")


EIGHT_HOURS = ("DTSTART;TZID=Asia/Shanghai:20260302T000000", "DURATION:PT8H",
               "RRULE:FREQ=DAILY;BYHOUR=0,8,16;COUNT=4")  # fmt: skip


def starts(*lines: str, head: Sequence[str] = ()) -> list[str]:
    """Return the start of each shift, without the year."""
    return [f"{start:%m-%d %H:%M}" for _, start, _ in rows(calendar(*head, *lines))]


def fault(*lines: str) -> str:
    with pytest.raises(InvalidValue) as raised:
        expand(calendar(*lines), START, START + timedelta(days=365))
    return str(raised.value)


def test_one_event() -> None:
    assert [("ann", utc("2026-03-02 09:00"), utc("2026-03-02 10:00"))] == rows(calendar(*event(*HOUR)))


def test_several_people_at_once() -> None:
    """Events that overlap are shifts of their own."""
    both = calendar(*event(*HOUR, uid="1"), *event(*HOUR, uid="2", summary="bob"))
    assert {"ann", "bob"} == {person for person, _, _ in rows(both)}


@pytest.mark.parametrize(
    ("summary", "person"),
    [
        ("ann", "ann"),
        ("  Ann Example ", "Ann Example"),
        ("On Call - Ann Example - Shop", "Ann Example"),
        ("On Call - Ann Example - Shop - out of hours", "Ann Example"),
        ("On Call - Ann Example", "Ann Example"),
        ("Ann - Bob", "Ann - Bob"),
        ("On Call", "On Call"),
        ("ann, bob", "ann, bob"),
        ("Ann\n Example", "Ann Example"),
    ],
)
def test_person(summary: str, person: str) -> None:
    """The person is the whole SUMMARY, except in the form of PagerDuty."""
    assert person == person_of(summary)


def test_folded_line() -> None:
    """A line that is folded within a word, or within a character, is read whole."""
    content = calendar(*event(*HOUR, summary="Zoë Example")).replace("ë".encode(), b"\xc3\r\n \xab")
    assert ["Zoë Example"] == [person for person, _, _ in rows(content)]
    content = calendar(*event(*HOUR, summary="On Call - Ann Exa\r\n mple - Shop"))
    assert ["Ann Example"] == [person for person, _, _ in rows(content)]


def test_byte_order_mark_and_bare_line_feeds() -> None:
    content = b"\xef\xbb\xbf" + calendar(*event(*HOUR)).replace(b"\r\n", b"\n")
    assert 1 == len(rows(content))


def test_cancelled_event() -> None:
    assert [] == starts(*event(*HOUR, "STATUS:CANCELLED"))


def test_cancelled_occurrence() -> None:
    """A cancelled occurrence of a series is dropped, and the others stay."""
    series = event(*HOUR, "RRULE:FREQ=DAILY;COUNT=3")
    one = event("RECURRENCE-ID:20260303T090000Z", "DTSTART:20260303T090000Z", "DURATION:PT1H", "STATUS:CANCELLED")
    assert ["03-02 09:00", "03-04 09:00"] == starts(*series, *one)


def test_moved_occurrence() -> None:
    """A moved occurrence is there once, at its new time, also if it moves out of its week."""
    series = event(*BERLIN_HOUR, "RRULE:FREQ=DAILY;COUNT=3")
    moved = event("RECURRENCE-ID;TZID=Europe/Berlin:20260324T090000", "DTSTART;TZID=Europe/Berlin:20260410T140000",
                  "DURATION:PT1H", summary="bob")  # fmt: skip
    found = rows(calendar(*series, *moved))
    assert [("ann", 23, 8), ("ann", 25, 8), ("bob", 10, 12)] == [
        (person, start.day, start.hour) for person, start, _ in found
    ]


def test_several_times_a_day() -> None:
    """Shifts of eight hours are read, in a zone without exceptions and in UTC with exceptions."""
    assert ["03-01 16:00", "03-02 00:00", "03-02 08:00", "03-02 16:00"] == starts(*event(*EIGHT_HOURS))
    hourly = event("DTSTART:20260302T000000Z", "DURATION:PT8H", "RRULE:FREQ=HOURLY;INTERVAL=8;COUNT=4",
                   "EXDATE:20260302T080000Z")  # fmt: skip
    assert ["03-02 00:00", "03-02 16:00", "03-03 00:00"] == starts(*hourly)


def test_left_out_and_added_dates() -> None:
    """EXDATE leaves dates out, and RDATE adds them."""
    series = event(*BERLIN_HOUR, "RRULE:FREQ=DAILY;COUNT=3", "EXDATE;TZID=Europe/Berlin:20260324T090000",
                   "RDATE;TZID=Europe/Berlin:20260401T090000,20260402T090000")  # fmt: skip
    assert ["03-23 08:00", "03-25 08:00", "04-01 07:00", "04-02 07:00"] == starts(*series)


@pytest.mark.parametrize("until", ["20260330", "20260330T090000", "20260330T070000Z"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_last_date_of_a_rule(until: str, zone: str) -> None:
    """A rule that ends with a date includes that day; a time without a zone is one of the event's zone."""
    if until.endswith("Z") and zone == "America/New_York":
        until = "20260330T130000Z"
    lines = event(f"DTSTART;TZID={zone}:20260328T090000", "DURATION:PT1H", f"RRULE:FREQ=DAILY;UNTIL={until}")
    assert 3 == len(starts(*lines))


@pytest.mark.parametrize("name", ["W. Europe Standard Time", '"W. Europe Standard Time"', "/Europe/Berlin"])
def test_other_names_of_zones(name: str) -> None:
    """The names of Windows are read, with and without a definition in the calendar."""
    assert ["07-01 07:00"] == starts(*event(f"DTSTART;TZID={name}:20260701T090000", "DURATION:PT1H"))


def test_zone_that_the_calendar_defines() -> None:
    """A zone with rules of its own is read, and it may stand behind the events."""
    one = event("DTSTART;TZID=Ship:20260701T090000", "DURATION:PT1H")
    assert ["07-01 05:30"] == starts(*OWN_ZONE, *one) == starts(*one, *OWN_ZONE)


@pytest.mark.parametrize("head", [("X-WR-TIMEZONE:Asia/Tehran",), ("X-WR-TIMEZONE:Iran Standard Time",), OWN_ZONE])
def test_times_without_a_zone(head: Sequence[str]) -> None:
    """Their zone is X-WR-TIMEZONE, or else the only one that the calendar defines."""
    one = event("DTSTART:20260701T090000", "DTEND:20260701T100000", "RRULE:FREQ=DAILY;COUNT=2")
    assert ["07-01 05:30", "07-02 05:30"] == starts(*one, head=head)


def test_zone_of_the_calendar_leaves_utc_alone() -> None:
    """X-WR-TIMEZONE changes no time that has a zone: a series in UTC keeps its hour of UTC."""
    daily = event("DTSTART:20260328T090000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2")
    assert ["03-28 09:00", "03-29 09:00"] == starts(*daily, head=["X-WR-TIMEZONE:Europe/Berlin"])


@pytest.mark.parametrize("lines", [DAY, DAY[:1], (DAY[0], "DTEND;VALUE=DATE:20260329"), (DAY[0], "DURATION:P1D")])
def test_whole_day(lines: Sequence[str]) -> None:
    """A day is from midnight to midnight in the calendar's zone; this one has 23 hours."""
    content = calendar("X-WR-TIMEZONE:Europe/Berlin", *event(*lines))
    assert [("ann", utc("2026-03-28 23:00"), utc("2026-03-29 22:00"))] == rows(content)


def test_whole_weeks_repeat() -> None:
    weeks = event("DTSTART;VALUE=DATE:20260323", "DTEND;VALUE=DATE:20260330", "RRULE:FREQ=WEEKLY;UNTIL=20260330")
    assert ["03-22 23:00", "03-29 22:00"] == starts(*weeks, head=["X-WR-TIMEZONE:Europe/Berlin"])


@pytest.mark.parametrize("first", ["20260301T120000", "20260301"])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_edges_of_the_window(first: str, zone: str) -> None:
    """A shift that overlaps the window is there, whatever its zone, and one that ends at its start is not."""
    content = calendar(f"X-WR-TIMEZONE:{zone}", *event(f"DTSTART:{first}", "DURATION:P1D"))
    [(_, start, end)] = rows(content)
    second = timedelta(seconds=1)
    assert 1 == len(rows(content, end - second, end + second)) == len(rows(content, start - second, start + second))
    assert [] == rows(content, end, end + second) == rows(content, start - second, start)


def test_duration_on_the_wall_clock() -> None:
    """A duration counts on the wall clock, as DTEND does: then a rota has no gap when the clock changes."""
    nights = event("DTSTART;TZID=Europe/Berlin:20260328T220000", "DURATION:PT8H")
    assert [("ann", utc("2026-03-28 21:00"), utc("2026-03-29 04:00"))] == rows(calendar(*nights))


def test_event_that_takes_no_time() -> None:
    assert [] == starts(*event("DTSTART:20260302T090000Z"))


def test_calendar_without_events() -> None:
    """It is a known gap: its owner has written no shift."""
    assert [] == starts()


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        (event("DTSTART;TZID=Mars/Olympus:20260302T090000", "DURATION:PT1H"), "unknown time zone TZID=Mars/Olympus"),
        (event(*BERLIN_HOUR, "EXDATE;TZID=Mars:20260323T090000"), "unknown time zone TZID=Mars"),
        (event(*BERLIN_HOUR, "RDATE;TZID=Mars;VALUE=PERIOD:20260323T090000/PT1H"), "unknown time zone TZID=Mars"),
        (event("DTSTART;TZID=Mars;VALUE=DATE:20260302"), "unknown time zone TZID=Mars"),
        (event("DTSTART:20260302T090000", "DURATION:PT1H"), "time without a zone"),
        (event(*DAY), "time without a zone"),
        (["X-WR-TIMEZONE:Mars/Olympus", *event(*DAY)], "time without a zone"),
        (event(*HOUR, "RRULE:FREQ=SECONDLY"), "repeats SECONDLY"),
        (event(*HOUR, "RRULE:FREQ=MINUTELY;COUNT=2"), "repeats MINUTELY"),
        (event(*HOUR, "RRULE:FREQ=DAILY", "RRULE:FREQ=SECONDLY"), "repeats SECONDLY"),
        ([*OWN_ZONE[:-2], "RRULE:FREQ=SECONDLY", *OWN_ZONE[-2:], *event(*HOUR)], "repeats SECONDLY"),
        (event(*HOUR, "RRULE:FREQ=HOURLY;BYMINUTE=0,10,20,30,40,50"), f"more than {MAX_OCCURRENCES} occurrences"),
        (event(*HOUR, "RRULE:FREQ=WEEKLY;BYDAY=XX"), "broken RRULE"),
        (event(*HOUR, "RRULE:FREQ=WEEKLY;COUNT=99999999999"), "broken RRULE"),
        (event(*HOUR, "EXDATE:yesterday"), "broken EXDATE"),
        (event(*HOUR, "STATUS CANCELLED"), "broken line"),
        (event("DTSTART:2026030", "DURATION:PT1H"), "broken DTSTART"),
        (event("DURATION:PT1H"), "without a valid DTSTART"),
        (event(*HOUR, HOUR[0]), "without a valid DTSTART"),
        (event("DTSTART:20260302T090000Z", "DTEND:20260302T080000Z"), "ends before it starts (ann)"),
        (event("DTSTART:20260302T090000Z", "DURATION:-PT1H"), "ends before it starts (ann)"),
        (event(*BERLIN_HOUR, "RRULE:FREQ=HOURLY;INTERVAL=8"), "repeats HOURLY and not in UTC (ann)"),
        ([*event(*DAY, "RRULE:FREQ=HOURLY"), "X-WR-TIMEZONE:Europe/Berlin"], "repeats HOURLY and not in UTC (ann)"),
        (event(*EIGHT_HOURS, "EXDATE;TZID=Asia/Shanghai:20260302T160000"), "several times a day, with exceptions,"),
        ([*event(*EIGHT_HOURS), *event(f"RECURRENCE-ID;{EIGHT_HOURS[0][8:]}", *EIGHT_HOURS[:2])],
         "several times a day, with exceptions,"),
        (event(*HOUR, summary=None), "SUMMARY"),
        (event(*HOUR, summary="a" * 201), "2026-03-02 09:00 UTC whose SUMMARY is not a valid person"),
        ([*event(*HOUR), *event("DTSTART:20260309T090000Z", "DURATION:PT1H", summary="bob")], "one UID (bob)"),
        (
            [
                *event(*HOUR, "RRULE:FREQ=WEEKLY"),
                *event("RECURRENCE-ID:20260302T090000Z", *HOUR, summary="bob"),
                *event("RECURRENCE-ID:20260302T090000Z", *HOUR, summary="cid"),
            ],
            "one UID (cid)",
        ),
        (event(*HOUR, "RRULE:FREQ=WEEKLY", "EXRULE:FREQ=MONTHLY"), "has an EXRULE (ann)"),
    ],
)  # fmt: skip
def test_refused(lines: Sequence[str], part: str) -> None:
    assert part in fault(*lines)


def test_newer_version_of_an_event() -> None:
    """Two events of one UID are two versions of it: the one with the higher SEQUENCE is read."""
    later = event("DTSTART:20260309T090000Z", "DURATION:PT1H", "SEQUENCE:1")
    assert ["03-09 09:00"] == starts(*event(*HOUR), *later)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty"),
        (b"\r\n ", "is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b'{"error": "gone"}', "does not begin with BEGIN:VCALENDAR"),
        (b"\x1f\x8b\x08\x00", "is not UTF-8 text"),
        (calendar(*event(*HOUR))[:-20], "is cut off"),
        (calendar(*event(*HOUR))[:-80], "is cut off"),
        (calendar() * 2, "holds 2 calendars"),
        (calendar() + b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", "holds 2 calendars"),
        (b"BEGIN:VCALENDAR\r\n" + calendar(), "is cut off"),
    ],
)
def test_no_calendar(content: bytes, part: str) -> None:
    with pytest.raises(InvalidValue, match="calendar") as raised:
        rows(content)
    assert part in str(raised.value)
