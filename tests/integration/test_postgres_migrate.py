"""Tests of migrations on a real server: they run once, in order, refuse wrong databases, and keep older tables."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_adapters.postgres.mapping import COLUMNS as COLUMNS_OF_THE_ENGINE
from escalation_core import Engine, StoreNotReady, StoreRefused, idempotency_key
from escalation_core.testing import RecordingNotifier

from ..postgres import Server
from .migrations import COLUMNS, MIGRATIONS, NAMES, TICKETS, catalogue, execute, select


async def test_up_makes_everything_once(pg_dsn: str) -> None:
    """The first ``up`` applies every migration to an empty database; the second ``up`` applies none."""
    said: list[str] = []
    assert NAMES == list(await migrate.up(pg_dsn, say=said.append, create=True))
    first = [*(f"applying {name}" for name in MIGRATIONS), "created the table public.incidents"]
    assert first == said[: len(first)]
    assert len(COLUMNS_OF_THE_ENGINE) == len([line for line in said[3:] if line.startswith("column ")])
    assert len(said) == len(first) + len(COLUMNS_OF_THE_ENGINE)
    before = catalogue(pg_dsn)
    assert [] == list(await migrate.up(pg_dsn, create=True))
    assert before == catalogue(pg_dsn)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.open("k", first_seen=datetime.now(UTC) - timedelta(minutes=16))
        assert 1 == (await engine.tick()).escalated


async def test_status_tells_what_was_applied_and_what_has_changed(pg_dsn: str) -> None:
    """``status`` lists each migration, the instant of its application, if any, and whether its file has changed."""
    assert [(name, None) for name in MIGRATIONS] == [(at.name, at.applied_at) for at in await migrate.status(pg_dsn)]
    await migrate.up(pg_dsn, create=True)
    found = await migrate.status(pg_dsn)
    assert [] == [at for at in found if at.applied_at is None or at.changed]
    execute(pg_dsn, "UPDATE escalation_migrations SET checksum = 'other' WHERE version = 2")
    assert [2] == [at.version for at in await migrate.status(pg_dsn) if at.changed]


def test_print_sql_is_in_the_words_of_the_installation() -> None:
    """The printed SQL names the given schema, table and columns, and adds only the columns that were not given."""
    text = migrate.print_sql(schema="app", table="tickets", columns=COLUMNS, existing="page")
    assert 'ALTER TABLE "app"."tickets" ADD COLUMN "escalation_level" int' in text
    assert 'ADD COLUMN "acked"' not in text
    assert [True] * len(MIGRATIONS) == [f"'{name}'" in text for name in MIGRATIONS]


async def test_two_ups_at_once_migrate_once(pg_dsn: str) -> None:
    """If two services start at once, one migrates, the other one waits, and both succeed."""
    done = await asyncio.wait_for(asyncio.gather(migrate.up(pg_dsn, create=True), migrate.up(pg_dsn, create=True)), 20)
    assert [[], NAMES] == sorted(map(list, done))
    assert [] == select(pg_dsn, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


async def test_every_constraint_is_validated(migrated_dsn: str) -> None:
    """No check stays NOT VALID: SQLAlchemy cannot reflect such a check, and so neither can a host's Alembic."""
    assert [] == select(migrated_dsn, "SELECT conname FROM pg_constraint WHERE NOT convalidated")


async def test_migration_with_another_checksum_is_refused(migrated_dsn: str) -> None:
    """If the file of an applied migration has changed, ``up`` fails, names the migration, and changes nothing."""
    execute(migrated_dsn, "UPDATE escalation_migrations SET checksum = 'other' WHERE version = 2")
    before = catalogue(migrated_dsn)
    with pytest.raises(StoreNotReady, match="0002_event_indexes is not the file that was applied"):
        await migrate.up(migrated_dsn, create=True)
    assert before == catalogue(migrated_dsn)


async def test_newer_schema_asks_for_an_update_of_the_library(migrated_dsn: str) -> None:
    """A new store and a running store refuse a schema from a later release, and advise to update the library."""
    store = await PostgresStore.connect(migrated_dsn)
    execute(migrated_dsn, "INSERT INTO escalation_migrations (version, name, checksum) VALUES (99, 'later', 'x')")
    with pytest.raises(StoreNotReady, match=r"version 99 .* update escalation-core"):
        await store.check()
    await store.aclose()
    with pytest.raises(StoreNotReady, match=r"version 99 .* update escalation-core"):
        await PostgresStore.connect(migrated_dsn)


async def test_up_refuses_a_schema_of_a_later_version(migrated_dsn: str) -> None:
    """``up`` of an older library refuses a newer schema, and so does not replace the newer triggers."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO escalation_migrations (version, name, checksum) VALUES (99, '0099_later', 'x')")
    with pytest.raises(StoreNotReady, match="is at version 99 and this library supports"):
        await migrate.up(migrated_dsn, create=True)


async def test_connect_to_an_unmigrated_database_names_the_command(pg_dsn: str) -> None:
    """Connecting to an empty or to a half migrated database fails, and the error names the command that helps."""
    with pytest.raises(StoreNotReady, match="run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)
    await migrate.up(pg_dsn, create=True)
    execute(pg_dsn, "DELETE FROM escalation_migrations WHERE version = 9")
    with pytest.raises(StoreNotReady, match="is at version 8 and 9 is needed; run: escalation migrate up"):
        await PostgresStore.connect(pg_dsn)


async def test_the_server_looks_after_the_tables(pg_dsn: str) -> None:
    """After ``up`` PostgreSQL vacuums large tables long before a fifth is dead, and the planner knows the old rows."""
    execute(pg_dsn, TICKETS)
    await migrate.up(pg_dsn, schema="app", table="tickets", columns=COLUMNS, existing="page", create=True)
    found = dict(select(pg_dsn, "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL"))
    assert "autovacuum_vacuum_scale_factor=0.01" in found["escalation_pages"]
    assert "autovacuum_vacuum_insert_scale_factor=0.05" in found["escalation_events"]
    known = select(pg_dsn, "SELECT count(*) FROM pg_stats WHERE tablename IN ('tickets', 'escalation_canary')")
    assert known[0] > 5


async def test_interrupted_before_its_last_step(pg_dsn: str) -> None:
    """After an attach that died before its last step, connecting fails, and the same command completes the attach."""
    execute(pg_dsn, TICKETS)
    await migrate.up(pg_dsn, schema="app", table="tickets", columns=COLUMNS, existing="page")
    added = select(pg_dsn, "SELECT value->'added' FROM app.escalation_meta WHERE name = 'incidents'")
    execute(pg_dsn, "UPDATE app.escalation_meta SET name = 'attaching' WHERE name = 'incidents'")
    with pytest.raises(StoreNotReady, match="is not attached to a table; run: escalation migrate attach"):
        await PostgresStore.connect(pg_dsn, schema="app")
    await migrate.up(pg_dsn, schema="app", table="tickets", columns=COLUMNS, existing="page")
    await (await PostgresStore.connect(pg_dsn, schema="app")).aclose()
    assert added == select(pg_dsn, "SELECT value->'added' FROM app.escalation_meta WHERE name = 'incidents'")
    assert [0] == select(pg_dsn, "SELECT count(*) FROM app.escalation_meta WHERE name = 'attaching'")


async def test_invalid_index_is_built_again(pg_dsn: str) -> None:
    """``up`` drops and rebuilds an index that an interrupted build left invalid, and keeps a valid index."""
    await migrate.up(pg_dsn, create=True)
    execute(pg_dsn, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'escalation_due'::regclass")
    before = select(pg_dsn, "SELECT 'escalation_due'::regclass::oid, 'escalation_canary'::regclass::oid")
    assert ["repaired public.incidents"] == list(await migrate.up(pg_dsn))
    after = select(pg_dsn, "SELECT 'escalation_due'::regclass::oid, 'escalation_canary'::regclass::oid")
    assert (True, False) == (before[0][0] != after[0][0], before[0][1] != after[0][1])
    assert [] == select(pg_dsn, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


async def test_unique_index_that_failed_is_built_once_its_cause_is_gone(pg_dsn: str) -> None:
    """``up`` fails if an event is there twice, and succeeds once the host has removed the copy."""
    execute(
        pg_dsn,
        """
        CREATE TABLE escalation_events (
            id bigserial PRIMARY KEY, incident_key text NOT NULL, level int NOT NULL, unique_hash text NOT NULL UNIQUE,
            created_at timestamptz NOT NULL DEFAULT now()
        );
        INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('k', 1, 'a'), ('k', 1, 'b');
        """,
    )
    with pytest.raises(StoreRefused, match="could not create unique index"):
        await migrate.up(pg_dsn, create=True)
    execute(pg_dsn, "DELETE FROM escalation_events WHERE unique_hash = 'b'")
    assert NAMES[1:] == list(await migrate.up(pg_dsn, create=True))
    assert [True] == select(
        pg_dsn, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'escalation_events_level'::regclass"
    )


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_other_encodings_are_refused(postgres_server: Server, pg_dsn: str, encoding: LiteralString) -> None:
    """``up`` refuses a database whose encoding is not UTF-8, names the encoding, and creates nothing."""
    name = f"{psycopg.conninfo.conninfo_to_dict(pg_dsn)['dbname']}_{encoding.lower()}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode())
    try:
        with pytest.raises(StoreRefused, match=f"the database's encoding is {encoding};"):
            await migrate.up(postgres_server.database(name), create=True)
        with psycopg.connect(postgres_server.database(name)) as connection:
            assert (0,) == connection.execute("SELECT count(*) FROM pg_class WHERE oid >= 16384").fetchone()
    finally:
        postgres_server.drop(name)


async def test_up_without_triggers_makes_none(pg_dsn: str) -> None:
    """With ``trigger=False`` neither the first nor a later ``up`` makes a trigger or a function; the API works."""
    made: LiteralString = "SELECT tgname FROM pg_trigger UNION SELECT proname FROM pg_proc WHERE oid >= 16384"
    assert NAMES == list(await migrate.up(pg_dsn, trigger=False, create=True))
    assert [] == select(pg_dsn, made)
    assert [] == list(await migrate.up(pg_dsn))
    assert [] == select(pg_dsn, made)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        await engine.open("k", first_seen=datetime.now(UTC) - timedelta(minutes=16))
        await engine.tick()
        await engine.acknowledge("k")
        assert 0 == (await engine.tick()).escalated
    assert ["k"] == [page.incident.incident_key for page in notifier.pages]


# --- tables that were there before


def tables_of_the_replaced_worker(dsn: str) -> str:
    """Create the replaced worker's tables with one incident at level 1; return the hash of its escalation."""
    old = idempotency_key("db-7/disk", 1)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """
            CREATE TABLE incidents (
                incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL,
                escalation_level int NOT NULL DEFAULT 0, last_escalated_at timestamptz, acknowledged_at timestamptz
            );
            INSERT INTO incidents VALUES
                ('db-7/disk', 'critical', now() - interval '2 hours', 1, now() - interval '1 hour');
            CREATE TABLE IF NOT EXISTS escalation_events (
                id bigserial PRIMARY KEY,
                incident_key text NOT NULL,
                level int NOT NULL,
                unique_hash text NOT NULL UNIQUE,
                created_at timestamptz NOT NULL DEFAULT now()
            );
            """
        )
        connection.execute(
            "INSERT INTO escalation_events (incident_key, level, unique_hash) VALUES ('db-7/disk', 1, %s)", [old]
        )
    return old


async def test_events_of_old_are_kept(pg_dsn: str) -> None:
    """Old events without episodes keep their rows and belong to episode 1; their incident escalates further."""
    old = tables_of_the_replaced_worker(pg_dsn)
    await migrate.up(pg_dsn, existing="page", create=True)
    events: LiteralString = "SELECT id, incident_key, episode, level, unique_hash FROM escalation_events ORDER BY id"
    assert [(1, "db-7/disk", 1, 1, old)] == select(pg_dsn, events)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 1 == (await engine.tick()).escalated
    assert [idempotency_key("db-7/disk", 2)] == [page.dedup_key for page in notifier.pages]
    assert [1, 2] == [level for _, _, _, level, _ in select(pg_dsn, events)]


async def test_events_of_old_do_not_break_the_promise(pg_dsn: str) -> None:
    """``prove`` counts old events without pages apart, as adopted; with a later one the proof does not hold."""
    tables_of_the_replaced_worker(pg_dsn)
    await migrate.up(pg_dsn, existing="page", create=True)
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[RecordingNotifier()]) as engine:
        await engine.tick()
        proof = await engine.prove()
        assert True is proof.holds
        assert 2 == proof.escalations
        assert 1 == proof.adopted
        assert 0 == proof.without_page
        execute(pg_dsn, "DELETE FROM escalation_pages")
        proof = await engine.prove()
        assert False is proof.holds
        assert 1 == proof.adopted
        assert 1 == proof.without_page
