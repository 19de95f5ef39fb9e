"""Read a host's table from the system catalogue, and say why the engine could not work on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection, sql

from escalation_core import EscalationError

from .errors import BYPASS
from .mapping import COLUMNS
from .table import INSTANTS, KEY_TYPES, TEXTS, IncidentsTable, not_null

_INTEGERS = ("smallint", "integer", "bigint")
_WANTED: Mapping[str, Sequence[str]] = {
    "incident_key": KEY_TYPES,
    "level": _INTEGERS,
    "episode": _INTEGERS,
    "acknowledged_by": TEXTS,
    "summary": TEXTS,
    "labels": ("jsonb", "json"),
    "policy": TEXTS,
    "policy_pin": ("text",),
    "policy_level": _INTEGERS,
    **dict.fromkeys(INSTANTS, ("timestamp with time zone",)),
}
_RELATIONS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "p": "a partitioned table",
}


class CannotAttach(EscalationError):
    """The engine cannot work on the host's table. The error names every fault; nothing was changed."""

    def __init__(self, table: IncidentsTable, faults: Sequence[str]) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"cannot attach to {table.schema}.{table.name}:{lines}")
        self.faults = tuple(faults)


@attrs.frozen
class Column:
    """A column as the system catalogue describes it."""

    kind: str
    composite: bool
    generated: bool
    not_null: bool


async def inspect(connection: AsyncConnection[Any], table: IncidentsTable, *, attached: bool) -> IncidentsTable | None:
    """Return the table with the types of its columns, or None if it does not exist.

    ``attached`` is True if the schema is attached to this table already, with these columns.

    Raises:
        CannotAttach: the engine cannot work on the table, for example because a column is missing or of another type.
    """
    columns = await read_columns(connection, table)
    if columns is None:
        return None
    faults = [*_missing(table, columns), *_wrong(table, columns)]
    key = table.columns["incident_key"]
    if key in columns and not await _unique(connection, table):
        faults.append(
            f"column {key!r} has no unique index of its own; create one: the engine cannot distinguish rows of one key"
        )
    if not attached:
        # For an attached table, health reports a nullable key, and each worker checks row security for its own role.
        if key in columns and not columns[key].not_null:
            faults.append(
                f"column {key!r} may be NULL, and the engine cannot page about a row without a key; {not_null(table)}"
            )
        if await _hidden(connection, table):
            faults.append(f"row level security applies to this role; {BYPASS}")
    types = {name: columns[column].kind for name, column in typed(table).items() if column in columns}
    found = attrs.evolve(
        table,
        types={**table.types, **types},
        kinds={name: columns[name].kind for name in table.host_columns if name in columns},
    )
    if not faults and table.status is not None:
        faults += await _refused_words(connection, found)
    if faults:
        raise CannotAttach(table, faults)
    return found


def typed(table: IncidentsTable) -> Mapping[str, str]:
    """Return the columns whose type statements name, by the engine's names."""
    columns = {name: table.columns[name] for name in ("incident_key", "severity", "labels")}
    return columns if table.status is None else {**columns, "status": table.status.column}


def _missing(table: IncidentsTable, columns: Mapping[str, Column]) -> list[str]:
    given = {name: table.columns[name] for name in ("incident_key", "first_seen") if name not in table.reads}
    faults = [
        f"it has no column {column!r}; say which it is: --column {name}=COLUMN"
        for name, column in given.items()
        if column not in columns
    ]
    faults += [
        f"it has no column {column!r}, which {name} is mapped to; correct the name, or leave it out: then the engine"
        f" adds {COLUMNS[name]!r}"
        for name, column in table.columns.items()
        if column not in columns and column != COLUMNS[name] and name not in given and column not in table.added
    ]
    faults += [
        f"it has no column {column!r} to read; say which it is: --column {name}=COLUMN:read"
        for name, column in table.reads.items()
        if column not in columns
    ]
    if table.status is not None and table.status.column not in columns:
        faults.append(f"it has no column {table.status.column!r}; say which it is: --status COLUMN")
    return faults


def _wrong(table: IncidentsTable, columns: Mapping[str, Column]) -> list[str]:
    faults = []
    for name, kinds in _WANTED.items():
        for column in (table.columns[name], table.reads.get(name)):
            found = columns.get(column or "")
            if found is not None and found.kind not in kinds:
                faults.append(f"column {column!r} is {found.kind}; it must be {' or '.join(kinds)}")
    faults += [
        f"column {column!r} is generated, and the engine writes it; map it read-only, drop it or rename it"
        for column in table.columns.values()
        if column in columns and columns[column].generated
    ]
    written = [table.columns["severity"], *([] if table.status is None else [table.status.column])]
    faults += [
        f"column {column!r} is composite ({columns[column].kind}); map a column of text, an enum or an integer"
        for column in written
        if column in columns and columns[column].composite
    ]
    return faults


async def _refused_words(connection: AsyncConnection[Any], table: IncidentsTable) -> list[str]:
    """Return a fault for each word of the status that its column's type refuses, as an enum does."""
    faults = []
    for word in table.status.words if table.status is not None else ():
        try:
            async with connection.transaction():
                await connection.execute(sql.SQL("SELECT {}").format(table.status_words([word])))
        except psycopg.Error:
            kind = table.types["status"]
            faults.append(f"the status word {word!r} is not a valid {kind}, the type of the column; correct the list")
    return faults


async def read_columns(connection: AsyncConnection[Any], table: IncidentsTable) -> dict[str, Column] | None:
    """Return the columns of the table by name, or None if there is no such table."""
    cursor = await connection.execute(
        """
        SELECT c.relkind::text, c.relispartition, a.attname,
            -- A type of the host's own is named with its schema: later connections may have another search_path.
            CASE tn.nspname WHEN 'pg_catalog' THEN pg_catalog.format_type(t.oid, NULL)
                ELSE pg_catalog.format('%%I.%%I', tn.nspname, t.typname) END,
            t.typtype::text = 'c',
            a.attgenerated::text <> '' OR a.attidentity::text = 'a' AND a.attname <> %s, a.attnotnull
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
        WHERE n.nspname = %s AND c.relname = %s
        """,
        [table.columns["incident_key"], table.schema, table.name],
    )
    rows = await cursor.fetchall()
    if not rows:
        return None
    if rows[0][0] != "r":
        raise CannotAttach(
            table, [f"it is {_RELATIONS.get(rows[0][0], 'not a table')}; name a plain table: --table NAME"]
        )
    if rows[0][1]:
        raise CannotAttach(table, ["it is a partition of another table; name a plain table: --table NAME"])
    return {name: Column(*rest) for _, _, name, *rest in rows if name is not None}


async def _unique(connection: AsyncConnection[Any], table: IncidentsTable) -> bool:
    cursor = await connection.execute(
        """
        SELECT EXISTS (
            SELECT FROM pg_catalog.pg_index x
            JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]
            WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s
                AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indnkeyatts = 1 AND x.indimmediate
        )
        """,
        [table.schema, table.name, table.columns["incident_key"]],
    )
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _hidden(connection: AsyncConnection[Any], table: IncidentsTable) -> bool:
    statement = sql.SQL("SELECT row_security_active({}::regclass)").format(table.sql_names()["incidents_name"])
    row = await (await connection.execute(statement)).fetchone()
    return bool(row and row[0])
