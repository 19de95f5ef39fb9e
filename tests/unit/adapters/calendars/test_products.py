"""Calendars in the shape that Google, Outlook and PagerDuty write, against rotas that are counted out."""

from collections.abc import Sequence
from datetime import date, time, timedelta

import pytest

from .texts import START, Row, calendar, rota, rows

PEOPLE = ("ann", "bob", "cid")
MONDAY, NINE = date(2025, 12, 29), time(9)
WEEKS = list(rota(PEOPLE, MONDAY, NINE, NINE, 7))
NIGHTS = list(rota(PEOPLE, MONDAY, time(22), time(6), 1))
"""Each night of the year: in those of the clock's changes the shift takes seven hours, or nine."""
GOOGLE = (
    "CALSCALE:GREGORIAN", "METHOD:PUBLISH", "X-WR-CALNAME:On call", "X-WR-TIMEZONE:Europe/Berlin",
    "BEGIN:VTIMEZONE", "TZID:Europe/Berlin", "X-LIC-LOCATION:Europe/Berlin",
    "BEGIN:DAYLIGHT", "TZOFFSETFROM:+0100", "TZOFFSETTO:+0200", "TZNAME:GMT+2", "DTSTART:19700329T020000",
    "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU", "END:DAYLIGHT",
    "BEGIN:STANDARD", "TZOFFSETFROM:+0200", "TZOFFSETTO:+0100", "TZNAME:GMT+1", "DTSTART:19701025T030000",
    "RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU", "END:STANDARD", "END:VTIMEZONE",
)  # fmt: skip
OUTLOOK = (
    "METHOD:PUBLISH", "X-WR-CALNAME:On call",
    "BEGIN:VTIMEZONE", "TZID:W. Europe Standard Time",
    "BEGIN:STANDARD", "DTSTART:16010101T030000", "TZOFFSETFROM:+0200", "TZOFFSETTO:+0100",
    "RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=10", "END:STANDARD",
    "BEGIN:DAYLIGHT", "DTSTART:16010101T020000", "TZOFFSETFROM:+0100", "TZOFFSETTO:+0200",
    "RRULE:FREQ=YEARLY;INTERVAL=1;BYDAY=-1SU;BYMONTH=3", "END:DAYLIGHT", "END:VTIMEZONE",
)  # fmt: skip


def google(begins: time, ends: time, days: int, rule: str) -> bytes:
    """Return one event for each person, as Google writes it."""
    lines: list[str] = []
    for number, person in enumerate(PEOPLE):
        first = MONDAY + timedelta(days=days * number)
        last = first + timedelta(days=days)
        lines += [
            "BEGIN:VEVENT", f"DTSTART;TZID=Europe/Berlin:{first:%Y%m%d}T{begins:%H%M%S}",
            f"DTEND;TZID=Europe/Berlin:{last:%Y%m%d}T{ends:%H%M%S}", f"RRULE:{rule}", "DTSTAMP:20260301T101500Z",
            f"UID:{number}9k2@google.com", "CREATED:20251201T080000Z", "DESCRIPTION:", "LAST-MODIFIED:20251201T080000Z",
            "LOCATION:", "SEQUENCE:1", "STATUS:CONFIRMED", f"SUMMARY:{person}", "TRANSP:OPAQUE", "END:VEVENT",
        ]  # fmt: skip
    return calendar(*GOOGLE, *lines)


def outlook(begins: time, ends: time, days: int, rule: str) -> bytes:
    """Return one event for each person, as Outlook writes it."""
    lines: list[str] = []
    for number, person in enumerate(PEOPLE):
        first = MONDAY + timedelta(days=days * number)
        last = first + timedelta(days=days)
        lines += [
            "BEGIN:VEVENT", "DESCRIPTION:\\n", f"RRULE:{rule}", f"UID:040000008200E00074C5B7101A82E0080000000{number}",
            f"SUMMARY:{person}", f"DTSTART;TZID=W. Europe Standard Time:{first:%Y%m%d}T{begins:%H%M%S}",
            f"DTEND;TZID=W. Europe Standard Time:{last:%Y%m%d}T{ends:%H%M%S}", "CLASS:PUBLIC", "PRIORITY:5",
            "DTSTAMP:20260301T101500Z", "TRANSP:OPAQUE", "STATUS:CONFIRMED", "SEQUENCE:0", "LOCATION:",
            "X-MICROSOFT-CDO-APPT-SEQUENCE:0", "X-MICROSOFT-CDO-BUSYSTATUS:BUSY", "X-MICROSOFT-CDO-INTENDEDSTATUS:BUSY",
            "X-MICROSOFT-CDO-ALLDAYEVENT:FALSE", "X-MICROSOFT-CDO-IMPORTANCE:1", "X-MICROSOFT-CDO-INSTTYPE:1",
            "X-MICROSOFT-DONOTFORWARDMEETING:FALSE", "X-MICROSOFT-DISALLOW-COUNTER:FALSE", "END:VEVENT",
        ]  # fmt: skip
    return calendar(*OUTLOOK, *lines)


def pagerduty(shifts: Sequence[Row]) -> bytes:
    """Return one event for each shift, in UTC, as PagerDuty writes it."""
    lines: list[str] = []
    for number, (person, start, end) in enumerate(shifts):
        lines += [
            "BEGIN:VEVENT", f"DTEND;VALUE=DATE-TIME:{end:%Y%m%dT%H%M%SZ}",
            f"DTSTART;VALUE=DATE-TIME:{start:%Y%m%dT%H%M%SZ}", f"ATTENDEE:{person}@example.org", f"UID:Q1S4{number}",
            "URL:https://example.pagerduty.com/schedules#PFWMMZA", f"SUMMARY:On Call - {person} - Shop - primary",
            "END:VEVENT",
        ]  # fmt: skip
    return calendar("X-WR-CALNAME:On Call Schedule", "CALSCALE:GREGORIAN", *lines)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(google(NINE, NINE, 7, "FREQ=WEEKLY;INTERVAL=3"), WEEKS, id="google-weeks"),
        pytest.param(google(time(22), time(6), 1, "FREQ=DAILY;INTERVAL=3"), NIGHTS, id="google-nights"),
        pytest.param(outlook(NINE, NINE, 7, "FREQ=WEEKLY;INTERVAL=3;BYDAY=MO;WKST=MO"), WEEKS, id="outlook-weeks"),
        pytest.param(outlook(time(22), time(6), 1, "FREQ=DAILY;INTERVAL=3"), NIGHTS, id="outlook-nights"),
        pytest.param(pagerduty(WEEKS), WEEKS, id="pagerduty-weeks"),
        pytest.param(pagerduty(NIGHTS), NIGHTS, id="pagerduty-nights"),
    ],
)
def test_the_shifts_of_a_year(content: bytes, expected: Sequence[Row]) -> None:
    """The shifts equal those of the rota, also in the nights in which the clock changes."""
    assert [row for row in expected if row[2] > START] == rows(content)
