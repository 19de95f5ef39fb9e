"""The zone in which the instants of a schedule are shown."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from escalation_adapters.cli.oncall_read import Zones
from escalation_core import Rotation, Shifts
from escalation_core.ports import Schedule
from escalation_core.rules.layer import Layer

from ...kit import START


def rotation(*zones: str) -> Rotation:
    """Return a rotation with a layer for each zone. The later ones end, so none hides another."""
    start, day = datetime.fromisoformat("2025-01-01T09:00"), timedelta(days=1)
    ends = [None, *(start + number * day for number in range(1, len(zones)))]
    pairs = zip(zones, ends, strict=True)
    return Rotation(layers=[Layer(zone=zone, start=start, until=end, turn=day, people=["ann"]) for zone, end in pairs])


SCHEDULES: dict[str, Schedule] = {
    "one": rotation("Europe/Berlin", "Europe/Berlin"),
    "two": rotation("Europe/Berlin", "Asia/Tokyo"),
    "calendar": Shifts(shifts=[], horizon=START),
}


def test_the_zone_of_a_schedule() -> None:
    """It is that of a rotation with one zone, and else UTC; a given zone counts before."""
    names = (*SCHEDULES, "missing")
    assert ["Europe/Berlin", "UTC", "UTC", "UTC"] == [Zones(SCHEDULES, START).of(name).key for name in names]
    tokyo = ZoneInfo("Asia/Tokyo")
    assert [tokyo] * 4 == [Zones(SCHEDULES, START, tokyo).of(name) for name in names]
