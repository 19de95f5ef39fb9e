"""The ports of a transaction for what is kept beside them: notes, heartbeats, pauses, request ids."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

from ..model import (
    AuditEntry,
    AuditRange,
    AuditSource,
    Canary,
    Integrity,
    OldRow,
    Pause,
    RecalcState,
    Stats,
    WorkerHeartbeat,
)


class Journal(Protocol):
    """What people and engines did, and how the engines fare."""

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        """Keep entries. An ``exhausted`` mark is kept once per (incident_key, episode, level)."""

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Return notes of this range with their ids, newest first, at one instant by id."""

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        """Note that this worker completed a tick just now, by the store's clock and not by the transaction's instant.

        Return that instant, and the latest heartbeat that was there, of any worker. Workers that have been silent for a
        day are forgotten, and heartbeats that lie ahead of the clock by more than ``tolerance``.
        """

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        """Return when any worker last completed a tick, since when one could, and how many did within a day."""

    async def stats(self, *, now: datetime, canary: Canary, max_level: int, detail: bool = False) -> Stats:
        """Return the counts for health. Ended rows do not count; deferred rows count as unreadable, and not as overdue.

        ``outside_canary`` is counted only with ``detail``, since that looks at every due row. ``unseen`` is not
        counted here.
        """

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        """Return how far the recalculation is, locked until the transaction ends if ``lock``."""

    async def recalc_unless_locked(self) -> RecalcState | None:
        """Return the same, locked; None if another transaction holds it."""

    async def save_recalc(self, state: RecalcState) -> None:
        """Write how far the recalculation is."""


class Operations(Protocol):
    """What operators set at run time, what is old, and whether the promise holds."""

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Return the rows that have not ended at ``now``, in the order in which they were set."""

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""

    async def end_pauses(self, now: datetime) -> int:
        """End, at ``now``, every pause that has not ended; what lifts the schedule stays. Return how many."""

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Let pauses that begin after ``now`` begin and end that much earlier, and begin ``now`` at the latest.

        A pause begins when it is set: one that lies ahead was set before the clock stepped back.
        """

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Return escalations or notes with ids above ``after`` that are older than ``before``, by their ids.

        ``source`` is never PAGE: pages go with their escalation. The pages of escalations are locked, so that none is
        queued again before the transaction ends.
        """

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        """Delete escalations, each with its pages, or notes; return how many rows, and how many pages with them."""

    async def delete_pauses(self, *, before: datetime) -> int:
        """Delete pauses that ended before then; return how many."""

    async def integrity(self) -> Integrity:
        """Count what is recorded."""


class SeenRequests(Protocol):
    """The ids of signed requests: the operators' endpoints claim them, a prune deletes those that have expired."""

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Keep a request's id until it expires, and delete some of those that have; return whether it was new."""

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete the ids that have expired; return how many.

        A store that limits rates deletes the rows of idle keys as well.
        """
