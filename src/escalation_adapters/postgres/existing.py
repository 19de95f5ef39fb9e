"""The open incidents that a table holds when it is attached: how many there are, and which of them are planned."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import psycopg
from psycopg import AsyncConnection, sql

from escalation_core import BuiltinPolicy, EscalationError, InvalidValue, StoreRefused

from .errors import translate
from .host_table import read_columns
from .table import IncidentsTable, read_incident

log = logging.getLogger("escalation_core")

Existing = Literal["page", "skip"] | datetime
"""Which open incidents of an attached table the engine plans: all, none, or those first seen at an instant or later."""
BATCH = 5000
TYPES = {
    "severity": "text",
    "first_seen": "timestamptz",
    "level": "int",
    "episode": "int",
    "last_escalated_at": "timestamptz",
    "acknowledged_at": "timestamptz",
    "acknowledged_by": "text",
    "resolved_at": "timestamptz",
    "snoozed_until": "timestamptz",
    "next_due_at": "timestamptz",
    "summary": "text",
    "labels": "jsonb",
    "policy": "text",
    "policy_pin": "text",
    "policy_level": "int",
    "policy_since": "timestamptz",
}
"""The type of each column that an attach adds."""


class ExistingIncidents(EscalationError):
    """The table holds open incidents, and the caller did not choose which to plan; nothing was changed."""

    def __init__(self, table: IncidentsTable, open_count: int, due_count: int, *, first: bool = True) -> None:
        choices = (
            "--existing page (all), --existing skip (none until a recalc)"
            " or --existing since=INSTANT (those first seen at that instant or later)"
            if first
            else "--existing page (all) or --existing skip (they keep their due instants until a recalc)"
        )
        super().__init__(
            f"{table.schema}.{table.name} holds {open_count} open incidents, and {due_count} of them would page now;"
            f" choose which of them the engine plans: {choices}"
        )
        self.open_count = open_count
        self.due_count = due_count


async def count_open(connection: AsyncConnection[Any], table: IncidentsTable, policy: BuiltinPolicy) -> tuple[int, int]:
    """Return how many open incidents the table holds, and how many of them the policy would page about now."""
    columns = await read_columns(connection, table) or {}
    names = table.sql_names()
    # An attach adds the missing columns later: here each of them has its future default.
    added = [
        sql.SQL("{}::{} AS {}").format(
            sql.SQL({"level": "0", "episode": "1"}.get(name, "NULL")), sql.SQL(TYPES[name]), names[name]
        )
        for name, column in table.columns.items()
        if column not in columns
    ]
    statement = sql.SQL("SELECT now() AT TIME ZONE 'UTC', {} FROM (SELECT {} FROM {} h) i WHERE {}").format(
        names["row"], sql.SQL(", ").join([sql.SQL("h.*"), *added]), names["incidents"], names["is_open"]
    )
    open_count = due_count = 0
    async with connection.transaction():
        await connection.execute(sql.SQL("DECLARE escalation_open NO SCROLL CURSOR FOR {}").format(statement))
        while rows := await (await connection.execute(f"FETCH {BATCH} FROM escalation_open".encode())).fetchall():
            open_count += len(rows)
            due_count += sum(_is_due(row, policy) for row in rows)
        await connection.execute("CLOSE escalation_open")
    return open_count, due_count


def _is_due(row: Sequence[Any], policy: BuiltinPolicy) -> bool:
    """Return whether the policy would page now about a row that was selected with the instant before it."""
    now = row[0].replace(tzinfo=UTC)
    try:
        due = policy.next_due_at(read_incident(row[1:]), now)
    except InvalidValue:
        return False  # an unreadable row cannot page; health will list it
    return due is not None and due <= now


async def mark_existing(connection: AsyncConnection[Any], table: IncidentsTable, existing: Existing) -> int:
    """Set next_due_at of the chosen open rows to the epoch (needs replan), in short batches; return how many.

    Also record ``held_before``: workers leave the other rows alone when they search for rows that no trigger saw.
    """
    await connection.execute(held_sql(table, existing))
    return sum([await _mark(connection, statement) for statement in mark_sql(table, existing, batch=BATCH)])


def mark_sql(table: IncidentsTable, existing: Existing, *, batch: int | None) -> Sequence[sql.Composed]:
    """Return the statements that set next_due_at of the chosen open rows, of ``batch`` rows at once or of all."""
    if existing == "skip":
        return []
    # The second condition finds rows that end at a value outside the years 1 to 9999, for example infinity. A worker
    # finds such a row unreadable, and health lists it.
    conditions = ["{is_open}"]
    if table.status is None:
        conditions.append(
            """(i.{acknowledged_at} IS NOT NULL OR i.{resolved_at} IS NOT NULL)
            AND (i.{acknowledged_at} > {first} AND i.{acknowledged_at} < {last}) IS NOT TRUE
            AND (i.{resolved_at} > {first} AND i.{resolved_at} < {last}) IS NOT TRUE"""
        )
    names: dict[str, sql.Composable] = {
        **table.sql_names(),
        "first": sql.SQL("timestamptz '0001-01-01 00:00:00+00'"),
        "last": sql.SQL("timestamptz '9999-12-31 23:59:59.999999+00'"),
        "since": sql.Literal(datetime(1, 1, 1, tzinfo=UTC) if existing == "page" else existing),
        "batch": sql.SQL("ALL") if batch is None else sql.Literal(batch),
    }
    template = sql.SQL(
        """UPDATE {incidents} o SET {next_due_at} = to_timestamp(0)
WHERE o.{incident_key} IN (
    SELECT i.{incident_key} FROM {incidents} i
    WHERE i.{next_due_at} IS NULL AND {condition}
        AND ({first_seen_value} IS NULL OR {first_seen_value} >= {since})
    LIMIT {batch} FOR NO KEY UPDATE
)"""
    )
    return [template.format(condition=sql.SQL(condition).format(**names), **names) for condition in conditions]


async def _mark(connection: AsyncConnection[Any], statement: sql.Composed) -> int:
    marked = 0
    while True:
        try:
            async with connection.transaction():
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


def held_sql(table: IncidentsTable, existing: Existing) -> sql.Composed:
    """Return the statement for ``held_before``: open rows first seen before it are left alone. NULL: none are."""
    names = table.sql_names()
    since: sql.Composable = sql.Literal(existing if isinstance(existing, datetime) else None)
    if existing == "skip":
        # A row's first_seen may lie up to 24 hours ahead of the clock (ADR 0006).
        since = sql.SQL(
            "(SELECT greatest(now(), max({first_seen_value})) + interval '1 microsecond' FROM {incidents} i"
            " WHERE {first_seen_value} <= now() + interval '24 hours')"
        ).format(**names)
    return sql.SQL("UPDATE {schema}.escalation_recalc SET held_before = {since}").format(since=since, **names)
