"""A host's own constraints and triggers may refuse what the engine writes. No other row is refused or waits for it."""

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
"""Refuses when the transaction ends."""


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
    """A row whose update the host refuses is deferred and listed; every other one of its batch escalates and pages."""
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
    """Where not even putting back is possible every row is noted beside, listed, and no one is paged about it."""
    execute(migrated_dsn, DUE, "ALTER TABLE incidents ADD CHECK (next_due_at < now() - interval '1 minute') NOT VALID")
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[RecordingNotifier("t")]) as engine:
        report = await engine.tick()
        assert (0, 50) == (report.escalated, report.skipped["unreadable"])
        assert 50 == (await engine.health()).stats.unreadable
        assert [] == list(await engine.store.read(lambda tx: tx.ledger.escalations(limit=9)))
        assert {} == (await engine.tick()).skipped


async def test_a_refusal_of_the_engines_own_table_ends_the_tick(migrated_dsn: str) -> None:
    """When nothing can be noted either it is not a row's fault: the tick ends with the refusal, and nothing is done."""
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
    """Attaching leaves what it cannot write to the workers: they list the row that is refused, and page the others."""
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
    """A row whose new instant the host refuses keeps its old one; the recalculation visits the rest."""
    execute(migrated_dsn, DUE, "ALTER TABLE incidents ADD CHECK (incident_key <> 'k7' OR next_due_at < now())")
    store = await PostgresStore.connect(migrated_dsn)
    longer = Settings(critical_window=Settings().critical_window * 100)
    async with Engine(store, settings=longer) as engine:
        assert 50 == await engine.recalc()
        assert 0 == (await engine.health()).stats.overdue - 1


async def test_a_row_that_a_host_holds_for_long_does_not_stop_a_recalculation(migrated_dsn: str) -> None:
    """While a host's transaction holds a row, the worker ticks on; the recalculation goes on when the row is free."""
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
