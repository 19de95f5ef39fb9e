"""Records of a pause: the instants that a row covers, a store's row, and the defaults."""

from datetime import datetime, timedelta, timezone
from typing import Any

import attrs
import pytest

from escalation_core import Pause
from escalation_core.model import Paused

from ..kit import DAY, HOUR, START

TICK = timedelta(microseconds=1)
END = START + HOUR
PAUSE = Pause(starts_at=START, ends_at=END, actor="anna", reason="moving")


def instant(value: str) -> datetime:
    """Return the instant that a store's text stands for."""
    return {"start": START, "end": END}[value]


@pytest.mark.parametrize(
    ("at", "covered"),
    [
        (START - DAY, False),
        (START - TICK, False),
        (START, True),
        (START + TICK, True),
        (END - TICK, True),
        (END, False),
        (END + DAY, False),
    ],
)
@pytest.mark.parametrize("lifts", [False, True])
def test_row_covers_its_start_but_not_its_end(lifts: bool, at: datetime, covered: bool) -> None:
    """A row covers the instants from its start until just before its end, also if it lifts the schedule."""
    assert covered is attrs.evolve(PAUSE, lifts_schedule=lifts).covers(at)


@pytest.mark.parametrize("length", [timedelta(), -TICK, -HOUR])
def test_row_that_ends_no_later_than_it_starts_covers_nothing(length: timedelta) -> None:
    """A row whose end is at or before its start covers neither of the two, and nothing around them."""
    row = attrs.evolve(PAUSE, ends_at=START + length)
    instants = [START - 2 * HOUR, START + length, START + length / 2, START - TICK, START, START + TICK]
    assert [False] * 6 == [row.covers(at) for at in instants]


@pytest.mark.parametrize("hours", [-12, 0, 14])
def test_zone_of_the_instant_does_not_matter(hours: int) -> None:
    """A row compares instants, whatever zone the caller's datetime has."""
    zone = timezone(timedelta(hours=hours))
    found = [PAUSE.covers(at.astimezone(zone)) for at in (START - TICK, START, END - TICK, END)]
    assert [False, True, True, False] == found


@pytest.mark.parametrize(("stored", "lifts"), [(0, False), (1, True), (False, False), (True, True)])
def test_row_becomes_a_pause(stored: object, lifts: bool) -> None:
    """``from_row`` reads the instants by the store's function, and a store's number as a bool."""
    found = Pause.from_row(("start", "end", "anna", "moving", stored), instant)
    assert attrs.evolve(PAUSE, lifts_schedule=lifts) == found
    assert lifts is found.lifts_schedule


def test_row_without_an_actor_and_a_reason() -> None:
    """``from_row`` accepts a row that has neither an actor nor a reason."""
    found = Pause.from_row(("start", "end", None, None, 0), instant)
    assert Pause(starts_at=START, ends_at=END) == found


@pytest.mark.parametrize("row", [(), ("start", "end", None, None), ("start", "end", None, None, 0, 0)])
def test_row_of_another_length_is_refused(row: tuple[Any, ...]) -> None:
    """``from_row`` refuses a row with fewer or more values than a pause has fields."""
    assert 5 == len(attrs.fields(Pause))
    with pytest.raises(ValueError, match="values to unpack"):
        Pause.from_row(row, instant)


def test_new_pause_does_not_lift_the_schedule() -> None:
    """A new pause does not lift the schedule, and has neither an actor nor a reason."""
    new = Pause(starts_at=START, ends_at=END)
    assert (None, None, False) == (new.actor, new.reason, new.lifts_schedule)


def test_paused_takes_its_three_values_in_order() -> None:
    """``Paused`` holds the end, the actor and the reason; only the end is required."""
    assert Paused(until=END, by="anna", reason="moving") == Paused(END, "anna", "moving")
    assert Paused(END, None, None) == Paused(END)


def test_pause_cannot_be_changed() -> None:
    """No caller can change a pause in place."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        PAUSE.ends_at = START  # type: ignore[misc]
