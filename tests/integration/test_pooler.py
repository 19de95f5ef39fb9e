"""Tests of pgbouncer in transaction mode. With ``--pooler`` all tests of the store run behind pgbouncer."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_adapters.postgres.scratch import scratch_store
from escalation_core import Engine, StoreUnavailable
from escalation_core.testing import ManualClock, RecordingNotifier

from ..pooler import PASSWORD, Pgbouncer, Poolers, documented
from .leftovers import leaves_nothing

pytestmark = [pytest.mark.system("pgbouncer"), pytest.mark.direct("it names its own pooler")]

LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"


async def test_documented_configuration(migrated_dsn: str) -> None:
    """The pooler takes the documented configuration unchanged, and the engine pages an incident through the pooler."""
    block = documented()["pgbouncer"]
    pooler = Pgbouncer.start(migrated_dsn, **block)
    try:
        told: Mapping[str, str] = {name: value for name, value, *_ in pooler.tell("SHOW CONFIG")}
        ours = {"listen_addr", "listen_port", "auth_file"}
        assert {name: block[name] for name in block.keys() - ours} == {name: told[name] for name in block.keys() - ours}
        notifier = RecordingNotifier()
        store = await PostgresStore.connect(pooler.dsn(migrated_dsn), pooler="transaction")
        async with Engine(store, notifiers=[notifier]) as engine:
            await engine.open("k", severity="critical", first_seen=datetime(2026, 1, 1, tzinfo=UTC))
            assert 1 == (await engine.tick()).escalated
        assert 1 == len(notifier.pages)
    finally:
        pooler.stop()


async def test_migrations_through_a_pooler_ran_at_once(pg_dsn: str) -> None:
    """If four services start at once behind a pooler, one migrates at a time, and no lock is left."""
    pooler = Pgbouncer.start(pg_dsn, default_pool_size="2")
    try:
        dsn = pooler.dsn(pg_dsn)
        done = await asyncio.wait_for(asyncio.gather(*(migrate.up(dsn, create=True) for _ in range(4))), 60)
        assert [0, 0, 0] == sorted(len(names) for names in done)[:3]
        assert await migrate.up(dsn, create=True) == []
        with psycopg.connect(pg_dsn) as connection:
            assert (0,) == connection.execute(LOCKS).fetchone()
    finally:
        pooler.stop()


async def test_migration_waits_for_no_snapshot_of_its_own(pg_dsn: str) -> None:
    """Services that migrate at once do not block each other for ever if the default isolation is serializable."""
    name = sql.Identifier(str(conninfo_to_dict(pg_dsn)["dbname"]))
    with psycopg.connect(pg_dsn, autocommit=True) as owner:
        owner.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(name))
    done = await asyncio.wait_for(asyncio.gather(*(migrate.up(pg_dsn, create=True) for _ in range(3))), 60)
    assert [0, 0] == sorted(len(names) for names in done)[:2]


async def test_replay_through_a_pooler(pg_dsn: str, poolers: Poolers) -> None:
    """A replay creates, uses and drops its own schema through a pooler."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with (
        scratch_store(poolers.dsn(pg_dsn), clock, pooler="transaction") as store,
        Engine(store, notifiers=[RecordingNotifier()]) as engine,
    ):
        for number in range(12):
            await engine.open(f"k{number}", severity="critical", first_seen=datetime(2025, 12, 31, tzinfo=UTC))
        assert 12 == (await engine.tick()).escalated
    with psycopg.connect(pg_dsn) as connection:
        assert (0,) == connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'escalation_scratch_%'"
        ).fetchone()


async def test_password_is_not_told(migrated_dsn: str, poolers: Poolers) -> None:
    """If the pooler refuses the login, the error names the failed authentication and does not show the password."""
    dsn = poolers.dsn(migrated_dsn).replace(PASSWORD, "hunter2-hunter2")
    with pytest.raises(StoreUnavailable, match=r"not available: .*authentication") as refusal:
        await PostgresStore.connect(dsn, pooler="transaction")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "ended"])
def test_nothing_is_left_of_a_process_that_started_a_pooler(killed: bool) -> None:
    """After the starting process ends, or a signal kills it, the pooler is soon gone, then its folder and watcher."""
    program = "from tests.pooler import Pgbouncer\nserver = Pgbouncer.start('host=127.0.0.1 port=1')"
    leaves_nothing(program, killed=killed)
