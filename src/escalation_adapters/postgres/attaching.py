"""Carry out an attach, a repair and a detach: transactions on the host's table, in an order that survives a crash."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
from psycopg import AsyncConnection, sql

from escalation_core import StoreRefused

from .applying import buildable, drop_invalid, patiently
from .attach import (
    INDEXES,
    TRIGGERS,
    add_sql,
    create_sql,
    drop_functions_sql,
    drop_sql,
    index_sql,
    keep_sql,
    missing_in,
    restore_sql,
    trigger_sql,
    words_sql,
    written_columns,
)
from .existing import Existing, mark_existing
from .host_table import read_columns
from .installation import (
    droppable_tables,
    faults,
    forget,
    new_revision,
    record_table,
    unfinished_table,
    wants_triggers,
)
from .statements import fill
from .table import IncidentsTable

Say = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Detachment:
    """What a detach removes from the host's table, and what it leaves."""

    table: str
    triggers: Sequence[str]
    indexes: Sequence[str]
    columns: Sequence[str]
    """The columns that are dropped: those that an attach added."""
    created: bool
    """Whether an attach created the table. Then the table and its columns stay."""
    pages: int
    """Pages that were not sent, and are cancelled."""
    tables: Sequence[str] = ()
    """The engine's own tables that are dropped."""


async def attach_table(
    connection: AsyncConnection[Any],
    table: IncidentsTable,
    before: IncidentsTable | None,
    *,
    create: bool,
    existing: Existing | None,
    trigger: bool,
    say: Say,
) -> None:
    """Attach to a table that was inspected. ``before`` is the mapping until now, if there was one.

    The first transaction adds columns and triggers. A first attach is recorded as complete only after its indexes are
    built and its open incidents are chosen, so that an interrupted one is run again from its beginning.
    """
    unfinished = before or await unfinished_table(connection, table.schema)
    there = {} if create else await read_columns(connection, table) or {}
    missing = missing_in(table, [*there])
    added = [table.columns[name] for name in missing] if not create else []
    if unfinished is not None and unfinished.name == table.name:
        added = list(dict.fromkeys([*unfinished.added, *added]))
        table = attrs.evolve(table, created=unfinished.created)
    table = attrs.evolve(table, added=added, created=table.created or create, revision=new_revision())
    triggers = trigger if before is None else await wants_triggers(connection, table)
    # An index whose definition stays is not built again: in a host's transaction that would block its writers.
    there_already = {} if before is None else index_sql(before)
    changed = [name for name, text in index_sql(table).items() if there_already.get(name) != text]

    async def change() -> None:
        nonlocal table
        await connection.execute(drop_sql(before or table, changed).encode())
        ddl = create_sql(table) if create else add_sql(table, missing)
        await connection.execute(ddl.encode())
        await connection.execute(restore_sql(table, missing).encode())
        if triggers:
            await connection.execute(trigger_sql(table).encode())
        columns = await read_columns(connection, table) or {}
        table = attrs.evolve(table, kinds={name: columns[name].kind for name in table.host_columns})
        await record_table(connection, table, "attaching" if before is None else "incidents", triggers=triggers)
        await _note_words(connection, table)
        if before is not None and existing != "skip":
            # The mapping decides when incidents are due, so workers plan all of them anew.
            await connection.execute(fill(_RECALC, table.sql_names()).encode())

    await patiently(connection, change)
    say(f"created the table {table.schema}.{table.name}" if create else f"attached to {table.schema}.{table.name}")
    await _build_indexes(connection, table)
    if before is None:
        marked = await mark_existing(connection, table, existing or "page")
        if not create and existing is not None:
            say(f"set {marked} open incidents to be planned at the next tick")

        async def complete() -> None:
            await record_table(connection, table, "incidents", triggers=triggers)
            await forget(connection, table.schema, "attaching")

        await patiently(connection, complete)
    # The planner has no statistics yet for columns and indexes that were just added to existing rows.
    await connection.execute(fill("ANALYZE {incidents}", table.sql_names()).encode())
    for column, meaning, verbs in written_columns(table):
        say(f"column {column}: {meaning}; written by: {verbs}")


async def mend(connection: AsyncConnection[Any], table: IncidentsTable, say: Say) -> list[str]:
    """Create triggers and indexes again that are missing, disabled or changed; report the other faults."""
    # A host may have corrected the rows with an unknown word since.
    await _note_words(connection, table)
    found = await faults(connection, table)
    for fault in found:
        say(f"{'repairing' if fault.mendable else 'warning'}: {fault}")
    if not any(fault.mendable for fault in found):
        return []

    async def change() -> None:
        if await wants_triggers(connection, table):
            await connection.execute(trigger_sql(table).encode())

    await patiently(connection, change)
    await _build_indexes(connection, table)
    return [f"repaired {table.schema}.{table.name}"]


async def read_detachment(
    connection: AsyncConnection[Any], table: IncidentsTable, *, drop_tables: bool = False
) -> Detachment:
    """Return what a detach would remove."""
    statement = fill(
        "SELECT count(*) FROM {schema}.escalation_pages WHERE state IN ('pending', 'leased')", table.sql_names()
    )
    ((pages,),) = await (await connection.execute(statement.encode())).fetchall()
    return Detachment(
        table=f"{table.schema}.{table.name}",
        triggers=TRIGGERS if await wants_triggers(connection, table) else (),
        indexes=INDEXES,
        columns=() if table.created else table.added,
        created=table.created,
        pages=pages,
        tables=await droppable_tables(connection, table.schema) if drop_tables else (),
    )


async def detach_table(
    connection: AsyncConnection[Any], table: IncidentsTable, tick_interval: timedelta, *, drop_tables: bool = False
) -> Detachment:
    """Remove what the engine added, in one transaction; with ``drop_tables`` also the engine's own tables."""
    await _check_workers(connection, table, tick_interval)
    removed = await read_detachment(connection, table, drop_tables=drop_tables)
    names = table.sql_names()
    there = await read_columns(connection, table)

    async def change() -> None:
        if there is None:
            # A table that was renamed still has the triggers.
            await connection.execute(drop_functions_sql(table).encode())
        else:
            # No row may change between the copy of its values and the drop of its columns.
            await connection.execute(fill("LOCK TABLE {incidents} IN ACCESS EXCLUSIVE MODE", names).encode())
            if removed.columns:
                await connection.execute(keep_sql(table).encode())
            await connection.execute(drop_sql(table).encode())
            for column in removed.columns:
                drop = sql.SQL("ALTER TABLE {} DROP COLUMN IF EXISTS {}").format(
                    names["incidents"], sql.Identifier(column)
                )
                await connection.execute(drop)
        await connection.execute(fill(CANCEL, names).encode())
        await forget(connection, table.schema, "incidents", "attaching", "triggers", "status word %")
        for name in removed.tables:
            await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table.schema, name)))

    await patiently(connection, change)
    return removed


async def _check_workers(connection: AsyncConnection[Any], table: IncidentsTable, tick_interval: timedelta) -> None:
    statement = fill(
        "SELECT worker, extract(epoch FROM now() - ticked_at)::int FROM {schema}.escalation_workers"
        " WHERE ticked_at > now() - %(span)s::interval ORDER BY ticked_at DESC LIMIT 1",
        table.sql_names(),
    )
    row = await (await connection.execute(statement.encode(), {"span": 2 * tick_interval})).fetchone()
    if row is not None:
        raise StoreRefused(
            f"worker {row[0]!r} completed a tick {row[1]} s ago; stop the workers, and run the command again after"
            f" {int(2 * tick_interval.total_seconds())} s"
        )


async def _build_indexes(connection: AsyncConnection[Any], table: IncidentsTable) -> None:
    await drop_invalid(connection, table.sql_names()["incidents"].as_string())
    for text in index_sql(table).values():
        await connection.execute(buildable(connection, text).encode())


async def _note_words(connection: AsyncConnection[Any], table: IncidentsTable) -> None:
    """Record each word of the status that no list has, so that health reports it."""
    await forget(connection, table.schema, "status word %")
    if table.status is not None:
        await connection.execute(words_sql(table).encode())


_RECALC = "UPDATE {schema}.escalation_recalc SET requested_at = now(), cursor = NULL, visited = 0, due_only = false"
CANCEL = """
UPDATE {schema}.escalation_pages SET
    state = CASE state WHEN 'pending' THEN 'cancelled' ELSE 'cancelling' END,
    due_at = CASE state WHEN 'pending' THEN now() ELSE due_at END, reason = 'detached'
WHERE state IN ('pending', 'leased');
UPDATE {schema}.escalation_notices SET state = 'expired', due_at = now(), fence = fence + 1, reason = 'detached'
WHERE state IN ('pending', 'leased');
DELETE FROM {schema}.escalation_changes
"""
