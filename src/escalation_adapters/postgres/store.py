"""PostgresStore: a store in the host's own PostgreSQL database."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

import attrs
import psycopg
from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from escalation_core import StoreError, StoreUnavailable
from escalation_core.model import Canary, NextDue, Pause
from escalation_core.ports import Transaction, Transactor

from . import timeouts
from .dsn import arguments
from .errors import AGAIN, by_host, check_visible, translated
from .host_transaction import Database, HostTransaction, read_database
from .installation import Installation, read_installation
from .outbox import read_due_targets
from .pool import Pool
from .session import Attached, Session, aware, instant, noticed_types
from .statements import PASSING
from .table import IncidentsTable
from .transaction import PostgresTransaction

Result = TypeVar("Result")
log = logging.getLogger("escalation_core")

TRIES = 5
"""How often a transaction runs at most, if the database asks to repeat it."""


class PostgresStore:
    """A store on PostgreSQL 14 or newer, in the schema of the host's incidents table.

    Create it with ``connect``. The database's clock decides which rows are due, unless a test or a replay passes one.
    """

    def __init__(
        self,
        pool: Pool,
        installation: Installation,
        database: Database,
        clock: Callable[[], datetime] | None,
    ) -> None:
        self._pool = pool
        self._installation = installation
        self._database = database
        self.clock = clock
        self._optimistic = True

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        schema: str = "public",
        clock: Callable[[], datetime] | None = None,
        pooler: Literal["transaction"] | None = None,
        max_connections: int = 8,
    ) -> "PostgresStore":
        """Connect to a migrated database.

        ``schema`` holds the incidents table; ``migrate up`` recorded the names of its columns.
        ``pooler="transaction"`` makes the store safe behind a transaction pooler, for example pgbouncer.

        Raises:
            InvalidValue: the DSN is not valid.
            StoreUnavailable: the database is down or out of reach.
            StoreNotReady: the schema is not migrated, or is at another version; the message names the command.
        """
        # A single statement is its own transaction; longer transactions begin explicitly.
        kwargs = arguments(dsn) | {"autocommit": True}
        # Each statement names its schema and needs no state of a session, so a pooled connection needs no set-up.
        if pooler == "transaction":
            kwargs["prepare_threshold"] = None
        pool = Pool(dsn, kwargs, max_connections=max_connections)
        with translated():
            # Connect once without the pool: this error names the cause, where the pool only reports a timeout.
            async with await AsyncConnection.connect(dsn, **kwargs) as connection:
                installation = await read_installation(connection, schema)
                database = await read_database(connection)
            await pool.open()
        return cls(pool, installation, database, clock)

    @property
    def table(self) -> IncidentsTable:
        """The table that the schema is attached to."""
        return self._installation.table

    def using(self, connection: object) -> Transactor:
        """Return a transactor in the transaction that a host began on ``connection``, and ends.

        ``connection`` is a Connection or AsyncConnection of psycopg, a Connection, AsyncConnection, Session or
        AsyncSession of SQLAlchemy with the driver psycopg, or ``django.db.connection``.
        """
        return HostTransaction(connection, self.table.schema, self.clock, self._database, self._installation)

    async def check(self) -> None:
        """Raise ``StoreNotReady`` unless the schema is at the version that this library needs."""
        await self._read_mapping()

    async def _read_mapping(self, fault: StoreError | None = None) -> None:
        """Read the mapping again, and make the statements for it: an operator may have attached the schema anew.

        With a ``fault``, raise it if neither the mapping nor the type of a mapped column has changed.
        """
        with translated():
            async with self._pool.connection() as connection:
                found = await read_installation(connection, self.table.schema)
        if found.table != self.table:
            self._installation = found
        elif fault is not None:
            raise fault

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction; after a conflict, for example a deadlock, run it again from its start."""
        optimistic, raised_by_host = self._optimistic, False
        for attempt in range(1, TRIES + 1):
            last = attempt == TRIES
            try:
                with translated(), noticed_types():
                    async with self._pool.connection() as connection:
                        # A pipeline may report only that it was aborted. The last attempt must name the cause.
                        return await self._within(connection, work, optimistic and not last, last=last)
            except Attached as attached:
                await self._read_mapping(attached.fault)
            except _Retry as again:
                optimistic, raised_by_host = optimistic and not again.conflict, again.by_host
                log.debug("the transaction is run again, attempt %d", attempt + 1)
                await asyncio.sleep(0.01 * attempt)
        conflict = StoreUnavailable("PostgreSQL is not available: the transaction met a conflict each time it was run")
        conflict.by_host = raised_by_host
        raise conflict

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` on one snapshot, in a read-only transaction."""
        return await self._again(partial(self._read, work))

    async def _again(self, read: Callable[[], Awaitable[Result]]) -> Result:
        """Read, and read again if the mapping, or the type of a mapped column, has changed meanwhile."""
        for _ in range(TRIES):
            try:
                return await read()
            except Attached as attached:
                await self._read_mapping(attached.fault)
        raise StoreUnavailable("PostgreSQL is not available: the mapping changed each time it was read")

    async def _read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        with translated(), noticed_types():
            async with self._pool.connection(timeouts.SCAN_TIMEOUT) as connection, connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                session = self._session(connection)
                await session.begin(self.clock)
                return await work(PostgresTransaction(session))

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Return the next due instants and active pauses, in one round trip; in two while a row is passed over."""
        return await self._again(partial(self._next_due, canary=canary or Canary(0), pages=pages))

    async def _next_due(self, *, canary: Canary, pages: bool) -> NextDue:
        at = None if self.clock is None else self.clock()
        within: dict[str, object] = {} if canary.whole else {"buckets": canary.buckets}
        name = "look_canary" if within else "look"
        with translated(), noticed_types():
            async with self._pool.connection() as connection:
                session = self._session(connection)
                rows = await session.rows(name, suffix=b"", **within, pages=pages, at=at)
                if rows[0][1]:
                    # Some rows are passed over. A second form leaves them out, so that the usual form stays cheap.
                    rows = await session.rows(name + PASSING, suffix=b"", **within, pages=pages, at=at)
        now, _, hidden, due, targets, notices, changes = rows[0][:7]
        check_visible(hidden, self.table)
        return NextDue(
            at=now.replace(tzinfo=UTC),
            pauses=[Pause.from_row(row[7:], instant) for row in rows if row[7] is not None],
            due_at=aware(due),
            targets=read_due_targets(targets),
            notices=read_due_targets(notices),
            changes=changes,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def _within(
        self,
        connection: AsyncConnection[Any],
        work: Callable[[Transaction], Awaitable[Result]],
        optimistic: bool,
        *,
        last: bool,
    ) -> Result:
        session = Session(connection, *self._installation, optimistic, last=last)
        try:
            async with AsyncExitStack() as ends, connection.transaction():
                await session.begin(self.clock, by_index=True)
                result = await work(PostgresTransaction(session))
                # Send the queued statements together with the COMMIT.
                await session.flush(ends)
            if session.wrote_too_little():
                # A host drops the engine's write to some row. From now on this store runs each statement by itself:
                # that costs more round trips, but shows how many rows each statement wrote.
                log.warning(
                    "a trigger or a rule of the host drops writes to %s: from now on each write is checked",
                    self.table.name,
                )
                self._optimistic = False
            return result
        except (psycopg.errors.UniqueViolation, psycopg.errors.PipelineAborted):
            # A statement of the pipeline failed. When they run one by one, the error shows which one.
            if session.optimistic:
                raise _Retry(conflict=True) from None
            raise
        except psycopg.Error as error:
            if error.sqlstate in AGAIN:
                raise _Retry(by_host=by_host(error)) from None
            raise
        finally:
            if connection.info.transaction_status is TransactionStatus.INERROR:
                await connection.rollback()

    def _session(self, connection: AsyncConnection[Any]) -> Session:
        return Session(connection, *self._installation)


@attrs.define
class _Retry(Exception):
    """Raised to run the whole transaction again."""

    conflict: bool = False
    """A unique key that was expected to be free is taken."""
    by_host: bool = False
    """A trigger of the host raised the conflict."""
