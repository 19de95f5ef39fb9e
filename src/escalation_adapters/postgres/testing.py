"""For tests of hosts: empty the engine's tables between two tests."""

from psycopg import sql

from escalation_core import StoreNotReady

from .applying import connect
from .errors import MIGRATE, translated
from .installation import own_tables, standing

LOCK_TIMEOUT = "10s"
"""How long ``empty`` waits for a transaction that a test has left open."""
_KEPT = ("escalation_migrations", "escalation_meta", "escalation_recalc")
"""Tables that describe the installation."""
_RESET = """
DELETE FROM {schema}.escalation_meta WHERE name LIKE 'status word %';
UPDATE {schema}.escalation_recalc SET requested_at = NULL, cursor = NULL, visited = 0, finished_at = NULL,
    fingerprint = NULL, due_only = false, ahead = NULL, skipped = false;
"""
"""In the tables that stay: what workers note there. ``held_before`` belongs to the attachment."""


async def empty(dsn: str, *, schema: str = "public") -> None:
    """Empty the engine's own tables: escalations, pages, audit, pauses, heartbeats, counts. Ids begin at 1 again.

    The host's table, the migrations and the attachment stay. Use it between tests, never on a database whose history
    anyone needs. It is one transaction, and waits for transactions that are still open.

    Raises:
        StoreNotReady: the schema is not migrated.
        StoreUnavailable: the database is out of reach, or a test left a transaction open for ten seconds.
        StoreRefused: a table of the host refers to a table of the engine.
    """
    with translated():
        async with await connect(dsn) as connection:
            applied, _ = await standing(connection, schema)
            if not applied:
                raise StoreNotReady(f"schema {schema!r} is not migrated; {MIGRATE}")
            names = [sql.Identifier(schema, name) for name in own_tables() if name not in _KEPT]
            async with connection.transaction():
                await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
                await connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(sql.SQL(", ").join(names)))
                await connection.execute(sql.SQL(_RESET).format(schema=sql.Identifier(schema)))
