"""SQLiteStore: the embedded default. One file, durable to the last commit, shared by as many processes as like."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from escalation_core import StoreNotReady
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction
from escalation_core.testing.clock import system_clock

from ..process_guard import ProcessGuard
from .file import File, begin_reading, begin_writing, connect
from .host import SQLiteHost
from .incidents import Incidents
from .journal import Journal
from .ledger import Ledger
from .operations import Operations, SeenRequests
from .outbox import Outbox
from .session import Session

Result = TypeVar("Result")


class SQLiteStore:
    """A store in an SQLite file, in WAL mode with every commit synced (synchronous=FULL).

    The file is made when it is first used, unless ``create`` is False. ``clock`` defaults to the system's. A store
    belongs to the process and the event loop in which it is used first, until it is closed.
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
        self.host = SQLiteHost(self, self.clock)

    @classmethod
    async def connect(
        cls, path: str | os.PathLike[str], *, clock: Callable[[], datetime] | None = None, create: bool = True
    ) -> "SQLiteStore":
        """Open a file; make it if it is not there, unless ``create`` is False.

        Raises:
            StoreNotReady: the file is not there, or no database of ours, or of a newer version.
            StoreUnavailable: others keep it locked, or the disk fails.
            StoreRefused: it cannot be opened.
        """
        store = cls(path, clock=clock, create=create)
        await store.check()
        return store

    async def check(self) -> None:
        """Open the file if it is not open yet."""
        async with self._opened():
            pass

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` while nobody else writes the file."""
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
        """Run ``work`` on one snapshot of the file, which it cannot write."""
        async with self._opened() as session:
            await self._begin(session, begin_reading)
            try:
                return await work(_Transaction(session))
            finally:
                await self._roll_back(session)

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        """Return what is next."""

        async def work(tx: _Transaction) -> NextDue:
            now = await tx.now()
            return NextDue(
                at=now,
                pauses=await tx.operations.pauses(now),
                due_at=None if canary is None else await tx.incidents.earliest(canary),
                page_due_at=await tx.outbox.earliest(targets),
            )

        async with self._opened() as session:
            return await work(_Transaction(session))

    async def aclose(self) -> None:
        """Close the file. A second call does nothing, nor does one in a forked process: the file is its parent's."""
        if self._guard.elsewhere:
            return
        async with self._turn:
            session, self._session = self._session, None
            # A lock that tasks have waited for belongs to their loop.
            self._guard, self._turn = ProcessGuard("SQLiteStore"), asyncio.Lock()
            if session is not None:
                await session.in_thread(lambda connection: connection.close())
                session.thread.shutdown()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Session]:
        """Wait for the turn, and open the file if it is not open yet."""
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
                f"{self.path} is not there; check the path (escalation run, tick and open make the file)"
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
        """Leave no transaction behind, even if this task is cancelled meanwhile: the thread does it in its turn."""

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

    async def now(self) -> datetime:
        """Return the instant by the store's clock."""
        return self._session.clock()

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` behind a savepoint."""
        await self._session.run("SAVEPOINT attempt")
        try:
            result = await work()
        except BaseException:
            # On a full disk SQLite takes back the whole transaction by itself: then there is no savepoint any more.
            if await self._session.in_thread(lambda connection: connection.in_transaction):
                await self._session.run("ROLLBACK TO attempt")
                await self._session.run("RELEASE attempt")
            raise
        await self._session.run("RELEASE attempt")
        return result
