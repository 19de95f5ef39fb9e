"""Which pages are bundled, and the key of a bundle."""

from datetime import timedelta

import attrs
import pytest

from escalation_core import Budget, Delivered, Rejected, Retry, RetryPolicy
from escalation_core.model import PageState
from escalation_core.model.keys import bundle_key
from escalation_core.rules.bundle import bundle_order, halved, is_fresh, most_apart
from escalation_core.rules.retry import after_attempt, lease, revive

from ..kit import START, page

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("rate", "seconds", "most"), [(1, 10, 10), (0.01, 10, 1), (20, 10, 200), (1.5, 1, 1)])
def test_more_than_the_budget_takes(rate: float, seconds: int, most: int) -> None:
    """So many pages are still sent one by one, and one always is."""
    assert most == most_apart(Budget(rate=rate), seconds * SECOND)


def test_only_what_was_never_attempted_is_bundled() -> None:
    """A page whose lease has ended may have arrived; a throttled attempt did not count."""
    fresh = page(state=PageState.PENDING, attempts=0, fence=2)
    assert is_fresh(fresh)
    assert not is_fresh(page(state=PageState.PENDING, attempts=1))
    assert not is_fresh(page(state=PageState.LEASED, attempts=0))
    assert not is_fresh(page(state=PageState.PENDING, attempts=0, bundle="b"))


def test_the_worst_come_first_in_a_bundle() -> None:
    pages = [page(id=1, priority=4), page(id=2, priority=0), page(id=3, priority=0, created_at=START - SECOND)]
    assert [3, 2, 1] == [one.id for one in sorted(pages, key=bundle_order)]


def test_a_key_is_that_of_a_target_and_its_pages() -> None:
    """In any order; another page or another target makes another key. No two texts run together."""
    key = bundle_key("t", ["a", "b"])
    assert key == bundle_key("t", ["b", "a"])
    assert 5 == len({key, bundle_key("t", ["a"]), bundle_key("u", ["a", "b"]), bundle_key("t", ["ab"]), "x"})
    assert 64 == len(key)


def test_pages_stay_in_their_bundle_until_it_is_refused() -> None:
    """A retry and a delivery keep it. A refusal for good sends each page apart, at once, and kills none."""
    policy = RetryPolicy()
    leased = lease(page(state=PageState.PENDING), policy, START, "b")

    def after(outcome: Delivered | Retry | Rejected) -> tuple[PageState, str | None, int]:
        done = after_attempt(leased, outcome, policy=policy, now=START, jitter=0.0, ended=None, fallback="f")
        return done.state, done.bundle, done.attempts

    assert (PageState.DELIVERED, "b", 1) == after(Delivered())
    assert (PageState.PENDING, "b", 1) == after(Retry("down"))
    assert (PageState.PENDING, "b", 0) == after(Retry("busy", throttled=True))
    assert (PageState.PENDING, None, 1) == after(Rejected("bad"))
    assert (PageState.HANDED_OVER, "b", 1) == after(Rejected("bad", whole_target=True))
    apart = lease(page(state=PageState.PENDING, bundle="b"), policy, START)
    assert apart.bundle is None
    assert revive(page(state=PageState.DEAD, bundle="b"), START).bundle is None


def test_a_refused_bundle_is_halved() -> None:
    """The worst half is the larger one, each half has its own key, and a half of one page goes alone."""
    pages = [
        page(id=number, priority=9 - number, dedup_key=f"d{number}", state=PageState.PENDING) for number in range(5)
    ]
    halves = halved(pages, due_at=START)
    worst, rest = bundle_key(pages[0].target, ["d4", "d3", "d2"]), bundle_key(pages[0].target, ["d1", "d0"])
    assert [(4, worst), (3, worst), (2, worst), (1, rest), (0, rest)] == [(one.id, one.bundle) for one in halves]
    assert [(4, worst := bundle_key(pages[0].target, ["d4", "d3"])), (3, worst), (2, None)] == [
        (one.id, one.bundle) for one in halved(pages[2:], due_at=START)
    ]
    assert [[None, None], [None], []] == [
        [one.bundle for one in halved(pages[:count], due_at=START)] for count in (2, 1, 0)
    ]


def test_a_page_that_may_have_arrived_is_never_put_into_a_bundle() -> None:
    """A lease that ended without an outcome counts as an attempt. A 429 to the page alone does not change that."""
    policy = RetryPolicy()
    lost = lease(page(state=PageState.PENDING), policy, START)
    assert 0 == lost.attempts
    again = lease(lost, policy, lost.due_at)
    assert (1, None) == (again.attempts, again.bundle)
    busy = Retry("busy", throttled=True)
    throttled = after_attempt(again, busy, policy=policy, now=again.due_at, jitter=0.0, ended=None)
    assert PageState.PENDING is throttled.state
    assert not is_fresh(throttled)


def test_the_halvings_of_a_bundle_count_as_one_attempt() -> None:
    """The back-off of a good page must not grow by the search for a bad one."""
    one = page(bundle="b")
    for _ in range(10):
        refused = after_attempt(one, Rejected("bad"), policy=RetryPolicy(), now=START, jitter=0.0, ended=None)
        one = attrs.evolve(refused, state=PageState.LEASED, bundle="c")
    assert 1 == one.attempts
