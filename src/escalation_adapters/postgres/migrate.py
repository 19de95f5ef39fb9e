"""Apply migrations: numbered SQL files, each applied once, under a lock, and recorded with its checksum.

``up`` needs two connections at once, but no state of a session. So it works through a transaction pooler as well.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection, sql

from escalation_core import EscalationPolicy, StoreRefused, StoreUnavailable

from .attach import Existing, ExistingIncidents, count_open, given_columns, inspect, mark_existing
from .dsn import arguments
from .errors import translated
from .installation import (
    TRIGGER,
    Migration,
    check_checksums,
    check_not_newer,
    faults,
    migrations,
    record_table,
    standing,
)
from .statements import fill
from .table import IncidentsTable

LOCK_TIMEOUT = "2s"
"""How long a statement waits for the host's table. It is short because writers queue behind a waiting statement."""
LOCK_TRIES = 30


@attrs.frozen(kw_only=True)
class Status:
    """One migration, and when it was applied (None: not yet)."""

    version: int
    name: str
    applied_at: datetime | None
    changed: bool = False
    """Whether the file has changed since the migration was applied."""


async def status(dsn: str, *, schema: str = "public") -> Sequence[Status]:
    """Return every migration and whether it was applied."""
    with translated():
        async with await _connect(dsn) as connection:
            versions, _ = await standing(connection, schema)
    found = []
    for migration in migrations():
        checksum, applied_at = versions.get(migration.version, (None, None))
        found.append(
            Status(
                version=migration.version,
                name=migration.name,
                applied_at=applied_at,
                changed=checksum not in (None, migration.checksum),
            )
        )
    return found


async def check(dsn: str, *, schema: str = "public") -> Sequence[str]:
    """Return the faults of the host's table: triggers that are missing or disabled, a key that may be NULL."""
    with translated():
        async with await _connect(dsn) as connection:
            _, table = await standing(connection, schema)
            return [] if table is None else await faults(connection, table)


def print_sql(*, schema: str = "public", table: str = "incidents", columns: Mapping[str, str] | None = None) -> str:
    """Return the SQL of all migrations, for a review before ``up``."""
    names = _names(IncidentsTable(schema=schema, name=table, columns=given_columns(columns or {})))
    return "\n".join(f"-- {migration.name}\n\n{fill(migration.template, names)}" for migration in migrations())


async def up(
    dsn: str,
    *,
    schema: str = "public",
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    existing: Existing | None = None,
    trigger: bool = True,
    policy: EscalationPolicy | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Sequence[str]:
    """Bring a schema to the version that this library needs; return the names of the migrations that were applied.

    The first ``up`` attaches the schema to ``table``, and creates the table if it is missing. ``columns`` maps the
    engine's names to the host's. ``existing`` chooses which open incidents of the table the engine plans. Without it,
    open incidents raise ``ExistingIncidents``, with the number that would page now by ``policy``.

    ``trigger=False`` leaves the triggers out, for databases that do not support them: then hosts use the API alone.

    Raises:
        CannotAttach, ExistingIncidents: nothing was changed.
        StoreNotReady: an applied migration's file has changed, or the schema is at a later version.
        StoreRefused: the schema is attached to another table, or the database's encoding is not UTF8.
        StoreUnavailable: the database is out of reach, or others held the table's lock for too long.
    """
    with translated():
        async with _alone(dsn, schema), await _connect(dsn) as connection:
            return await _up(connection, schema, table, columns, existing, trigger, policy or EscalationPolicy(), say)


async def _up(
    connection: AsyncConnection[Any],
    schema: str,
    table_name: str | None,
    columns: Mapping[str, str] | None,
    existing: Existing | None,
    trigger: bool,
    policy: EscalationPolicy,
    say: Callable[[str], None],
) -> Sequence[str]:
    await _check_encoding(connection)
    versions, recorded = await standing(connection, schema)
    check_checksums(versions)
    check_not_newer(schema, versions)
    table = _choose(schema, recorded, table_name, columns)
    found = await inspect(connection, table, attached=recorded is not None)
    if recorded is None and found is not None and existing is None:
        open_count, due_count = await count_open(connection, found, policy)
        if open_count:
            raise ExistingIncidents(found, open_count, due_count)
    table = found or table
    names = _names(table)
    if found is None:
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    done = []
    for migration in migrations():
        if migration.version not in versions:
            say(f"applying {migration.name}")
            await _apply(connection, migration, names, skip=not trigger and migration.name == _TRIGGERS)
            done.append(migration.name)
    if recorded is None:
        marked = await mark_existing(connection, table, existing or "page")
        if found is not None and existing is not None:
            say(f"set {marked} open incidents to be planned at the next tick")
        await record_table(connection, table)
    broken = await faults(connection, table)
    mended = [fault for fault in broken if fault.startswith(TRIGGER)]
    for fault in broken:
        say(f"{'mending' if fault in mended else 'warning'}: {fault}")
    if mended:
        mends = next(migration for migration in migrations() if migration.name == _MENDS)
        await _patiently(connection, fill(mends.template, names))
        done.append(mends.name)
    return done


_TRIGGERS = "0004_host_writes"
_MENDS = "0011_host_triggers"
"""The migration that may be run again: it creates the triggers anew."""


def _choose(
    schema: str, recorded: IncidentsTable | None, name: str | None, columns: Mapping[str, str] | None
) -> IncidentsTable:
    """Return the recorded table, or the given one at the first ``up``; raise ``StoreRefused`` if the two differ."""
    if recorded is None:
        return IncidentsTable(schema=schema, name=name or "incidents", columns=given_columns(columns or {}))
    given = given_columns({**recorded.columns, **(columns or {})})
    if (name or recorded.name) != recorded.name or given != recorded.columns:
        raise StoreRefused(
            f"schema {schema!r} is attached to the table {recorded.name!r}, not to the given table and columns;"
            " leave the table and its columns out, or use another schema"
        )
    return recorded


async def _apply(
    connection: AsyncConnection[Any], migration: Migration, names: Mapping[str, sql.Composable], *, skip: bool
) -> None:
    text = "" if skip else fill(migration.template, names)
    record = sql.SQL("INSERT INTO {}.escalation_migrations (version, name, checksum) VALUES (%s, %s, %s)").format(
        names["schema"]
    )
    values = (migration.version, migration.name, migration.checksum)
    if migration.transactional:
        await _patiently(connection, text, record, values)
        return
    await _drop_invalid(connection, names)
    for statement in text.split(";\n"):
        if "CREATE" in statement:
            await connection.execute(statement.encode())
    await connection.execute(record, values)


async def _patiently(
    connection: AsyncConnection[Any], text: str, record: sql.Composed | None = None, values: tuple[object, ...] = ()
) -> None:
    """Run a migration and record it, in one transaction.

    If it does not get a table's lock in time, it rolls back, lets the queued writers go on, and tries again.
    """
    for left in range(LOCK_TRIES, 0, -1):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'".encode())
                await connection.execute(text.encode())
                if record is not None:
                    await connection.execute(record, values)
            return
        except psycopg.errors.LockNotAvailable:
            if left > 1:
                await asyncio.sleep(0.5)
    raise StoreUnavailable(
        "others held the lock of the incidents table all the time; run the command again when no long transaction"
        " uses the table"
    )


async def _drop_invalid(connection: AsyncConnection[Any], names: Mapping[str, sql.Composable]) -> None:
    """Drop indexes that an interrupted build left invalid: IF NOT EXISTS would accept them."""
    cursor = await connection.execute(
        """
        SELECT n.nspname, c.relname FROM pg_catalog.pg_index x
        JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT x.indisvalid AND c.relname LIKE 'escalation\\_%%'
            AND x.indrelid IN (%s::regclass, %s::regclass)
        """,
        [names["incidents"].as_string(), names["schema"].as_string() + ".escalation_events"],
    )
    for schema, name in await cursor.fetchall():
        await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)))


async def _connect(dsn: str) -> AsyncConnection[Any]:
    # Behind a pooler each transaction may run in another session, without the prepared statements of this connection.
    return await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None, **arguments(dsn))


@asynccontextmanager
async def _alone(dsn: str, schema: str) -> AsyncIterator[None]:
    """Hold this schema's migration lock: two services that start at once migrate one after the other.

    A transaction on a separate connection holds the lock. The migrations cannot hold it: an index cannot be built
    concurrently in a transaction, and outside of one a pooler may assign another session to the connection.

    A concurrent index build waits for every snapshot, so this transaction must not keep one. Therefore it polls for the
    lock instead of waiting for it. The statement has no parameter, because a statement with a parameter keeps its
    snapshot until the next one.
    """
    key = int.from_bytes(hashlib.sha256(f"escalation-core {schema}".encode()).digest()[:8], "big", signed=True)
    async with await _connect(dsn) as connection:
        while True:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                cursor = await connection.execute(f"SELECT pg_try_advisory_xact_lock({key})".encode())
                row = await cursor.fetchone()
                if row and row[0]:
                    yield
                    return
            await asyncio.sleep(0.2)


async def _check_encoding(connection: AsyncConnection[Any]) -> None:
    cursor = await connection.execute("SHOW server_encoding")
    row = await cursor.fetchone()
    if row and row[0] != "UTF8":
        raise StoreRefused(f"the database's encoding is {row[0]}; keys are UTF-8: use a database with ENCODING 'UTF8'")


def _names(table: IncidentsTable) -> Mapping[str, sql.Composable]:
    names = table.sql_names()
    bucket = sql.SQL("('x' || substr(md5({key}::text), 1, 8))::bit(32)::bigint % 100").format(
        key=sql.Identifier(table.columns["incident_key"])
    )
    return names | {
        "bucket": bucket,
        "ix_due": sql.Identifier("escalation_due"),
        "ix_canary": sql.Identifier("escalation_canary"),
        "ix_unseen": sql.Identifier("escalation_unseen"),
    }
