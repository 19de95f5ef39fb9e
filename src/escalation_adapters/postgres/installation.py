"""Read and record an installation: the migrations that a schema has, and the table that it is attached to."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection, sql
from psycopg.types.json import Json

from escalation_core import StoreNotReady

from .errors import MIGRATE, check_visible
from .statements import statements
from .table import IncidentsTable, not_null


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
        raise StoreNotReady(f"the migration of schema {schema!r} was interrupted; {MIGRATE}")
    if version < needed:
        raise StoreNotReady(f"schema {schema!r} is at version {version} and {needed} is needed; {MIGRATE}")
    await _check_visible(connection, table)
    return await _with_types(connection, table)


async def _with_types(connection: AsyncConnection[Any], table: IncidentsTable) -> IncidentsTable:
    """Return the table with the current types of its columns: a host may have widened its key."""
    cursor = await connection.execute(
        """
        SELECT a.attname::text, CASE tn.nspname WHEN 'pg_catalog' THEN pg_catalog.format_type(t.oid, NULL)
            ELSE pg_catalog.format('%%I.%%I', tn.nspname, t.typname) END
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
        JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0
        """,
        [table.schema, table.name],
    )
    kinds = dict(await cursor.fetchall())
    return attrs.evolve(table, types={name: kinds.get(table.columns[name], kind) for name, kind in table.types.items()})


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


TRIGGERS = ("zz_escalation_host_insert", "zz_escalation_host_update")
"""The triggers that react to host writes. PostgreSQL runs triggers by name: ``zz`` makes these two run last."""
TRIGGER = "trigger"
"""The first word of each fault that ``migrate up`` repairs."""


def find_faults(
    table: IncidentsTable,
    wanted: bool,
    has_key: bool,
    enabled: Sequence[str],
    disabled: Sequence[str],
    *,
    keyless: int = 0,
) -> Sequence[str]:
    """Return the faults of the host's table, each with its remedy. Faults of the triggers come first.

    ``wanted``: whether the installation has triggers. ``has_key``: whether the key column is NOT NULL. ``keyless``: how
    many rows without a key wait to be planned.
    """
    name, key = f"{table.schema}.{table.name}", table.columns["incident_key"]
    faults = []
    for trigger in TRIGGERS if wanted else ():
        if trigger not in enabled:
            fault = "is disabled" if trigger in disabled else "is missing"
            faults.append(f"{TRIGGER} {trigger} on {name} {fault}: the engine finds host writes late; {MIGRATE}")
    if not has_key:
        faults.append(
            f"column {key!r} of {name} may be NULL: the engine cannot page about a row without a key; {not_null(table)}"
        )
    if keyless:
        faults.append(f"{keyless} rows of {name} have no {key}: the engine cannot page about them; give each row one")
    return faults


async def faults(connection: AsyncConnection[Any], table: IncidentsTable) -> Sequence[str]:
    """Return the faults of the table that a migrated schema is attached to."""
    cursor = await connection.execute(statements(table)["installation"])
    ((wanted, has_key, enabled, disabled),) = await cursor.fetchall()
    return find_faults(table, wanted, has_key, enabled, disabled)


async def standing(
    connection: AsyncConnection[Any], schema: str
) -> tuple[Mapping[int, tuple[str, datetime]], IncidentsTable | None]:
    """Return a schema's applied migrations and its table; an empty mapping and None before the first migration."""
    try:
        return await applied(connection, schema), await recorded_table(connection, schema)
    except psycopg.errors.UndefinedTable:
        return {}, None


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
    cursor = await connection.execute(
        sql.SQL("SELECT value FROM {}.escalation_meta WHERE name = 'incidents'").format(sql.Identifier(schema))
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    value = row[0]
    return IncidentsTable(schema=schema, name=value["name"], columns=value["columns"], types=value["types"])


async def record_table(connection: AsyncConnection[Any], table: IncidentsTable) -> None:
    """Record the table that this schema is attached to: the last step of the first ``up``."""
    value = {"name": table.name, "columns": dict(table.columns), "types": dict(table.types)}
    await connection.execute(
        sql.SQL("INSERT INTO {}.escalation_meta (name, value) VALUES ('incidents', %s)").format(
            sql.Identifier(table.schema)
        ),
        [Json(value)],
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
