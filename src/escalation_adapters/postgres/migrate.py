"""Migrate a schema, attach it to a host's table, and detach it.

``up`` applies migrations: numbered SQL files for the engine's own tables, each applied once, under a lock, and recorded
with its checksum. ``attach`` and ``detach`` change the host's table. Each needs two connections at once, but no state
of a session. So they work through a transaction pooler as well.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
from psycopg import AsyncConnection

from escalation_core import BuiltinPolicy, StoreNotReady

from .applying import alone, connect, lock_within
from .attach import written_columns
from .attaching import Detachment, detach_table, read_detachment
from .bring_up import Say, Wanted, bring_up
from .drift import ATTACH, Fault
from .errors import translated
from .existing import Existing
from .host_connection import HostConnection
from .installation import faults, migrations, standing
from .mapping import StatusMapping
from .printing import print_detach_sql, print_sql
from .table import IncidentsTable

__all__ = [
    "Status",
    "attach",
    "attach_within",
    "attachment",
    "check",
    "detach",
    "detach_within",
    "plan_detach",
    "print_detach_sql",
    "print_sql",
    "status",
    "up",
]


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
        async with await connect(dsn) as connection:
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
    """Return what changed in the host's table since it was attached, and other faults of it, each with its remedy."""
    return [str(fault) for fault in (await read_attachment(dsn, schema=schema))[1]]


async def read_attachment(dsn: str, *, schema: str = "public") -> tuple[IncidentsTable | None, Sequence[Fault]]:
    """Return the table that a schema is attached to, None if it is not attached, and the faults of the attachment."""
    with translated():
        async with await connect(dsn) as connection:
            versions, table = await standing(connection, schema)
            if table is None:
                return None, [Fault("the schema is not attached to a table", ATTACH)] if versions else []
            return table, await faults(connection, table)


async def attachment(dsn: str, *, schema: str = "public") -> Sequence[tuple[str, str, str]]:
    """Return each column of the attached table that the engine uses, its meaning, and the verbs that write it."""
    table, _ = await read_attachment(dsn, schema=schema)
    return [] if table is None else written_columns(table)


async def up(
    dsn: str,
    *,
    schema: str = "public",
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
    existing: Existing | None = None,
    create: bool = False,
    trigger: bool = True,
    policy: BuiltinPolicy | None = None,
    say: Say = lambda line: None,
) -> Sequence[str]:
    """Bring a schema to the version that this library needs; return what was done.

    A schema that is not attached is attached, as by ``attach``. On an attached one ``up`` repairs triggers and indexes.

    Raises:
        CannotAttach, ExistingIncidents: nothing was changed.
        StoreNotReady: an applied migration's file has changed, or the schema is at a later version.
        StoreRefused: the schema is attached to another table or with other columns.
        StoreUnavailable: the database is out of reach, or others held the table's lock for too long.
    """
    wanted = Wanted(
        schema=schema,
        name=table,
        columns=columns,
        status=status,
        existing=existing,
        create=create,
        trigger=trigger,
        policy=policy or BuiltinPolicy(),
    )
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            return await bring_up(connection, wanted, say, again=False)


async def attach(
    dsn: str,
    *,
    schema: str = "public",
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
    existing: Existing | None = None,
    create: bool = False,
    trigger: bool = True,
    policy: BuiltinPolicy | None = None,
    say: Say = lambda line: None,
) -> Sequence[str]:
    """Attach a schema to a host's table, or attach it again with other columns; return what was done.

    ``columns`` maps the engine's names to the host's; ``{"first_seen": "created_at:read"}`` reads a column and never
    writes it. On an attached schema it changes only the names that it gives. ``existing`` chooses which open incidents
    of the table the engine plans. Without it, open incidents raise ``ExistingIncidents``, with the number that would
    page now by ``policy``. ``create`` creates the table if there is none.

    ``trigger=False`` leaves the triggers out, for databases that do not support them: then hosts use the API alone.

    Raises:
        CannotAttach, ExistingIncidents: nothing was changed.
        StoreNotReady: an applied migration's file has changed, or the schema is at a later version.
        StoreRefused: the schema is attached to another table; detach it first. Or the encoding is not UTF8.
        StoreUnavailable: the database is out of reach, or others held the table's lock for too long.
    """
    wanted = Wanted(
        schema=schema,
        name=table,
        columns=columns,
        status=status,
        existing=existing,
        create=create,
        trigger=trigger,
        policy=policy or BuiltinPolicy(),
    )
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            return await bring_up(connection, wanted, say, again=True)


async def attach_within(
    connection: object,
    *,
    schema: str = "public",
    table: str | None = None,
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
    existing: Existing | None = None,
    create: bool = False,
    trigger: bool = True,
    policy: BuiltinPolicy | None = None,
    say: Say = lambda line: None,
) -> Sequence[str]:
    """Attach a schema as ``attach`` does, inside the transaction that the host began on ``connection``, and ends.

    ``connection`` is one that ``PostgresStore.using`` takes. Indexes are built in the transaction, and block writers
    of the table until its end. Nothing waits for the table's lock, or for another migration, for longer than 2 s.

    Raises:
        InvalidValue: no transaction can be joined on the connection.
        CannotAttach, ExistingIncidents, StoreNotReady, StoreRefused: as ``attach``; nothing was changed.
        StoreUnavailable: others hold the table's lock, or another process migrates the schema.
    """
    wanted = Wanted(
        schema=schema,
        name=table,
        columns=columns,
        status=status,
        existing=existing,
        create=create,
        trigger=trigger,
        policy=policy or BuiltinPolicy(),
    )
    with translated():
        host = await HostConnection.of(connection)
        async with host.alone(), host.transaction():
            await lock_within(host.as_async, schema)
            return await bring_up(host.as_async, wanted, say, again=True)


async def detach_within(
    connection: object,
    *,
    schema: str = "public",
    tick_interval: timedelta = timedelta(minutes=1),
    drop_tables: bool = False,
) -> Detachment:
    """Detach a schema as ``detach`` does, inside the transaction that the host began on ``connection``, and ends.

    Raises:
        InvalidValue: no transaction can be joined on the connection.
        StoreNotReady, StoreRefused: as ``detach``; nothing was changed.
        StoreUnavailable: others hold the table's lock, or another process migrates the schema.
    """
    with translated():
        host = await HostConnection.of(connection)
        async with host.alone(), host.transaction():
            await lock_within(host.as_async, schema)
            table = await _attached(host.as_async, schema)
            return await detach_table(host.as_async, table, tick_interval, drop_tables=drop_tables)


async def plan_detach(dsn: str, *, schema: str = "public", drop_tables: bool = False) -> Detachment:
    """Return what a detach would remove, and change nothing.

    Raises:
        StoreNotReady: the schema is not attached to a table.
    """
    with translated():
        async with await connect(dsn) as connection:
            table = await _attached(connection, schema)
            return await read_detachment(connection, table, drop_tables=drop_tables)


async def detach(
    dsn: str,
    *,
    schema: str = "public",
    tick_interval: timedelta = timedelta(minutes=1),
    drop_tables: bool = False,
) -> Detachment:
    """Remove the engine's triggers, indexes and added columns from the host's table; return what was removed.

    The engine's own tables stay, with the values of the dropped columns, so a later ``attach`` restores them. With
    ``drop_tables`` they are dropped too, with all history. Pages that were not sent are cancelled.

    Raises:
        StoreNotReady: the schema is not attached to a table.
        StoreRefused: a worker completed a tick within two intervals, or an object of the host needs a column.
    """
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            table = await _attached(connection, schema)
            return await detach_table(connection, table, tick_interval, drop_tables=drop_tables)


async def _attached(connection: AsyncConnection[Any], schema: str) -> IncidentsTable:
    _, table = await standing(connection, schema)
    if table is None:
        raise StoreNotReady(f"schema {schema!r} is not attached to a table; {ATTACH}")
    return table
