"""Test pages: they go the way of real pages, through the notifier and its time limit, and need no store."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from ..checks import check_instant
from ..errors import InvalidValue
from ..model import By
from ..ports import Notifier
from ..rules.page_test import PageTest, judge, page_for_test
from ..rules.retry import RetryPolicy
from ..rules.routing import check_target, notifiers_by_target
from .attempt import Attempt


async def send_test_page(
    notifiers: Sequence[Notifier],
    target: str,
    *,
    at: datetime,
    by: str | None = None,
    reason: str | None = None,
    retry: RetryPolicy | None = None,
) -> PageTest:
    """Send one page to ``target`` that says that it is a test, and return what became of it.

    It records nothing and needs no store, so it works while the database is down; ``Engine.test_page`` also writes the
    audit. ``at`` is the instant in the page. The page names ``by`` and ``reason``. ``retry`` limits the send as it
    limits that of a real page.

    Raises:
        InvalidValue: no notifier serves the target, or an argument is not valid.
    """
    who, at, policy = By(by, reason), check_instant(at, "at"), retry or RetryPolicy()
    by_target = notifiers_by_target(notifiers)
    notifier = by_target.get(check_target(target, "target"))
    if notifier is None:
        known = ", ".join(by_target)
        raise InvalidValue("target", f"{target!r} is unknown", f"give one of: {known}" if known else "add a notifier")
    page = page_for_test(target, who, at=at, unique=uuid4().hex)
    outcome = await Attempt(notifier, page).within(policy.send_timeout)
    return judge(outcome, target=target, channel=notifier.channel, policy=policy)
