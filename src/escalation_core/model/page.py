"""A page: one message to one target about one escalation, its row, and what becomes of an attempt to send it."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import attrs

from .incident import Incident


class PageState(StrEnum):
    """Where a page stands. Pending, leased and cancelling pages are unsettled; the others are done."""

    PENDING = "pending"
    LEASED = "leased"
    CANCELLING = "cancelling"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    DEAD = "dead"


CANCELS = {PageState.PENDING: PageState.CANCELLED, PageState.LEASED: PageState.CANCELLING}
"""What the end of an incident makes of its pages: a leased one may finish, but not be tried again."""


@attrs.frozen
class Delivered:
    """The receiver took the page."""


@attrs.frozen
class Retry:
    """The page may go another time: the receiver did not answer, or asked for fewer pages.

    ``reason`` is shown to people and must hold no secret.
    """

    reason: str
    after: timedelta | None = None
    """What the receiver asked for (Retry-After); None for the engine's own back-off."""
    throttled: bool = False
    """The receiver wants fewer pages (429): its whole target is held, and this was no attempt."""


@attrs.frozen
class Rejected:
    """The receiver refuses this page for good; another attempt would change nothing. ``reason`` holds no secret."""

    reason: str


Outcome = Delivered | Retry | Rejected
MAX_REASON_CHARS = 1000
"""Characters of a reason that are kept."""


@attrs.frozen(kw_only=True)
class Page:
    """One message to one target about one escalation, as a notifier gets it."""

    incident: Incident
    """The incident as it stands when the page is sent."""
    episode: int
    level: int
    target: str
    dedup_key: str
    """The escalation's idempotency key: the same with each copy and each attempt."""
    attempt: int = 1
    """1 for the first attempt; attempts that the receiver throttled do not count."""


@attrs.frozen(kw_only=True)
class PageRecord:
    """A page's row in the outbox."""

    id: int
    incident_key: str
    episode: int
    level: int
    target: str
    """Empty for a page that no route names a target for."""
    dedup_key: str
    state: PageState
    created_at: datetime
    due_at: datetime
    """When a pending page may be sent; when a leased one's lease ends; when a settled one was settled."""
    fence: int = 0
    """Grows with each claim and each settlement: a sender whose number is old has lost the page."""
    attempts: int = 0
    tried_for: timedelta = timedelta()
    """Time spent on attempts and back-off. Pauses are not in it: the horizon stands still while no worker sends."""
    reason: str | None = None

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "PageRecord":
        """Return the page of a store's row: values in the order of the fields, ``tried_for`` in microseconds."""
        number, key, episode, level, target, dedup_key, state, created_at, due_at, fence, attempts, tried, reason = row
        return cls(
            id=number,
            incident_key=key,
            episode=episode,
            level=level,
            target=target,
            dedup_key=dedup_key,
            state=PageState(state),
            created_at=instant(created_at),
            due_at=instant(due_at),
            fence=fence,
            attempts=attempts,
            tried_for=timedelta(microseconds=tried),
            reason=reason,
        )


@attrs.frozen(kw_only=True)
class NewPage:
    """A page to be put in the outbox together with its escalation."""

    incident_key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    undeliverable_reason: str | None = None
    """Why it can never be sent; None for a page that can."""
