"""Helpers for the tests of migrations: a host's table, queries, the database's catalogue, and a wait."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, LiteralString

import psycopg
import pytest

MIGRATIONS = [
    "0001_tables",
    "0002_event_indexes",
    "0003_policies",
    "0004_policy_indexes",
    "0005_on_call",
    "0006_on_call_index",
    "0007_delivery",
    "0008_delivery_indexes",
    "0009_notices",
]
NAMES = [*MIGRATIONS, "attached to public.incidents"]
"""The steps that the first ``up`` of a database returns."""
COLUMNS = {"incident_key": "id", "severity": "sev", "first_seen": "opened_at", "acknowledged_at": "acked"}


# Of each five tickets one is acknowledged, three are due with the default windows, and one is not due yet.
TICKETS = """
CREATE SCHEMA app;
CREATE TABLE app.tickets (
    id uuid PRIMARY KEY,
    sev text,
    opened_at timestamptz NOT NULL,
    acked timestamptz,
    note text NOT NULL DEFAULT ''
);
INSERT INTO app.tickets (id, sev, opened_at, acked, note)
SELECT md5(n::text)::uuid,
    CASE n % 5 WHEN 3 THEN 'critical' ELSE 'warning' END,
    now() - CASE WHEN n % 5 <= 2 THEN interval '1 hour' ELSE interval '6 minutes' END,
    CASE n % 5 WHEN 0 THEN now() END,
    'ticket ' || n
FROM generate_series(1, 5000) AS n;
"""


def select(dsn: str, statement: LiteralString, *values: object) -> list[Any]:
    """Return the rows of a query; if it has one column, return that column's values."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(statement, values).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def execute(dsn: str, statement: LiteralString) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement)


def catalogue(dsn: str) -> list[Any]:
    """Return schemas, triggers, and the relations, columns and functions that are not PostgreSQL's own."""
    return select(
        dsn,
        """
        SELECT 'namespace', nspname, '', '' FROM pg_namespace
        UNION ALL
        SELECT 'relation', n.nspname, c.relname, concat_ws(' ', c.relkind, c.relfilenode, c.relnatts, c.relhastriggers)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
        UNION ALL
        SELECT 'column', a.attrelid::regclass::text, a.attname, concat_ws(' ', a.atttypid, a.attnotnull, a.atthasdef)
        FROM pg_attribute a WHERE a.attrelid >= 16384
        UNION ALL
        SELECT 'trigger', t.tgrelid::regclass::text, t.tgname, '' FROM pg_trigger t
        UNION ALL
        SELECT 'function', p.pronamespace::regnamespace::text, p.proname, '' FROM pg_proc p WHERE p.oid >= 16384
        ORDER BY 1, 2, 3, 4
        """,
    )


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Check the condition again and again until it is true; fail after ten seconds."""
    for _ in range(1000):
        if await condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the server did not get there")
