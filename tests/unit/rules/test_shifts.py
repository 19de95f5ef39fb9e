"""A schedule of given shifts."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue
from escalation_core.ports import Schedule
from escalation_core.rules.shifts import Shift, Shifts

START = datetime(2026, 3, 1, tzinfo=UTC)
HORIZON = START + timedelta(days=90)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def shift(person: str, start: float, end: float) -> Shift:
    return Shift(person=person, start=at(start), end=at(end))


def test_shifts_are_a_schedule() -> None:
    assert isinstance(Shifts(shifts=[], horizon=HORIZON), Schedule)


def test_who_is_on_call() -> None:
    """A shift includes its start and not its end; two that overlap are both on call; a gap has no one."""
    shifts = Shifts(shifts=[shift("bob", 4, 8), shift("ann", 0, 4), shift("cid", 6, 10)], horizon=HORIZON)
    said = [(hour, sorted(shifts.on_call(at(hour)))) for hour in (-1, 0, 3.99, 4, 6, 8, 9.99, 10)]
    assert [
        (-1, []), (0, ["ann"]), (3.99, ["ann"]), (4, ["bob"]), (6, ["bob", "cid"]), (8, ["cid"]), (9.99, ["cid"]),
        (10, []),
    ] == said  # fmt: skip
    assert [at(0), at(4), at(6), at(8), at(10)] == changes(shifts)


def test_shifts_that_meet_do_not_change() -> None:
    """The end of a person's shift is no change if the same person goes on."""
    shifts = Shifts(shifts=[shift("ann", 0, 4), shift("ann", 4, 8), shift("ann", 2, 6)], horizon=HORIZON)
    assert [at(0), at(8)] == changes(shifts)


def test_no_change_beyond_the_horizon() -> None:
    shifts = Shifts(shifts=[shift("ann", 0, 4), shift("bob", 4, 100 * 24)], horizon=HORIZON)
    assert [at(0), at(4)] == changes(shifts)


def changes(shifts: Shifts) -> list[datetime]:
    found: list[datetime] = []
    edge = shifts.next_change(START - timedelta(days=1))
    while edge is not None:
        found.append(edge)
        edge = shifts.next_change(edge)
    return found


@given(
    spans=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 20), st.integers(1, 8)).map(
            lambda each: shift(each[0], each[1], each[1] + each[2])
        ),
        max_size=8,
    ),
    hour=st.integers(-1, 30),
)
def test_every_hour_is_right(spans: list[Shift], hour: int) -> None:
    """The answer equals a search through all shifts, and it changes at ``next_change`` and not before."""
    shifts = Shifts(shifts=spans, horizon=HORIZON)

    def looked_up(instant: datetime) -> frozenset[str]:
        return frozenset(each.person for each in spans if each.start <= instant < each.end)

    now, change = shifts.on_call(at(hour)), shifts.next_change(at(hour))
    assert looked_up(at(hour)) == now
    assert change == next((at(later) for later in range(hour + 1, 40) if looked_up(at(later)) != now), None)


def test_digest_names_the_content() -> None:
    """The order of shifts does not count; every other difference does."""
    one, two = shift("ann", 0, 4), shift("bob", 4, 8)
    digest = Shifts(shifts=[one, two], horizon=HORIZON).digest
    assert 64 == len(digest)
    assert digest == Shifts(shifts=[two, one], horizon=HORIZON).digest
    others = [Shifts(shifts=[one], horizon=HORIZON), Shifts(shifts=[one, two], horizon=at(9))]
    assert digest not in {each.digest for each in others}


@pytest.mark.parametrize(
    ("person", "start", "end", "message"),
    [
        ("", 0, 1, "person: is not a valid person; give 1 to 200 printable characters"),
        (" ann", 0, 1, "person: is not a valid person"),
        ("a\nb", 0, 1, "person: is not a valid person"),
        ("ann", 1, 1, "end: is not after start; give an end after the start"),
    ],
)
def test_bad_shifts_are_refused(person: str, start: float, end: float, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        shift(person, start, end)


def test_naive_instants_are_refused() -> None:
    naive = START.replace(tzinfo=None)
    with pytest.raises(InvalidValue, match=r"^start: has no time zone"):
        Shift(person="ann", start=naive, end=START)
    with pytest.raises(InvalidValue, match=r"^end: has no time zone"):
        Shift(person="ann", start=START, end=naive)
    with pytest.raises(InvalidValue, match=r"^horizon: has no time zone"):
        Shifts(shifts=(), horizon=naive)


def test_what_is_known_begins() -> None:
    """Before that it is unknown who is on call, which is not a gap. The digest tells the difference."""
    known = Shifts(shifts=[shift("ann", 0, 5)], horizon=HORIZON, known_from=START)
    with pytest.raises(InvalidValue, match=r"^at: lies before "):
        known.on_call(START - timedelta(seconds=1))
    assert frozenset({"ann"}) == known.on_call(START)
    assert known.digest != Shifts(shifts=known.shifts, horizon=HORIZON).digest


def test_anything_but_shifts_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"shifts: is not a valid list of shifts; give a list of Shift\(\.\.\.\)"):
        Shifts(shifts=["ann"], horizon=HORIZON)  # type: ignore[list-item]
