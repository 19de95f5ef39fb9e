"""The pace of a target: its budget, and a throttle."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Abilities, Budget, InvalidValue
from escalation_core.model import DueTarget, Pace
from escalation_core.rules.abilities import budgets_of
from escalation_core.rules.pace import after_taking, in_force, may_send_at

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SLACK = Budget(rate=1, burst=3)


def after(seconds: float) -> datetime:
    return NOW + seconds * SECOND


def test_a_burst_and_then_one_a_second() -> None:
    """The slots of the burst are free at first, and each comes back after a gap."""
    assert 3 == SLACK.slots(None, NOW)
    free_at = SLACK.after(None, 3, NOW)
    assert after(3) == free_at
    assert [0, 0, 1, 1, 2, 3] == [SLACK.slots(free_at, after(at)) for at in (0, 0.9, 1, 1.9, 2, 60)]
    assert after(1) == SLACK.next_slot(free_at, NOW)
    assert after(1) == SLACK.next_slot(SLACK.after(free_at, 1, after(1)), after(1)) - SECOND


def test_a_clock_that_was_set_back_silences_no_target() -> None:
    """An instant that no slot can have counts as free, whatever set it."""
    assert 3 == SLACK.slots(after(6.1), NOW)
    assert NOW == SLACK.next_slot(after(86400), NOW)
    assert after(1) == SLACK.after(after(86400), 1, NOW)


@given(
    rate=st.sampled_from([0.5, 1.0, 3.0, 40.0]),
    burst=st.integers(1, 5),
    steps=st.lists(st.tuples(st.floats(0, 4), st.integers(0, 9)), max_size=40),
)
def test_never_more_than_the_budget(rate: float, burst: int, steps: list[tuple[float, int]]) -> None:
    """In any span of time no more pages are sent than the burst and what the rate allows; and all that are allowed."""
    budget, free_at, now, sent = Budget(rate=rate, burst=burst), None, NOW, list[datetime]()
    for wait, wanted in steps:
        now += wait * SECOND
        count = min(wanted, budget.slots(free_at, now))
        free_at = budget.after(free_at, count, now) if count else free_at
        sent += [now] * count
        # A gap is rounded to microseconds.
        assert all(
            len(sent) - number <= burst + rate * (now - first) / SECOND + 0.001 for number, first in enumerate(sent)
        )
        if budget.slots(free_at, now) < burst:
            assert budget.slots(free_at, budget.next_slot(free_at, now)) >= 1


def rate_of(budget: Budget | None, pace: Pace, now: datetime = NOW) -> float | None:
    found = in_force(budget, pace, now)
    return None if found is None else found.rate


def test_a_refusal_halves_the_rate_once() -> None:
    """Pages that were under way together are refused together: that counts once, until the next page takes a slot."""
    pace = Pace(target="t").throttled(NOW).throttled(NOW)
    fast = Budget(rate=40, burst=9)
    assert (20, 1) == (rate_of(fast, pace), rate_of(None, pace))
    taken = after_taking(fast, pace, 1, NOW)
    assert (after(0.05), False) == (taken.free_at, taken.refused)
    assert 20 * 1.02 == taken.rate == rate_of(fast, taken)
    assert 10.2 == rate_of(fast, taken.throttled(NOW))


def test_a_rate_that_was_learned_is_no_higher_than_the_budget() -> None:
    """The budget was lowered since."""
    assert 0.5 == rate_of(SLACK, Pace(target="t", free_at=NOW, rate=50.0, refused=True))
    assert 1.0 == rate_of(SLACK, Pace(target="t", free_at=NOW, rate=50.0))


def test_refusals_lower_a_rate_to_the_least_one() -> None:
    """A receiver that refuses each second page, whatever the rate is, still gets its pages."""
    for budget, least in ((None, 0.2), (SLACK, 0.2), (Budget(rate=0.05), 0.05)):
        pace = Pace(target="t")
        for _ in range(20):
            pace = after_taking(budget, pace.throttled(NOW), 1, NOW)
        assert least == rate_of(budget, pace.throttled(NOW))


@pytest.mark.parametrize(("budget", "pages"), [(SLACK, 36), (None, 233)])
def test_a_lowered_rate_comes_back(budget: Budget | None, pages: int) -> None:
    """Each page raises it, until it is the budget's again, or until a target without a budget needs no limit."""
    pace, now, taken = Pace(target="t").throttled(NOW), NOW, 0
    while pace.slowed:
        current = in_force(budget, pace, now)
        assert current is not None
        now = current.next_slot(pace.free_at, now)
        pace, taken = after_taking(budget, pace, 1, now), taken + 1
    assert (pages, budget) == (taken, in_force(budget, pace, now))


def test_pages_that_come_slowly_raise_no_rate() -> None:
    """A receiver that gets ten messages a second has not shown that it takes a hundred."""
    pace, now = Pace(target="t", free_at=NOW, rate=10.0), NOW
    for _ in range(100):
        now = max(pace.free_at or NOW, now + SECOND / 10)
        pace = after_taking(None, pace, 1, now)
    assert 19 < (pace.rate or 100) < 22


def test_a_quiet_minute_doubles_a_lowered_rate() -> None:
    """The time of a throttle does not count: a receiver that has just been silent for an hour gets one page first."""
    pace = Pace(target="t", free_at=NOW, rate=0.25)
    fast = Budget(rate=2)
    assert [0.25, 0.5, 1, 2, 2] == [rate_of(fast, pace, after(60 * minutes)) for minutes in (0, 1, 2, 3, 100_000)]
    assert 0.25 == rate_of(fast, attrs.evolve(pace, held_until=after(3600)), after(3600))
    assert rate_of(None, pace, after(86400)) is None
    assert not after_taking(None, pace, 5, after(86400)).slowed


@pytest.mark.parametrize(
    ("budget", "pace", "at"),
    [
        (None, None, 0),
        (SLACK, None, 0),
        (None, Pace(target="t", held_until=after(5)), 5),
        (SLACK, Pace(target="t", held_until=after(5), free_at=after(3)), 5),
        (SLACK, Pace(target="t", free_at=after(3)), 1),
        (None, Pace(target="t", free_at=after(3)), 0),
        (None, Pace(target="t", free_at=after(3), rate=0.5), 3),
        (SLACK, Pace(target="t", free_at=after(3), rate=0.5), 3),
        (None, Pace(target="t", held_until=after(5), free_at=after(1), refused=True), 5),
    ],
)
def test_when_a_page_may_be_sent(budget: Budget | None, pace: Pace | None, at: float) -> None:
    """A page waits for the end of a throttle and for a slot, whichever is later."""
    assert after(at) == may_send_at(budget, DueTarget(due_at=NOW, pace=pace), NOW)
    assert after(9) == may_send_at(budget, DueTarget(due_at=after(9), pace=pace), NOW)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0}, "rate: is 0; give 0.001 to 10000 messages a second"),
        ({"rate": -1}, "rate: is -1; give 0.001 to"),
        ({"rate": 10**9}, "rate: is 1000000000; give 0.001 to 10000"),
        ({"rate": float("nan")}, "rate: is nan; give"),
        ({"rate": float("inf")}, "rate: is inf; give"),
        ({"rate": "1"}, "rate: is str; give a number of messages a second"),
        ({"rate": True}, "rate: is bool; give a number"),
        ({"rate": 1, "burst": 0}, "burst: is 0; give 1 to 1000 messages"),
        ({"rate": 1, "burst": 1001}, "burst: is 1001; give 1 to 1000"),
        ({"rate": 1, "burst": 1.5}, "burst: is 1.5; give 1 to 1000"),
    ],
)
def test_bad_budgets_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Budget(**fields)
    assert str(caught.value).startswith(message)


def test_where_budgets_come_from() -> None:
    """The settings count before the notifier's own; null there means none."""
    own = Abilities(budgets={"a": SLACK, "b": SLACK, "c": SLACK})
    abilities = {"a": own, "b": own, "c": own, "d": own, "e": Abilities()}
    given = {"b": Budget(rate=9), "c": None, "d": Budget(rate=7), "gone": SLACK}
    assert {"a": SLACK, "b": Budget(rate=9), "d": Budget(rate=7)} == budgets_of(abilities, given)
