"""Attach to a host's own incidents table: check its columns, and choose which of its open incidents are planned."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import attrs
import psycopg
from psycopg import AsyncConnection, sql

from escalation_core import EscalationError, EscalationPolicy, InvalidValue, StoreRefused

from .errors import BYPASS, translate
from .table import COLUMNS, INSTANTS, KEY_TYPES, IncidentsTable, not_null, read_incident

log = logging.getLogger("escalation_core")

Existing = Literal["page", "skip"] | datetime
"""Which open incidents of an attached table the engine plans: all, none, or those first seen at an instant or later."""
BATCH = 5000

_TEXTS = ("text", "character varying")
_INTEGERS = ("smallint", "integer", "bigint")
_WANTED: Mapping[str, Sequence[str]] = {
    "incident_key": KEY_TYPES,
    "level": _INTEGERS,
    "episode": _INTEGERS,
    "acknowledged_by": _TEXTS,
    "summary": _TEXTS,
    "labels": ("jsonb", "json"),
    **dict.fromkeys(INSTANTS, ("timestamp with time zone",)),
}


class CannotAttach(EscalationError):
    """The engine cannot work on the host's table. The error names every fault; nothing was changed."""

    def __init__(self, table: IncidentsTable, faults: Sequence[str]) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
        super().__init__(f"cannot attach to {table.schema}.{table.name}:{lines}")
        self.faults = tuple(faults)


class ExistingIncidents(EscalationError):
    """The table holds open incidents, and the caller did not choose which to plan; nothing was changed."""

    def __init__(self, table: IncidentsTable, open_count: int, due_count: int) -> None:
        super().__init__(
            f"{table.schema}.{table.name} holds {open_count} open incidents, and {due_count} of them would page now;"
            " choose which of them the engine plans: --existing page (all), --existing skip (none until a recalc) or"
            " --existing since=INSTANT (those first seen at that instant or later)"
        )
        self.open_count = open_count
        self.due_count = due_count


@attrs.frozen
class Column:
    """A column as the system catalogue describes it."""

    kind: str
    generated: bool
    not_null: bool


async def inspect(connection: AsyncConnection[Any], table: IncidentsTable, *, attached: bool) -> IncidentsTable | None:
    """Return the table with the types of its columns, or None if it does not exist.

    ``attached`` is True if the schema is attached to this table already.

    Raises:
        CannotAttach: the engine cannot work on the table, for example because a column is missing or of another type.
    """
    columns = await _columns(connection, table)
    if columns is None:
        return None
    faults = [
        f"it has no column {table.columns[name]!r}; say which it is: --column {name}=COLUMN"
        for name in ("incident_key", "first_seen")
        if table.columns[name] not in columns
    ]
    for name, kinds in _WANTED.items():
        column = columns.get(table.columns[name])
        if column is not None and column.kind not in kinds:
            faults.append(f"column {table.columns[name]!r} is {column.kind}; it must be {' or '.join(kinds)}")
    faults += [
        f"column {column!r} is generated, and the engine writes it; drop it or rename it"
        for column in table.columns.values()
        if column in columns and columns[column].generated
    ]
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
    if faults:
        raise CannotAttach(table, faults)
    types = {name: columns[table.columns[name]].kind for name in table.types if table.columns[name] in columns}
    return attrs.evolve(table, types={**table.types, **types})


async def _columns(connection: AsyncConnection[Any], table: IncidentsTable) -> dict[str, Column] | None:
    cursor = await connection.execute(
        """
        SELECT c.relkind::text, a.attname,
            -- A type of the host's own is named with its schema: later connections may have another search_path.
            CASE tn.nspname WHEN 'pg_catalog' THEN pg_catalog.format_type(t.oid, NULL)
                ELSE pg_catalog.format('%%I.%%I', tn.nspname, t.typname) END,
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
        raise CannotAttach(table, ["it is not a plain table (a view, a foreign or a partitioned table)"])
    return {name: Column(kind, generated, not_null) for _, name, kind, generated, not_null in rows if name is not None}


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


async def count_open(
    connection: AsyncConnection[Any], table: IncidentsTable, policy: EscalationPolicy
) -> tuple[int, int]:
    """Return how many open incidents the table holds, and how many of them the policy would page about now."""
    columns = await _columns(connection, table) or {}
    missing = {name for name, column in table.columns.items() if column not in columns}
    names = table.sql_names()
    # The migrations add missing columns later: here each of them counts as its future default.
    select = sql.SQL(", ").join(
        sql.SQL({"level": "0", "episode": "1"}.get(name, "NULL")) if name in missing else table.expression(name)
        for name in COLUMNS
    )
    ended = [names[name] for name in ("acknowledged_at", "resolved_at") if name not in missing]
    where = sql.SQL(" AND ").join([sql.SQL("true"), *(sql.SQL("i.{} IS NULL").format(name) for name in ended)])
    statement = sql.SQL("SELECT now() AT TIME ZONE 'UTC', {} FROM {} i WHERE {}").format(
        select, names["incidents"], where
    )
    open_count = due_count = 0
    async with connection.transaction(), connection.cursor("escalation_open") as cursor:
        await cursor.execute(statement)
        async for at, *row in cursor:
            now = at.replace(tzinfo=UTC)
            open_count += 1
            try:
                due = policy.next_due_at(read_incident(row), now)
            except InvalidValue:
                continue  # an unreadable row cannot page; health will list it
            due_count += due is not None and due <= now
    return open_count, due_count


async def mark_existing(connection: AsyncConnection[Any], table: IncidentsTable, existing: Existing) -> int:
    """Set next_due_at of the chosen open rows to the epoch (needs replan), in short batches; return how many.

    Also record ``held_before``: workers leave the other rows alone when they search for rows that no trigger saw.
    """
    await _keep_held(connection, table, existing)
    if existing == "skip":
        return 0
    since = datetime(1, 1, 1, tzinfo=UTC) if existing == "page" else existing
    # The second condition finds rows that end at a value outside the years 1 to 9999, for example infinity. A worker
    # finds such a row unreadable, and health lists it.
    conditions = (
        "o.{acknowledged_at} IS NULL AND o.{resolved_at} IS NULL",
        """(o.{acknowledged_at} IS NOT NULL OR o.{resolved_at} IS NOT NULL)
            AND (o.{acknowledged_at} > {first} AND o.{acknowledged_at} < {last}) IS NOT TRUE
            AND (o.{resolved_at} > {first} AND o.{resolved_at} < {last}) IS NOT TRUE""",
    )
    return sum([await _mark(connection, table, condition, since) for condition in conditions])


async def _mark(connection: AsyncConnection[Any], table: IncidentsTable, condition: str, since: datetime) -> int:
    names: dict[str, sql.Composable] = {
        **table.sql_names(),
        "first": sql.SQL("timestamptz '0001-01-01 00:00:00+00'"),
        "last": sql.SQL("timestamptz '9999-12-31 23:59:59.999999+00'"),
        "since": sql.Literal(since),
        "batch": sql.Literal(BATCH),
    }
    statement = sql.SQL(
        """
        UPDATE {incidents} i SET {next_due_at} = to_timestamp(0)
        WHERE i.{incident_key} IN (
            SELECT o.{incident_key} FROM {incidents} o
            WHERE o.{next_due_at} IS NULL AND {condition}
                AND (o.{first_seen} IS NULL OR o.{first_seen} >= {since})
            LIMIT {batch} FOR NO KEY UPDATE
        )
        """
    ).format(condition=sql.SQL(condition).format(**names), **names)
    marked = 0
    while True:
        try:
            cursor = await connection.execute(statement)
        except psycopg.Error as error:
            if not isinstance(translate(error), StoreRefused):
                raise
            # A constraint or a trigger of the host refuses one row. Workers find the remaining rows one by one.
            log.warning("some open incidents could not be set to be planned, workers find them: %s", translate(error))
            return marked
        marked += cursor.rowcount
        if cursor.rowcount < BATCH:
            return marked


async def _keep_held(connection: AsyncConnection[Any], table: IncidentsTable, existing: Existing) -> None:
    """Record ``held_before``: open rows first seen before it are left alone. NULL means that all rows are planned."""
    names = table.sql_names()
    since: sql.Composable = sql.Literal(existing if isinstance(existing, datetime) else None)
    if existing == "skip":
        # A row's first_seen may lie up to 24 hours ahead of the clock (ADR 0006).
        since = sql.SQL(
            "(SELECT greatest(now(), max(i.{first_seen})) + interval '1 microsecond' FROM {incidents} i"
            " WHERE i.{first_seen} <= now() + interval '24 hours')"
        ).format(**names)
    statement = sql.SQL("UPDATE {schema}.escalation_recalc SET held_before = {since}").format(since=since, **names)
    await connection.execute(statement)


def given_columns(columns: Mapping[str, str]) -> Mapping[str, str]:
    """Complete a host's mapping of columns with the default names, and return it.

    Raises:
        InvalidValue: the mapping names a column that the engine does not have, or one host column twice.
    """
    unknown = sorted(set(columns) - set(COLUMNS))
    if unknown:
        raise InvalidValue("columns", f"the engine has no column {unknown[0]!r}", f"use {', '.join(COLUMNS)}")
    whole = COLUMNS | dict(columns)
    if len(set(whole.values())) < len(whole):
        raise InvalidValue("columns", "one column is named twice", "name another column for each")
    return whole
