"""Coverage, gaps and handovers of schedules."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import InvalidValue
from escalation_core.model import ShiftOverride
from escalation_core.ports import Schedule
from escalation_core.rules.coverage import MAX_COVERS, Cover, Handover, coverage, gaps, handovers, runs_out
from escalation_core.rules.shifts import Shift, Shifts

START = datetime(2026, 3, 1, tzinfo=UTC)
ANN, BOB, CID, NO_ONE = (frozenset(name.split()) for name in ("ann", "bob", "cid", ""))
HORIZON = START + timedelta(days=1000)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def shifts(*given_shifts: tuple[str, float, float], horizon: float = 10_000) -> Shifts:
    return Shifts(
        shifts=[Shift(person=person, start=at(start), end=at(end)) for person, start, end in given_shifts],
        horizon=at(horizon),
    )


def override(person: str, start: float, end: float) -> ShiftOverride:
    return ShiftOverride(schedule="primary", person=person, starts_at=at(start), ends_at=at(end), made_at=START)


NIGHT = shifts(("ann", 2, 6), ("bob", 6, 8), ("ann", 12, 20), horizon=16)


def test_coverage() -> None:
    """The covers fill the span: people, gaps, and what lies beyond the horizon, which is unknown."""
    assert [
        Cover(at(0), at(2), NO_ONE),
        Cover(at(2), at(6), ANN),
        Cover(at(6), at(8), BOB),
        Cover(at(8), at(12), NO_ONE),
        Cover(at(12), at(16), ANN),
        Cover(at(16), at(24), None),
    ] == coverage(NIGHT, at(0), at(24))
    assert [Cover(at(3), at(5), ANN)] == coverage(NIGHT, at(3), at(5))
    assert [Cover(at(17), at(18), None)] == coverage(NIGHT, at(17), at(18))


def test_gaps() -> None:
    """A gap is where no one is on call. What is unknown is not a gap."""
    assert [Cover(at(0), at(2), NO_ONE), Cover(at(8), at(12), NO_ONE)] == gaps(coverage(NIGHT, at(0), at(24)))


def test_handovers() -> None:
    """A handover is where the people change, also to a gap and from one, or cease to be known."""
    assert [
        Handover(at(2), NO_ONE, ANN),
        Handover(at(6), ANN, BOB),
        Handover(at(8), BOB, NO_ONE),
        Handover(at(12), NO_ONE, ANN),
        Handover(at(16), ANN, None),
    ] == handovers(coverage(NIGHT, at(0), at(24)))


def test_an_override_counts_before_the_schedule() -> None:
    """It divides covers, fills gaps and what is not known, and of two the one made last counts."""
    first, second = override("cid", 5, 9), override("bob", 15, 18)
    third = override("ann", 17, 19)
    assert [
        Cover(at(4), at(5), ANN),
        Cover(at(5), at(9), CID, first),
        Cover(at(9), at(12), NO_ONE),
        Cover(at(12), at(15), ANN),
        Cover(at(15), at(17), BOB, second),
        Cover(at(17), at(19), ANN, third),
        Cover(at(19), at(24), None),
    ] == coverage(NIGHT, at(4), at(24), [first, second, third])


def test_an_override_is_cut_to_the_span() -> None:
    one = override("cid", -5, 50)
    assert [Cover(at(2), at(4), CID, one)] == coverage(NIGHT, at(2), at(4), [one])


def test_edges_within_an_override_divide_nothing() -> None:
    """A handover of the schedule, or an older override, that another override hides is not an edge."""
    older, newer = override("bob", 4, 5), override("cid", 3, 9)
    assert [Cover(at(2), at(3), ANN), Cover(at(3), at(9), CID, newer), Cover(at(9), at(10), NO_ONE)] == coverage(
        NIGHT, at(2), at(10), [older, newer]
    )


def test_an_override_of_the_same_person_is_no_handover() -> None:
    """It has a cover of its own, because its reason is another."""
    one = override("ann", 3, 4)
    covers = coverage(NIGHT, at(2), at(6), [one])
    assert [None, one, None] == [cover.override for cover in covers]
    assert [] == handovers(covers)


def test_a_schedule_that_is_missing_is_not_known() -> None:
    """Without a schedule, only overrides say who is on call."""
    one = override("cid", 3, 4)
    assert [Cover(at(0), at(3), None), Cover(at(3), at(4), CID, one), Cover(at(4), at(5), None)] == coverage(
        None, at(0), at(5), [one]
    )
    assert [Cover(at(0), at(5), None)] == coverage(None, at(0), at(5))


@pytest.mark.parametrize(
    ("start", "end", "since"),
    [
        (0, 9, None),  # ann comes again at 12
        (13, 15, None),  # ann is there at 15
        (5, 17, None),  # the horizon lies before 17
    ],
)
def test_a_schedule_that_goes_on(start: float, end: float, since: datetime | None) -> None:
    assert since == runs_out(NIGHT, at(start), at(end))


def test_a_schedule_that_runs_out() -> None:
    """From its last shift on it names no one, and it knows so."""
    ended = shifts(("ann", 2, 6), ("bob", 6, 8))
    assert at(8) == runs_out(ended, at(3), at(100))
    assert at(20) == runs_out(ended, at(20), at(100))
    assert at(0) == runs_out(shifts(), at(0), at(100))


@attrs.frozen
class Claims:
    """A schedule that names one person, and claims a change after a given time."""

    after: timedelta
    horizon: datetime = HORIZON
    digest: str = "d"

    def on_call(self, at: datetime) -> frozenset[str]:
        """Return the same person at any instant."""
        return frozenset({f"ann at {at.tzname()}"})

    def next_change(self, after: datetime) -> datetime | None:
        """Return an instant at which nothing changes."""
        return after + self.after


def test_covers_of_the_same_people_are_one() -> None:
    """A change that changes nothing ends no cover."""
    claims = Claims(timedelta(hours=1))
    assert isinstance(claims, Schedule)
    assert [Cover(at(0), at(24), frozenset({"ann at UTC"}))] == coverage(claims, at(0), at(24))


@pytest.mark.parametrize("step", [timedelta(), timedelta(hours=-1)])
def test_a_schedule_that_does_not_advance(step: timedelta) -> None:
    """A schedule whose next change is not later than what was asked for is refused, and does not hold up the caller."""
    with pytest.raises(InvalidValue, match=r"^schedule: says at 2026-03-01 00:00:00\+00:00 that the next change is at"):
        coverage(Claims(step), at(0), at(24))


def test_too_many_changes() -> None:
    """At most 10,000 changes are looked at."""
    step = timedelta(hours=24) / MAX_COVERS
    assert coverage(Claims(step), at(0), at(24))
    with pytest.raises(InvalidValue, match=r"^end: lies after more than 10000 changes; give a shorter span$"):
        coverage(Claims(step), at(0), at(24.1))


def test_the_span() -> None:
    """A span has a length, at most two years, and aware ends."""
    assert coverage(NIGHT, at(0), at(731 * 24))
    with pytest.raises(InvalidValue, match=r"^end: is 731 days, 1:00:00 after start; give at most 731 days$"):
        coverage(NIGHT, at(0), at(731 * 24 + 1))
    with pytest.raises(InvalidValue, match=r"^end: is 0:00:00 after start; give"):
        coverage(NIGHT, at(0), at(0))
    with pytest.raises(InvalidValue, match=r"^end: is -1 day, 23:00:00 after start; give"):
        coverage(NIGHT, at(1), at(0))
    with pytest.raises(InvalidValue, match=r"^start: has no time zone"):
        coverage(NIGHT, datetime(2026, 3, 1), at(1))  # noqa: DTZ001 - it is what is refused


@given(
    spans=st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.integers(0, 20), st.integers(1, 8)), max_size=8),
    horizon=st.integers(0, 30),
    first=st.integers(0, 20),
    length=st.integers(1, 20),
)
def test_every_hour_is_covered(spans: list[tuple[str, int, int]], horizon: int, first: int, length: int) -> None:
    """Each hour lies in one cover, with the people of the schedule, and neighbours differ."""
    schedule = shifts(*((person, start, start + hours) for person, start, hours in spans), horizon=horizon)
    covers = coverage(schedule, at(first), at(first + length))

    assert at(first) == covers[0].start
    assert at(first + length) == covers[-1].end
    assert all(one.end == two.start and one.people != two.people for one, two in pairwise(covers))
    for hour in range(first, first + length):
        [cover] = [cover for cover in covers if cover.start <= at(hour) < cover.end]
        assert cover.people == (schedule.on_call(at(hour)) if hour < horizon else None)
