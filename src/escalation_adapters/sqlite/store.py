"""SQLiteStore: the embedded default. One file, with durable commits, that any number of processes may share."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from escalation_core import StoreNotReady
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction

from ..process_guard import ProcessGuard
from .file import File, begin_reading, begin_writing, connect
from .incidents import Incidents
from .journal import Journal
from .ledger import Ledger
from .notices import Notices
from .operations import Operations, SeenRequests
from .outbox import Outbox
from .session import Session
from .walks import Walks

if TYPE_CHECKING:
    from .host import SQLiteHost

Result = TypeVar("Result")


def system_clock() -> datetime:
    """Return the current instant of the operating system's clock."""
    return datetime.now(UTC)


class SQLiteStore:
    """A store in an SQLite file, in WAL mode with every commit synced (synchronous=FULL).

    The store creates the file when it is first used, unless ``create`` is False. ``clock`` defaults to the system's. A
    store belongs to the process and the event loop that use it first, until it is closed.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], datetime] | None = None, create: bool = True
    ) -> None:
        self.path = os.fspath(path)
        self._create = create
        self._guard = ProcessGuard("SQLiteStore")
        self._file = File(self.path)
        self.clock = clock or system_clock
        self._turn = asyncio.Lock()
        self._session: Session | None = None

    @classmethod
    async def connect(
        cls, path: str | os.PathLike[str], *, clock: Callable[[], datetime] | None = None, create: bool = True
    ) -> "SQLiteStore":
        """Open a file; create it if it is missing, unless ``create`` is False.

        Raises:
            StoreNotReady: the file is missing, is not a database of this library, or is of a newer version.
            StoreUnavailable: another process keeps the file locked, or the disk fails.
            StoreRefused: SQLite cannot open the file.
        """
        store = cls(path, clock=clock, create=create)
        await store.check()
        return store

    @property
    def host(self) -> "SQLiteHost":
        """The host's own access to the incidents table, for tests.

        :meta private:
        """
        # Imported here, because it needs the kit for tests.
        from .host import SQLiteHost  # noqa: PLC0415

        return SQLiteHost(self, self.clock)

    async def check(self) -> None:
        """Open the file if it is not open yet."""
        async with self._opened():
            pass

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction, while no other task or process writes the file."""
        async with self._opened() as session:
            await self._begin(session, begin_writing)
            try:
                result = await work(_Transaction(session))
                await session.run("COMMIT")
            except BaseException:
                await self._roll_back(session)
                raise
            return result

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` on one snapshot of the file, without the right to write."""
        async with self._opened() as session:
            await self._begin(session, begin_reading)
            try:
                return await work(_Transaction(session))
            finally:
                await self._roll_back(session)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Return the next due instants and active pauses."""

        async def work(tx: _Transaction) -> NextDue:
            now = await tx.now()
            return NextDue(
                at=now,
                pauses=await tx.operations.pauses(now),
                due_at=None if canary is None else await tx.incidents.earliest(canary),
                targets=await tx.outbox.due_targets() if pages else {},
                notices=await tx.notices.due_targets() if pages else {},
                changes=await tx.notices.has_changes(),
            )

        async with self._opened() as session:
            return await work(_Transaction(session))

    async def aclose(self) -> None:
        """Close the file. A second call does nothing. Nor does a call in a forked process: the parent owns the file."""
        if self._guard.elsewhere:
            return
        async with self._turn:
            session, self._session = self._session, None
            # An asyncio lock that tasks have waited for belongs to their event loop.
            self._guard, self._turn = ProcessGuard("SQLiteStore"), asyncio.Lock()
            if session is not None:
                await session.in_thread(lambda connection: connection.close())
                session.thread.shutdown()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Session]:
        """Wait until no other task uses the file, and open it if it is not open yet."""
        self._guard.check()
        async with self._turn:
            yield await self._open()

    async def _open(self) -> Session:
        if self._session is not None:
            self._file.check()
        else:
            thread = ThreadPoolExecutor(1, thread_name_prefix="escalation-sqlite")
            try:
                connection = await asyncio.get_running_loop().run_in_executor(thread, self._connect)
            except BaseException:
                thread.shutdown(wait=False)
                raise
            self._session = Session(connection, thread, self.clock)
        return self._session

    def _connect(self) -> sqlite3.Connection:
        if not self._create and not Path(self.path).exists():
            raise StoreNotReady(
                f"{self.path} is not there; check the path (escalation run, tick and open create the file)"
            )
        connection = connect(self.path, self.clock)
        self._file.know()
        return connection

    async def _begin(self, session: Session, begin: Callable[[sqlite3.Connection], None]) -> None:
        try:
            await session.in_thread(begin)
        except BaseException:
            await self._roll_back(session)
            raise

    async def _roll_back(self, session: Session) -> None:
        """Roll back an open transaction. If this task is cancelled meanwhile, the thread still does it."""

        def back(connection: sqlite3.Connection) -> None:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("PRAGMA query_only = OFF")

        await asyncio.shield(session.in_thread(back))


class _Transaction:
    """One transaction: the ports on one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.incidents = Incidents(session)
        self.ledger = Ledger(session)
        self.outbox = Outbox(session)
        self.journal = Journal(session)
        self.operations = Operations(session)
        self.requests = SeenRequests(session)
        self.walks = Walks(session)
        self.notices = Notices(session)

    async def now(self) -> datetime:
        """Return the instant by the store's clock."""
        return self._session.clock()

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` behind a savepoint."""
        await self._session.run("SAVEPOINT attempt")
        try:
            result = await work()
        except BaseException:
            # On a full disk SQLite rolls back the whole transaction by itself, and with it the savepoint.
            if await self._session.in_thread(lambda connection: connection.in_transaction):
                await self._session.run("ROLLBACK TO attempt")
                await self._session.run("RELEASE attempt")
            raise
        await self._session.run("RELEASE attempt")
        return result
