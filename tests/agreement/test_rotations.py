"""Rotations agree with a person who watches a clock for two years, and hands over as it shows the hour.

The watch shares no code with the library. Each quarter of an hour it reads the clock of the zone. It counts turns as
the readings pass them, and never computes the instant of a reading.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import attrs
import pytest

from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.layer import Layer
from escalation_core.rules.rotation import Override, Rotation

QUARTER = timedelta(minutes=15)
DAY = timedelta(days=1)


@attrs.frozen
class Turns:
    """A layer in plain values."""

    start: str
    turn: timedelta
    people: str
    windows: Sequence[tuple[str, str, str]] = ()
    """Digits of days from Monday, which is 0, and the times at which a window begins and ends. Empty: always."""
    windows_zone: str = ""
    until: str = ""


LAYERS = (
    Turns("01-02T23:30", 14 * DAY, "lee max"),
    Turns("01-03T09:00", 7 * DAY, "ann bob cid dan", until="12-31T09:00"),
    Turns("02-10T00:00", DAY, "eve fay", until="11-20T00:15"),
    Turns("01-05T02:30", DAY, "gus hal ivy", [("012", "22:00", "06:00"), ("46", "02:15", "02:45")]),
    Turns("01-04T02:15", timedelta(hours=12), "jan kim", [("5", "00:00", "00:00")], "Europe/Berlin"),
)
"""Without a year, which each zone has of its own."""
OVERRIDES = (("04-01T00:00", "04-30T12:00", "ned"), ("04-10T00:00", "04-10T12:00", "ann"), ("10-01", "11-03", "ann"))
YEARS = {
    "Europe/Berlin": 2025,
    "America/New_York": 2025,
    "America/Santiago": 2025,
    "America/St_Johns": 2025,
    "Australia/Lord_Howe": 2025,
    "Pacific/Apia": 2011,
    "Asia/Kathmandu": 2025,
    "Africa/Cairo": 2025,
}
"""Eight zones, and the first of two years. Apia skipped the day 2011-12-30."""


@cache
def instants(year: int) -> Sequence[datetime]:
    """Return each quarter of an hour of two years."""
    first, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 2, 1, 1, tzinfo=UTC)
    return [first + number * QUARTER for number in range((end - first) // QUARTER)]


@cache
def readings(zone: str, year: int) -> Sequence[datetime]:
    """Return what the clock of a zone shows at each instant."""
    clock = ZoneInfo(zone)
    return [at.astimezone(clock).replace(tzinfo=None) for at in instants(year)]


def watched(layer: Turns, zone: str, year: int) -> Iterator[str | None]:
    """Yield the person of a layer at each instant."""
    start = datetime.fromisoformat(f"{year}-{layer.start}")
    until = datetime.fromisoformat(f"{year}-{layer.until}") if layer.until else None
    people, others = layer.people.split(), readings(layer.windows_zone or zone, year)
    windows = [(days, time.fromisoformat(begin), time.fromisoformat(end)) for days, begin, end in layer.windows]
    turns, next_turn, since, ended = 0, start, None, False
    for at, reading, other in zip(instants(year), readings(zone, year), others, strict=True):
        ended = ended or (until is not None and reading >= until)
        if layer.turn % DAY:
            since = at if since is None and reading >= start else since
            turns = 0 if since is None else int((at - since).total_seconds() // layer.turn.total_seconds()) + 1
        else:
            while reading >= next_turn:
                turns, next_turn = turns + 1, next_turn + layer.turn
        shown = bool(turns) and not ended and (not windows or any(within(other, *window) for window in windows))
        yield people[(turns - 1) % len(people)] if shown else None


def within(reading: datetime, days: str, begin: time, end: time) -> bool:
    """Return whether a reading lies in a window, which may end on the day after its day."""
    clock = reading.time()
    today, yesterday = str(reading.weekday()), str((reading.weekday() - 1) % 7)
    if begin < end:
        return today in days and begin <= clock < end
    return (today in days and clock >= begin) or (yesterday in days and clock < end)


def overrides(year: int) -> list[tuple[datetime, datetime, str]]:
    """Return the overrides in UTC."""
    return [
        (
            datetime.fromisoformat(f"{year}-{begin}").replace(tzinfo=UTC),
            datetime.fromisoformat(f"{year}-{end}").replace(tzinfo=UTC),
            person,
        )
        for begin, end, person in OVERRIDES
    ]


def built(zone: str, year: int) -> Rotation:
    """Return the rotation of the library."""
    layers = []
    for layer in LAYERS:
        windows = tuple(
            Window(days=frozenset(map(int, days)), start=time.fromisoformat(begin), end=time.fromisoformat(end))
            for days, begin, end in layer.windows
        )
        layers.append(
            Layer(
                zone=zone,
                start=datetime.fromisoformat(f"{year}-{layer.start}"),
                turn=layer.turn,
                people=layer.people.split(),
                hours=Hours(name="h", zone=layer.windows_zone or zone, windows=windows) if windows else None,
                until=datetime.fromisoformat(f"{year}-{layer.until}") if layer.until else None,
            )
        )
    return Rotation(
        layers=layers, overrides=[Override(start=begin, end=end, person=who) for begin, end, who in overrides(year)]
    )


@pytest.mark.parametrize("zone", YEARS)
def test_two_years_of_a_watch(zone: str) -> None:
    """At each quarter of an hour both name the same person, and both change at the same instants."""
    year = YEARS[zone]
    rotation, changes, spells = built(zone, year), [], overrides(year)
    before = rotation.on_call(datetime(year, 1, 1, tzinfo=UTC))
    for at, *people in zip(instants(year), *(watched(layer, zone, year) for layer in LAYERS), strict=True):
        named = [person for person in people if person is not None]
        covering = [person for begin, end, person in spells if begin <= at < end]
        person = [*named, *covering][-1:]
        found = rotation.on_call(at)
        assert found == frozenset(person), at
        if found != before:
            changes.append(at)
            before = found

    after, found_changes = datetime(year, 1, 1, tzinfo=UTC), []
    while (change := rotation.next_change(after)) is not None and change.year < year + 2:
        found_changes.append(change)
        after = change
    assert changes == found_changes
