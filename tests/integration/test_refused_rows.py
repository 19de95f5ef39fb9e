"""The host's database refuses to update one row. The engine defers it or passes over it, and no other row waits."""

import asyncio
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run
from escalation_core import Engine, Settings, in_canary
from escalation_core.testing import ManualClock, RecordingNotifier

from .stage import MINUTE, Stage, staged, until

BAD = "bad"
SOON = timedelta(seconds=30)
PLACE = "ALTER TABLE incidents ADD COLUMN place text; UPDATE incidents SET place = 'here';"


@attrs.frozen
class Refusal:
    """SQL with which a host's database refuses all updates of one row, or only updates that raise the row's level."""

    done: str
    undone: str
    moves: bool
    """Whether the database accepts another next_due_at for the row."""


def trigger(condition: str, kind: str = "TRIGGER refuse BEFORE UPDATE ON incidents") -> Refusal:
    done = f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.incident_key = '{BAD}' AND {condition} THEN
                RAISE EXCEPTION 'no';
            END IF;
            RETURN NEW;
        END $$;
        CREATE {kind} FOR EACH ROW EXECUTE FUNCTION refuse();
    """
    return Refusal(done, "DROP FUNCTION refuse CASCADE", condition != "true")


DEFERRED = "CONSTRAINT TRIGGER refuse AFTER UPDATE ON incidents DEFERRABLE INITIALLY DEFERRED"
RISES = "NEW.escalation_level > 0"
LONG = f"UPDATE incidents SET summary = repeat('x', 600) WHERE incident_key = '{BAD}';"
REFUSALS = {
    "check": Refusal(
        LONG + "ALTER TABLE incidents ADD CONSTRAINT refuse CHECK (length(summary) <= 500) NOT VALID",
        "ALTER TABLE incidents DROP CONSTRAINT refuse",
        moves=False,
    ),
    "check-level": Refusal(
        f"ALTER TABLE incidents ADD CONSTRAINT refuse CHECK (incident_key <> '{BAD}' OR escalation_level < 1)",
        "ALTER TABLE incidents DROP CONSTRAINT refuse",
        moves=True,
    ),
    "trigger": trigger("true"),
    "trigger-level": trigger(RISES),
    "deferred": trigger("true", DEFERRED),
    "deferred-level": trigger(RISES, DEFERRED),
    # In both cases another row of the same place already has the unique value: an instant, or level 1.
    "unique": Refusal(
        PLACE + "INSERT INTO incidents (incident_key, first_seen, next_due_at, place)"
        " VALUES ('taken', now(), '2999-01-01', 'there');"
        f" UPDATE incidents SET place = 'there' WHERE incident_key = '{BAD}';"
        " CREATE UNIQUE INDEX refuse ON incidents (place, (next_due_at > 'epoch')) WHERE place = 'there'",
        "DROP INDEX refuse",
        moves=False,
    ),
    "unique-level": Refusal(
        PLACE + "INSERT INTO incidents (incident_key, first_seen, escalation_level, next_due_at, place)"
        " VALUES ('taken', now(), 1, '2999-01-01', 'there');"
        f" UPDATE incidents SET place = 'there' WHERE incident_key = '{BAD}';"
        " CREATE UNIQUE INDEX refuse ON incidents (place, escalation_level) WHERE place = 'there'",
        "DROP INDEX refuse",
        moves=True,
    ),
}
STUCK = [name for name, refusal in REFUSALS.items() if not refusal.moves]
UNTIL = {
    True: "SELECT next_due_at FROM incidents WHERE incident_key = 'bad'",
    False: "SELECT passed_until FROM escalation_unreadable WHERE incident_key = 'bad'",
}
"""The query for the instant of the row's next attempt, by ``Refusal.moves``."""


@pytest.mark.parametrize("name", REFUSALS)
async def test_one_refused_row_stops_no_other_row(name: str, migrated_dsn: str) -> None:
    """The engine pages the other rows. It counts and lists the refused row, and leaves that row alone for a minute."""
    refusal = REFUSALS[name]
    async with staged(migrated_dsn) as stage:
        stage.incident(BAD)
        stage.sql(refusal.done)
        stage.incident(*"abcdef")
        stage.incident("later", age=5 * MINUTE - SOON)
        assert [(key, 1, 1) for key in "abcdef"] == await stage.tick()
        health = await stage.engine.health()
        assert (1, [BAD]) == (health.stats.unreadable, [key for key, _ in health.stats.unreadable_examples])
        assert 0 == health.stats.overdue
        assert 0 == health.stats.marked
        assert False is health.behind
        assert stage.clock() + MINUTE == stage.rows(UNTIL[refusal.moves])[0]
        # No tick and no dry run takes the refused row. The runner sleeps until the other row is due.
        report = await stage.engine.tick()
        assert (0, {}) == (report.escalated, dict(report.skipped))
        assert {} == dict((await stage.engine.tick(dry_run=True)).skipped)
        assert SOON == await stage.engine.next_tick_in(await stage.engine.tick())
        assert [("later", 1, 1)] == await stage.tick(SOON)
        assert [] == stage.pages(BAD)


@pytest.mark.parametrize("name", STUCK)
async def test_the_runner_goes_on_beside_a_refused_put_back(name: str, migrated_dsn: str) -> None:
    """The database even refuses to defer the row. The runner pages three earlier and three later incidents."""
    notifier = RecordingNotifier()
    store = await PostgresStore.connect(migrated_dsn)
    settings = Settings(tick_interval=timedelta(seconds=1))
    async with Engine(store, settings=settings, notifiers=[notifier]) as engine:
        stage = Stage(migrated_dsn, ManualClock(datetime.now(UTC)), notifier, engine)
        stage.incident(BAD)
        stage.sql(REFUSALS[name].done)
        stage.incident(*"abc")
        stop = asyncio.Event()
        running = asyncio.create_task(run(engine, stop=stop, signals=False))
        try:
            await until(lambda: running.done() or len(notifier.pages) == 3)
            stage.incident(*"def")
            await until(lambda: running.done() or len(notifier.pages) == 6)
            assert not running.done(), running.exception()
            assert [*"abcdef"] == sorted(page.incident.incident_key for page in notifier.pages)
            health = await engine.health()
            assert (True, 1) == (health.ok, health.stats.unreadable)
        finally:
            stop.set()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_row_is_tried_again_less_and_less_often(name: str, migrated_dsn: str) -> None:
    """The waits between attempts double from 1 minute to 1 hour. After the refusal the next attempt pages the row."""
    refusal = REFUSALS[name]
    async with staged(migrated_dsn) as stage:
        stage.incident(BAD)
        stage.sql(refusal.done)
        for minutes in (1, 2, 4, 8, 16, 32, 60, 60):
            assert {"unreadable": 1} == dict((await stage.engine.tick()).skipped)
            assert stage.clock() + minutes * MINUTE == stage.rows(UNTIL[refusal.moves])[0]
            stage.clock.advance(minutes * MINUTE - timedelta(microseconds=1))
            assert {} == dict((await stage.engine.tick()).skipped)
            stage.clock.advance(timedelta(microseconds=1))
        stage.sql(refusal.undone)
        assert [(BAD, 1, 1)] == await stage.tick()
        assert [] == stage.rows("SELECT * FROM escalation_unreadable")
        assert 0 == (await stage.engine.health()).stats.unreadable


@pytest.mark.parametrize("mend", ["summary = 'short'", "summary = 'short', severity = 'warning'"])
async def test_a_refused_row_that_its_host_mends_is_looked_at_at_once(mend: str, migrated_dsn: str) -> None:
    """After a host's UPDATE corrects a refused row, the next tick pages the row, whichever columns the host wrote."""
    async with staged(migrated_dsn) as stage:
        stage.incident(BAD, "good")
        stage.sql(REFUSALS["check"].done)
        for minutes in (1, 2, 4, 8, 16, 32):
            await stage.tick()
            stage.clock.advance(minutes * MINUTE)
        await stage.tick()
        stage.sql(f"UPDATE incidents SET {mend} WHERE incident_key = '{BAD}'")
        assert [(BAD, 1, 1)] == await stage.tick()
        assert 0 == (await stage.engine.health()).stats.unreadable


@pytest.mark.parametrize("name", STUCK)
async def test_a_refused_row_stops_no_canary(name: str, migrated_dsn: str) -> None:
    """With a canary too, claims, counts and the runner's sleep pass over the refused row."""
    assert in_canary(BAD, 50)
    inside = [key for key in map(str, range(20)) if in_canary(key, 50)]
    async with staged(migrated_dsn, settings=Settings(canary_pct=50)) as stage:
        stage.incident(BAD)
        stage.sql(REFUSALS[name].done)
        stage.incident(*inside[:-1])
        stage.incident(inside[-1], age=5 * MINUTE - SOON)
        assert sorted((key, 1, 1) for key in inside[:-1]) == await stage.tick()
        health = await stage.engine.health()
        assert 1 == health.stats.unreadable
        assert 0 == health.stats.overdue
        assert 0 == health.stats.marked
        assert {} == dict((await stage.engine.tick()).skipped)
        assert SOON == await stage.engine.next_tick_in(await stage.engine.tick())
        assert [(inside[-1], 1, 1)] == await stage.tick(SOON)
