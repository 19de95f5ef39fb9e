"""Schedules that the tests of the pictures draw."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from escalation_adapters.oncall_picture.days import Rota, days_from
from escalation_core import coverage
from escalation_core.model import ShiftOverride
from escalation_core.rules.shifts import Shift, Shifts

FAR = datetime(2030, 1, 1, tzinfo=UTC)


def at(text: str, zone: str = "UTC") -> datetime:
    """Return the instant at which the clock of a zone shows a text."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def rota(
    first: str,
    days: int,
    *shifts: tuple[str, str, str],
    zone: str = "UTC",
    horizon: datetime = FAR,
    overrides: Sequence[tuple[str, str, str]] = (),
    name: str = "primary",
) -> Rota:
    """Return a schedule of shifts, each a person and local texts, on some days from the first on."""
    made = [Shift(person=who, start=at(start, zone), end=at(end, zone)) for who, start, end in shifts]
    over = [
        ShiftOverride(schedule=name, person=who, starts_at=at(start, zone), ends_at=at(end, zone), made_at=FAR)
        for who, start, end in overrides
    ]
    shown = days_from(at(f"{first}T12:00", zone), days, ZoneInfo(zone))
    return Rota(name, shown, coverage(Shifts(shifts=made, horizon=horizon), shown[0].start, shown[-1].end, over))


SPRING = rota(
    "2026-03-27",
    4,
    ("ann", "2026-03-27T09:00", "2026-03-29T03:00"),
    ("bob", "2026-03-29T03:00", "2026-03-30T09:30"),
    ("cid", "2026-03-30T10:00", "2026-04-09T00:00"),
    zone="Europe/Berlin",
)
"""On Sunday 29 the clock goes from 02:00 to 03:00. No one is there before Friday 09:00, nor on Monday at 09:30."""
AUTUMN = rota(
    "2026-10-24",
    3,
    ("ann", "2026-10-20T09:00", "2026-10-25T03:00"),
    ("bob", "2026-10-25T03:00", "2026-10-30T09:00"),
    zone="Europe/Berlin",
)
"""On Sunday the 25th the clock goes from 03:00 back to 02:00."""
UNKNOWN = rota("2026-01-05", 2, ("ann", "2026-01-01T00:00", "2026-01-09T00:00"), horizon=at("2026-01-06T06:00"))
HOUR = timedelta(hours=1)
