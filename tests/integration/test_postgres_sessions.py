"""Tests of PostgreSQL sessions: they keep no state, few serve many calls, and cancelled calls lose no session."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, idempotency_key
from escalation_core.ports import Transaction
from escalation_core.testing import RecordingNotifier

from .workers import overdue, select


@pytest.mark.direct("looks at a session of its own, with statements prepared in it")
@pytest.mark.parametrize(("pooler", "prepared"), [("transaction", False), (None, True)])
async def test_nothing_stays_behind_in_a_session(migrated_dsn: str, pooler: Any, prepared: bool) -> None:
    """For a transaction pooler the store prepares no statement.

    In no mode does a setting, a lock, a temporary table or a LISTEN outlive a transaction.
    """
    overdue(migrated_dsn, 20)
    store = await PostgresStore.connect(migrated_dsn, pooler=pooler, max_connections=1)
    async with Engine(store, notifiers=[RecordingNotifier()], batch_size=2) as engine:
        for _ in range(8):
            await engine.tick()
            await engine.health()
            await engine.audit(datetime.now(UTC) - timedelta(days=1))
        await engine.acknowledge("k1")
        await engine.recalc()
        async with store._pool.connection() as connection:
            found = await connection.execute(
                "SELECT (SELECT count(*) > 0 FROM pg_prepared_statements),"
                " (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_'),"
                " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
                " (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), count(*) FROM pg_listening_channels()"
            )
            assert (prepared, 0, 0, 0, 0) == await found.fetchone()


async def test_encoding_of_the_environment_does_not_matter(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and summaries in any script arrive unchanged, even if ``PGCLIENTENCODING`` asks for another encoding."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    key = "база/диск-✓"
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier]) as engine:
        await engine.open(key, summary="満杯", first_seen=datetime.now(UTC) - timedelta(hours=1))
        await engine.tick()
    assert [(key, "満杯", idempotency_key(key, 1))] == [
        (page.incident.incident_key, page.incident.summary, page.dedup_key) for page in notifier.pages
    ]


async def test_many_workers_fit_in_few_connections(migrated_dsn: str) -> None:
    """If more calls come at once than the store has connections, the calls wait for their turn, and all succeed."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=2)
    async with Engine(store) as engine:
        opened = await asyncio.gather(*(engine.open(f"k{n}") for n in range(100)))
        again = await asyncio.gather(*(engine.open("same", summary=str(n)) for n in range(20)))
    assert 100 == len({incident.incident_key for incident in opened})
    assert {1} == {incident.episode for incident in again}
    assert [101] == select(migrated_dsn, "SELECT count(*) FROM incidents")


async def test_storm_of_cancellations_loses_no_connection(migrated_dsn: str) -> None:
    """Calls that are cancelled at random moments return their connections; all four connections stay usable."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=4)
    async with Engine(store) as engine:
        await engine.open("k")
        for number in range(300):
            calls = [asyncio.create_task(engine.open("k", summary=str(number))) for _ in range(8)]
            await asyncio.sleep(random.random() * 0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        # Run as many transactions at once as there are connections; each one holds a connection.
        gather, arrived = asyncio.Event(), 0

        async def hold(tx: Transaction) -> None:
            nonlocal arrived
            await tx.now()
            arrived += 1
            if arrived == 4:
                gather.set()
            await gather.wait()

        await asyncio.wait_for(asyncio.gather(*(store.transact(hold) for _ in range(4))), 20)
