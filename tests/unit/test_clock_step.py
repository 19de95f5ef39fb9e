"""A clock that steps: what counts as a step, and what an attempt counts for while it happens."""

from datetime import timedelta

import pytest

from escalation_core import Retry, RetryPolicy
from escalation_core.model import PageState
from escalation_core.rules.retry import after_attempt

from .kit import DAY, HOUR, MINUTE, SECOND, START, page

POLICY = RetryPolicy()


@pytest.mark.parametrize("step", [5 * MINUTE, HOUR, 2 * DAY, 400 * DAY])
def test_attempt_counts_for_its_lease_at_most(step: timedelta) -> None:
    """Whatever the clock does meanwhile, an attempt's sender owned the page for one lease and no longer."""
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
    """Within its lease an attempt counts for its time; for none if the clock says that it ended before it began."""
    after = after_attempt(page(), Retry("down"), policy=POLICY, now=START + took, jitter=0.0, ended=None)
    assert counted + POLICY.first / 2 == after.tried_for


def test_page_does_not_die_of_a_step() -> None:
    """One step of two days uses up no more of a page's 24 hours than one attempt may; the time after it counts."""
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
