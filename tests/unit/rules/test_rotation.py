"""Rotations: turns, layers, hours and overrides. Instants are worked out by hand."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from escalation_core import InvalidValue
from escalation_core.ports import Schedule
from escalation_core.rules.coverage import coverage, gaps
from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.layer import Layer
from escalation_core.rules.rotation import MAX_OVERRIDES, Override, Rotation

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
OFFICE = Hours(
    name="office",
    zone="UTC",
    windows=(Window(days=frozenset(range(5)), start=time(9), end=time(17)),),
    closed=frozenset({date(2026, 1, 6)}),
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def layer(people: str = "ann bob cid", start: str = "2026-01-05 09:00", turn: timedelta = WEEK, **fields: Any) -> Layer:
    fields = {"zone": "UTC", **fields}
    if isinstance(fields.get("until"), str):
        fields["until"] = datetime.fromisoformat(fields["until"])
    return Layer(start=datetime.fromisoformat(start), turn=turn, people=people.split(), **fields)


def override(start: str, end: str, person: str) -> Override:
    return Override(start=at(start), end=at(end), person=person)


def rotation(*layers: Layer, overrides: Sequence[Override] = ()) -> Rotation:
    return Rotation(layers=layers, overrides=overrides)


def shown(schedule: Rotation, start: str, end: str) -> list[str]:
    """Return each cover as its start and its person; ``-`` is a gap."""
    return [
        f"{cover.start:%m-%d %H:%M} {' '.join(cover.people or ()) or '-'}"
        for cover in coverage(schedule, at(start), at(end))
    ]


def test_a_rotation_is_a_schedule() -> None:
    """It knows everything: the horizon is the end of the calendar."""
    one = rotation(layer())
    assert isinstance(one, Schedule)
    assert datetime.max.replace(tzinfo=UTC) == one.horizon


def test_people_take_turns() -> None:
    """The people take turns in their order, again and again. Before the start there is a gap."""
    assert [
        "01-01 00:00 -", "01-05 09:00 ann", "01-12 09:00 bob", "01-19 09:00 cid", "01-26 09:00 ann",
    ] == shown(rotation(layer()), "2026-01-01 00:00", "2026-02-01 00:00")  # fmt: skip


def test_a_turn_of_days_is_days_of_the_zone() -> None:
    """In the weeks of the clock changes the handover stays at nine o'clock; elapsed turns of hours move."""
    weekly = rotation(layer(zone="Europe/Berlin"))
    assert ["03-23 08:00 cid", "03-30 07:00 ann"] == shown(weekly, "2026-03-23 08:00", "2026-04-06 07:00")
    assert ["10-19 07:00 cid", "10-26 08:00 ann"] == shown(weekly, "2026-10-19 07:00", "2026-11-02 08:00")
    elapsed = rotation(layer(zone="Europe/Berlin", start="2026-03-28 09:00", turn=12 * HOUR))
    assert ["03-28 08:00 ann", "03-28 20:00 bob", "03-29 08:00 cid", "03-29 20:00 ann"] == shown(
        elapsed, "2026-03-28 08:00", "2026-03-30 08:00"
    )


def test_a_handover_that_the_clock_skips_or_repeats() -> None:
    """A skipped reading hands over as the clock changes, and a repeated one the first time."""
    daily = rotation(layer(zone="Europe/Berlin", start="2026-03-27 02:30", turn=DAY))
    assert ["03-27 01:30 ann", "03-28 01:30 bob", "03-29 01:00 cid", "03-30 00:30 ann"] == shown(
        daily, "2026-03-27 01:30", "2026-03-30 12:00"
    )
    daily = rotation(layer(zone="Europe/Berlin", start="2026-10-24 02:30", turn=DAY))
    assert ["10-24 00:30 ann", "10-25 00:30 bob", "10-26 01:30 cid"] == shown(
        daily, "2026-10-24 00:30", "2026-10-26 12:00"
    )


def test_a_day_that_the_clock_skips() -> None:
    """Apia skipped 2011-12-30: the turn of that day has no length, and bob's turn is missing."""
    daily = rotation(layer(zone="Pacific/Apia", start="2011-12-29 00:00", turn=DAY))
    assert ["12-29 10:00 ann", "12-30 10:00 cid", "12-31 10:00 ann"] == shown(
        daily, "2011-12-29 10:00", "2012-01-01 10:00"
    )
    two = rotation(layer("ann bob", zone="Pacific/Apia", start="2011-12-29 00:00", turn=DAY))
    assert at("2011-12-31 10:00") == two.next_change(at("2011-12-29 10:00"))


def test_hours_of_a_layer() -> None:
    """Outside its hours a layer names no one. A turn that ends outside does not matter until they open again."""
    one = rotation(layer("ann bob", start="2026-01-05 00:00", turn=DAY, hours=OFFICE))
    assert [
        "01-05 00:00 -", "01-05 09:00 ann", "01-05 17:00 -", "01-07 09:00 ann", "01-07 17:00 -", "01-08 09:00 bob",
        "01-08 17:00 -", "01-09 09:00 ann", "01-09 17:00 -", "01-12 09:00 bob",
    ] == shown(one, "2026-01-05 00:00", "2026-01-12 17:00")  # fmt: skip


def test_the_last_layer_that_names_a_person_decides() -> None:
    """A later layer takes precedence in its hours, from its start and until its end."""
    one = rotation(
        layer("ann"),
        layer("bob", start="2026-01-07 12:00", hours=OFFICE),
        layer("cid", start="2026-01-08 15:00", until="2026-01-08 16:00"),
    )
    assert [
        "01-05 09:00 ann", "01-07 12:00 bob", "01-07 17:00 ann", "01-08 09:00 bob", "01-08 15:00 cid",
        "01-08 16:00 bob", "01-08 17:00 ann",
    ] == shown(one, "2026-01-05 09:00", "2026-01-09 09:00")  # fmt: skip


def test_a_layer_that_ends() -> None:
    """From its end on a layer names no one, and nothing changes any more."""
    one = rotation(layer("ann", until="2026-01-06 09:00"))
    assert ["01-05 09:00 ann", "01-06 09:00 -"] == shown(one, "2026-01-05 09:00", "2026-02-01 09:00")
    assert one.next_change(at("2026-01-06 09:00")) is None


def test_the_last_override_decides() -> None:
    """An override takes precedence over layers and over the overrides before it, from its start until its end."""
    one = rotation(
        layer("ann"),
        overrides=[
            override("2026-01-06 00:00", "2026-01-06 12:00", "bob"),
            override("2026-01-06 06:00", "2026-01-06 08:00", "cid"),
            override("2026-01-01 00:00", "2026-01-02 00:00", "dan"),
        ],
    )
    assert [
        "01-01 00:00 dan", "01-02 00:00 -", "01-05 09:00 ann", "01-06 00:00 bob", "01-06 06:00 cid",
        "01-06 08:00 bob", "01-06 12:00 ann",
    ] == shown(one, "2026-01-01 00:00", "2026-01-07 00:00")  # fmt: skip
    assert ["ann", "bob", "cid", "dan"] == list(one.people)


def test_an_override_of_the_same_person_is_no_change() -> None:
    """The next change is where another person is on call, and not each edge of a layer or an override."""
    one = rotation(layer("ann bob"), overrides=[override("2026-01-06 00:00", "2026-01-14 00:00", "ann")])
    assert ["01-05 09:00 ann", "01-14 00:00 bob"] == shown(one, "2026-01-05 09:00", "2026-01-19 09:00")
    assert at("2026-01-05 09:00") == one.next_change(at("2025-01-05 09:00"))


def test_how_far_the_next_change_looks() -> None:
    """A change within two years is found, and one after more is not."""
    one = rotation(layer("ann"))
    assert one.next_change(at("2026-01-05 09:00")) is None
    assert at("2026-01-05 09:00") == one.next_change(at("2024-01-04 09:00"))
    assert one.next_change(at("2023-12-01 00:00")) is None
    always = Hours(name="always", zone="Europe/Berlin", windows=(Window(start=time(), end=time()),))
    assert rotation(layer("ann", hours=always)).next_change(at("2026-02-01 00:00")) is None


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_the_ends_of_the_calendar(zone: str) -> None:
    """Any instant has an answer, and any search ends."""
    one = rotation(layer(zone=zone), layer("dan", start="2026-01-06 09:00", zone=zone, hours=OFFICE))
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert frozenset() == one.on_call(first)
    assert one.on_call(last)
    assert one.next_change(first) is None
    assert one.next_change(last) is None
    assert [] == list(gaps(coverage(one, last - 700 * DAY, last)))
    late = rotation(layer(zone=zone, start="9999-12-31 23:00"))
    assert frozenset() == late.on_call(at("9999-12-20 00:00"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"people": ""}, "people: has 0 people; give 1 to 1000"),
        ({"people": " ".join(map(str, range(1001)))}, "people: has 1001 people; give 1 to 1000"),
        ({"people": "ann bob ann"}, "people: has the same person at places 1 and 3; name each person once"),
        ({"people": "a\0"}, "person: holds a NUL character"),
        ({"turn": timedelta()}, "turn: is 0:00:00; give 1 hour to 365 days"),
        ({"turn": timedelta(minutes=59)}, "turn: is 0:59:00; give 1 hour"),
        ({"turn": timedelta(days=-1)}, "turn: is -1 day, 0:00:00; give 1 hour"),
        ({"turn": timedelta(days=365, seconds=1)}, "turn: is 365 days, 0:00:01; give 1 hour"),
        ({"turn": timedelta(days=1, microseconds=1)}, "turn: is 1 day, 0:00:00.000001; give whole seconds"),
        ({"turn": 7}, "turn: is int; give a timedelta"),
        ({"zone": "Mars/Olympus"}, "zone: 'Mars/Olympus' is not a valid time zone"),
        ({"zone": 1}, "zone: is int; give a str"),
        ({"start": "2026-01-05T09:00+01:00"}, "start: has a time zone; give a local time: the schedule's zone decides"),
        ({"until": "2026-01-05T09:00+01:00"}, "until: has a time zone; give a local time"),
        ({"until": "2026-01-05T09:00"}, "until: is not after start; give a later local time, or leave it out"),
    ],
)
def test_bad_layers_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        layer(**fields)
    assert str(caught.value).startswith(message)


def test_people_are_a_list() -> None:
    with pytest.raises(InvalidValue, match=r"^people: is str; give a list of names$"):
        Layer(zone="UTC", start=datetime(2026, 1, 5), turn=DAY, people="ann")  # noqa: DTZ001 - a local time


def test_bad_overrides_are_refused() -> None:
    """An override ends after it starts, and its ends are instants."""
    with pytest.raises(InvalidValue, match=r"^end: is not after start; give an end after the start$"):
        override("2026-01-06 00:00", "2026-01-06 00:00", "ann")
    with pytest.raises(InvalidValue, match=r"^start: has no time zone"):
        Override(start=datetime(2026, 1, 5), end=at("2026-01-06 00:00"), person="ann")  # noqa: DTZ001 - it is what is refused
    with pytest.raises(InvalidValue, match=r"^person: is not a valid person"):
        override("2026-01-05 00:00", "2026-01-06 00:00", " ann")


@pytest.mark.parametrize(
    ("layers", "overrides", "message"),
    [
        ([], (), "layers: has 0 layers; give 1 to 50"),
        ([layer()] * 51, (), "layers: has 51 layers; give 1 to 50"),
        ("ann", (), r"layers: is not a valid list of layers; give a list of Layer\(\.\.\.\)"),
        (["ann"], (), "layers: is not a valid list of layers"),
        ([layer()], "ann", r"overrides: is not a valid list of overrides; give a list of Override\(\.\.\.\)"),
        ([layer()], ["ann"], "overrides: is not a valid list of overrides"),
        (
            [layer()],
            [override("2026-01-05 00:00", "2026-01-06 00:00", "ann")] * (MAX_OVERRIDES + 1),
            "overrides: has 1001 overrides; give at most 1000",
        ),
    ],
)
def test_bad_rotations_are_refused(layers: Any, overrides: Any, message: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{message}"):
        Rotation(layers=layers, overrides=overrides)


def test_a_layer_that_never_applies_is_refused() -> None:
    """Later layers that name a person whenever it does hide it, alone or together."""
    said = (
        r"^layers\[1\]: never applies: whenever it names a person, a later layer names one instead;"
        r" leave it out, or change the order of the layers$"
    )
    with pytest.raises(InvalidValue, match=said):
        rotation(
            layer("dan"), layer("ann", start="2026-01-06 09:00", hours=OFFICE), layer("bob", start="2026-01-06 09:00")
        )
    with pytest.raises(InvalidValue, match=r"^layers\[0\]: never applies: "):
        # The same instant in two zones.
        rotation(layer("ann", start="2026-01-05 08:00"), layer("bob", zone="Europe/Berlin"))
    with pytest.raises(InvalidValue, match=r"^layers\[0\]: never applies: "):
        rotation(layer("ann", until="2027-01-05 09:00"), layer("bob", until="2027-01-05 09:00"))
    halves = (Window(start=time(7), end=time(19)), Window(start=time(19), end=time(7)))
    with pytest.raises(InvalidValue, match=r"^layers\[0\]: never applies: "):
        # Hours that are always open.
        rotation(layer("ann"), layer("bob", hours=Hours(name="shifts", zone="Europe/Berlin", windows=halves)))
    with pytest.raises(InvalidValue, match=r"^layers\[0\]: never applies: "):
        rotation(layer("ann", hours=OFFICE), layer("bob", hours=OFFICE))
    with pytest.raises(InvalidValue, match=r"^layers\[0\]: never applies: "):
        # Day and night cover it together.
        rotation(
            *(layer(hours=hours) for hours in (None, *(Hours(name="h", zone="UTC", windows=(w,)) for w in halves)))
        )
    one_day_less = Hours(name="shifts", zone="UTC", windows=halves, closed=frozenset({date(2027, 1, 1)}))
    later: list[dict[str, Any]] = [
        {"start": "2026-01-05 09:01"},
        {"hours": OFFICE},
        {"hours": one_day_less},
        {"until": "2030-01-05 09:00"},
    ]
    assert all(2 == len(rotation(layer("ann"), layer("bob", **fields)).layers) for fields in later)


def test_digest_names_the_content() -> None:
    """Each difference makes another digest, also one within the hours of a layer."""
    closed = Hours(name="office", zone="UTC", windows=OFFICE.windows)
    override_of_bob = override("2026-01-06 00:00", "2026-01-06 12:00", "bob")
    different = [
        rotation(layer()),
        rotation(layer(zone="Europe/Berlin")),
        rotation(layer(start="2026-01-05 09:01")),
        rotation(layer(turn=DAY)),
        rotation(layer("ann cid bob")),
        rotation(layer(until="2027-01-05 09:00")),
        rotation(layer(hours=OFFICE)),
        rotation(layer(hours=closed)),
        rotation(layer(), layer(start="2026-01-06 09:00")),
        rotation(layer(), overrides=[override_of_bob]),
    ]
    assert len(different) == len({each.digest for each in different})
    assert different[0].digest == rotation(layer()).digest
    assert 64 == len(different[0].digest)
