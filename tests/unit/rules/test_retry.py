"""The next state of a page: the pure decisions, also when the clock steps."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import Delivered, Incident, InvalidValue, Outcome, Rejected, Retry, RetryPolicy
from escalation_core.model import PageRecord, PageState
from escalation_core.rules.retry import after_attempt, cancel, cancel_reason, lease, mark_dead, revive, throttle_for

from ..kit import DAY, HOUR, MINUTE, SECOND, START, incident, page

POLICY = RetryPolicy()
NOW = START + 2 * SECOND
"""Two seconds after the kit's page was leased."""
ZERO = timedelta()


def attempt(one: PageRecord, outcome: Outcome, now: datetime = NOW, **given_: Any) -> PageRecord:
    """Return the page after an attempt, with the largest possible jitter."""
    return after_attempt(one, outcome, **{"policy": POLICY, "now": now, "jitter": 1.0, "ended": None, **given_})


# --- outcomes


def test_delivered_page_is_done() -> None:
    """A page that the receiver took is delivered now, with its attempt counted and its reason cleared."""
    after = attempt(page(reason="busy", attempts=2), Delivered())
    assert page(state=PageState.DELIVERED, due_at=NOW, fence=2, attempts=3) == after


def test_rejected_page_is_dead() -> None:
    """A rejection makes the page dead at the first attempt, with the receiver's reason."""
    after = attempt(page(), Rejected("no such channel"))
    assert page(state=PageState.DEAD, due_at=NOW, fence=2, attempts=1, reason="no such channel") == after


def test_failed_page_is_pending_again() -> None:
    """A page that failed is pending until the back-off ends, with attempt, time and reason recorded."""
    after = attempt(page(), Retry("timed out"))
    expected = page(
        state=PageState.PENDING,
        due_at=NOW + SECOND,
        fence=2,
        attempts=1,
        tried_for=2 * SECOND + SECOND,
        reason="timed out",
    )
    assert expected == after


def test_throttled_page_is_no_attempt() -> None:
    """A throttled page waits for the receiver's time, and the attempt does not count."""
    after = attempt(page(attempts=3), Retry("busy", 20 * SECOND, throttled=True))
    assert PageState.PENDING == after.state
    assert NOW + 20 * SECOND == after.due_at
    assert 3 == after.attempts


def test_throttled_page_without_a_time_waits_the_policys() -> None:
    """A throttled page without a Retry-After waits for ten seconds."""
    after = attempt(page(), Retry("busy", throttled=True))
    assert (NOW + 10 * SECOND, 0) == (after.due_at, after.attempts)


@pytest.mark.parametrize("state", [PageState.LEASED, PageState.CANCELLING])
@pytest.mark.parametrize("ended", ["acknowledged", "resolved", "drained", "episode ended", "deleted"])
@pytest.mark.parametrize(
    ("outcome", "attempts"),
    [(Retry("down"), 1), (Retry("busy", throttled=True), 0), (Rejected("gone"), 1)],
)
def test_failure_of_an_ended_page_is_cancelled(state: PageState, ended: str, outcome: Outcome, attempts: int) -> None:
    """A page that fails after its incident ended is cancelled for any outcome, and is never retried."""
    after = attempt(page(state=state), outcome, ended=ended)
    expected = page(state=PageState.CANCELLED, due_at=NOW, fence=2, attempts=attempts, reason=ended)
    assert expected == after


@pytest.mark.parametrize("state", [PageState.LEASED, PageState.CANCELLING])
def test_ended_page_that_arrived_is_delivered(state: PageState) -> None:
    """A page that arrived after its incident ended is delivered."""
    after = attempt(page(state=state, reason="acknowledged"), Delivered(), ended="acknowledged")
    assert (PageState.DELIVERED, None) == (after.state, after.reason)


# --- back-off


def test_backoff_doubles_to_its_longest() -> None:
    """The back-off is 1, 2, 4 seconds and so on, and never more than 60."""
    waits = [POLICY.backoff(attempts, 1.0) for attempts in range(1, 10)]
    assert [seconds * SECOND for seconds in (1, 2, 4, 8, 16, 32, 60, 60, 60)] == waits


@pytest.mark.parametrize("attempts", [31, 100, 1000, 10**9])
def test_backoff_never_overflows(attempts: int) -> None:
    """For any number of attempts, the back-off is at most the longest one."""
    assert MINUTE == POLICY.backoff(attempts, 1.0)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_half(attempts: int, jitter: float) -> None:
    """The wait with jitter lies between half the back-off and all of it."""
    full = min(2 ** min(attempts - 1, 10), 60) * SECOND
    assert full / 2 <= POLICY.backoff(attempts, jitter) <= full


def test_jitter_is_linear() -> None:
    """Jitter 0 gives half of the wait, jitter 0.5 three quarters, and jitter 1 all of it."""
    assert [SECOND, 1.5 * SECOND, 2 * SECOND] == [POLICY.backoff(2, jitter) for jitter in (0.0, 0.5, 1.0)]


@given(st.timedeltas(SECOND, HOUR), st.timedeltas(SECOND, DAY), st.integers(1, 100))
def test_backoff_follows_its_settings(first: timedelta, longest: timedelta, attempts: int) -> None:
    """The first and the longest wait are settings, and no wait is longer than the longest."""
    policy = RetryPolicy(first=first, longest=longest)
    assert min(first, longest) == policy.backoff(1, 1.0)
    assert policy.backoff(attempts, 1.0) <= longest


# --- Retry-After


@pytest.mark.parametrize(
    ("after", "wait"),
    [
        (-HOUR, SECOND),
        (ZERO, SECOND),
        (SECOND - timedelta(microseconds=1), SECOND),
        (SECOND, SECOND),
        (17 * SECOND, 17 * SECOND),
        (HOUR, HOUR),
        (HOUR + timedelta(microseconds=1), HOUR),
        (365 * DAY, HOUR),
    ],
)
@pytest.mark.parametrize("throttled", [False, True])
def test_retry_after_is_clamped(after: timedelta, wait: timedelta, throttled: bool) -> None:
    """A Retry-After is clamped to 1 second to 1 hour, and has no jitter."""
    outcome = Retry("later", after, throttled=throttled)
    assert (NOW + wait, wait) == (attempt(page(), outcome, jitter=0.0).due_at, throttle_for(outcome, POLICY))


# --- the horizon


def test_page_is_dead_after_the_horizon() -> None:
    """When attempts and waits together reach 24 hours, the page is dead with the number of its attempts."""
    tried = DAY - 3 * SECOND - MINUTE
    one = page(attempts=1500, tried_for=tried)
    before = attempt(one, Retry("down"))
    assert (PageState.PENDING, tried + 2 * SECOND + MINUTE) == (before.state, before.tried_for)
    after = attempt(attrs.evolve(one, tried_for=tried + SECOND), Retry("down"))
    assert (PageState.DEAD, "gave up after 1501 attempts: down") == (after.state, after.reason)
    assert (NOW, DAY) == (after.due_at, after.tried_for)


def test_throttling_does_not_last_forever_either() -> None:
    """The wait for a throttling receiver counts towards the horizon, though it is not an attempt."""
    after = attempt(page(attempts=2, tried_for=DAY - HOUR), Retry("busy", HOUR, throttled=True))
    assert PageState.DEAD == after.state
    assert 2 == after.attempts
    assert "gave up after 2 attempts: busy" == after.reason


def test_horizon_stands_still_while_no_worker_sends() -> None:
    """Time in which no worker claims the page, for example a week's pause, does not count towards the horizon."""
    failed = attempt(page(), Retry("down"))
    week = failed.due_at + 7 * DAY
    again = attempt(lease(failed, POLICY, week), Retry("down"), week + 3 * SECOND)
    assert PageState.PENDING is again.state
    assert (2 + 1 + 3 + 2) * SECOND == again.tried_for


def test_clock_that_steps_back_takes_no_time_away() -> None:
    """If the database's clock steps back during an attempt, tried_for does not shrink."""
    after = attempt(page(tried_for=HOUR), Retry("down"), START - HOUR)
    assert HOUR + SECOND == after.tried_for


@given(st.lists(st.sampled_from([Retry("a"), Retry("b", MINUTE), Retry("c", throttled=True)]), min_size=1))
def test_time_is_the_sum_of_attempts_and_waits(outcomes: list[Retry]) -> None:
    """For any outcomes, tried_for is the time from the first claim to the next due instant, if claimed at once."""
    one = lease(page(state=PageState.PENDING), POLICY, START)
    now, fence = START, one.fence
    for outcome in outcomes:
        one = attempt(one, outcome, now + SECOND)
        assert fence + 1 == one.fence
        now = one.due_at
        one = lease(one, POLICY, now)
        fence = one.fence
    assert now - START == one.tried_for
    assert sum(not outcome.throttled for outcome in outcomes) == one.attempts


# --- lease, fence and the other moves


def test_lease_ends_after_thirty_seconds() -> None:
    """A claimed page belongs to its sender for the 30 seconds of the lease."""
    pending = page(state=PageState.PENDING, due_at=START, fence=6)
    assert page(fence=7, due_at=NOW + 30 * SECOND) == lease(pending, POLICY, NOW)


def _moves() -> Iterator[PageRecord]:
    yield lease(page(), POLICY, NOW)
    yield cancel(page(), "resolved", NOW)
    yield mark_dead(page(), "unrenderable", NOW)
    yield revive(page(), NOW)
    for outcome in (Delivered(), Retry("a"), Retry("a", throttled=True), Rejected("a")):
        yield attempt(page(), outcome)
        yield attempt(page(), outcome, ended="resolved")


def test_every_move_of_a_claimed_page_raises_its_fence() -> None:
    """Every move raises the fence, so that the store can detect a late settlement of a lost lease."""
    assert {2} == {one.fence for one in _moves()}


def test_cancelled_and_buried_pages_say_why_and_when() -> None:
    """A cancelled and a dead page both keep attempts and time, and get the reason and the instant."""
    one = page(attempts=2, tried_for=MINUTE)
    expected = attrs.evolve(one, fence=2, due_at=NOW, reason="because")
    assert attrs.evolve(expected, state=PageState.CANCELLED) == cancel(one, "because", NOW)
    assert attrs.evolve(expected, state=PageState.DEAD) == mark_dead(one, "because", NOW)


def test_revived_page_begins_again_under_its_key() -> None:
    """A revived page is due now with a whole horizon, and keeps its dedup key."""
    dead = page(state=PageState.DEAD, attempts=9, tried_for=DAY, reason="gave up", due_at=START, fence=5)
    assert page(state=PageState.PENDING, due_at=NOW, fence=6) == revive(dead, NOW)


@pytest.mark.parametrize(
    ("one", "standing", "why"),
    [
        (page(), incident(), None),
        (page(state=PageState.PENDING), incident(level=5), None),
        (page(), incident(snoozed_until=START + DAY), None),
        (page(), incident(acknowledged_at=START), "acknowledged"),
        (page(), incident(resolved_at=START), "resolved"),
        (page(), incident(acknowledged_at=START, resolved_at=START), "resolved"),
        (page(), incident(episode=2), "episode ended"),
        (page(episode=2), incident(episode=2), None),
        (page(), incident(episode=2, acknowledged_at=START), "acknowledged"),
        (page(), None, "deleted"),
        (page(state=PageState.CANCELLING, reason="acknowledged"), incident(), "acknowledged"),
        (page(state=PageState.CANCELLING, reason="drained"), None, "drained"),
        (page(state=PageState.CANCELLING), incident(), "ended"),
    ],
)
def test_why_a_page_must_not_go(one: PageRecord, standing: Incident | None, why: str | None) -> None:
    """A page is sent only while its incident is open in the same episode, and never once it is cancelling."""
    assert why == cancel_reason(one, standing)


# --- the policy


def test_defaults_of_the_policy() -> None:
    """The defaults of the policy are the times in the rules."""
    expected = {
        "lease": 30 * SECOND,
        "send_timeout": 10 * SECOND,
        "first": SECOND,
        "longest": MINUTE,
        "horizon": DAY,
        "least_after": SECOND,
        "most_after": HOUR,
        "throttle": 10 * SECOND,
        "per_target": 32,
    }
    assert expected == attrs.asdict(RetryPolicy())


SPANS = [field.name for field in attrs.fields(RetryPolicy) if field.name != "per_target"]


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize("value", [ZERO, -SECOND, 30, "30", None])
def test_policy_takes_spans_above_zero(name: str, value: Any) -> None:
    """Every time must be a timedelta above zero, and the error names the field."""
    with pytest.raises(InvalidValue) as caught:
        RetryPolicy(**{name: value})
    assert name == caught.value.field


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "32", None])
def test_policy_takes_whole_numbers_of_pages(value: Any) -> None:
    """per_target must be a whole number of at least one page."""
    with pytest.raises(InvalidValue) as caught:
        RetryPolicy(per_target=value)
    assert "per_target" == caught.value.field


@pytest.mark.parametrize("timeout", [30 * SECOND, 31 * SECOND])
def test_send_timeout_is_shorter_than_the_lease(timeout: timedelta) -> None:
    """The send timeout must be shorter than the lease, else a second sender could claim during a send."""
    with pytest.raises(InvalidValue) as caught:
        RetryPolicy(send_timeout=timeout)
    assert "send_timeout" == caught.value.field


# --- a clock that steps


@pytest.mark.parametrize("step", [5 * MINUTE, HOUR, 2 * DAY, 400 * DAY])
def test_attempt_counts_for_its_lease_at_most(step: timedelta) -> None:
    """For any step of the clock, an attempt counts for at most one lease."""
    after = after_attempt(page(), Retry("down"), policy=POLICY, now=START + step, jitter=0.0, ended=None)
    assert (PageState.PENDING, POLICY.lease + POLICY.first / 2) == (after.state, after.tried_for)
    assert START + step + POLICY.first / 2 == after.due_at


@pytest.mark.parametrize(
    ("took", "counted"),
    [
        (timedelta(), timedelta()),
        (7 * SECOND, 7 * SECOND),
        (POLICY.lease, POLICY.lease),
        (POLICY.lease + SECOND, POLICY.lease),
        (-5 * MINUTE, timedelta()),
        (-2 * DAY, timedelta()),
    ],
)
def test_attempt_counts_for_as_long_as_it_took(took: timedelta, counted: timedelta) -> None:
    """An attempt counts for its time up to one lease, and for zero if the clock stepped back."""
    after = after_attempt(page(), Retry("down"), policy=POLICY, now=START + took, jitter=0.0, ended=None)
    assert counted + POLICY.first / 2 == after.tried_for


def test_page_does_not_die_of_a_step() -> None:
    """A step of two days uses up at most one lease of a page's horizon; the wait after the attempt counts."""
    now, record = START, page()
    for _ in range(10):
        now += 2 * DAY
        record = after_attempt(record, Retry("down", 10 * SECOND), policy=POLICY, now=now, jitter=0.0, ended=None)
        assert PageState.PENDING is record.state
        record = page(tried_for=record.tried_for, attempts=record.attempts, due_at=now + POLICY.lease)
    assert 10 * (POLICY.lease + 10 * SECOND) == record.tried_for
    almost = page(tried_for=POLICY.horizon - POLICY.lease - 10 * SECOND)
    last = after_attempt(almost, Retry("down", 10 * SECOND), policy=POLICY, now=START + DAY, jitter=0.0, ended=None)
    assert PageState.DEAD is last.state
