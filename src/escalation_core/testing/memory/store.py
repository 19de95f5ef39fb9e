"""MemoryStore, the reference implementation of a store. It writes nothing to disk."""

from collections.abc import Awaitable, Callable, Mapping
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
from .notices import Notices
from .operations import Operations, SeenRequests
from .outbox import Outbox
from .state import State, Undo, seen, write_row
from .walks import Walks

Result = TypeVar("Result")


class MemoryStore(State):
    """A store in the memory of this process, for tests, replays and demonstrations.

    Its transactions are atomic because their steps never wait: no other task runs between two steps. ``clock``
    defaults to the system's clock. ``host`` writes to the rows as a host's own SQL would.
    """

    def __init__(self, clock: Clock = system_clock) -> None:
        super().__init__(clock)
        self.host = MemoryHost(self)

    async def check(self) -> None:
        """Do nothing: this store has no schema, so no version can be wrong."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``; undo its writes if it raises."""
        undo = Undo()
        try:
            return await work(_Transaction(self, undo))
        except BaseException:
            undo.roll_back()
            raise

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, and undo its writes in any case."""
        undo = Undo()
        try:
            return await work(_Transaction(self, undo))
        finally:
            undo.roll_back()

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Return the next due instants and the pauses that have not ended."""
        tx = _Transaction(self, Undo())
        now = await tx.now()
        return NextDue(
            at=now,
            pauses=await tx.operations.pauses(now),
            due_at=None if canary is None else tx.incidents.earliest(canary),
            targets=tx.outbox.targets() if pages else {},
            notices=tx.notices.targets() if pages else {},
            changes=bool(self.changes),
        )

    async def aclose(self) -> None:
        """Do nothing: this store has no connection to close."""


@attrs.frozen
class MemoryHost:
    """A host's own writes to a MemoryStore: an implementation of ``HostTable``."""

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
        await Notices(self.store, Undo()).note(done.changes)

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """Write a row as a host does while the triggers are off."""
        before = self.store.rows.get(incident_key)
        new = {"incident_key": incident_key, "first_seen": self.store.clock(), **BLANK}
        write_row(self.store, Undo(), (before or new) | columns)

    async def delete(self, incident_key: str) -> None:
        """Delete a row."""
        self.store.rows.pop(incident_key, None)
        self.store.due.pop(incident_key, None)

    async def rows(self) -> Mapping[str, Row]:
        """Return a copy of every row, by key."""
        return {key: dict(row) for key, row in self.store.rows.items()}


class _Transaction:
    """A transaction: its ports share one undo log."""

    def __init__(self, store: MemoryStore, undo: Undo) -> None:
        self._clock = store.clock
        self._undo = undo
        self.incidents = Incidents(store, undo)
        self.ledger = Ledger(store, undo)
        self.outbox = Outbox(store, undo)
        self.journal = Journal(store, undo)
        self.operations = Operations(store, undo)
        self.requests = SeenRequests(store, undo)
        self.walks = Walks(store, undo)
        self.notices = Notices(store, undo)

    async def now(self) -> datetime:
        return self._clock()

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        mark = self._undo.mark
        try:
            return await work()
        except BaseException:
            self._undo.roll_back(mark)
            raise
