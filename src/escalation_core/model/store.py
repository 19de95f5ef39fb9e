"""Records that stores return besides incidents and pages: candidates, counts, heartbeats, recalculation state."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from ..errors import InvalidValue
from .incident import Incident
from .page import PageRecord, PageState
from .pause import Pause
from .target import DueTarget


@attrs.frozen(kw_only=True)
class Candidate:
    """A row that a store returns: its incident, or the fault that makes it unreadable (poison)."""

    incident_key: str
    incident: Incident | None
    due_at: datetime | None = None
    """The row's next_due_at."""
    fault: str | None = None
    attempts: int = 0
    """How often the row was deferred since it was last readable. If above 0, the engine checks first_seen again."""
    again: bool = False
    """This engine overwrote next_due_at in this tick or the last one, and the row has the old value again."""
    labels_left_out: bool = False
    """The labels are longer than MAX_LABELS_BYTES; ``incident`` has no labels."""
    more: bool = False
    """The claim left out the rows after this one, because the labels took more than MAX_CLAIM_LABELS_BYTES."""


@attrs.frozen(kw_only=True)
class Deferral:
    """A row that cannot be read, planned or written. No claim returns it before ``until``."""

    incident_key: str
    fault: str
    attempts: int
    """How often the row was deferred, including this time."""
    until: datetime

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "Deferral":
        """Return the deferral in a store's row: incident_key, attempts, fault, until."""
        key, attempts, fault, until = row
        return cls(incident_key=key, attempts=attempts, fault=fault, until=instant(until))


@attrs.frozen
class OpenRows:
    """A batch of open rows, sorted by key, and the place where the next batch begins."""

    rows: Sequence[Candidate]
    last: str | None
    """The last key of the batch, in the store's own order; None at the end."""
    skipped: bool = False
    """Whether the store left out rows that other transactions have locked."""


@attrs.frozen
class Unseen:
    """Open rows without next_due_at that no engine planned: the host wrote them while its triggers were off."""

    keys: Sequence[str]
    last: str | None
    """The last key that the store checked, in its own order; None at the end."""


@attrs.frozen
class LatestEscalation:
    """The highest recorded level of an episode, and when it was recorded."""

    level: int
    created_at: datetime


@attrs.frozen(kw_only=True)
class ClaimedPage:
    """A page, locked until the transaction ends, and its incident as the row is now."""

    page: PageRecord
    incident: Incident | None
    """None if the row was deleted or is unreadable."""
    fault: str | None = None
    """Why the incident is unreadable."""
    newer: int | None = None
    """The highest level above the page's own that has a page of this episode to the same target, which is pending,
    leased or delivered. Only a claim and a lock of a bundle look for it."""

    @classmethod
    def from_row(
        cls,
        row: Sequence[Any],
        instant: Callable[[Any], datetime],
        read_incident: Callable[[Sequence[Any]], Incident],
    ) -> "ClaimedPage":
        """Return the page in a store's row.

        The row has the page, ``newer``, whether the incident's row exists, and the incident's row.
        """
        page, newer, standing, incident = PageRecord.from_row(row[:18], instant), row[18], row[19], row[20:]
        if not standing:
            return cls(page=page, incident=None, newer=newer)
        try:
            return cls(page=page, incident=read_incident(incident), newer=newer)
        except InvalidValue as fault:
            return cls(page=page, incident=None, fault=str(fault), newer=newer)


@attrs.frozen(kw_only=True)
class NextDue:
    """The next due instants and the pauses that have not ended, read in one round trip."""

    at: datetime
    """The store's own instant."""
    pauses: Sequence[Pause]
    """Rows of ``Pause`` that have not ended, in the order in which operators set them."""
    due_at: datetime | None
    """The earliest next_due_at among the rows that may be claimed. ``NEEDS_REPLAN`` is earlier than any other."""
    targets: Mapping[str, DueTarget] = attrs.field(factory=dict)
    """The targets that have unsettled pages, if they were asked for."""
    notices: Mapping[str, DueTarget] = attrs.field(factory=dict)
    """The targets that have unsettled notices, if targets were asked for."""
    changes: bool = False
    """Whether there are changes of which notices are to be made."""


@attrs.frozen(kw_only=True)
class WorkerHeartbeat:
    """The heartbeats of all workers, combined."""

    since: datetime
    """When the store was set up. Before the first tick, the lag counts from this instant."""
    last: datetime | None = None
    """When any worker last completed a tick."""
    workers: int = 0
    """How many workers completed a tick within the last day."""


@attrs.frozen(kw_only=True)
class RecalcState:
    """The progress of the recalculation of next_due_at."""

    requested_at: datetime | None = None
    """None if no recalculation is running."""
    cursor: str | None = None
    """The last key that the recalculation visited."""
    visited: int = 0
    finished_at: datetime | None = None
    fingerprint: str | None = None
    """The fingerprint of the policy that the last recalculation, or the first tick, used."""
    due_only: bool = False
    """The recalculation skips rows without next_due_at: an engine requested it after a clock step, not an operator."""
    ahead: datetime | None = None
    """The instant of the store's clock before it stepped back; None if it did not.

    A first_seen between now and this instant becomes now: the incident came in before the step.
    """
    skipped: bool = False
    """A batch left out rows that other transactions had locked. After the last batch the recalculation starts over."""
    held_before: datetime | None = None
    """Open rows first seen before this, without next_due_at, are not planned until an operator requests a recalc.

    They were in the table when it was attached.
    """

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "RecalcState":
        """Return the state in a store's row: the values in the order of the fields."""
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
    """Counts for health."""

    overdue: int = 0
    """Due rows, except rows outside the canary, rows that need a replan and unreadable rows."""
    oldest_due: datetime | None = None
    """The earliest next_due_at of the overdue rows."""
    marked: int = 0
    """Rows that need a replan: the host wrote them, and no tick has planned them since."""
    outside_canary: int = 0
    """Due rows outside the canary, except rows that need a replan."""
    exhausted: int = 0
    """Open incidents whose walk through their policy is over."""
    backlog: Mapping[str, int] = attrs.field(factory=dict)
    """Unsettled pages, by target."""
    oldest_page: datetime | None = None
    """When the oldest unsettled page was inserted."""
    dead: int = 0
    unheard: int = 0
    """Open incidents that the audit notes as unheard, and of which no page has arrived since."""
    unreadable: int = 0
    """Open rows that cannot be read, planned or written; they are deferred or passed over."""
    unreadable_examples: Sequence[tuple[str, str]] = ()
    """At most 20 of the unreadable rows: incident key and fault."""
    unseen: int = 0
    """Open rows that no engine ever planned, in the batch that was checked. See ``Unseen``."""
    faults: Sequence[str] = ()
    """Faults of the installation, each with its remedy: for example a disabled trigger or a changed column."""
    schema_version: str = ""


@attrs.frozen(kw_only=True)
class Integrity:
    """Counts of all recorded escalations and pages. They prove that each escalation is recorded and paged once."""

    escalations: int
    duplicates: int
    """Escalations of one (incident_key, episode, level) beyond the first. The promise demands 0."""
    without_page: int
    """Escalations without any page. The promise demands 0."""
    adopted: int = 0
    """Escalations without a page that another program recorded before the engine was attached. They may or may not
    have been paged.
    """
    without_escalation: int
    """Pages whose escalation is not recorded. The promise demands 0."""
    copies: int = 0
    """Pages of one escalation to one target beyond the first. The promise demands 0."""
    pages: Mapping[str, int]
    """The number of pages by state. A state outside ``PageState`` breaks the promise."""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept for all recorded escalations and pages."""
        broken = self.duplicates or self.without_page or self.without_escalation or self.copies
        return not broken and set(self.pages) <= {state.value for state in PageState}


@attrs.frozen(kw_only=True)
class OldRow:
    """An old escalation or note, with the values that decide whether it may be deleted."""

    id: int
    incident_key: str | None
    """None for a note about no incident."""
    episode: int | None
    is_open: bool = False
    """Whether the incident's row is open."""
    current_episode: int | None = None
    """The episode of the incident's row; None if there is no row."""
    highest_episode: int = 0
    """The highest recorded episode of the key."""
    unsettled: bool = False
    """Whether any page of the escalation is unsettled."""
    settled_at: datetime | None = None
    """When the last page of the escalation was settled; None if it has no pages."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "OldRow":
        """Return the record in a store's row: the values in the order of the fields."""
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
