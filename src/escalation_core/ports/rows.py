"""The ports of a transaction that a tick and a delivery pass use: incidents, escalations, pages."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Protocol

from ..model import (
    AuditRange,
    Canary,
    Candidate,
    ClaimedPage,
    Deferral,
    Escalation,
    Incident,
    LatestEscalation,
    NewPage,
    OpenRows,
    PageRecord,
    PageState,
    Unseen,
)


class Incidents(Protocol):
    """The rows of the host's incidents."""

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        """Return one incident, locked until the transaction ends if ``lock``; None if there is none.

        Raises ``InvalidValue`` for a row that cannot be read.
        """

    async def insert(self, incident: Incident) -> bool:
        """Insert a new row whole. Return False if another transaction was faster."""

    async def save(self, incident: Incident) -> None:
        """Write every column of a row that was loaded before."""

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        """Return rows with ``next_due_at`` at or before ``until``, oldest first, and lock them until the end.

        Rows that another transaction locks are left out, and so are those outside the canary and those that are passed
        over by the store's own instant. Of each text comes so much as a page carries (``MAX_SUMMARY_CHARS``,
        ``MAX_NAME_CHARS``); labels beyond ``MAX_LABELS_BYTES`` are left out (``labels_left_out``). Where the labels of
        all take more than ``MAX_CLAIM_LABELS_BYTES`` fewer rows come, and the last one says ``more``.
        """

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        """Return what ``claim`` would, without any lock, in order of (next_due_at, incident_key), beyond ``after``."""

    async def advance(self, incidents: Sequence[Incident]) -> None:
        """Write level, last_escalated_at and next_due_at of locked rows, in bulk; they are readable again."""

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Move next_due_at of locked rows to their ``until``, and keep each one's fault and attempts."""

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return the next_due_at that rows hold now, as this transaction sees them."""

    async def left_alone(self, incident_key: str) -> Deferral | None:
        """Return why a row was deferred or is passed over, and until when; None if it is not."""

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Keep fault and attempts of rows that the database refuses to write, and leave the rows themselves alone.

        Until their ``until``, by the store's own instant, no claim, peek or ``next_due`` finds them, and no count but
        that of unreadable rows. What a host writes to such a row ends that.
        """

    async def end_passing(self, beyond: datetime) -> None:
        """Let rows that are passed over for longer than until ``beyond`` be found again."""

    async def scan_open(self, after: str | None, limit: int, *, wait: bool = True) -> OpenRows:
        """Return open rows beyond the key ``after``, in the store's own order, each locked.

        It waits for rows that others hold, or leaves them out and says so if not ``wait``.
        """

    async def unseen(self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True) -> Unseen:
        """Look at ``limit`` open rows without next_due_at, beyond the key ``after``; return those never planned.

        Left out are rows noted as exhausted at their level, unless their episode was noted as resolved since, rows
        first seen before ``held_before``, and rows that are passed over. With ``lock`` they are locked until the end,
        and those that others hold are left out.
        """

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        """Give locked rows the mark ``NEEDS_REPLAN``, as a host's insert has it.

        Where the ledger holds a later episode of a key, or a higher level of the same one, the row's episode becomes
        one above the highest: it tells of a life that the ledger has not seen. A row whose episode was noted as
        resolved was opened again: a new episode at level 0.
        """


class Ledger(Protocol):
    """The escalations: each (incident_key, episode, level) once, whatever happens."""

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        """Insert what is not there yet, in bulk: neither the same ``unique_hash`` nor the same step.

        Return for each one whether it was new; of two that are the same in one call the first one is.
        """

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        """Return the highest recorded level of each (incident_key, episode) that has one."""

    async def highest_episode(self, incident_key: str) -> int:
        """Return the highest recorded episode of a key, 0 if there is none."""

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations of this range with their ids, newest first, at one instant by id."""

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return recorded escalations with ids above ``after``, in the order of their ids."""


class Outbox(Protocol):
    """The pages."""

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        """Insert pages in bulk: pending, or dead if they have an ``undeliverable_reason``.

        A page that is there for the same (incident_key, episode, level, target) is left as it is.
        """

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        """Cancel a key's pending pages; mark its leased ones as cancelling: they may finish, but not be tried again.

        Return how many.
        """

    async def claim(self, capacity: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        """Return unsettled pages that are due at or before ``until``, and lock them.

        ``capacity`` says how many for each target. Other targets, and those throttled beyond ``now``, get none; oldest
        first.
        """

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        """Return these pages, locked, without waiting; those that are gone, or locked elsewhere, are left out."""

    async def write(self, pages: Sequence[PageRecord]) -> None:
        """Write state, due_at, fence, attempts, tried_for and reason of locked pages, in bulk."""

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        """Write pages as ``write`` does, but only those whose fence is still the one before theirs; return their ids.

        They need not be locked. Those that others hold are left out: a host's transaction may hold them for long.
        """

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        """Return the fence of each of these pages that is there, without a lock."""

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        """Bring forward unsettled pages to these targets, None for all, that are due after ``beyond``; return how many.

        A pending page is due ``now``. A page that a sender has is due when ``lease_ends``, if that is earlier. A
        throttle of any target, whichever targets are given, that lasts beyond ``beyond`` ends now.
        After a ``step`` back of the clock this is so for all that is due after ``now``, with two differences: a pending
        page that was tried before, and is due at or before ``beyond``, is due ``step`` earlier, and so is such a
        throttle's end; neither comes before ``now``.
        """

    async def throttle_target(self, target: str, until: datetime) -> None:
        """Let no worker claim a page for this target before ``until``; of two instants the later one counts."""

    async def settled(self, reach: AuditRange, *, limit: int, incident_key: str | None = None) -> Sequence[PageRecord]:
        """Return pages that were settled in this range, newest first, at one instant by id."""

    async def pages(
        self, *, after: int = 0, limit: int, incident_key: str | None = None, state: PageState | None = None
    ) -> Sequence[PageRecord]:
        """Return pages with ids above ``after``, in the order of their ids, of one key or one state if given."""
