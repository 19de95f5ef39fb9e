"""The log of page changes: each change belongs to the transaction that made it."""

from datetime import UTC, datetime, timedelta
from itertools import count

import attrs
import pytest

from escalation_core.model import PageRecord, PageState
from escalation_core.testing.invariants.page_log import Attempt, PageLog

AT = datetime(2025, 1, 1, tzinfo=UTC)
PENDING = PageRecord(
    id=1, incident_key="k", episode=1, level=1, target="ops", dedup_key="d", state=PageState.PENDING, created_at=AT,
    due_at=AT,
)  # fmt: skip
LEASED = attrs.evolve(PENDING, state=PageState.LEASED, fence=1, due_at=AT + timedelta(seconds=30))
CANCELLED = attrs.evolve(PENDING, state=PageState.CANCELLED, reason="acknowledged")


@pytest.fixture
def log() -> PageLog:
    ticks = count()
    made = PageLog(lambda: float(next(ticks)))
    made.see({1: PENDING})
    return made


def attempt(worker: str, before: PageRecord, after: PageRecord) -> Attempt:
    return Attempt(worker, 0.0, 1.0, {1: before}, {1: after})


def test_committed_change_is_its_workers(log: PageLog) -> None:
    """A committed change names the worker and both states."""
    claim = attempt("w1", PENDING, LEASED)
    log.attempt(claim)
    log.commit(claim)
    [change] = log.changes
    assert ("w1", "pending", "leased", 0, 1) == (
        change.worker, change.was, change.state, change.fence_was, change.fence,
    )  # fmt: skip


def test_change_of_an_attempt_whose_end_is_unknown(log: PageLog) -> None:
    """A later transaction that finds a lost attempt's change credits the attempt that wrote it."""
    log.attempt(attempt("w1", PENDING, LEASED))
    log.see({1: LEASED})
    assert ["w1"] == [change.worker for change in log.changes]


def test_reader_made_no_change(log: PageLog) -> None:
    """A transaction that only read a page is not credited with its change."""
    log.attempt(attempt("reader", CANCELLED, CANCELLED))
    log.see({1: CANCELLED})
    assert ["unknown"] == [change.worker for change in log.changes]


def test_older_state_that_becomes_known_later_is_no_change(log: PageLog) -> None:
    """An older state that becomes known after a newer one adds no change."""
    claim = attempt("w1", PENDING, LEASED)
    log.attempt(claim)
    log.see({1: attrs.evolve(LEASED, state=PageState.DELIVERED, fence=2)})
    log.commit(claim)
    assert ["delivered"] == [change.state for change in log.changes]


def test_cancelled_page_is_not_pending_again(log: PageLog) -> None:
    """A transaction that read the page before its cancellation does not make it pending again."""
    log.see({1: CANCELLED})
    log.see({1: PENDING})
    assert ["cancelled"] == [change.state for change in log.changes]
