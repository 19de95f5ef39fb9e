"""Tables of hosts that tests attach to, and a dump of a table to compare."""

import asyncio
from typing import Any, LiteralString

import psycopg

from .migrations import select

ALERTS: LiteralString = """
CREATE TYPE alert_status AS ENUM ('triggered', 'acked', 'closed', 'canceled', 'odd');
CREATE TABLE alerts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    status alert_status NOT NULL DEFAULT 'triggered',
    priority text,
    assignee text,
    created_at timestamptz NOT NULL DEFAULT now(),
    note text NOT NULL DEFAULT '' CHECK (note <> 'forbidden')
);
CREATE INDEX alerts_by_note ON alerts (note);
CREATE FUNCTION alerts_note() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.note := coalesce(NEW.note, '');
    RETURN NEW;
END
$body$;
CREATE TRIGGER alerts_note BEFORE INSERT OR UPDATE ON alerts FOR EACH ROW EXECUTE FUNCTION alerts_note();
COMMENT ON COLUMN alerts.note IS 'free text';
INSERT INTO alerts (status, priority, assignee, created_at, note)
SELECT (ARRAY['triggered', 'acked', 'closed', 'canceled'])[1 + n % 4]::alert_status,
    CASE n % 2 WHEN 0 THEN 'critical' ELSE 'warning' END, 'team-' || n % 3, now() - interval '1 hour', 'alert ' || n
FROM generate_series(1, 5000) AS n;
"""
"""A table of 5,000 rows with a status, uuid keys and objects of the host's own. A quarter of the rows is open."""


def execute(dsn: str, statement: str, *values: object) -> None:
    """Run one statement or several, as the host does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode(), values or None)


def dump(dsn: str, table: str = "alerts") -> dict[str, Any]:
    """Return everything of a table that a dump shows: columns, indexes, constraints, triggers, rights, rows."""
    queries: dict[str, LiteralString] = {
        "columns": """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                col_description(a.attrelid, a.attnum)
            FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
            WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
        """,
        "indexes": "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass ORDER BY 1",
        "constraints": "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass ORDER BY 1",
        "triggers": "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid = %s::regclass ORDER BY 1",
        "functions": """
            SELECT p.proname, p.prosrc FROM pg_proc p, pg_class c
            WHERE c.oid = %s::regclass AND p.pronamespace = c.relnamespace ORDER BY 1
        """,
        "relation": "SELECT relkind, relacl, reloptions, relrowsecurity FROM pg_class WHERE oid = %s::regclass",
    }
    found: dict[str, Any] = {name: select(dsn, query, table) for name, query in queries.items()}
    with psycopg.connect(dsn) as connection:
        found["rows"] = connection.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
    return found


async def until_waiting(other: psycopg.AsyncConnection[Any]) -> None:
    """Wait until another session waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            cursor = await other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if await cursor.fetchone() != (0,):
                return
            await asyncio.sleep(0.01)  # the server sends no event when a session begins to wait
