"""Read and record an installation: the migrations that a schema has, and the table that it is attached to."""

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, NamedTuple

import attrs
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.types.json import Json

from escalation_core import StoreNotReady

from .drift import Fault, Found, find_faults, missing_words
from .errors import MIGRATE, check_visible
from .host_table import typed
from .mapping import COLUMNS, StatusMapping
from .statements import statements
from .table import IncidentsTable

EVENTS = "escalation_events"
KEEP_EVENTS = "keep escalation_events"
"""The entry of an installation whose table of escalations was there before; the first migration writes it."""


@attrs.frozen
class Migration:
    """One migration: a numbered SQL file."""

    version: int
    name: str
    template: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of the file. ``check_checksums`` compares it to the one of the file that was applied."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether the migration runs in one transaction. CREATE INDEX CONCURRENTLY cannot."""
        return not self.template.startswith("-- transaction: none")


def migrations() -> Sequence[Migration]:
    """Return all migrations in their order."""
    folder = files(__package__) / "migrations"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        Migration(int(name[:4]), name.removesuffix(".sql"), (folder / name).read_text(encoding="utf-8"))
        for name in found
    ]


class Installation(NamedTuple):
    """The statements of one schema, and the table that it is attached to."""

    statements: dict[str, bytes]
    table: IncidentsTable


async def read_installation(connection: AsyncConnection[Any], schema: str) -> Installation:
    """Read the table that this schema is attached to, and make the statements for it.

    Raises:
        StoreNotReady: the schema is not at the version that this library needs, a policy hides rows from this role, or
            the enum of the status has lost a word.
    """
    table = await attached(connection, schema)
    return Installation(statements(table), table)


async def attached(connection: AsyncConnection[Any], schema: str) -> IncidentsTable:
    """Return the table that this schema is attached to.

    Raises:
        StoreNotReady: the schema is not at the version that this library needs, or a policy hides rows from this role.
    """
    try:
        versions = await applied(connection, schema)
        table = await recorded_table(connection, schema)
    except psycopg.errors.UndefinedTable:
        raise StoreNotReady(f"schema {schema!r} is not migrated; {MIGRATE}") from None
    needed, version = check_not_newer(schema, versions), max(versions, default=0)
    if table is None:
        raise StoreNotReady(f"schema {schema!r} is not attached to a table; run: escalation migrate attach")
    if version < needed:
        raise StoreNotReady(f"schema {schema!r} is at version {version} and {needed} is needed; {MIGRATE}")
    if table.unattached:
        lacks = ", ".join(table.unattached)
        raise StoreNotReady(f"{table.schema}.{table.name} was attached without the columns {lacks}; {MIGRATE}")
    await _check_visible(connection, table)
    return await _with_types(connection, table)


async def _with_types(connection: AsyncConnection[Any], table: IncidentsTable) -> IncidentsTable:
    """Return the table with the current types of its columns: a host may have widened its key.

    Raises:
        StoreNotReady: the enum of the status has lost a word of the mapping.
    """
    cursor = await connection.execute(
        """
        SELECT a.attname::text, CASE tn.nspname WHEN 'pg_catalog' THEN pg_catalog.format_type(t.oid, NULL)
            ELSE pg_catalog.format('%%I.%%I', tn.nspname, t.typname) END,
            ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0
        """,
        [table.schema, table.name],
    )
    rows = await cursor.fetchall()
    kinds = {column: kind for column, kind, _ in rows}
    for column, _, words in rows:
        fault = missing_words(table, words) if table.status is not None and column == table.status.column else None
        if fault is not None:
            raise StoreNotReady(str(fault))
    now = {name: kinds[column] for name, column in typed(table).items() if column in kinds}
    return attrs.evolve(table, types={**table.types, **now})


async def _check_visible(connection: AsyncConnection[Any], table: IncidentsTable) -> None:
    """Raise ``StoreNotReady`` if a policy hides rows of the host's table, or of the engine's own, from this role."""
    cursor = await connection.execute(
        """
        SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind = 'r' AND c.relrowsecurity AND row_security_active(c.oid)
            AND (c.relname = %s OR c.relname LIKE 'escalation\\_%%')
        ORDER BY c.relname
        """,
        [table.schema, table.name],
    )
    for (name,) in await cursor.fetchall():
        check_visible(True, attrs.evolve(table, name=name))


async def faults(connection: AsyncConnection[Any], table: IncidentsTable) -> Sequence[Fault]:
    """Return the faults of the table that a migrated schema is attached to."""
    cursor = await connection.execute(statements(table)["installation"], {})
    (row,) = await cursor.fetchall()
    return find_faults(table, Found.from_row(row))


async def standing(
    connection: AsyncConnection[Any], schema: str
) -> tuple[Mapping[int, tuple[str, datetime]], IncidentsTable | None]:
    """Return a schema's applied migrations and its table; an empty mapping and None before the first migration."""
    try:
        async with connection.transaction():
            return await applied(connection, schema), await recorded_table(connection, schema)
    except psycopg.errors.UndefinedTable:
        return {}, None


def own_tables() -> Sequence[str]:
    """Return the names of the engine's own tables, in the order in which the migrations create them."""
    created = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?\{schema\}\.(\w+)", re.MULTILINE)
    return [name for migration in migrations() for name in created.findall(migration.template)]


async def droppable_tables(connection: AsyncConnection[Any], schema: str) -> Sequence[str]:
    """Return the engine's own tables, without one that was there before the first migration."""
    keep = bool(await _meta(connection, schema, KEEP_EVENTS))
    return [name for name in own_tables() if not (keep and name == EVENTS)]


async def applied(connection: AsyncConnection[Any], schema: str) -> dict[int, tuple[str, datetime]]:
    """Return the checksum and the instant of each migration that was applied."""
    cursor = await connection.execute(
        sql.SQL("SELECT version, checksum, applied_at AT TIME ZONE 'UTC' FROM {}.escalation_migrations").format(
            sql.Identifier(schema)
        )
    )
    return {version: (checksum, at.replace(tzinfo=UTC)) for version, checksum, at in await cursor.fetchall()}


async def recorded_table(connection: AsyncConnection[Any], schema: str) -> IncidentsTable | None:
    """Return the table that this schema is attached to, or None if it is not attached."""
    return (await _recorded(connection, schema)).get("incidents")


async def unfinished_table(connection: AsyncConnection[Any], schema: str) -> IncidentsTable | None:
    """Return the table of an attach that was interrupted, or None."""
    return (await _recorded(connection, schema)).get("attaching")


async def _recorded(connection: AsyncConnection[Any], schema: str) -> dict[str, IncidentsTable]:
    cursor = await connection.execute(
        sql.SQL("SELECT name, value FROM {}.escalation_meta WHERE name IN ('incidents', 'attaching')").format(
            sql.Identifier(schema)
        )
    )
    return {name: _table(schema, value) for name, value in await cursor.fetchall()}


def _table(schema: str, value: Mapping[str, Any]) -> IncidentsTable:
    status = value.get("status")
    given = {name: value[name] for name in value if name != "status"}
    # An attach by an earlier version did not know all columns: they have their default names.
    given["columns"] = COLUMNS | given["columns"]
    return IncidentsTable(schema=schema, **given, status=None if status is None else StatusMapping(**status))


async def record_table(
    connection: AsyncConnection[Any], table: IncidentsTable, name: str = "incidents", *, triggers: bool
) -> None:
    """Record the table that this schema is attached to, or (``attaching``) is about to be."""
    value = attrs.asdict(table, filter=lambda field, _: field.name != "schema")
    for key, entry in ((name, value), ("triggers", triggers)):
        await connection.execute(
            sql.SQL(
                "INSERT INTO {}.escalation_meta (name, value) VALUES (%s, %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            ).format(sql.Identifier(table.schema)),
            [key, Json(entry)],
        )


def new_revision() -> int:
    """Return a number that no other attach has. A count would come again after a rollback, or after a drop."""
    return secrets.randbelow(2**31)


async def wants_triggers(connection: AsyncConnection[Any], table: IncidentsTable) -> bool:
    """Return whether the installation has triggers."""
    return bool(await _meta(connection, table.schema, "triggers"))


async def _meta(connection: AsyncConnection[Any], schema: str, name: str) -> Any:
    statement = sql.SQL("SELECT value FROM {}.escalation_meta WHERE name = %s").format(sql.Identifier(schema))
    row = await (await connection.execute(statement, [name])).fetchone()
    return None if row is None else row[0]


async def forget(connection: AsyncConnection[Any], schema: str, *names: str) -> None:
    """Delete entries of the installation."""
    await connection.execute(
        sql.SQL("DELETE FROM {}.escalation_meta WHERE name LIKE ANY (%s)").format(sql.Identifier(schema)), [list(names)]
    )


def check_not_newer(schema: str, found: Mapping[int, object]) -> int:
    """Return the version that this library needs; raise ``StoreNotReady`` if the schema is at a later one."""
    needed, version = max(migration.version for migration in migrations()), max(found, default=0)
    if version > needed:
        raise StoreNotReady(
            f"schema {schema!r} is at version {version} and this library supports {needed}; update escalation-core"
        )
    return needed


def check_checksums(found: Mapping[int, tuple[str, datetime]]) -> None:
    """Raise ``StoreNotReady`` if the file of an applied migration has changed."""
    for migration in migrations():
        if migration.version in found and found[migration.version][0] != migration.checksum:
            raise StoreNotReady(
                f"migration {migration.name} is not the file that was applied here; install the release that applied"
                " it, or a later one"
            )
