"""What a worker process does that migrates: to a host's table, beside another one, while somebody holds the table."""

import asyncio
import contextlib
from typing import Any

from psycopg import AsyncConnection

from escalation_adapters.postgres import migrate
from escalation_adapters.postgres.attach import ExistingIncidents
from escalation_core import EscalationPolicy

MET = """
SELECT count(DISTINCT query) FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND state = 'idle' AND query IN ('ROLLBACK', 'COMMIT')
"""
"""One gave way to who holds the table, and will try again; the other found that it is not alone, and will ask again."""


async def migrating(dsn: str, schema: str) -> None:
    """Attach to a host's table that holds open incidents: refused, then allowed, by two at once, while it is locked."""
    module: Any = migrate
    module.LOCK_TIMEOUT = "30ms"
    with contextlib.suppress(ExistingIncidents):
        await migrate.up(dsn, schema=schema, policy=EscalationPolicy())
    async with await AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'LOCK TABLE "{schema}".incidents IN ACCESS SHARE MODE'.encode())
        both = [asyncio.create_task(migrate.up(dsn, schema=schema, existing="page")) for _ in range(2)]
        await _met(dsn)
    await asyncio.gather(*both)
    async with await AsyncConnection.connect(dsn) as other:
        # A trigger that somebody has turned off is mended.
        await other.execute(f'ALTER TABLE "{schema}".incidents DISABLE TRIGGER zz_escalation_host_insert'.encode())
    await migrate.up(dsn, schema=schema)
    await migrate.up(dsn, schema=f"{schema}_new")


async def _met(dsn: str) -> None:
    """Wait until each of the two has met what is in its way."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as other:
        while True:
            cursor = await other.execute(MET)
            if await cursor.fetchone() == (2,):
                return
            await asyncio.sleep(0.02)
