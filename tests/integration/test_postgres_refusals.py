"""Tests of a host's constraints and triggers that refuse the engine's write: no other row is refused or waits."""

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine, Settings, StoreRefused
from escalation_core.testing import RecordingNotifier

DUE = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'k' || n, 'critical', now() - interval '10 minutes', now() - interval '5 minutes' + n * interval '1 second'
    FROM generate_series(1, 50) AS n
"""
STUBBORN = """
    CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.incident_key = 'k7' AND NEW.escalation_level > 0 THEN
            RAISE EXCEPTION 'k7 never rises';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER stubborn BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION stubborn();
"""
DEFERRED = STUBBORN.replace(
    "TRIGGER stubborn BEFORE UPDATE ON incidents",
    "CONSTRAINT TRIGGER stubborn AFTER UPDATE ON incidents DEFERRABLE INITIALLY DEFERRED",
)
"""A trigger that refuses the row when the transaction ends."""


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize(
    "refusal",
    ["ALTER TABLE incidents ADD CHECK (incident_key <> 'k7' OR escalation_level < 1)", STUBBORN, DEFERRED],
    ids=["constraint", "trigger", "deferred"],
)
async def test_a_row_that_cannot_be_written_is_put_back(refusal: str, batch_size: int, migrated_dsn: str) -> None:
    """The engine defers and lists a row whose update the host refuses; every other row escalates and pages."""
    execute(migrated_dsn, DUE, refusal)
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier], batch_size=batch_size) as engine:
        report = await engine.tick()
        assert (49, 1) == (report.escalated, report.skipped["unreadable"])
        assert 49 == len(notifier.pages)
        assert "k7" not in {page.incident.incident_key for page in notifier.pages}
        health = await engine.health()
        assert ["k7"] == [key for key, _ in health.stats.unreadable_examples]
        history = await engine.history("k7")
        assert ([], []) == (list(history.escalations), list(history.pages))
        assert 0 == (await engine.tick()).escalated


async def test_rows_that_are_all_refused_are_all_listed(migrated_dsn: str) -> None:
    """If the host refuses even the deferral, the engine notes each row in its own table and pages nothing.

    Health lists all rows.
    """
    execute(migrated_dsn, DUE, "ALTER TABLE incidents ADD CHECK (next_due_at < now() - interval '1 minute') NOT VALID")
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier("t")]) as engine:
        report = await engine.tick()
        assert (0, 50) == (report.escalated, report.skipped["unreadable"])
        assert 50 == (await engine.health()).stats.unreadable
        assert [] == list(await engine.store.read(lambda tx: tx.ledger.escalations(limit=9)))
        assert {} == (await engine.tick()).skipped


async def test_a_refusal_of_the_engines_own_table_ends_the_tick(migrated_dsn: str) -> None:
    """If the engine's own table refuses the note too, the rows are not at fault: the tick raises the refusal.

    No row escalates.
    """
    execute(
        migrated_dsn,
        DUE,
        "ALTER TABLE incidents ADD CHECK (next_due_at < now() - interval '1 minute') NOT VALID",
        "ALTER TABLE escalation_unreadable ADD CHECK (false)",
    )
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier("t")]) as engine:
        with pytest.raises(StoreRefused, match="violates check constraint"):
            await engine.tick()
        assert [] == list(await engine.store.read(lambda tx: tx.ledger.escalations(limit=9)))


async def test_a_table_with_a_row_that_is_refused_can_be_attached(pg_dsn: str) -> None:
    """Attaching succeeds with a row that the host refuses; the workers list that row, and page the other rows."""
    execute(
        pg_dsn,
        "CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)",
        "INSERT INTO incidents SELECT 'k' || n, 'critical', now() - interval '1 hour' FROM generate_series(1, 50) AS n",
        "ALTER TABLE incidents ADD CHECK (incident_key <> 'k7') NOT VALID",
    )
    await migrate.up(pg_dsn, existing="page", create=True)
    notifier = RecordingNotifier("t")
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert 50 == (await engine.health()).stats.unseen
        await engine.tick()
        assert 49 == (await engine.tick()).escalated
        assert ["k7"] == [key for key, _ in (await engine.health()).stats.unreadable_examples]
    assert 49 == len(notifier.pages)


async def test_a_recalculation_passes_by_what_is_refused(migrated_dsn: str) -> None:
    """If the host refuses a row's new instant, the row keeps its old instant; the recalculation visits the rest."""
    execute(migrated_dsn, DUE, "ALTER TABLE incidents ADD CHECK (incident_key <> 'k7' OR next_due_at < now())")
    store = await PostgresStore.connect(migrated_dsn)
    longer = Settings(critical_window=Settings().critical_window * 100)
    async with Engine(store, settings=longer) as engine:
        assert 50 == await engine.recalc()
        assert 1 == (await engine.health()).stats.overdue


async def test_a_row_that_a_host_holds_for_long_does_not_stop_a_recalculation(migrated_dsn: str) -> None:
    """While a host's transaction holds a row, the worker still ticks; the recalculation ends once the row is free."""
    execute(migrated_dsn, DUE)
    async with Engine(
        await PostgresStore.connect(migrated_dsn),
        settings=Settings(critical_window=Settings().critical_window * 100),
        notifiers=[RecordingNotifier("t")],
    ) as engine:
        await engine.request_recalc()
        with psycopg.connect(migrated_dsn) as host:
            host.execute("UPDATE incidents SET summary = 'held' WHERE incident_key = 'k7'")
            await engine.tick()
            assert (await engine.health()).recalc.requested_at is not None
            host.rollback()
        await engine.tick()
        assert (await engine.health()).recalc.requested_at is None
        assert 0 == (await engine.health()).stats.overdue
