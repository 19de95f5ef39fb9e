"""MemoryStore: the reference. It keeps nothing on disk, and is exact about everything else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import attrs

from ...model import Canary, NextDue
from ...ports import Transaction
from ..clock import Clock, system_clock
from ..host import BLANK, Row, host_insert, host_update
from .incidents import Incidents
from .journal import Journal
from .ledger import Ledger
from .operations import Operations, SeenRequests
from .outbox import Outbox
from .state import State, Undo, seen, write_row

Result = TypeVar("Result")


class MemoryStore(State):
    """A store in this process's memory, for tests, replays and demonstrations.

    Its transactions are atomic because their steps never wait: no other task runs between two of them. ``clock``
    defaults to the system's. ``host`` writes as a host does that has SQL of its own.
    """

    def __init__(self, clock: Clock = system_clock) -> None:
        super().__init__(clock)
        self.host = MemoryHost(self)

    async def check(self) -> None:
        """Do nothing: there is no schema to be of another version."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``; take everything back if it raises."""
        undo = Undo()
        try:
            return await work(_Transaction(self, undo))
        except BaseException:
            undo.roll_back()
            raise

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, and take back whatever it wrote: a reader leaves no trace."""
        undo = Undo()
        try:
            return await work(_Transaction(self, undo))
        finally:
            undo.roll_back()

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        """Return what is next."""
        tx = _Transaction(self, Undo())
        now = await tx.now()
        return NextDue(
            at=now,
            pauses=await tx.operations.pauses(now),
            due_at=None if canary is None else tx.incidents.earliest(canary),
            page_due_at=tx.outbox.earliest(targets),
        )

    async def aclose(self) -> None:
        """Do nothing: what is in memory goes with the process."""


@attrs.frozen
class MemoryHost:
    """A host's own writes to a MemoryStore: the ``HostTable`` of the conformance checks."""

    store: MemoryStore

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """Insert a row, as a host's SQL and the trigger would."""
        highest = self.store.episodes.get(incident_key, 0)
        row = host_insert(incident_key, columns, highest_episode=highest, now=self.store.clock())
        write_row(self.store, Undo(), row)
        seen(self.store, Undo(), incident_key)

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        """Update a row, as a host's SQL and the trigger would."""
        before, now = self.store.rows[incident_key], self.store.clock()
        highest = self.store.episodes.get(columns.get("incident_key", incident_key), 0)
        done = host_update(before, columns, highest_episode=highest, now=now)
        if done.row["incident_key"] != incident_key:
            await self.delete(incident_key)
        write_row(self.store, Undo(), done.row)
        seen(self.store, Undo(), done.row["incident_key"])
        if done.cancel is not None:
            await Outbox(self.store, Undo()).cancel(incident_key, done.cancel, now)
        await Journal(self.store, Undo()).note(done.notes)

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """Write a row as no trigger sees it."""
        before = self.store.rows.get(incident_key)
        new = {"incident_key": incident_key, "first_seen": self.store.clock(), **BLANK}
        write_row(self.store, Undo(), (before or new) | columns)

    async def delete(self, incident_key: str) -> None:
        """Delete a row."""
        self.store.rows.pop(incident_key, None)
        self.store.due.pop(incident_key, None)

    async def rows(self) -> Mapping[str, Row]:
        """Return every row as it stands."""
        return {key: dict(row) for key, row in self.store.rows.items()}


class _Transaction:
    """One transaction: the six ports on one undo log."""

    def __init__(self, store: MemoryStore, undo: Undo) -> None:
        self._clock = store.clock
        self._undo = undo
        self.incidents = Incidents(store, undo)
        self.ledger = Ledger(store, undo)
        self.outbox = Outbox(store, undo)
        self.journal = Journal(store, undo)
        self.operations = Operations(store, undo)
        self.requests = SeenRequests(store, undo)

    async def now(self) -> datetime:
        return self._clock()

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        mark = self._undo.mark
        try:
            return await work()
        except BaseException:
            self._undo.roll_back(mark)
            raise
