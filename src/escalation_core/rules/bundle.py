"""Bundles: one message about many pages, when more wait for a target than its budget takes in time."""

from datetime import datetime, timedelta

from ..model import PageRecord, PageState
from .pace import Budget

BUNDLE_AFTER = timedelta(seconds=10)
"""Pages are bundled when more wait than the budget takes in this time."""
MAX_BUNDLE = 1000
"""How many pages a bundle has at most."""


def most_apart(budget: Budget, after: timedelta) -> int:
    """Return how many waiting pages are still sent one by one."""
    return max(1, int(budget.rate * after.total_seconds()))


def is_fresh(page: PageRecord) -> bool:
    """Return whether a page may be put into a bundle: it was never attempted. A throttled attempt does not count.

    A page whose lease has ended may have arrived, so it goes alone, with its own key.
    """
    return page.state is PageState.PENDING and page.attempts == 0 and page.bundle is None


def bundle_order(page: PageRecord) -> tuple[int, datetime, int]:
    """Return the place of a page in its bundle: the worst come first, and of these the oldest."""
    return page.priority, page.created_at, page.id
