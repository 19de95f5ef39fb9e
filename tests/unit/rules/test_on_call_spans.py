"""Who is on call over a span of time: the schedule, and the overrides of operators over it."""

from datetime import timedelta

from escalation_core.model import ShiftOverride
from escalation_core.rules.on_call import OnCall
from escalation_core.rules.on_call_spans import OnCallSpan, on_call_spans
from escalation_core.rules.shifts import Shift, Shifts

from ..kit import HOUR, START

ANN, BOB, CID, NO_ONE = (frozenset(name.split()) for name in ("ann", "bob", "cid", ""))


def at(hours: float) -> timedelta:
    return hours * HOUR


def override(person: str, start: float, end: float, schedule: str = "primary") -> ShiftOverride:
    return ShiftOverride(
        schedule=schedule, person=person, starts_at=START + at(start), ends_at=START + at(end), made_at=START
    )


def shifts(*given: tuple[str, float, float], horizon: float) -> Shifts:
    made = [Shift(person=person, start=START + at(start), end=START + at(end)) for person, start, end in given]
    return Shifts(shifts=made, horizon=START + at(horizon))


def span(start: float, end: float, people: frozenset[str] | None, by: ShiftOverride | None = None) -> OnCallSpan:
    return OnCallSpan(START + at(start), START + at(end), people, by)


NIGHT = shifts(("ann", 0, 6), ("bob", 6, 8), horizon=10)


def test_the_spans_are_those_of_the_schedule() -> None:
    """People, a gap, and what lies beyond the horizon, which is not known and no gap."""
    on_call = OnCall(schedules={"primary": NIGHT})
    found = on_call_spans(on_call, "primary", START, START + at(24))
    assert [span(0, 6, ANN), span(6, 8, BOB), span(8, 10, NO_ONE), span(10, 24, None)] == found
    assert [True, True, False, False] == [one.covered for one in found]


def test_an_override_counts_before_the_schedule() -> None:
    """It divides spans, fills gaps and what is not known, and of two the last one counts. Others do not matter."""
    first, second = override("cid", 5, 9), override("bob", 7, 12)
    other = override("ann", 0, 24, schedule="secondary")
    on_call = OnCall(schedules={"primary": NIGHT}, overrides=[first, second, other])
    assert [
        span(0, 5, ANN),
        span(5, 7, CID, first),
        span(7, 12, BOB, second),
        span(12, 24, None),
    ] == on_call_spans(on_call, "primary", START, START + at(24))


def test_an_override_is_cut_to_the_span() -> None:
    one = override("cid", -5, 50)
    on_call = OnCall(schedules={"primary": NIGHT}, overrides=[one])
    assert [span(2, 4, CID, one)] == on_call_spans(on_call, "primary", START + at(2), START + at(4))


def test_edges_within_an_override_divide_nothing() -> None:
    """A handover of the schedule, or an older override, that another override hides is not an edge."""
    older, newer = override("bob", 2, 4), override("cid", 1, 9)
    on_call = OnCall(schedules={"primary": NIGHT}, overrides=[older, newer])
    assert [span(0, 1, ANN), span(1, 9, CID, newer), span(9, 10, NO_ONE)] == on_call_spans(
        on_call, "primary", START, START + at(10)
    )


def test_a_schedule_that_is_missing_is_not_known() -> None:
    """Without a schedule, only overrides say who is on call."""
    one = override("cid", 3, 4)
    assert [span(0, 3, None), span(3, 4, CID, one), span(4, 5, None)] == on_call_spans(
        OnCall(overrides=[one]), "primary", START, START + at(5)
    )
    assert [span(0, 5, None)] == on_call_spans(OnCall(), "primary", START, START + at(5))
