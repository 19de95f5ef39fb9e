"""What is no single row's fault is held against no row; and what is many rows' fault costs bounded work."""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from escalation_adapters.postgres.session import Session
from escalation_core import StoreNotReady, StoreUnavailable
from escalation_core.engine.refused_rows import MAX_TRIES

from .stage import MINUTE, staged

SHORT = "ALTER TABLE incidents ADD CHECK (length(summary) <= 500) NOT VALID"
LONG = """
    INSERT INTO incidents (incident_key, severity, first_seen, summary)
    SELECT 'k' || n, 'critical', %(now)s::timestamptz - interval '1 hour', repeat('x', 600)
    FROM generate_series(1, 1000) AS n
"""
READS_TENANTS = """
    CREATE FUNCTION reads_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM tenants;
        RETURN NEW;
    END $$
"""


@pytest.mark.direct("a database's own setting reaches sessions that begin after it")
async def test_a_lock_that_others_hold_is_held_against_no_row(migrated_dsn: str) -> None:
    """A lock timeout on the engine's own table is the store's trouble: nothing is deferred, and the next tick pages."""
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        name = sql.Identifier(str(conninfo_to_dict(migrated_dsn)["dbname"]))
        connection.execute(sql.SQL("ALTER DATABASE {} SET lock_timeout = '100ms'").format(name))
    async with staged(migrated_dsn) as stage:
        stage.incident("a", "b", "c")
        with psycopg.connect(migrated_dsn) as person:
            person.execute("LOCK TABLE escalation_events IN SHARE MODE")
            with pytest.raises(StoreUnavailable):
                await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable
        assert [("a", 1, 1), ("b", 1, 1), ("c", 1, 1)] == await stage.tick()


async def test_a_trigger_that_reads_hidden_rows_is_told(migrated_dsn: str) -> None:
    """A host's trigger that meets a policy ends the tick with what to do; no row is deferred for it."""
    role = "reads_tenants_role"
    async with staged(migrated_dsn) as stage:
        stage.incident("a")
        stage.sql(
            "CREATE TABLE tenants (id int)",
            "ALTER TABLE tenants ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"GRANT {role} TO CURRENT_USER",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
            READS_TENANTS.replace("AS $$", f"SET role = {role} AS $$"),
            "CREATE TRIGGER reads_tenants BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION reads_tenants()",
        )
        with pytest.raises(StoreNotReady, match=r"tenants.*SET row_security = on"):
            await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable
        stage.sql("ALTER FUNCTION reads_tenants() SET row_security = on")
        assert [("a", 1, 1)] == await stage.tick()


async def test_children_of_one_key_that_are_refused_stop_nobody(migrated_dsn: str) -> None:
    """Two rows of one key in children of the table, both refused, are passed over together; others are paged."""
    async with staged(migrated_dsn) as stage:
        for child in ("one", "two"):
            stage.sql(
                f"CREATE TABLE {child} () INHERITS (incidents)",
                f"INSERT INTO {child} (incident_key, severity, first_seen, summary, next_due_at)"
                " VALUES ('c', 'critical', %(now)s::timestamptz - interval '1 hour', repeat('x', 600), 'epoch')",
            )
        stage.sql(SHORT)
        stage.incident("good")
        assert [("good", 1, 1)] == await stage.tick()
        stage.incident("more")
        assert [("more", 1, 1)] == await stage.tick()


async def test_many_refused_rows_cost_bounded_work(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are refused, a batch tries a bounded number of writes; the good row beside them is paged."""
    names: list[str] = []
    run = Session.run

    async def noted(session: Session, name: str, **values: object) -> int:
        names.append(name)
        return await run(session, name, **values)

    async with staged(migrated_dsn) as stage:
        stage.sql(LONG)
        stage.sql(SHORT)
        stage.incident("good")
        monkeypatch.setattr(Session, "run", noted)
        await stage.engine.tick(deliver=False)
        monkeypatch.undo()
        # What is left then is tried once more as a whole, part by part.
        assert 0 < names.count("advance") <= MAX_TRIES + 20
        assert (1, 1) == (names.count("defer_unreadable"), names.count("pass_over")), (
            "all that are refused are noted together"
        )
        for _ in range(3):
            await stage.tick(2 * MINUTE)
        assert ["good"] == sorted({page.incident.incident_key for page in stage.notifier.pages})
        assert 1000 == (await stage.engine.health()).stats.unreadable


async def test_a_recalculation_beside_a_far_row_that_is_refused(migrated_dsn: str) -> None:
    """A row that can be neither read nor written, due far ahead, does not end a recalculation."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, summary, next_due_at) VALUES"
            " ('far', 'critical', %(now)s, -1, repeat('x', 600), %(now)s::timestamptz + interval '2 hours')",
            SHORT,
        )
        stage.incident("good")
        await stage.engine.request_recalc()
        assert [("good", 1, 1)] == await stage.tick()
        assert (await stage.engine.health()).recalc.requested_at is None
