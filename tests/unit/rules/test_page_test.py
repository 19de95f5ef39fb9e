"""The rules of a test page: its content, and the verdict on each outcome."""

from datetime import timedelta

import pytest

from escalation_core import Delivered, Outcome, PageTest, Rejected, Retry, RetryPolicy, Verdict, idempotency_key
from escalation_core.model import By
from escalation_core.rules.page_test import judge, page_for_test

from ...unit.kit import SECOND, START

CASES: list[tuple[Outcome, Verdict, str | None, timedelta | None]] = [
    (Delivered(), Verdict.DELIVERED, None, None),
    (Rejected("HTTP 404"), Verdict.REJECTED, "HTTP 404", None),
    (Retry("HTTP 429", 30 * SECOND, throttled=True), Verdict.THROTTLED, "HTTP 429", 30 * SECOND),
    (Retry("HTTP 429", throttled=True), Verdict.THROTTLED, "HTTP 429", 10 * SECOND),
    (Retry("HTTP 429", timedelta(days=9), throttled=True), Verdict.THROTTLED, "HTTP 429", timedelta(hours=1)),
    (Retry("HTTP 500"), Verdict.FAILED, "HTTP 500", None),
    (Retry("HTTP 503", 7 * SECOND), Verdict.FAILED, "HTTP 503", None),
    (Retry("timed out", unanswered=True), Verdict.UNREACHABLE, "timed out", None),
    (Retry("HTTP 429", 9 * SECOND, throttled=True, unanswered=True), Verdict.THROTTLED, "HTTP 429", 9 * SECOND),
]


@pytest.mark.parametrize(("outcome", "verdict", "reason", "after"), CASES)
def test_each_outcome_has_its_verdict(
    outcome: Outcome, verdict: Verdict, reason: str | None, after: timedelta | None
) -> None:
    """A test page tells apart what a real page would meet, and for how long a throttled target would wait."""
    expected = PageTest(target="t", channel="c", verdict=verdict, reason=reason, after=after)
    assert expected == judge(outcome, target="t", channel="c", policy=RetryPolicy())


def test_page_says_that_it_is_a_test() -> None:
    """The page names the test, the operator and the reason, in texts that every notifier shows."""
    page = page_for_test("slack:ops", By("ada", "new webhook"), at=START, unique="abc")
    summary = page.incident.summary or ""
    assert summary.startswith("TEST: nothing is wrong.")
    assert "ada tests the target slack:ops: new webhook" in summary
    assert ("slack:ops", 1, 1, 1) == (page.target, page.level, page.episode, page.attempt)
    assert {"test": "true"} == page.incident.labels
    anonymous = page_for_test("slack:ops", By(), at=START, unique="abc").incident.summary or ""
    assert anonymous.endswith("An operator tests the target slack:ops")


def test_dedup_key_is_its_own() -> None:
    """The dedup key of a test page has the form of an escalation's, differs from it, and differs for each page."""
    first, second = (page_for_test("t", By(), at=START, unique=unique) for unique in ("a", "b"))
    assert first.dedup_key != second.dedup_key
    assert 64 == len(first.dedup_key)
    known = {idempotency_key(first.incident.incident_key, level, episode) for level in range(3) for episode in (1, 2)}
    assert first.dedup_key not in known
