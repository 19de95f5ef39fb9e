"""What a host's other transactions hold, and columns that it changes, stop nobody else."""

from datetime import datetime, timedelta

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine, StoreNotReady
from escalation_core.testing import RecordingNotifier

from .stage import MINUTE, Stage, staged

COUNTS = """
    CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE teams SET pages = pages + 1 WHERE team = NEW.labels ->> 'team';
        RETURN NEW;
    END $$
"""


async def test_a_trigger_that_waits_for_others_stops_nobody_else(migrated_dsn: str) -> None:
    """Rows whose trigger waits for what a forgotten transaction holds are deferred; the others are paged."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "CREATE TABLE teams (team text PRIMARY KEY, pages int NOT NULL DEFAULT 0)",
            "INSERT INTO teams VALUES ('red'), ('blue')",
            COUNTS,
            "CREATE TRIGGER counts AFTER UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION counts()",
        )
        for team in ("red", "blue"):
            stage.incident(f"{team}-1", f"{team}-2")
            stage.sql(f"UPDATE incidents SET labels = '{{\"team\": \"{team}\"}}' WHERE incident_key LIKE '{team}-%%'")
        with psycopg.connect(migrated_dsn) as forgotten:
            forgotten.execute("UPDATE teams SET pages = 0 WHERE team = 'red'")
            assert [("blue-1", 1, 1), ("blue-2", 1, 1)] == await stage.tick()
            health = await stage.engine.health()
            assert ["red-1", "red-2"] == sorted(key for key, _ in health.stats.unreadable_examples)
        assert [("red-1", 1, 1), ("red-2", 1, 1)] == await stage.tick(MINUTE)


async def test_a_step_of_the_clock_is_mended_around_a_row_that_is_held(migrated_dsn: str) -> None:
    """A host's open transaction keeps its own row from being recalculated, no other one; then it is done as well."""
    async with staged(migrated_dsn) as stage:
        stage.incident("a", "b", "c")
        await stage.tick()
        stage.clock.advance(-timedelta(days=2))
        with psycopg.connect(migrated_dsn) as host:
            host.execute("UPDATE incidents SET summary = 'held' WHERE incident_key = 'a'")
            await stage.tick()
            soon = stage.clock() + timedelta(hours=1)
            assert ["a"] == late(stage, soon)
            health = await stage.engine.health()
            assert any("calculated anew" in warning for warning in health.warnings)
        await stage.tick(MINUTE)
        assert [] == late(stage, soon)
        assert (await stage.engine.health()).recalc.requested_at is None


def late(stage: Stage, soon: datetime) -> list[str]:
    """Return which of the incidents are not due by then."""
    return [key for key in "abc" if (due := stage.due(key)) is None or due > soon]


async def test_a_key_that_its_host_widens_pages_on(pg_dsn: str) -> None:
    """An integer key that became a bigint since the table was attached is read as what it is now."""
    with psycopg.connect(pg_dsn, autocommit=True) as host:
        host.execute("CREATE TABLE incidents (id int PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)")
        await migrate.up(pg_dsn, columns={"incident_key": "id"})
        for trigger in ("zz_escalation_host_insert", "zz_escalation_host_update"):
            host.execute(f"DROP TRIGGER {trigger} ON incidents".encode())
        host.execute("DROP INDEX escalation_canary")
        host.execute("ALTER TABLE incidents ALTER COLUMN id TYPE bigint")
        await migrate.up(pg_dsn)
        host.execute("INSERT INTO incidents VALUES (3000000000, 'critical', now() - interval '1 hour')")
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 1 == (await engine.tick()).escalated
        await engine.acknowledge("3000000000")
    assert ["3000000000"] == [page.incident.incident_key for page in notifier.pages]


async def test_a_column_that_cannot_be_computed_is_not_read(pg_dsn: str) -> None:
    """A virtual generated column of the host, which PostgreSQL computes as it is read, is no concern of the engine."""
    with psycopg.connect(pg_dsn, autocommit=True) as host:
        if host.info.server_version < 180000:
            pytest.skip("virtual generated columns came with PostgreSQL 18")
        host.execute(
            "CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL,"
            " hosts int NOT NULL, per_host int GENERATED ALWAYS AS (100 / hosts) VIRTUAL)"
        )
        await migrate.up(pg_dsn)
        for key, hosts in (("a", 0), ("b", 1)):
            host.execute("INSERT INTO incidents VALUES (%s, 'critical', now() - interval '1 hour', %s)", [key, hosts])
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 2 == (await engine.tick()).escalated
    assert ["a", "b"] == sorted(page.incident.incident_key for page in notifier.pages)


async def test_up_refuses_a_schema_of_a_later_version(migrated_dsn: str) -> None:
    """An older library does not call a newer schema up to date, nor put its own triggers over the newer ones."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO escalation_migrations (version, name, checksum) VALUES (99, '0099_later', 'x')")
    with pytest.raises(StoreNotReady, match="is at version 99 and this library knows"):
        await migrate.up(migrated_dsn)
