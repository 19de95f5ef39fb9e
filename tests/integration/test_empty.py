"""``empty`` leaves the engine's tables as after the migration, and keeps the host's table and the attachment."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate, testing
from escalation_adapters.postgres.installation import own_tables
from escalation_core import Engine, StoreNotReady, StoreUnavailable
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance.harness import START

from .host_tables import ALERTS, execute, until_waiting
from .migrations import select


def rows(dsn: str) -> dict[str, Any]:
    """Return every row of the engine's own tables."""
    return {name: select(dsn, f"SELECT to_jsonb(t) FROM {name} t ORDER BY 1") for name in own_tables()}


async def work(dsn: str) -> None:
    """Let an engine write into each of its tables that a test may leave rows in."""
    clock = ManualClock(START)
    async with Engine(await PostgresStore.connect(dsn, clock=clock), notifiers=[RecordingNotifier("ops")]) as engine:
        await engine.open("k", severity="critical")
        clock.advance(timedelta(minutes=5))
        assert 1 == (await engine.tick()).escalated
        await engine.pause(timedelta(minutes=1), by="test")
        await engine.recalc()
        assert 1 == len((await engine.history("k")).escalations)


async def test_tables_are_as_after_the_migration(migrated_dsn: str) -> None:
    """After ``empty`` each of the engine's tables has the rows that it had after the attach, and ids begin at 1."""
    before = rows(migrated_dsn)
    for _ in range(2):
        await work(migrated_dsn)
        assert before != rows(migrated_dsn)
        assert [1] == select(migrated_dsn, "SELECT min(id) FROM escalation_events")
        await testing.empty(migrated_dsn)
        assert before == rows(migrated_dsn)
        assert ["k"] == select(migrated_dsn, "SELECT incident_key FROM incidents"), "the host's rows stay"
        execute(migrated_dsn, "DELETE FROM incidents")
    assert [] == list(await migrate.check(migrated_dsn))


async def test_rows_that_were_left_alone_stay_so(pg_dsn: str) -> None:
    """Rows that the attach left alone are not paged after ``empty``: that is part of the attachment."""
    execute(pg_dsn, ALERTS)
    columns = {"incident_key": "id", "severity": "priority", "first_seen": "created_at:read"}
    await migrate.attach(pg_dsn, table="alerts", columns=columns, existing="skip")
    await testing.empty(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        assert 0 == sum([(await engine.tick()).escalated for _ in range(2)])


async def test_schema_without_migration(pg_dsn: str) -> None:
    """A schema that is not migrated is refused with the command."""
    with pytest.raises(StoreNotReady, match="escalation migrate up"):
        await testing.empty(pg_dsn)


async def test_open_transaction_is_waited_for(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``empty`` waits for a transaction that a test left open, says so after the timeout, and has emptied nothing."""
    await work(migrated_dsn)
    async with await psycopg.AsyncConnection.connect(migrated_dsn) as connection:
        await connection.execute("SELECT FROM escalation_events")
        emptied = asyncio.create_task(testing.empty(migrated_dsn))
        await until_waiting(connection)
        assert not emptied.done()
        await connection.commit()
        await emptied
        assert [0] == select(migrated_dsn, "SELECT count(*) FROM escalation_audit")
        await connection.execute("SELECT FROM escalation_events")
        execute(migrated_dsn, "INSERT INTO escalation_audit (at, action) VALUES (now(), 'pause')")
        monkeypatch.setattr(testing, "LOCK_TIMEOUT", "100ms")
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            await testing.empty(migrated_dsn)
        assert [1] == select(migrated_dsn, "SELECT count(*) FROM escalation_audit")
