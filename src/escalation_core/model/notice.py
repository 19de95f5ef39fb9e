"""Records of a notice: a message that tells a target, which was paged, what became of the incident."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import attrs

from .incident import Incident
from .keys import escalation_hash


class NoticeKind(StrEnum):
    """What happened to an incident that was paged."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    ACK_EXPIRED = "ack_expired"
    """The time of its acknowledgement is over, so it escalates again."""


class NoticeState(StrEnum):
    """The state of a notice. Pending and leased notices are unsettled; the others are settled."""

    PENDING = "pending"
    LEASED = "leased"
    DELIVERED = "delivered"
    DEAD = "dead"
    """The receiver refused it permanently."""
    EXPIRED = "expired"
    """It was not delivered in time, or a newer notice follows it, so it is not worth telling any more."""


def notice_key(kind: NoticeKind, incident_key: str, episode: int, at: datetime) -> str:
    r"""Return the dedup key of a notice: 64 hex digits, the same for every target and every attempt.

    It hashes ``"\0" + f"{kind}|{episode}|{at}|{incident_key}"`` with ``at`` in UTC, in microseconds. No text of an
    escalation, a test page or a bundle begins like this.
    """
    instant = at.astimezone(UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(f"\0{kind.value}|{episode}|{instant}|{incident_key}".encode()).hexdigest()


@attrs.frozen(kw_only=True)
class Change:
    """What happened to an incident, in one episode: the beginning of its notices."""

    kind: NoticeKind
    incident_key: str
    episode: int
    at: datetime
    actor: str | None = None
    """Who acknowledged or resolved it; None if that is unknown. Expired: whose acknowledgement it was."""
    first_seen: datetime | None = None
    """When the episode began; None if that cannot be read."""
    id: int = 0
    """The row's id; 0 if it is not saved yet."""


@attrs.frozen
class ChangedIncident:
    """A saved change, and its incident as the row is now."""

    change: Change
    incident: Incident | None
    """None if the row was deleted or is unreadable."""


@attrs.frozen(kw_only=True)
class Arrival:
    """A page that arrived at its target, or that may have: whom a notice about its episode may be for."""

    episode: int
    level: int
    target: str
    certain: bool = True
    """Whether a page was delivered. False: one was claimed, and its receiver may have accepted it all the same."""


@attrs.frozen(kw_only=True)
class Notice:
    """One message to one target about what became of an incident: the argument of ``TellsNotices.tell``."""

    kind: NoticeKind
    incident_key: str
    episode: int
    """The episode whose pages the target received."""
    level: int
    """The highest level of this episode that the target was paged about."""
    at: datetime
    """When it happened."""
    target: str
    dedup_key: str
    """The notice's own key: the same for every target and every attempt."""
    actor: str | None = None
    """Who did it; None if that is unknown. Of an expired acknowledgement: whose it was."""
    lasted: timedelta | None = None
    """How long after the beginning of the episode it happened; None if that is unknown."""
    incident: Incident | None = None
    """The incident as its row is now, perhaps in a later episode; None if the row is deleted or unreadable."""
    attempt: int = 1
    """1 for the first attempt; attempts that the receiver throttled do not count."""

    @property
    def thread_key(self) -> str:
        """The key of the episode's thread: see ``Page.thread_key``."""
        return escalation_hash(self.incident_key, 0, self.episode)

    @property
    def title(self) -> str:
        """The incident's summary, or its key if it has none."""
        summary = "" if self.incident is None else self.incident.summary or ""
        return summary if summary.strip() else self.incident_key


@attrs.frozen(kw_only=True)
class NoticeBundle:
    """One message to one target with many notices: the argument of ``TellsNoticeBundles.tell_bundle``."""

    target: str
    dedup_key: str
    """The bundle's own key. A bundle that is tried again may have other notices, and then has another key."""
    notices: Sequence[Notice]
    """The notices, oldest first."""
    attempt: int = 1

    @property
    def kinds(self) -> Mapping[NoticeKind, int]:
        """How many notices there are of each kind."""
        return Counter(notice.kind for notice in self.notices)


@attrs.frozen(kw_only=True)
class NewNotice:
    """A new notice for the outbox."""

    change: Change
    """What happened, with the episode whose pages the target received."""
    level: int
    target: str
    for_threads: bool = False
    """Whether the target gets it only if it has threads: its page is of an earlier episode, or may not have arrived."""

    @property
    def dedup_key(self) -> str:
        """The notice's key."""
        return notice_key(self.change.kind, self.change.incident_key, self.change.episode, self.change.at)


@attrs.frozen(kw_only=True)
class NoticeRecord:
    """A notice's row in the outbox."""

    id: int
    kind: NoticeKind
    incident_key: str
    episode: int
    level: int
    target: str
    dedup_key: str
    at: datetime
    actor: str | None
    first_seen: datetime | None
    state: NoticeState
    created_at: datetime
    due_at: datetime
    """Pending: when it may be sent. Leased: when its lease ends. Settled: when it was settled."""
    fence: int = 0
    """Grows with each claim and each settlement. A sender with an old fence has lost the notice."""
    attempts: int = 0
    reason: str | None = None
    bundle: str | None = None
    """The key of the bundle in which it was last sent; None if it went alone."""
    for_threads: bool = False
    """Whether the target gets it only if it has threads. The worker that made the notice may not know."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "NoticeRecord":
        """Return the notice in a store's row: the values in the order of the fields."""
        number, kind, key, episode, level, target, dedup_key, at, actor, first_seen, state, *rest = row
        created_at, due_at, fence, attempts, reason, bundle, for_threads = rest
        return cls(
            id=number,
            kind=NoticeKind(kind),
            incident_key=key,
            episode=episode,
            level=level,
            target=target,
            dedup_key=dedup_key,
            at=instant(at),
            actor=actor,
            first_seen=None if first_seen is None else instant(first_seen),
            state=NoticeState(state),
            created_at=instant(created_at),
            due_at=instant(due_at),
            fence=fence,
            attempts=attempts,
            reason=reason,
            bundle=bundle,
            for_threads=bool(for_threads),
        )


@attrs.frozen
class ClaimedNotice:
    """A notice, locked until the transaction ends, and its incident as the row is now."""

    notice: NoticeRecord
    incident: Incident | None
    """None if the row was deleted or is unreadable."""
    followed: bool = False
    """Whether there is a newer notice to the same target about the same episode."""
