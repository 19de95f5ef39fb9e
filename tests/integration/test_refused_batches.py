"""A refused row costs few statements and stops no other row. A row without a key stops no other row."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from escalation_adapters.postgres import CannotAttach, PostgresStore, migrate
from escalation_adapters.postgres.session import Session
from escalation_core import Engine
from escalation_core.testing import RecordingNotifier

from .stage import MINUTE, staged
from .test_refused_rows import REFUSALS

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

COUNTED = """
    CREATE SEQUENCE writes;
    CREATE FUNCTION count_writes() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM nextval('writes');
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_writes BEFORE UPDATE ON incidents FOR EACH STATEMENT EXECUTE FUNCTION count_writes();
"""
"""The sequence counts statements that update incidents, also rolled-back ones: no transaction undoes nextval."""
FEW = 30
"""The most statements allowed: two for each halving of 1,000 rows, two for the whole batch, and the row's deferral."""
INCIDENTS = """
    INSERT INTO incidents (incident_key, severity, first_seen)
    SELECT 'k' || n, 'critical', %(now)s - interval '10 minutes' FROM generate_series(1, 999) AS n
"""
TICKETS = """
    CREATE TABLE incidents (
        id bigserial PRIMARY KEY, external_ref text UNIQUE, severity text, first_seen timestamptz NOT NULL DEFAULT now()
    )
"""
KEY = {"incident_key": "external_ref"}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which each session adds the name of every statement that it runs."""
    run: list[str] = []
    rows: Callable[..., Any] = Session.rows

    async def noted(session: Session, name: str, **values: Any) -> Any:
        run.append(name)
        return await rows(session, name, **values)

    monkeypatch.setattr(Session, "rows", noted)
    return run


@pytest.mark.parametrize("name", REFUSALS)
async def test_one_refused_row_of_a_thousand_costs_few_writes(name: str, migrated_dsn: str) -> None:
    """The engine finds the refused row by halving the batch, in at most 30 updates. The next tick makes at most 4."""
    async with staged(migrated_dsn) as stage:
        stage.incident("bad")
        stage.sql(REFUSALS[name].done)
        stage.sql(INCIDENTS)
        stage.sql(COUNTED)
        report = await stage.engine.tick(deliver=False)
        assert (999, 1) == (report.escalated, report.skipped["unreadable"])
        assert stage.rows("SELECT last_value FROM writes")[0] <= FEW
        stage.clock.advance(MINUTE)
        before = stage.rows("SELECT last_value FROM writes")[0]
        stage.incident("fresh")
        report = await stage.engine.tick(deliver=False)
        # One statement for the usual row, one for the refused row, and one or two that defer the refused row.
        assert (1, 1) == (report.escalated, report.skipped["unreadable"])
        assert stage.rows("SELECT last_value FROM writes")[0] - before <= 4


async def test_so_much_of_a_refusal_is_quoted(migrated_dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """A trigger's message has 100,000 characters and an ESC. Health and the log shorten it and escape the ESC."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        stage.sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION '%', 'too long: ' || chr(27) || repeat('x', 100000) || ' end'; END $$",
            "CREATE TRIGGER refuse BEFORE UPDATE ON incidents FOR EACH ROW"
            " WHEN (NEW.escalation_level > OLD.escalation_level) EXECUTE FUNCTION refuse()",
        )
        await stage.engine.tick()
        ((key, fault),) = (await stage.engine.health()).stats.unreadable_examples
        assert "k" == key
        assert "too long: \\x1bxxx" in fault
        assert fault.endswith("x end")
        lines = [record.getMessage() for record in caplog.records]
        assert any("too long" in line for line in lines)
        assert max(map(len, [fault, *lines])) < 1000


async def test_a_usual_tick_runs_no_second_form(migrated_dsn: str, names: list[str]) -> None:
    """The engine runs ``_passing`` statements only while it passes over a row, and none before or afterwards."""

    def second() -> set[str]:
        seen = {name for name in names if name.endswith("_passing")}
        names.clear()
        return seen

    async with staged(migrated_dsn) as stage:
        stage.incident("good")
        await stage.tick()
        await stage.engine.health()
        assert {"begin", "look", "claim", "stats"} <= set(names)
        assert set() == second()
        stage.incident("bad", "other")
        stage.sql(REFUSALS["check"].done)
        assert [("other", 1, 1)] == await stage.tick()
        stage.incident("third")
        assert [("third", 1, 1)] == await stage.tick()
        await stage.engine.tick(dry_run=True)
        await stage.engine.health()
        assert {"look_passing", "claim_passing", "peek_passing", "stats_passing"} <= second()
        stage.sql(REFUSALS["check"].undone)
        assert [("bad", 1, 1)] == await stage.tick(MINUTE)
        names.clear()
        stage.incident("fourth")
        assert [("fourth", 1, 1)] == await stage.tick()
        await stage.engine.health()
        assert set() == second()


async def test_two_rows_refused_in_two_ways_stop_no_other_row(migrated_dsn: str) -> None:
    """The database refuses one row at once and one at commit. With batches of 7 the engine pages all other rows."""
    async with staged(migrated_dsn, batch_size=7) as stage:
        stage.incident("bad", "long")
        stage.sql(REFUSALS["check"].done.replace("'bad'", "'long'").replace("refuse", "short"))
        stage.sql(REFUSALS["deferred"].done)
        stage.incident(*(f"k{n}" for n in range(20)))
        assert sorted((f"k{n}", 1, 1) for n in range(20)) == await stage.tick()
        assert 2 == (await stage.engine.health()).stats.unreadable
        stage.clock.advance(MINUTE)
        stage.incident("new")
        assert [("new", 1, 1)] == await stage.tick()


# --- rows without a key


async def test_attaching_to_a_key_that_may_be_null_is_refused(pg_dsn: str) -> None:
    """``migrate.up`` refuses a unique key column that may be NULL, and changes nothing. Its remedy works."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(TICKETS)
    with pytest.raises(CannotAttach, match=r"external_ref.*may be NULL.*ALTER COLUMN \"external_ref\" SET NOT NULL"):
        await migrate.up(pg_dsn, columns=KEY, create=True)
    with psycopg.connect(pg_dsn) as connection:
        assert (None,) == connection.execute("SELECT to_regclass('escalation_migrations')").fetchone()
        connection.execute('ALTER TABLE incidents ALTER COLUMN "external_ref" SET NOT NULL')
    assert await migrate.up(pg_dsn, columns=KEY, create=True)


async def test_a_row_without_a_key_stops_no_other_row(pg_dsn: str) -> None:
    """The host drops NOT NULL after attaching. Rows without a key stop no other row, and health warns of these rows."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(TICKETS.replace("UNIQUE", "NOT NULL UNIQUE"))
    await migrate.up(pg_dsn, columns=KEY, create=True)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        assert () == tuple((await engine.health()).warnings)
        with psycopg.connect(pg_dsn) as host:
            host.execute("ALTER TABLE incidents ALTER COLUMN external_ref DROP NOT NULL")
            host.execute(
                "INSERT INTO incidents (external_ref, severity, first_seen)"
                " SELECT unnest(ARRAY['a', NULL, 'b', NULL]), 'critical', now() - interval '10 minutes'"
            )
            host.execute(
                "INSERT INTO incidents VALUES (9, 'later', 'critical', now() - interval '4 minutes 30 seconds')"
            )
        report = await engine.tick()
        assert (2, {}) == (report.escalated, dict(report.skipped))
        assert ["a", "b"] == sorted(page.incident.incident_key for page in notifier.pages)
        assert 0 == (await engine.tick()).escalated + (await engine.tick(dry_run=True)).escalated
        # The runner sleeps until the next row with a key is due, and no worker is late for that row.
        assert 1 < (await engine.next_tick_in(await engine.tick())).total_seconds() <= 30
        assert 3 == await engine.recalc()
        health = await engine.health()
        assert True is health.ok
        assert 0 == health.stats.marked
        assert 0 == health.stats.overdue
        nullable, keyless = health.warnings
        assert 'ALTER COLUMN "external_ref" SET NOT NULL' in nullable
        assert "2 rows" in keyless
    assert 1 == len(await migrate.check(pg_dsn))
