"""Records of a page: the message for a notifier, its row in the outbox, and the outcome of an attempt to send it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import attrs

from ..checks import is_web_url
from .incident import NEEDS_REPLAN, Incident, normal_severity
from .keys import escalation_hash


class PageState(StrEnum):
    """The state of a page. Pending, leased and cancelling pages are unsettled; the others are settled."""

    PENDING = "pending"
    LEASED = "leased"
    CANCELLING = "cancelling"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    """A page of a higher level to the same target took its place before it was sent."""
    HANDED_OVER = "handed_over"
    """The fallback of its target has the escalation's page now."""
    DEAD = "dead"


UNSETTLED = (PageState.PENDING, PageState.LEASED, PageState.CANCELLING)
SETTLED = tuple(state for state in PageState if state not in UNSETTLED)

CANCELS = {PageState.PENDING: PageState.CANCELLED, PageState.LEASED: PageState.CANCELLING}
"""The new state of an unsettled page when its incident ends. A leased page may finish, but is not tried again."""


@attrs.frozen
class Delivered:
    """The receiver accepted the page."""


@attrs.frozen
class Retry:
    """The engine sends the page again later: the receiver did not answer, or asked for fewer messages.

    People can see ``reason``, so it must not contain a secret.
    """

    reason: str
    after: timedelta | None = None
    """The wait that the receiver asked for (Retry-After); None for the engine's own back-off."""
    throttled: bool = False
    """The receiver asked for fewer messages (429). The whole target is throttled, and this attempt does not count."""
    unanswered: bool = False
    """No answer came: the receiver is out of reach, or too slow. A test page then reports ``unreachable``."""


@attrs.frozen
class Rejected:
    """The receiver refused the message permanently. ``reason`` must not contain a secret.

    The page is dead, or handed over to its target's fallback. A refused bundle is halved, and each half is sent again.
    """

    reason: str
    whole_target: bool = False
    """The receiver would refuse any page to this target. Then all pages of a bundle are dead at once."""


Outcome = Delivered | Retry | Rejected
DEFAULT_PRIORITY = 5
"""The priority of a later page about a warning, by the default order of severities."""
MAX_REASON_CHARS = 1000
"""Max characters of a reason; the rest is cut."""


@attrs.frozen(kw_only=True)
class Page:
    """One message to one target about one escalation: the argument of ``Notifier.send``."""

    incident: Incident
    """The incident as its row was when the worker claimed the page."""
    episode: int
    level: int
    target: str
    dedup_key: str
    """The escalation's idempotency key: the same for every target and every attempt."""
    at: datetime
    """When the worker claimed the page."""
    attempt: int = 1
    """1 for the first attempt; attempts that the receiver throttled do not count."""
    round: int = 1
    """The round of the policy's walk, from 1."""
    paged_before: Sequence[str] = ()
    """The targets that received a page of a lower level of this episode, those of the lowest level first."""
    next_names: Sequence[str] = ()
    """Whom the next level pages, as the policy writes it, for example ``oncall:lead``.

    Empty if no level follows, or if the policy leaves its targets to the routes."""

    @property
    def incident_key(self) -> str:
        """The incident's key."""
        return self.incident.incident_key

    @property
    def title(self) -> str:
        """The incident's summary, or its key if it has none. It is the host's text: escape it for your channel."""
        summary = self.incident.summary or ""
        return summary if summary.strip() else self.incident.incident_key

    @property
    def severity(self) -> str:
        """The severity without surrounding blanks, in lower case; empty if the incident has none."""
        return normal_severity(self.incident.severity or "")

    @property
    def labels(self) -> Mapping[str, str]:
        """The incident's labels, also those that are links."""
        return self.incident.labels

    @property
    def links(self) -> Mapping[str, str]:
        """The labels whose value is an https or http URL, for example ``runbook``."""
        return {name: text for name, text in self.incident.labels.items() if is_web_url(text, allow_http=True)}

    @property
    def next_due_at(self) -> datetime | None:
        """When the next escalation is due; None if no level follows, or if that is not planned yet."""
        due = self.incident.next_due_at
        return None if due == NEEDS_REPLAN else due

    @property
    def age(self) -> timedelta:
        """How long ago the episode began, when the worker claimed the page."""
        return max(self.at - self.incident.first_seen, timedelta())

    @property
    def thread_key(self) -> str:
        """The key of the episode's thread: ``idempotency_key(incident_key, 0, episode)``, the same for all its levels.

        No page has this dedup key, because no page has level 0.
        """
        return escalation_hash(self.incident.incident_key, 0, self.episode)


@attrs.frozen(kw_only=True)
class Bundle:
    """One message to one target about many pages: the argument of ``SendsBundles.send_bundle``."""

    target: str
    dedup_key: str
    """The bundle's own key: the same for every attempt. Each page has the key of its escalation, too."""
    pages: Sequence[Page]
    """The pages, worst first. A later attempt has no others; it leaves out those whose incidents have ended."""
    attempt: int = 1
    """1 for the first attempt of its pages; attempts that the receiver throttled do not count."""

    @property
    def severities(self) -> Mapping[str, int]:
        """How many pages there are of each severity, in the order of the pages; empty text for none."""
        return Counter(normal_severity(page.incident.severity or "") for page in self.pages)


@attrs.frozen(kw_only=True)
class PageRecord:
    """A page's row in the outbox."""

    id: int
    incident_key: str
    episode: int
    level: int
    target: str
    """Empty if no route names a target for the incident."""
    dedup_key: str
    state: PageState
    created_at: datetime
    due_at: datetime
    """Pending: when it may be sent. Leased or cancelling: when its lease ends. Settled: when it was settled."""
    fence: int = 0
    """Grows with each claim and each settlement. A sender with an old fence has lost the page."""
    attempts: int = 0
    tried_for: timedelta = timedelta()
    """Time spent on attempts and back-off. The horizon limits it. Time without a running worker does not count."""
    reason: str | None = None
    via: str | None = None
    """The schedule that named the target's person, for example ``oncall:primary``; None if no schedule did."""
    schedule_digest: str | None = None
    """The digest of this schedule, as it was when the page was recorded."""
    priority: int = DEFAULT_PRIORITY
    """The worst pages have the lowest number. See ``rules.priority``."""
    hand_over_at: datetime | None = None
    """When the fallback of the target gets the page, unless it is delivered before; None without a fallback."""
    bundle: str | None = None
    """The key of the bundle in which the page was sent, or is tried again; None if it goes alone."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "PageRecord":
        """Return the page in a store's row: the values in the order of the fields, ``tried_for`` in microseconds."""
        number, key, episode, level, target, dedup_key, state, created_at, due_at, *rest = row
        fence, attempts, tried, reason, via, schedule_digest, priority, hand_over_at, bundle = rest
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
            via=via,
            schedule_digest=schedule_digest,
            priority=priority,
            hand_over_at=None if hand_over_at is None else instant(hand_over_at),
            bundle=bundle,
        )


@attrs.frozen(kw_only=True)
class NewPage:
    """A new page for the outbox, inserted in the transaction of its escalation."""

    incident_key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    undeliverable_reason: str | None = None
    """Why the page can never be sent; None if it can."""
    in_place_of: str | None = None
    """What cannot be paged, for example targets that no notifier serves, if this page is in its place. Not saved."""
    via: str | None = None
    """The schedule that named the target's person, for example ``oncall:primary``; None if no schedule did."""
    schedule_digest: str | None = None
    """The digest of this schedule."""
    priority: int = DEFAULT_PRIORITY
    hand_over_after: timedelta | None = None
    """How long after it was recorded the fallback of its target gets the page; None without a fallback."""
    may_exist: bool = False
    """The outbox may have this page already, for example the fallback's. Not saved."""
