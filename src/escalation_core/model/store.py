"""What a store returns and keeps besides incidents and pages: candidates, counts, heartbeats, the recalculation."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import InvalidValue
from .incident import Incident
from .page import PageRecord, PageState
from .pause import Pause


@attrs.frozen(kw_only=True)
class Candidate:
    """A row that a store found: the incident, or the fault that keeps it from being read (poison)."""

    incident_key: str
    incident: Incident | None
    due_at: datetime | None = None
    """The row's next_due_at as it stands."""
    fault: str | None = None
    attempts: int = 0
    """How often it was deferred since it could last be read: if ever, it is held against the birth limits again."""
    again: bool = False
    """An engine overwrote its instant a moment ago, and it has the same one again."""
    labels_left_out: bool = False
    """Its labels are longer than MAX_LABELS_BYTES: the incident comes without any."""
    more: bool = False
    """There are more rows behind it, which were left out because of the length of their labels."""


@attrs.frozen(kw_only=True)
class Deferral:
    """A row that cannot be read, planned or written. Nothing looks at it before ``until``."""

    incident_key: str
    fault: str
    attempts: int
    """How often it was deferred, this time included."""
    until: datetime


@attrs.frozen
class OpenRows:
    """A batch of open rows, by key, and where the next one begins."""

    rows: Sequence[Candidate]
    last: str | None
    """The last key that was looked at, in the store's own order; None at the end."""
    skipped: bool = False
    """Whether rows were left out because others hold them."""


@attrs.frozen
class Unseen:
    """Open rows that have no instant though no engine planned them: written while the host's triggers were off."""

    keys: Sequence[str]
    last: str | None
    """The last key that was looked at, in the store's own order; None at the end."""


@attrs.frozen
class LatestEscalation:
    """What the ledger knows of an episode: its highest level, and when that was recorded."""

    level: int
    created_at: datetime


@attrs.frozen(kw_only=True)
class ClaimedPage:
    """A page that is locked until the transaction ends, and its incident as it stands."""

    page: PageRecord
    incident: Incident | None
    """None if the row is gone, or cannot be read."""
    fault: str | None = None
    """Why the incident cannot be read."""

    @classmethod
    def from_row(
        cls,
        row: Sequence[Any],
        instant: Callable[[Any], datetime],
        read_incident: Callable[[Sequence[Any]], Incident],
    ) -> "ClaimedPage":
        """Return what a store's row says: the page, whether its incident's row is there, and that row."""
        page, standing, incident = PageRecord.from_row(row[:13], instant), row[13], row[14:]
        if not standing:
            return cls(page=page, incident=None)
        try:
            return cls(page=page, incident=read_incident(incident))
        except InvalidValue as fault:
            return cls(page=page, incident=None, fault=str(fault))


@attrs.frozen(kw_only=True)
class NextDue:
    """What a store is seen to have in store, at one glance."""

    at: datetime
    """The store's own instant."""
    pauses: Sequence[Pause]
    """Operators' pauses that have not ended, in the order in which they were set."""
    due_at: datetime | None
    """The least next_due_at among the rows that may be claimed; a mark counts as the least of all."""
    page_due_at: datetime | None
    """When the next unsettled page may be claimed, to one of the targets that were asked for."""


@attrs.frozen(kw_only=True)
class WorkerHeartbeat:
    """The heartbeat of all workers together."""

    since: datetime
    """When the store was made ready: before the first tick, the lag counts from here."""
    last: datetime | None = None
    """When any worker last completed a tick."""
    workers: int = 0
    """How many workers completed one within the last day."""


@attrs.frozen(kw_only=True)
class RecalcState:
    """How far the recalculation of next_due_at is."""

    requested_at: datetime | None = None
    """None when none is under way."""
    cursor: str | None = None
    """The last key that was visited."""
    visited: int = 0
    finished_at: datetime | None = None
    fingerprint: str | None = None
    """The policy that the last one, or the first tick, was made with."""
    due_only: bool = False
    """Rows without an instant are left alone: an engine asked for it, after the clock stepped back, and no operator."""
    ahead: datetime | None = None
    """How far the store's clock had been before it stepped back; None if it did not.

    A first_seen up to then that lies ahead of the clock is brought to now: the incident came in meanwhile.
    """
    skipped: bool = False
    """Rows were left out because others held them: after a step of the clock it goes round again for them."""
    held_before: datetime | None = None
    """Open rows first seen before this were left alone when the table was attached, until an operator's recalc."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "RecalcState":
        """Return the state of a store's row: values in the order of the fields."""
        requested_at, cursor, visited, finished_at, fingerprint, due_only, ahead, skipped, held_before = row
        return cls(
            requested_at=None if requested_at is None else instant(requested_at),
            cursor=cursor,
            visited=visited,
            finished_at=None if finished_at is None else instant(finished_at),
            fingerprint=fingerprint,
            due_only=bool(due_only),
            ahead=None if ahead is None else instant(ahead),
            skipped=bool(skipped),
            held_before=None if held_before is None else instant(held_before),
        )


@attrs.frozen(kw_only=True)
class Stats:
    """Counts that are taken for health."""

    overdue: int = 0
    """Rows whose instant has come, canary outsiders and marked rows left out."""
    oldest_due: datetime | None = None
    """The least instant among them."""
    marked: int = 0
    """Rows that a host wrote and that were not looked at again yet."""
    outside_canary: int = 0
    """Overdue rows outside the canary."""
    exhausted: int = 0
    """Open incidents at the maximum level."""
    backlog: Mapping[str, int] = attrs.field(factory=dict)
    """Unsettled pages, by target."""
    oldest_page: datetime | None = None
    """When the oldest unsettled page was recorded."""
    dead: int = 0
    unreadable: int = 0
    """Rows that cannot be read, planned or written, and are left alone for a while."""
    unreadable_examples: Sequence[tuple[str, str]] = ()
    """At most 20 of them: incident key and fault."""
    unseen: int = 0
    """Open rows that no engine ever planned, among those looked at: written while the host's triggers were off."""
    faults: Sequence[str] = ()
    """What is wrong with the installation: a trigger that is off, a column that was changed. Each with its remedy."""
    schema_version: str = ""


@attrs.frozen(kw_only=True)
class Integrity:
    """What is recorded, counted so that the promise shows."""

    escalations: int
    duplicates: int
    """Escalations of one (incident_key, episode, level) beyond the first: 0, or the promise is broken."""
    without_page: int
    """Escalations that have no page at all: 0, or the promise is broken."""
    adopted: int = 0
    """Escalations without a page that were there before the engine: another program recorded them, and paged or not."""
    without_escalation: int
    """Pages whose escalation is not recorded: 0, or the promise is broken."""
    copies: int = 0
    """Pages of one escalation to one target beyond the first: 0, or the promise is broken."""
    pages: Mapping[str, int]
    """Pages by state: pending, leased and cancelling ones are to be settled yet; an unknown one breaks the promise."""

    @property
    def holds(self) -> bool:
        """Whether the promise holds for all that is recorded."""
        broken = self.duplicates or self.without_page or self.without_escalation or self.copies
        return not broken and set(self.pages) <= {state.value for state in PageState}


@attrs.frozen(kw_only=True)
class OldRow:
    """An escalation or a note that is old, and what decides whether it may be deleted."""

    id: int
    incident_key: str | None
    """None for a note about no incident."""
    episode: int | None
    is_open: bool = False
    """Whether the row of its incident is open."""
    current_episode: int | None = None
    """The episode of that row, None if there is none."""
    highest_episode: int = 0
    """The highest recorded episode of its key."""
    unsettled: bool = False
    """Whether any of its pages is unsettled."""
    settled_at: datetime | None = None
    """When the last of its pages was settled."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "OldRow":
        """Return what a store's row says: values in the order of the fields."""
        number, key, episode, is_open, current, highest, unsettled, settled_at = row
        return cls(
            id=number,
            incident_key=key,
            episode=episode,
            is_open=bool(is_open),
            current_episode=current,
            highest_episode=highest,
            unsettled=bool(unsettled),
            settled_at=None if settled_at is None else instant(settled_at),
        )
