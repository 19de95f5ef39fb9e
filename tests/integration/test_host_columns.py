"""Tests of columns that a host changes or computes: the engine still pages every incident."""

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine
from escalation_core.testing import RecordingNotifier


async def test_a_key_that_its_host_widens_pages_on(pg_dsn: str) -> None:
    """If a host changes an integer key to bigint after the attach, the engine pages and acknowledges a bigint key."""
    with psycopg.connect(pg_dsn, autocommit=True) as host:
        host.execute("CREATE TABLE incidents (id int PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)")
        await migrate.up(pg_dsn, columns={"incident_key": "id"}, create=True)
        for trigger in ("zz_escalation_host_insert", "zz_escalation_host_update"):
            host.execute(f"DROP TRIGGER {trigger} ON incidents".encode())
        host.execute("DROP INDEX escalation_canary")
        host.execute("ALTER TABLE incidents ALTER COLUMN id TYPE bigint")
        await migrate.up(pg_dsn, create=True)
        host.execute("INSERT INTO incidents VALUES (3000000000, 'critical', now() - interval '1 hour')")
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 1 == (await engine.tick()).escalated
        await engine.acknowledge("3000000000")
    assert ["3000000000"] == [page.incident.incident_key for page in notifier.pages]


async def test_a_column_that_cannot_be_computed_is_not_read(pg_dsn: str) -> None:
    """The engine does not read a host's virtual column: a row pages even if PostgreSQL cannot compute its column."""
    with psycopg.connect(pg_dsn, autocommit=True) as host:
        if host.info.server_version < 180000:
            pytest.skip("virtual generated columns came with PostgreSQL 18")
        host.execute(
            "CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL,"
            " hosts int NOT NULL, per_host int GENERATED ALWAYS AS (100 / hosts) VIRTUAL)"
        )
        await migrate.up(pg_dsn, create=True)
        for key, hosts in (("a", 0), ("b", 1)):
            host.execute("INSERT INTO incidents VALUES (%s, 'critical', now() - interval '1 hour', %s)", [key, hosts])
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 2 == (await engine.tick()).escalated
    assert ["a", "b"] == sorted(page.incident.incident_key for page in notifier.pages)
