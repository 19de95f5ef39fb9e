"""The process and the event loop that a PostgreSQL store belongs to."""

import asyncio
import os

import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_core import EscalationError


async def test_a_second_loop_is_refused(migrated_dsn: str) -> None:
    """Its connections wait in the first one."""
    store = await PostgresStore.connect(migrated_dsn)
    with pytest.raises(EscalationError, match="in another event loop before; open one for each loop"):
        await asyncio.to_thread(lambda: asyncio.run(store.check()))
    await store.aclose()


async def test_a_forked_process_is_refused(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes would talk on one connection."""
    store = await PostgresStore.connect(migrated_dsn)
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: 1)
        with pytest.raises(EscalationError, match="before this process was forked"):
            await store.look(canary_pct=100)
    await store.aclose()
