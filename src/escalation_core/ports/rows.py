"""Ports of a transaction for incidents, escalations and pages, which ticks and delivery passes use."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from ..model import (
    AuditRange,
    Canary,
    Candidate,
    ClaimedPage,
    Deferral,
    DueTarget,
    Escalation,
    Incident,
    LatestEscalation,
    NewPage,
    OpenRows,
    Pace,
    PageRecord,
    PageState,
    Unseen,
)


class Incidents(Protocol):
    """The rows of the host's incidents. A lock lasts until the transaction ends."""

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        """Return one incident; None if the key has no row. With ``lock``, lock its row.

        Raises ``InvalidValue`` for an unreadable row.
        """

    async def insert(self, incident: Incident) -> bool:
        """Insert a new row with all columns. Return False if the key has a row already."""

    async def save(self, incident: Incident) -> None:
        """Write all columns of a row that this transaction has loaded."""

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        """Lock and return rows with ``next_due_at`` at or before ``until``, oldest first.

        The store leaves out rows that another transaction has locked, rows outside the canary, and rows that are passed
        over at the store's own instant. It cuts texts to ``MAX_SUMMARY_CHARS`` and ``MAX_NAME_CHARS``, and leaves out
        labels longer than ``MAX_LABELS_BYTES`` (``labels_left_out``). If the labels of all rows take more than
        ``MAX_CLAIM_LABELS_BYTES``, it returns fewer rows and sets ``more`` in the last one.
        """

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        """Return without a lock the rows that ``claim`` would, by (next_due_at, incident_key), beyond ``after``."""

    async def advance(self, incidents: Sequence[Incident]) -> None:
        """Write level, last_escalated_at and next_due_at of locked rows in bulk, and delete their deferrals."""

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Set next_due_at of locked rows to ``until`` of their deferral, and save its fault and attempts."""

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return the current next_due_at of each row, as this transaction sees it. Unknown keys are left out."""

    async def left_alone(self, keys: Sequence[str]) -> Mapping[str, Deferral]:
        """Return the deferral of each of these rows that is deferred or passed over."""

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Save the deferrals of rows that the database refuses to write. Do not write the rows themselves.

        Until ``until`` of its deferral, by the store's own instant, ``claim``, ``peek`` and ``next_due`` leave such a
        row out, and ``stats`` counts it as unreadable only. A host's write to the row ends this.
        """

    async def end_passing(self, beyond: datetime) -> None:
        """Stop passing over the rows that would be passed over until after ``beyond``."""

    async def scan_unresolved(
        self, after: str | None, limit: int, *, wait: bool = True, labels: bool = False
    ) -> OpenRows:
        """Lock and return rows that are not resolved, after the key ``after``, in the store's own order.

        Without ``labels`` the incidents have none, which saves the reading of them. With ``labels`` the batch may be
        smaller, as that of ``claim``. With ``wait``, wait for rows that other transactions have locked. Otherwise leave
        them out and set ``skipped``.
        """

    async def list_open(
        self, *, after: tuple[datetime | None, str] | None, limit: int, until: datetime | None = None
    ) -> Sequence[Candidate]:
        """Return open rows without a lock, by (next_due_at, incident_key), beyond ``after``.

        Rows without next_due_at come last, in the store's own order of keys, as in ``unseen``. With ``until``, only
        rows due at or before it are returned. Rows that are deferred, passed over or outside the canary are returned,
        too. The store cuts texts and leaves out long labels as in ``claim``.
        """

    async def unseen(self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True) -> Unseen:
        """Check ``limit`` open rows without next_due_at, after the key ``after``; return those that were never planned.

        The store leaves out rows first seen before ``held_before``, rows that are passed over, and rows that the audit
        notes as exhausted at their level, unless it also notes their episode as resolved. With ``lock`` it locks the
        returned rows, and leaves out rows that other transactions have locked.
        """

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        """Set next_due_at of locked rows to ``NEEDS_REPLAN``, as the trigger does for a host's insert.

        If the audit notes the row's episode as resolved, the host reopened it: begin a new episode at level 0. If the
        ledger has a later episode of the key, or a higher level of the row's episode, the row belongs to an episode
        that the ledger does not have: begin a new episode and keep the level. A new episode is one above the row's own
        and all recorded ones (ADR 0031).
        """


@runtime_checkable
class SpellsKeys(Protocol):
    """Incidents whose keys have several spellings, for example uuids. A store need not have this."""

    def canonical_key(self, incident_key: str) -> str:
        """Return the spelling that all records have. A text that is not a valid key comes back unchanged."""


class Ledger(Protocol):
    """The escalations. The ledger has each (incident_key, episode, level) once."""

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        """Insert in bulk the escalations whose ``unique_hash`` and (incident_key, episode, level) are both new.

        Return for each escalation whether it was new. Of two equal ones in one call, the first is new.
        """

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        """Return the highest recorded level of each (incident_key, episode). Episodes without a record are left out."""

    async def highest_episode(self, incident_key: str) -> int:
        """Return the highest recorded episode of a key; 0 if no episode is recorded."""

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return the escalations of this range with their ids, newest first, then by id."""

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations with ids above ``after``, sorted by id."""


class Outbox(Protocol):
    """The pages: one row for each target of each escalation."""

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        """Insert pages in bulk: pending, or dead if they have an ``undeliverable_reason``.

        ``hand_over_at`` is ``now`` plus ``hand_over_after``.
        If a page with the same (incident_key, episode, level, target) exists, it stays unchanged.
        """

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        """Cancel the pending pages of a key, and set its leased pages to cancelling; return how many pages changed.

        A cancelling page may finish, but is not tried again.
        """

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        """Lock and return unsettled pages that are due at or before ``until``, worst first: by ``claim_order``.

        ``capacity`` is the maximum number of pages for each target. Leave out other targets, and targets that are
        throttled until after ``now``.
        """

    async def claim_late(self, targets: Sequence[str], *, now: datetime, limit: int) -> Sequence[ClaimedPage]:
        """Lock and return pending pages to these targets with ``hand_over_at`` at or before ``now``, oldest first.

        As in ``claim``, each has the level of the page that takes its place, if there is one.
        """

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Return the targets that have unsettled pages, each with its row, without a lock."""

    async def find_unheard(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        """Return (incident_key, episode, level) of open incidents that became unheard.

        Their present episode has a dead page, and a page of its level died or was handed over at or after ``since``.
        The episode has no page of a higher level, and of this level none that is unsettled or delivered. The audit
        does not note it as unheard yet.
        """

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        """Lock and return the rows of these targets, and make those that are missing. The targets are sorted.

        Leave out those that other transactions have locked, and do not wait for them.
        """

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        """Write ``free_at``, ``rate`` and ``refused`` of targets that this transaction has locked."""

    async def count_waiting(self, limits: Mapping[str, int], *, until: datetime) -> Mapping[str, int]:
        """Return how many pages of each target could be bundled: pending, due, without an attempt and without a bundle.

        ``limits`` is the number up to which they are counted for each target.
        """

    async def lock_bundle(self, bundle: str) -> tuple[Sequence[ClaimedPage], bool]:
        """Lock and return the unsettled pages of a bundle, by ``bundle_order``, and whether these are all.

        Each has its ``newer``, as in a claim. Leave out pages that other transactions have locked: then these are not
        all.
        """

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        """Lock and return these pages without waiting. Leave out pages that are deleted or locked elsewhere."""

    async def write(self, pages: Sequence[PageRecord]) -> None:
        """Write state, due_at, fence, attempts, tried_for, reason, hand_over_at and bundle of locked pages, in bulk."""

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        """Write pages if the stored fence is one less than the new fence; return the ids written.

        ``hand_over_at`` and ``bundle`` stay. The caller need not lock the pages. Do not wait: leave out pages that
        other transactions have locked, because a host's transaction may lock them for a long time.
        """

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        """Return the fence of each page, without a lock. Unknown ids are left out."""

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        """Move unsettled pages to these targets (None for all) that are due after ``beyond``; return how many moved.

        A pending page becomes due ``now``. A leased or cancelling page becomes due at ``lease_ends``, if that is
        earlier. A throttle that lasts until after ``beyond`` ends ``now``, for any target, even one not in ``targets``.
        If ``step`` is above 0, the clock stepped back by it. Then the same pages and throttles move if they are due
        after ``now``. There is one exception: a pending page that was tried before, and a throttle, move back by
        ``step``, to ``now`` at the earliest, if they are due at or before ``beyond``. Every ``hand_over_at`` of a
        pending page moves back by ``step``, too.
        """

    async def throttle_target(self, target: str, until: datetime) -> bool:
        """Let no worker claim a page for this target before ``until``, and set ``refused`` of its row.

        If a later instant is set already, it stays. If another transaction has locked the row, return False, and do not
        wait: a worker that stands still in its claim would delay the pages to all targets.
        """

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        """Return the pages that were settled in this range, newest first, then by id."""

    async def pages(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: PageState | None = None,
        target: str | None = None,
    ) -> Sequence[PageRecord]:
        """Return pages with ids above ``after``, sorted by id: of one key, one state, one target, if given."""

    async def pages_of_bundle(self, prefix: str) -> Sequence[PageRecord]:
        """Return all pages of the bundles whose key begins with these hex digits, sorted by id."""

    async def pages_of(self, episodes: Sequence[tuple[str, int]]) -> Sequence[PageRecord]:
        """Return all pages of each (incident_key, episode), sorted by id."""
