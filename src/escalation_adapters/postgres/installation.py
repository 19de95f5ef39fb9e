"""An installation: which migrations there are, which of them a schema has, and which table it is attached to."""

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
    """One numbered file."""

    version: int
    name: str
    template: str

    @property
    def checksum(self) -> str:
        """What tells whether the file is the one that was applied."""
        return hashlib.sha256(self.template.encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        """Whether it runs in one transaction; indexes that are built concurrently cannot."""
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
    """Return the table that this schema's installation works on.

    Raises:
        StoreNotReady: it is not migrated, or to another version than this library's.
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
    """Return the table with the types that its columns have now: a host may have widened its key."""
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
    """Refuse a role that a policy hides rows from: of the host's table, or of any of ours."""
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
"""The triggers that see what hosts write. They are named to run last."""
TRIGGER = "trigger"
"""What a fault that ``migrate up`` mends begins with."""


def find_faults(
    table: IncidentsTable,
    wanted: bool,
    has_key: bool,
    enabled: Sequence[str],
    disabled: Sequence[str],
    *,
    keyless: int = 0,
) -> Sequence[str]:
    """Return what is wrong with the host's table, each fault with its remedy; what is wrong with triggers comes first.

    ``wanted`` tells whether the installation has triggers at all, ``has_key`` whether the key column is NOT NULL,
    ``keyless`` how many rows without a key are due.
    """
    name, key = f"{table.schema}.{table.name}", table.columns["incident_key"]
    faults = []
    for trigger in TRIGGERS if wanted else ():
        if trigger not in enabled:
            fault = "is disabled" if trigger in disabled else "is missing"
            faults.append(f"{TRIGGER} {trigger} on {name} {fault}: what hosts write is found late; {MIGRATE}")
    if not has_key:
        faults.append(f"column {key!r} of {name} may be NULL: such a row pages nobody; {not_null(table)}")
    if keyless:
        faults.append(f"{keyless} rows of {name} have no {key} and page nobody; give them one")
    return faults


async def faults(connection: AsyncConnection[Any], table: IncidentsTable) -> Sequence[str]:
    """Return what is wrong with the table that an installation of this version works on."""
    cursor = await connection.execute(statements(table)["installation"])
    ((wanted, has_key, enabled, disabled),) = await cursor.fetchall()
    return find_faults(table, wanted, has_key, enabled, disabled)


async def standing(
    connection: AsyncConnection[Any], schema: str
) -> tuple[Mapping[int, tuple[str, datetime]], IncidentsTable | None]:
    """Return what a schema has: its migrations and its table; nothing and None before the first migration."""
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
    """Return the table that this schema is attached to, None while it is to none."""
    cursor = await connection.execute(
        sql.SQL("SELECT value FROM {}.escalation_meta WHERE name = 'incidents'").format(sql.Identifier(schema))
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    value = row[0]
    return IncidentsTable(schema=schema, name=value["name"], columns=value["columns"], types=value["types"])


async def record_table(connection: AsyncConnection[Any], table: IncidentsTable) -> None:
    """Keep which table this schema is attached to: the last step of the first migration."""
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
            f"schema {schema!r} is at version {version} and this library knows {needed}; update escalation-core"
        )
    return needed


def check_checksums(found: Mapping[int, tuple[str, datetime]]) -> None:
    """Raise ``StoreNotReady`` if an applied migration's file is another one now."""
    for migration in migrations():
        if migration.version in found and found[migration.version][0] != migration.checksum:
            raise StoreNotReady(
                f"migration {migration.name} is not the file that was applied here; install the release that it"
                " came from, or one that follows it"
            )
