"""Migrate a schema, attach it to a host's table, and detach it.

``up`` applies migrations: numbered SQL files for the engine's own tables, each applied once, under a lock, and recorded
with its checksum. ``attach`` and ``detach`` change the host's table. Each needs two connections at once, but no state
of a session. So they work through a transaction pooler as well.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs
from psycopg import AsyncConnection, sql

from escalation_core import EscalationPolicy, InvalidValue, StoreNotReady, StoreRefused

from .applying import alone, apply, check_encoding, connect
from .attach import create_sql, index_sql, trigger_sql, written_columns
from .attaching import Detachment, attach_table, detach_table, mend, read_detachment
from .drift import ATTACH
from .errors import translated
from .existing import Existing, ExistingIncidents, count_open
from .host_table import CannotAttach, inspect
from .installation import check_checksums, check_not_newer, faults, migrations, standing
from .mapping import StatusMapping, split_columns
from .statements import fill
from .table import IncidentsTable

Say = Callable[[str], None]


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
    with translated():
        async with await connect(dsn) as connection:
            versions, table = await standing(connection, schema)
            if table is None:
                return [f"the schema is not attached to a table; {ATTACH}"] if versions else []
            return [str(fault) for fault in await faults(connection, table)]


async def attachment(dsn: str, *, schema: str = "public") -> Sequence[tuple[str, str, str]]:
    """Return each column of the attached table that the engine uses, its meaning, and the verbs that write it."""
    with translated():
        async with await connect(dsn) as connection:
            _, table = await standing(connection, schema)
    return [] if table is None else written_columns(table)


def print_sql(
    *,
    schema: str = "public",
    table: str = "incidents",
    columns: Mapping[str, str] | None = None,
    status: StatusMapping | None = None,
) -> str:
    """Return the SQL of all migrations and of an attach to a new table, for a review before ``attach``."""
    written, reads = split_columns(columns or {})
    attached = IncidentsTable(schema=schema, name=table, columns=written, reads=reads, status=status, created=True)
    names = attached.sql_names()
    parts = [f"-- {migration.name}\n\n{fill(migration.template, names)}" for migration in migrations()]
    indexes = "".join(f"{text};\n" for text in index_sql(attached).values())
    return "\n".join(
        [*parts, f"-- attach\n\n{create_sql(attached)}\n{trigger_sql(attached)}", f"-- indexes\n\n{indexes}"]
    )


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
    policy: EscalationPolicy | None = None,
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
    wanted = _Wanted(schema, table, columns, status, existing, create, trigger, policy or EscalationPolicy())
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            return await _bring_up(connection, wanted, say, again=False)


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
    policy: EscalationPolicy | None = None,
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
    wanted = _Wanted(schema, table, columns, status, existing, create, trigger, policy or EscalationPolicy())
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            return await _bring_up(connection, wanted, say, again=True)


async def plan_detach(dsn: str, *, schema: str = "public") -> Detachment:
    """Return what a detach would remove, and change nothing.

    Raises:
        StoreNotReady: the schema is not attached to a table.
    """
    with translated():
        async with await connect(dsn) as connection:
            return await read_detachment(connection, await _attached(connection, schema))


async def detach(dsn: str, *, schema: str = "public", tick_interval: timedelta = timedelta(minutes=1)) -> Detachment:
    """Remove the engine's triggers, indexes and added columns from the host's table; return what was removed.

    The engine's own tables stay, with the values of the dropped columns, so a later ``attach`` restores them. Pages
    that were not sent are cancelled.

    Raises:
        StoreNotReady: the schema is not attached to a table.
        StoreRefused: a worker completed a tick within two intervals, or an object of the host needs a column.
    """
    with translated():
        async with alone(dsn, schema), await connect(dsn) as connection:
            table = await _attached(connection, schema)
            return await detach_table(connection, table, tick_interval)


async def _attached(connection: AsyncConnection[Any], schema: str) -> IncidentsTable:
    _, table = await standing(connection, schema)
    if table is None:
        raise StoreNotReady(f"schema {schema!r} is not attached to a table; {ATTACH}")
    return table


@attrs.frozen
class _Wanted:
    """What a caller of ``up`` or ``attach`` asks for."""

    schema: str
    name: str | None
    columns: Mapping[str, str] | None
    status: StatusMapping | None
    existing: Existing | None
    create: bool
    trigger: bool
    policy: EscalationPolicy

    def table(self, recorded: IncidentsTable | None) -> IncidentsTable:
        """Return the table with its mapping: the recorded mapping, with what the caller changes."""
        if recorded is None:
            written, reads = split_columns(self.columns or {})
            name = self.name or "incidents"
            return IncidentsTable(schema=self.schema, name=name, columns=written, reads=reads, status=self.status)
        if self.columns is None and self.status is None:
            return attrs.evolve(recorded, name=self.name or recorded.name)
        read = {name: f"{column}:read" for name, column in recorded.reads.items()}
        written, reads = split_columns({**recorded.columns, **read, **(self.columns or {})})
        # A column that was read only keeps the name of the engine's own column beside it.
        written |= {name: recorded.columns[name] for name in reads if name in recorded.reads}
        return attrs.evolve(
            recorded,
            name=self.name or recorded.name,
            columns=written,
            reads=reads,
            status=self.status or recorded.status,
        )


async def _bring_up(connection: AsyncConnection[Any], wanted: _Wanted, say: Say, *, again: bool) -> Sequence[str]:
    await check_encoding(connection)
    versions, recorded = await standing(connection, wanted.schema)
    check_checksums(versions)
    check_not_newer(wanted.schema, versions)
    table = wanted.table(recorded)
    _check_choice(recorded, table, again=again)
    attaching = recorded is None or again
    found = await inspect(connection, table, attached=not attaching) if attaching else table
    if attaching:
        await _check_existing(connection, wanted, table, found, first=recorded is None)
    if found is None:
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(wanted.schema)))
    done = []
    for migration in migrations():
        if migration.version not in versions:
            say(f"applying {migration.name}")
            await apply(connection, migration, table.sql_names())
            done.append(migration.name)
    if not attaching:
        return done + await mend(connection, table, say)
    await attach_table(
        connection,
        found or table,
        recorded,
        create=found is None,
        existing=wanted.existing,
        trigger=wanted.trigger,
        say=say,
    )
    return [*done, f"attached to {table.schema}.{table.name}"]


def _check_choice(recorded: IncidentsTable | None, table: IncidentsTable, *, again: bool) -> None:
    if recorded is None:
        return
    if table.name != recorded.name:
        raise StoreRefused(
            f"schema {table.schema!r} is attached to the table {recorded.name!r}; to attach it to {table.name!r},"
            " first run: escalation migrate detach"
        )
    same = (table.columns, table.reads, table.status) == (recorded.columns, recorded.reads, recorded.status)
    if not same and not again:
        raise StoreRefused(
            f"schema {table.schema!r} is attached with other columns; leave the columns out, or change them:"
            " run escalation migrate attach with the same options"
        )


async def _check_existing(
    connection: AsyncConnection[Any],
    wanted: _Wanted,
    table: IncidentsTable,
    found: IncidentsTable | None,
    *,
    first: bool,
) -> None:
    if found is None:
        if not wanted.create:
            raise CannotAttach(table, ["there is no such table; name yours: --table NAME, or create it: --create"])
        if table.reads or table.status is not None:
            raise CannotAttach(table, ["there is no such table, and so no column to read; leave --create out"])
        return
    if not first and isinstance(wanted.existing, datetime):
        raise InvalidValue("existing", "is an instant, and the table is attached already", "choose page or skip")
    if wanted.existing is None:
        open_count, due_count = await count_open(connection, found, wanted.policy)
        if due_count or (first and open_count):
            raise ExistingIncidents(found, open_count, due_count, first=first)
