"""Run migrations: one at a time for each schema, patient with the host's writers, each recorded with its checksum."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from escalation_core import StoreRefused, StoreUnavailable

from .attach import without_concurrency
from .dsn import arguments
from .host_connection import HostConnection
from .installation import Migration
from .statements import fill

LOCK_TIMEOUT = "2s"
"""How long a statement waits for the host's table. It is short because writers queue behind a waiting statement."""
LOCK_TRIES = 30


async def apply(connection: AsyncConnection[Any], migration: Migration, names: Mapping[str, sql.Composable]) -> None:
    """Run one migration and record it."""
    text = buildable(connection, fill(migration.template, names))
    record = sql.SQL("INSERT INTO {}.escalation_migrations (version, name, checksum) VALUES (%s, %s, %s)").format(
        names["schema"]
    )
    values = (migration.version, migration.name, migration.checksum)
    if migration.transactional or of_host(connection):

        async def work() -> None:
            await connection.execute(text.encode())
            await connection.execute(record, values)

        await patiently(connection, work)
        return
    for table in ("escalation_events", "escalation_audit", "escalation_pages"):
        await drop_invalid(connection, f"{names['schema'].as_string()}.{table}")
    for statement in text.split(";\n"):
        if statement.strip():
            await connection.execute(statement.encode())
    await connection.execute(record, values)


def of_host(connection: object) -> bool:
    """Return True if the connection is in a transaction of the host's, which cannot be left or begun again."""
    return isinstance(connection, HostConnection)


def buildable(connection: object, text: str) -> str:
    """Return statements on indexes in the form that can run: in a transaction of the host's not concurrently."""
    return without_concurrency(text) if of_host(connection) else text


async def patiently(connection: AsyncConnection[Any], work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work`` in one transaction.

    If it does not get a table's lock in time, it rolls back, lets the queued writers go on, and tries again. In a
    transaction of the host's it tries once.
    """
    for left in range(1 if of_host(connection) else LOCK_TRIES, 0, -1):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'".encode())
                # The host's own triggers may tell the engine's writes from a host's; ours do.
                await connection.execute("SELECT set_config('escalation.engine', 'on', true)")
                await work()
            return
        except psycopg.errors.LockNotAvailable:
            if left > 1:
                await asyncio.sleep(0.5)
    raise StoreUnavailable(
        "others held the lock of the incidents table all the time; run the command again when no long transaction"
        " uses the table"
    )


async def drop_invalid(connection: AsyncConnection[Any], relation: str) -> None:
    """Drop indexes that an interrupted build left invalid: IF NOT EXISTS would accept them."""
    cursor = await connection.execute(
        """
        SELECT n.nspname, c.relname FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT x.indisvalid AND c.relname LIKE 'escalation\\_%%' AND x.indrelid = %s::regclass
        """,
        [relation],
    )
    for schema, name in await cursor.fetchall():
        drop = sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)).as_string()
        await connection.execute(buildable(connection, drop).encode())


async def connect(dsn: str) -> AsyncConnection[Any]:
    """Connect for migrations."""
    # Behind a pooler each transaction may run in another session, without the prepared statements of this connection.
    return await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None, **arguments(dsn))


@asynccontextmanager
async def alone(dsn: str, schema: str) -> AsyncIterator[None]:
    """Hold this schema's migration lock: two services that start at once migrate one after the other.

    A transaction on a separate connection holds the lock. The migrations cannot hold it: an index cannot be built
    concurrently in a transaction, and outside of one a pooler may assign another session to the connection.

    A concurrent index build waits for every snapshot, so this transaction must not keep one. Therefore it polls for the
    lock instead of waiting for it. The statement has no parameter, because a statement with a parameter keeps its
    snapshot until the next one.
    """
    async with await connect(dsn) as connection:
        while True:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                if await _locked(connection, schema):
                    yield
                    return
            await asyncio.sleep(0.2)


async def lock_within(connection: AsyncConnection[Any], schema: str) -> None:
    """Take this schema's migration lock in a transaction of the host's, until that ends.

    It does not wait: the process that has the lock may itself wait for the host's transaction, to build an index.

    Raises:
        StoreUnavailable: another process has the lock.
    """
    if not await _locked(connection, schema):
        raise StoreUnavailable(
            f"another process migrates the schema {schema!r} at this moment; run this migration again when it has ended"
        )


async def _locked(connection: AsyncConnection[Any], schema: str) -> bool:
    key = int.from_bytes(hashlib.sha256(f"escalation-core {schema}".encode()).digest()[:8], "big", signed=True)
    row = await (await connection.execute(f"SELECT pg_try_advisory_xact_lock({key})".encode())).fetchone()
    return bool(row and row[0])


async def check_encoding(connection: AsyncConnection[Any]) -> None:
    """Raise ``StoreRefused`` unless the database's encoding is UTF8."""
    cursor = await connection.execute("SHOW server_encoding")
    row = await cursor.fetchone()
    if row and row[0] != "UTF8":
        raise StoreRefused(f"the database's encoding is {row[0]}; keys are UTF-8: use a database with ENCODING 'UTF8'")
