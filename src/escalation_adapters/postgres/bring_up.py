"""Bring a schema to the version and the mapping that a caller asks for, on one connection."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from psycopg import AsyncConnection, sql

from escalation_core import BuiltinPolicy, InvalidValue, StoreRefused

from .applying import apply, check_encoding
from .attaching import attach_table, mend
from .existing import Existing, ExistingIncidents, count_open
from .host_table import CannotAttach, inspect
from .installation import check_checksums, check_not_newer, migrations, standing
from .mapping import StatusMapping, split_columns
from .table import IncidentsTable

Say = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Wanted:
    """What a caller of ``up`` or ``attach`` asks for."""

    schema: str
    name: str | None
    columns: Mapping[str, str] | None
    status: StatusMapping | None
    existing: Existing | None
    create: bool
    trigger: bool
    policy: BuiltinPolicy

    def table(self, recorded: IncidentsTable | None) -> IncidentsTable:
        """Return the table with its mapping: the recorded mapping, with what the caller changes."""
        if recorded is None:
            written, reads = split_columns(self.columns or {})
            name = self.name or "incidents"
            return IncidentsTable(schema=self.schema, name=name, columns=written, reads=reads, status=self.status)
        if self.columns is None and self.status is None and not recorded.unattached:
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


async def bring_up(connection: AsyncConnection[Any], wanted: Wanted, say: Say, *, again: bool) -> Sequence[str]:
    """Apply the missing migrations, and attach the schema, or attach it ``again``; return what was done."""
    await check_encoding(connection)
    versions, recorded = await standing(connection, wanted.schema)
    check_checksums(versions)
    check_not_newer(wanted.schema, versions)
    table = wanted.table(recorded)
    _check_choice(recorded, table, again=again)
    attaching = recorded is None or again
    # An earlier version attached the table, without the columns that came later.
    extending = not attaching and recorded is not None and bool(recorded.unattached)
    found = await inspect(connection, table, attached=not attaching) if attaching or extending else table
    if attaching:
        await _check_existing(connection, wanted, table, found, first=recorded is None)
    if attaching and found is None:
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(wanted.schema)))
    done = []
    for migration in migrations():
        if migration.version not in versions:
            say(f"applying {migration.name}")
            await apply(connection, migration, table.sql_names())
            done.append(migration.name)
    if not attaching and (found is None or not extending):
        return done + await mend(connection, table, say)
    await attach_table(
        connection,
        found or table,
        recorded,
        create=found is None,
        # A column that is added with NULL in each row changes no instant.
        existing="skip" if extending else wanted.existing,
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
    wanted: Wanted,
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
