"""Texts of calendars, and rotas that are counted out without a calendar."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from escalation_adapters.calendars.expand import expand

BERLIN = ZoneInfo("Europe/Berlin")
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
"""A year with both changes of the clock."""
Row = tuple[str, datetime, datetime]
OWN_ZONE = (
    "BEGIN:VTIMEZONE", "TZID:Ship", "BEGIN:STANDARD", "DTSTART:19700101T000000", "TZOFFSETFROM:+0330",
    "TZOFFSETTO:+0330", "END:STANDARD", "END:VTIMEZONE",
)  # fmt: skip


def calendar(*lines: str) -> bytes:
    """Return a calendar of these lines, with the line ends that RFC 5545 demands."""
    whole = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Example//EN", *lines, "END:VCALENDAR"]
    return "".join(f"{line}\r\n" for line in whole).encode()


def event(*lines: str, uid: str = "1", summary: str | None = "ann") -> Sequence[str]:
    """Return the lines of an event."""
    named = [] if summary is None else [f"SUMMARY:{summary}"]
    return ["BEGIN:VEVENT", f"UID:{uid}", *named, *lines, "END:VEVENT"]


def rows(content: bytes, start: datetime = START, end: datetime = END) -> list[Row]:
    """Return person, start and end of each shift, in order."""
    return sorted(((each.person, each.start, each.end) for each in expand(content, start, end)), key=lambda row: row[1])


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rota(
    people: Sequence[str], first: date, begins: time, ends: time, days: int, zone: ZoneInfo = BERLIN
) -> Iterator[Row]:
    """Count out a rota within the year: each turn has so many days, and ends on the wall clock of the zone."""
    day, turn = first, 0
    while day < END.date():
        last = day + timedelta(days=days)
        yield (
            people[turn % len(people)],
            datetime.combine(day, begins, zone).astimezone(UTC),
            datetime.combine(last, ends, zone).astimezone(UTC),
        )
        day, turn = last, turn + 1
