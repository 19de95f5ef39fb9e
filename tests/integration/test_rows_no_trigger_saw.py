"""The engine finds, counts and pages rows that a host writes while the triggers are disabled, dropped or missing."""

from datetime import timedelta

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine, Settings
from escalation_core.engine import heartbeat as pulse
from escalation_core.testing import RecordingNotifier

from .stage import MINUTE, Stage, staged

PAUSE = timedelta(seconds=15)
"""The next tick of a worker after this span searches for such rows again."""
DISABLE = "ALTER TABLE incidents DISABLE TRIGGER USER"
REPLICA = "SET session_replication_role = replica"
DROP = "DROP TRIGGER zz_escalation_host_insert ON incidents", "DROP TRIGGER zz_escalation_host_update ON incidents"
INSERT = (
    "INSERT INTO incidents (incident_key, severity, first_seen) VALUES ('k', 'critical', now() - interval '10 min')"
)
CHILD = "CREATE TABLE child () INHERITS (incidents)"
WAYS = {
    "disabled": (DISABLE, INSERT),
    "disabled meanwhile": (DISABLE, INSERT, "ALTER TABLE incidents ENABLE TRIGGER USER"),
    "replica": (REPLICA, INSERT),
    "dropped": (*DROP, INSERT),
    "inheritance": (CHILD, INSERT.replace("INTO incidents", "INTO child")),
}
OFF = ["disabled", "dropped"]


def copy_without_triggers(stage: Stage, *keys: str, age: timedelta = 10 * MINUTE) -> None:
    """Write rows as ``pg_restore --disable-triggers`` does."""
    with psycopg.connect(stage.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE incidents DISABLE TRIGGER ALL")
        with cursor.copy("COPY incidents (incident_key, severity, first_seen) FROM STDIN") as copy:
            for key in keys:
                copy.write_row((key, "critical", stage.clock() - age))
        cursor.execute("ALTER TABLE incidents ENABLE TRIGGER ALL")


# --- found


@pytest.mark.parametrize("way", WAYS)
async def test_a_row_that_no_trigger_saw_is_paged(
    way: str, migrated_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The first tick finds the row and logs it; the next tick pages it. The incident escalates like any other."""
    async with staged(migrated_dsn) as stage:
        stage.sql(*WAYS[way])
        assert [] == await stage.tick()
        assert [("k", 1, 1)] == await stage.tick()
        assert "1 open rows were written while the triggers were off" in caplog.text
        assert [("k", 1, 2)] == await stage.tick(30 * MINUTE)
        stage.sql("UPDATE incidents SET acknowledged_at = now()")
        assert [] == await stage.tick(30 * MINUTE)
        assert (await stage.engine.prove()).holds


@pytest.mark.parametrize("way", WAYS)
async def test_health_counts_rows_that_no_trigger_saw(way: str, migrated_dsn: str) -> None:
    """Health counts such rows and warns of them until a worker's tick has found them."""
    async with staged(migrated_dsn) as stage:
        assert (0, ()) == ((await stage.engine.health()).stats.unseen, tuple((await stage.engine.health()).warnings))
        stage.sql(*WAYS[way])
        health = await stage.engine.health()
        assert (1, 1) == (health.stats.unseen, health.as_dict()["unseen"])
        assert any("written while the triggers were off" in warning for warning in health.warnings)
        await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unseen


async def test_rows_of_a_restore_are_paged(migrated_dsn: str) -> None:
    """A host restores rows by COPY without triggers. The 1,200 due rows escalate; a new row waits for its window."""
    async with staged(migrated_dsn, settings=Settings()) as stage:
        copy_without_triggers(stage, *(f"k{n:04}" for n in range(1200)))
        copy_without_triggers(stage, "later", age=timedelta())
        await stage.engine.tick(deliver=False)
        assert 1200 == (await stage.engine.tick(deliver=False)).escalated
        assert stage.clock() + 5 * MINUTE == stage.due("later")


@pytest.mark.parametrize("column", ["acknowledged_at", "resolved_at"])
async def test_an_incident_that_is_open_again_unseen_is_heard(column: str, migrated_dsn: str) -> None:
    """An incident that a host unacknowledges or reopens while the triggers are off is paged again."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.tick()
        stage.sql(f"UPDATE incidents SET {column} = now()")
        await stage.tick(PAUSE)
        stage.sql(DISABLE, f"UPDATE incidents SET {column} = NULL", "ALTER TABLE incidents ENABLE TRIGGER USER")
        await stage.tick(PAUSE)
        assert ["k"] == [key for key, _, _ in await stage.tick(30 * MINUTE)]


async def test_an_exhausted_incident_that_is_opened_again_unseen_is_heard(migrated_dsn: str) -> None:
    """A host resolves an exhausted incident and reopens it while the triggers are off. The new episode is paged."""
    async with staged(migrated_dsn, settings=Settings(max_level=1)) as stage:
        stage.incident("k")
        await stage.tick()
        stage.sql("UPDATE incidents SET resolved_at = now()")
        await stage.tick(PAUSE)
        stage.sql(REPLICA, "UPDATE incidents SET resolved_at = NULL")
        paged = await stage.tick(PAUSE) + await stage.tick(PAUSE) + await stage.tick(30 * MINUTE)
        assert ["k"] == [key for key, _, _ in paged]


async def test_a_deleted_row_that_comes_again_unseen_begins_a_new_episode(migrated_dsn: str) -> None:
    """A host deletes a row and inserts its key again without triggers. The engine pages the key in a new episode."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        assert [("k", 1, 1)] == await stage.tick()
        stage.sql("DELETE FROM incidents")
        copy_without_triggers(stage, "k")
        await stage.tick(PAUSE)
        assert [("k", 2, 1)] == await stage.tick()


# --- passed over


async def test_exhausted_rows_are_not_found_again(migrated_dsn: str) -> None:
    """Exhausted rows have no next_due_at either. Ticks do not write them again, and health does not count them."""
    async with staged(migrated_dsn, settings=Settings(max_level=1)) as stage:
        stage.incident("a", "b")
        assert [("a", 1, 1), ("b", 1, 1)] == await stage.tick()
        stage.sql("UPDATE incidents SET acknowledged_at = now() WHERE incident_key = 'b'")
        stage.sql("UPDATE incidents SET acknowledged_at = NULL WHERE incident_key = 'b'")
        await stage.tick(PAUSE)
        versions = stage.rows("SELECT incident_key, xmin::text FROM incidents ORDER BY 1")
        for _ in range(3):
            assert [] == await stage.tick(PAUSE)
            health = await stage.engine.health()
            assert (0, 2) == (health.stats.unseen, health.stats.exhausted)
        assert versions == stage.rows("SELECT incident_key, xmin::text FROM incidents ORDER BY 1")


async def test_rows_that_a_recalculation_exhausts_are_not_called_unseen(
    migrated_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A recalculation with a lower maximum level clears next_due_at. Health and log do not call those rows unseen."""
    async with staged(migrated_dsn) as stage:
        stage.incident("k")
        await stage.tick()
    async with staged(migrated_dsn, settings=Settings(max_level=1)) as stage:
        await stage.engine.recalc()
        assert 0 == (await stage.engine.health()).stats.unseen
        await stage.tick(PAUSE)
        assert "triggers were off" not in caplog.text


@pytest.mark.parametrize(("existing", "found"), [("skip", []), ("since", ["young"]), ("page", ["old", "young"])])
async def test_rows_that_attaching_left_alone_are_not_found(existing: str, found: list[str], pg_dsn: str) -> None:
    """Ticks leave alone the rows that ``existing`` excluded at attaching. A recalculation pages them."""
    with psycopg.connect(pg_dsn) as connection:
        connection.execute(
            """
            CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL);
            INSERT INTO incidents VALUES
                ('old', 'critical', now() - interval '1 hour'), ('young', 'critical', now() - interval '10 minutes');
            """
        )
        row = connection.execute("SELECT now() - interval '30 minutes'").fetchone()
    assert row is not None
    await migrate.up(pg_dsn, existing=row[0] if existing == "since" else existing, create=True)  # type: ignore[arg-type]
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(pg_dsn), notifiers=[notifier]) as engine:
        for _ in range(3):
            await engine.tick()
            assert 0 == (await engine.health()).stats.unseen
        assert found == sorted(page.incident.incident_key for page in notifier.pages)
        await engine.recalc()
        await engine.tick()
        assert ["old", "young"] == sorted(page.incident.incident_key for page in notifier.pages)


async def test_the_look_for_unseen_rows_goes_on_where_it_ended(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search reads 1,000 rows and continues where the last one ended. The third finds a row behind 2,500 others."""
    async with staged(migrated_dsn, settings=Settings(max_level=1)) as stage:
        stage.sql(
            "INSERT INTO incidents (incident_key, severity, first_seen)"
            " SELECT 'k' || lpad(n::text, 4, '0'), 'critical', %(now)s - interval '10 minutes'"
            " FROM generate_series(1, 2500) AS n"
        )
        await stage.engine.tick(deliver=False)
        now = iter(range(10**9))
        monkeypatch.setattr(pulse, "monotonic", lambda: 0.2 * next(now))
        copy_without_triggers(stage, "z")
        for found in (False, False, True):
            assert stage.due("z") is None
            stage.clock.advance(PAUSE)
            await stage.engine.tick(deliver=False)
            assert found is (stage.due("z") is not None)
        assert 1 == (await stage.engine.tick(deliver=False)).escalated


@pytest.mark.parametrize("settings", [Settings(dry_run=True), Settings(canary_pct=0)], ids=["dry run", "canary"])
async def test_an_unseen_row_in_a_dry_run_or_outside_the_canary_is_not_paged(
    settings: Settings, migrated_dsn: str
) -> None:
    """A dry run counts an unseen row and leaves it as it is. A row outside the canary gets an instant but no page."""
    async with staged(migrated_dsn, settings=settings) as stage:
        stage.sql(DISABLE, INSERT)
        assert 1 == (await stage.engine.health()).stats.unseen
        assert [] == await stage.tick() + await stage.tick(PAUSE)
        assert settings.dry_run is (stage.due("k") is None)


async def test_an_unseen_row_that_is_refused_stops_no_other(migrated_dsn: str) -> None:
    """Ticks page the other unseen rows and list a row that the database refuses. After the refusal they page it."""
    async with staged(migrated_dsn) as stage:
        copy_without_triggers(stage, "a", "bad", "c")
        stage.sql(
            "UPDATE incidents SET summary = repeat('x', 600) WHERE incident_key = 'bad'",
            "ALTER TABLE incidents ADD CONSTRAINT short CHECK (length(summary) < 500) NOT VALID",
        )
        await stage.tick()
        assert [("a", 1, 1), ("c", 1, 1)] == await stage.tick()
        assert ["bad"] == [key for key, _ in (await stage.engine.health()).stats.unreadable_examples]
        assert 0 == (await stage.engine.health()).stats.unseen
        stage.sql("ALTER TABLE incidents DROP CONSTRAINT short")
        await stage.tick(60 * MINUTE)
        assert "bad" in [key for key, _, _ in await stage.tick()]
