"""A host's connection, with the methods that sessions and migrations use, inside the transaction that the host began.

Statements of psycopg's synchronous connection block. A coroutine that only uses such a connection never waits, so
``finish`` of ``blocking_verbs`` can run it without an event loop.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

import attrs
import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, ConnectionInfo, Cursor
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row

from escalation_core import InvalidValue

from ..blocking_verbs import BLOCKING
from .timeouts import GRACE

Driver = Connection[Any] | AsyncConnection[Any]
KEPT = (
    "array_nulls",
    "escalation.engine",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "row_security",
)
"""The parameters that the engine sets in a transaction. In a host's transaction each gets its value back."""
_READ = ", ".join(f"current_setting('{name}', true)" for name in KEPT).encode()
_RESTORE = ", ".join(f"set_config('{name}', coalesce(%s, ''), true)" for name in KEPT).encode()
_ADAPTERS = AdaptersMap(psycopg.adapters)
_locks: WeakKeyDictionary[Driver, asyncio.Lock] = WeakKeyDictionary()
"""Two verbs at once on one connection would mix up their savepoints."""
_thread_locks: WeakKeyDictionary[Driver, threading.RLock] = WeakKeyDictionary()
"""The same for synchronous connections, which threads may share."""


@attrs.define
class HostConnection:
    """A connection with an open transaction of the host's. It offers ``execute`` and ``transaction`` of psycopg."""

    driver: Driver
    _depth: int = 0
    """How many blocks of ``transaction`` are open."""

    @classmethod
    async def of(cls, connection: object) -> "HostConnection":
        """Return the connection of psycopg within a connection or session of psycopg, SQLAlchemy or Django.

        A session of SQLAlchemy is flushed first: then the verb finds the rows that the host has just added.

        Raises:
            InvalidValue: it is of another kind, closed, in autocommit, in a pipeline, or its transaction has failed.
        """
        driver = await _driver(connection)
        if not isinstance(driver, Connection | AsyncConnection):
            kind = type(connection if driver is None or callable(driver) else driver)
            raise InvalidValue(
                "connection",
                f"is of {kind.__module__}.{kind.__qualname__}, and not of psycopg",
                "give an open connection or session with the driver psycopg 3: of SQLAlchemy by a URL of"
                " postgresql+psycopg://, of Django with psycopg instead of psycopg2",
            )
        fault = _fault(driver)
        if fault is None and BLOCKING.get() and isinstance(driver, AsyncConnection):
            fault = "is asynchronous, and this call blocks", "give a synchronous connection"
        if fault is not None:
            raise InvalidValue("connection", *fault)
        return cls(driver)

    @property
    def as_async(self) -> AsyncConnection[Any]:
        """This object, by the type that sessions and migrations expect: they call no other methods of it.

        A session begins a pipeline only for statements that it queues, and in a host's transaction it queues none.
        """
        return cast("AsyncConnection[Any]", self)

    @property
    def info(self) -> ConnectionInfo:
        """What the driver knows of the connection, for example the state of its transaction."""
        return self.driver.info

    @property
    def idle(self) -> bool:
        """Whether no statement has run in the transaction yet."""
        return self.driver.info.transaction_status is TransactionStatus.IDLE

    async def execute(self, query: Any, params: Any = None) -> Any:
        """Run a statement, on a cursor that returns tuples of psycopg's own values, whatever the host has chosen."""
        if isinstance(self.driver, AsyncConnection):
            return await _PlainAsyncCursor(self.driver, row_factory=tuple_row).execute(query, params)
        return _Results(_PlainCursor(self.driver, row_factory=tuple_row).execute(query, params))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Run a block behind a savepoint, and give the parameters in ``KEPT`` their values back.

        If the block raises, its writes are undone, and the host's transaction can go on.
        """
        # Blocks within one another have names of their own, so that none of them ends another one's savepoint.
        name = f"escalation_{self._depth}".encode()
        await self._to_its_end(b"SAVEPOINT " + name)
        self._depth += 1
        try:
            cursor = await self.execute(b"SELECT " + _READ)
            values = await cursor.fetchone()
            yield
            await self.execute(b"SELECT " + _RESTORE, values)
        except BaseException:
            if self.driver.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                # The rollback also restores the parameters.
                await self._to_its_end(b"ROLLBACK TO SAVEPOINT " + name)
                await self._to_its_end(b"RELEASE SAVEPOINT " + name)
            raise
        finally:
            self._depth -= 1
        await self._to_its_end(b"RELEASE SAVEPOINT " + name)

    async def _to_its_end(self, statement: bytes) -> None:
        """Run a statement to its end, also if the caller is cancelled: it must be certain which savepoints exist."""
        if isinstance(self.driver, Connection):
            await self.execute(statement)
            return
        task = asyncio.create_task(self.execute(statement))
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task], timeout=None if cancelled is None else GRACE)
                if cancelled is not None:
                    task.cancel()  # the server does not answer; psycopg closes the connection
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None and (task.cancelled() or task.exception() is None):
            raise cancelled
        task.result()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let one verb after another use the connection."""
        if isinstance(self.driver, AsyncConnection):
            async with _locks.setdefault(self.driver, asyncio.Lock()):
                yield
        else:
            with _thread_locks.setdefault(self.driver, threading.RLock()):
                yield


class _PlainCursor(Cursor[Any]):
    """A cursor that dumps and loads values as psycopg does: Django, for example, leaves JSON as text."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _PlainAsyncCursor(AsyncCursor[Any]):
    """The same for asynchronous connections."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


@attrs.frozen
class _Results:
    """The results of a synchronous cursor, by the methods of an asynchronous one."""

    cursor: Cursor[Any]

    @property
    def rowcount(self) -> int:
        return self.cursor.rowcount

    async def fetchall(self) -> list[Any]:
        return self.cursor.fetchall()

    async def fetchone(self) -> Any:
        return self.cursor.fetchone()


async def _driver(given: Any) -> object:
    """Return the driver's connection within what the host has given."""
    if isinstance(given, Connection | AsyncConnection | type):
        return given
    with _closed_is_refused():
        if callable(getattr(given, "ensure_connection", None)):
            # Django's wrapper of a connection.
            given.ensure_connection()
            return given.connection
        if callable(getattr(given, "flush", None)) and callable(getattr(given, "connection", None)):
            # SQLAlchemy's Session or AsyncSession.
            await _value(given.flush())
            given = await _value(given.connection())
        # SQLAlchemy's Connection, perhaps within an AsyncConnection.
        given = getattr(given, "sync_connection", given)
        if callable(getattr(given, "in_transaction", None)) and not given.in_transaction():
            # SQLAlchemy begins a transaction with the first statement, and commits only what it has begun.
            given.begin()
        # What ``raw_connection`` of SQLAlchemy returns has the driver's connection itself.
        pooled = given if hasattr(given, "driver_connection") else getattr(given, "connection", given)
        return getattr(pooled, "driver_connection", pooled)


async def _value(given: Any) -> Any:
    return await given if inspect.isawaitable(given) else given


@contextmanager
def _closed_is_refused() -> Iterator[None]:
    """Raise ``InvalidValue`` for the errors with which SQLAlchemy and Django say that a connection is unusable.

    An error of the database is the host's own, for example of the rows that a flush writes: it stays as it is.
    """
    try:
        yield
    except Exception as error:
        unusable = type(error).__module__.partition(".")[0] in ("sqlalchemy", "django")
        if not unusable or isinstance(error.__cause__, psycopg.Error):
            raise
        fault = f"cannot be used: {str(error).partition(chr(10))[0]}"
        raise InvalidValue("connection", fault, "give an open connection, in an open transaction") from error


def _fault(driver: Driver) -> tuple[str, str] | None:
    """Return why the engine cannot work in the connection's transaction, and the remedy."""
    if driver.closed:
        return "is closed", "give an open connection"
    status = driver.info.transaction_status
    if status is TransactionStatus.INERROR:
        return "is in a failed transaction", "roll it back, and begin another"
    if status is TransactionStatus.IDLE and driver.autocommit:
        return (
            "is in autocommit, so the host has no transaction to join",
            "begin one: psycopg's connection.transaction(), Django's atomic(), SQLAlchemy without AUTOCOMMIT",
        )
    if driver.pgconn.pipeline_status != PipelineStatus.OFF:
        return "is in pipeline mode", "leave the pipeline first"
    encoding = driver.info.parameter_status("client_encoding")
    if encoding not in (None, "UTF8"):
        return f"has the client encoding {encoding}, which cannot carry each text", "set client_encoding to UTF8"
    return None
