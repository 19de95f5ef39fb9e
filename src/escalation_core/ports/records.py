"""Ports of a transaction for all other records: audit notes, heartbeats, recalculation, pauses, request ids."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Protocol

from ..model import (
    AuditEntry,
    AuditRange,
    AuditSource,
    Canary,
    Integrity,
    LastAttempts,
    OldRow,
    Pause,
    RecalcState,
    Stats,
    TargetRecord,
    WorkerHeartbeat,
)


class Journal(Protocol):
    """The audit notes, the workers' heartbeats, the counts and targets for health, and the recalculation's state."""

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        """Insert entries: those of ``NOTED_ONCE`` once per (incident_key, episode, level)."""

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Return the notes of this range with their ids, newest first, then by id."""

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        """Record that this worker completed a tick now, by the store's clock, not by the transaction's instant.

        Return that instant, and the latest heartbeat of any worker before this call. Delete heartbeats older than a
        day, and heartbeats that are ahead of the clock by more than ``tolerance``.
        """

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        """Return the last tick of any worker, when the store was set up, and how many workers ticked within a day."""

    async def stats(self, *, now: datetime, canary: Canary, detail: bool = False) -> Stats:
        """Return the counts for health. Ended rows do not count. Deferred rows count as unreadable, not as overdue.

        An open row is exhausted if it has no next_due_at and the audit notes it as exhausted at its episode and level.

        An open row is unheard if the audit notes it at its episode, and no page of the noted level or of a later one is
        delivered.

        The store counts ``outside_canary`` only with ``detail``, because that reads every due row. It does not count
        ``unseen``.
        """

    async def unheard(self, keys: Sequence[str] | None = None) -> AbstractSet[str]:
        """Return the keys that ``stats`` counts as unheard: all of them, or those among ``keys``."""

    async def record_attempts(self, latest: Sequence[LastAttempts], *, now: datetime, step: timedelta) -> None:
        """Keep the last attempts of these targets, in one statement: a later instant that is kept already stays.

        Make the rows of targets that have none. Leave rows as they are that another transaction has locked. If ``step``
        is above 0, the clock stepped back by it: first move every instant after ``now`` back by ``step``, and to
        ``now`` at the latest, for all targets.
        """

    async def targets(self) -> Sequence[TargetRecord]:
        """Return the targets that have a row or unsettled pages, sorted by name, without a lock."""

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        """Return the state of the recalculation. With ``lock``, lock it until the transaction ends."""

    async def recalc_unless_locked(self) -> RecalcState | None:
        """Lock and return the state of the recalculation; return None if another transaction has locked it."""

    async def save_recalc(self, state: RecalcState) -> None:
        """Write the state of the recalculation."""


class Operations(Protocol):
    """Operators' pauses, retention of old rows, and the integrity counts."""

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Return the rows that have not ended at ``now``, in the order in which operators set them."""

    async def add_pause(self, pause: Pause) -> None:
        """Insert a pause, or a row that lifts the schedule."""

    async def end_pauses(self, now: datetime) -> int:
        """End, at ``now``, every pause that has not ended, and return how many. Rows that lift the schedule stay."""

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Move pauses that begin after ``now`` back by ``step``: start and end, and the start to ``now`` at the latest.

        A pause begins when an operator sets it. If it begins after ``now``, the clock stepped back since.
        """

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Return escalations or notes with ids above ``after`` that are older than ``before``, sorted by id.

        ``source`` is never PAGE: pages are deleted with their escalation. The store locks the pages of the escalations,
        so that no dead page becomes pending again before the transaction ends.
        """

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        """Delete escalations with their pages, or notes. Return the number of rows and the number of pages."""

    async def delete_pauses(self, *, before: datetime) -> int:
        """Delete pauses that ended before ``before``; return how many."""

    async def integrity(self) -> Integrity:
        """Count all recorded escalations and pages."""


class SeenRequests(Protocol):
    """The ids of signed requests. The operators' endpoints claim an id once; a prune deletes the expired ids."""

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert a request's id unless it is there, delete some expired ids, and return whether the id was new."""

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete the expired ids; return how many.

        A store with rate limits also deletes the rate-limit rows of idle keys.
        """
