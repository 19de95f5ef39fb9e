"""The walk that migrates: two migrations of a host's table at the same time, while a transaction locks the table."""

import asyncio
import contextlib
from typing import Any

from psycopg import AsyncConnection

from escalation_adapters.postgres import ExistingIncidents, StatusMapping, applying, migrate
from escalation_core import BuiltinPolicy

STATUS = StatusMapping(column="status", open="open", acknowledged="acked", resolved="closed")
BOTH_WAIT = """
SELECT count(DISTINCT query) FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND state = 'idle' AND query IN ('ROLLBACK', 'COMMIT')
"""
"""Whether one migration gave up a table lock and will retry, and the other found that another migration runs."""


async def migrate_host(dsn: str, schema: str) -> None:
    """Attach the engine to a host's table with open incidents, twice at the same time while the table is locked."""
    module: Any = applying
    module.LOCK_TIMEOUT = "30ms"
    with contextlib.suppress(ExistingIncidents):
        await migrate.up(dsn, schema=schema, policy=BuiltinPolicy(), create=True)
    async with await AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'LOCK TABLE "{schema}".incidents IN ACCESS SHARE MODE'.encode())
        both = [asyncio.create_task(migrate.up(dsn, schema=schema, existing="page")) for _ in range(2)]
        await _until_both_wait(dsn)
    await asyncio.gather(*both)
    async with await AsyncConnection.connect(dsn) as other:
        # Turn a trigger off, so that the next migration turns it on.
        await other.execute(f'ALTER TABLE "{schema}".incidents DISABLE TRIGGER zz_escalation_host_insert'.encode())
    await migrate.up(dsn, schema=schema)
    await migrate.attach(dsn, schema=schema, status=STATUS, existing="page")
    await migrate.up(dsn, schema=f"{schema}_new", create=True)


async def _until_both_wait(dsn: str) -> None:
    """Wait until one migration has met the table's lock, and the other one the first migration's lock."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as other:
        while True:
            cursor = await other.execute(BOTH_WAIT)
            if await cursor.fetchone() == (2,):
                return
            await asyncio.sleep(0.02)
