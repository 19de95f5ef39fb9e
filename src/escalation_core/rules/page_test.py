"""The rules of a test page: what it says, and what its outcome means for a target. Pure functions."""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..model import By, Delivered, Incident, Outcome, Page, Rejected
from ..model.keys import key_of_test_page
from .retry import RetryPolicy, throttle_for


class Verdict(StrEnum):
    """What the outcome of a test page says about its target."""

    DELIVERED = "delivered"
    """The receiver accepted the page."""
    REJECTED = "rejected"
    """The receiver refused the page permanently. A real page would be dead."""
    THROTTLED = "throttled"
    """The receiver asked for fewer messages. A real page would wait."""
    UNREACHABLE = "unreachable"
    """No answer came: no connection, or a timeout, after which the page may have arrived. A real page is retried."""
    FAILED = "failed"
    """The receiver answered with a temporary fault, or the notifier failed. A real page would be retried."""


@attrs.frozen(kw_only=True)
class PageTest:
    """The result of one test page."""

    target: str
    channel: str
    """The channel of the notifier that sent the page, for example ``slack``; ``log`` reaches no person."""
    verdict: Verdict
    reason: str | None = None
    """What the notifier said about a page that was not delivered. It contains no secret."""
    after: timedelta | None = None
    """Throttled: how long the engine would send no page to this target."""


def page_for_test(target: str, who: By, *, at: datetime, unique: str) -> Page:
    """Return a page that says that it is a test. ``unique`` is a new text for each page.

    The dedup key differs from the key of every escalation, and of every other test page, so that no receiver takes it
    for a repetition. The severity is the usual one, so that the page goes the way of a real page.
    """
    summary = f"TEST: nothing is wrong. {who.actor or 'An operator'} tests the target {target}"
    incident = Incident(
        incident_key=f"test-page-{unique}",
        severity="warning",
        first_seen=at,
        level=1,
        last_escalated_at=at,
        summary=summary if who.reason is None else f"{summary}: {who.reason}",
        labels={"test": "true"},
    )
    return Page(incident=incident, episode=1, level=1, target=target, dedup_key=key_of_test_page(unique), at=at)


def judge(outcome: Outcome, *, target: str, channel: str, policy: RetryPolicy) -> PageTest:
    """Return what an outcome says about the target of a test page."""
    if isinstance(outcome, Delivered):
        return PageTest(target=target, channel=channel, verdict=Verdict.DELIVERED)
    if isinstance(outcome, Rejected):
        verdict, after = Verdict.REJECTED, None
    elif outcome.throttled:
        verdict, after = Verdict.THROTTLED, throttle_for(outcome, policy)
    else:
        verdict, after = Verdict.UNREACHABLE if outcome.unanswered else Verdict.FAILED, None
    return PageTest(target=target, channel=channel, verdict=verdict, reason=outcome.reason, after=after)
