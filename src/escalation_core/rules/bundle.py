"""Bundles: one message about many pages, when more wait for a target than its budget takes in time."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from ..errors import InvalidValue
from ..model import Budget, PageRecord, PageState
from ..model.keys import KEY_CHARS, bundle_key

BUNDLE_AFTER = timedelta(seconds=10)
"""Pages are bundled when more wait than the budget takes in this time."""
MAX_BUNDLE = 1000
"""How many pages a bundle has at most."""
MIN_PREFIX_CHARS = 8
"""How much of a bundle's key is enough to name it."""


def most_apart(budget: Budget, after: timedelta) -> int:
    """Return how many waiting pages are still sent one by one."""
    return max(1, int(budget.rate * after.total_seconds()))


def is_fresh(page: PageRecord) -> bool:
    """Return whether a page may be put into a bundle: it was never attempted. A throttled attempt does not count.

    A page whose lease has ended may have arrived, so it goes alone, with its own key.
    """
    return page.state is PageState.PENDING and page.attempts == 0 and page.bundle is None


def check_bundle(text: object) -> str:
    """Return the key of a bundle, or its beginning.

    Raises:
        InvalidValue: it is not text of 8 to 64 hex digits.
    """
    if isinstance(text, str) and re.fullmatch(f"[0-9a-f]{{{MIN_PREFIX_CHARS},{KEY_CHARS}}}", text):
        return text
    fault = "is not the key of a bundle, or the beginning of one"
    raise InvalidValue("bundle", fault, f"give {MIN_PREFIX_CHARS} to {KEY_CHARS} hex digits, in lower case")


def bundle_order(page: PageRecord) -> tuple[int, datetime, int]:
    """Return the place of a page in its bundle: the worst come first, and of these the oldest."""
    return page.priority, page.created_at, page.id


def halved(refused: Sequence[PageRecord], *, due_at: datetime) -> list[PageRecord]:
    """Return the pages of a bundle that its receiver refused for good, in two bundles: the worst half, and the rest.

    The pages are still to be sent, and all to one target. Each half has a key of its own. A half of one page is no
    bundle: the page goes alone.
    """
    pages = sorted(refused, key=bundle_order)
    middle = (len(pages) + 1) // 2
    return [*_together(pages[:middle], due_at), *_together(pages[middle:], due_at)]


def _together(half: Sequence[PageRecord], due_at: datetime) -> list[PageRecord]:
    key = bundle_key(half[0].target, [page.dedup_key for page in half]) if len(half) > 1 else None
    return [attrs.evolve(page, bundle=key, due_at=due_at) for page in half]
