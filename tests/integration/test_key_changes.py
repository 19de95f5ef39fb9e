"""Tests of key changes: any statement that changes an open incident's key ends one incident and begins another."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Delivered, Engine, Retry
from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import RecordingNotifier

from .stage import MINUTE, Stage, paged, staged

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

HOST_TRIGGER = """
    CREATE FUNCTION a_host() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.incident_key := coalesce(NEW.labels ->> 'key', NEW.incident_key);
        RETURN NEW;
    END $$;
    CREATE TRIGGER a_host BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION a_host();
"""
"""The name sorts before the name of the engine's trigger, so PostgreSQL runs this trigger first."""
WAYS = {
    "alone": "UPDATE incidents SET incident_key = 'new' WHERE incident_key = 'old'",
    "with its instant": "UPDATE incidents SET incident_key = 'new', next_due_at = now() + interval '1 year'"
    " WHERE incident_key = 'old'",
    "with no instant": "UPDATE incidents SET incident_key = 'new', next_due_at = NULL WHERE incident_key = 'old'",
    "with its level": "UPDATE incidents SET incident_key = 'new', escalation_level = 3 WHERE incident_key = 'old'",
    "with its episode": "UPDATE incidents SET incident_key = 'new', episode = 9 WHERE incident_key = 'old'",
    "in a trigger": """UPDATE incidents SET labels = '{"key": "new"}' WHERE incident_key = 'old'""",
    "in a trigger, with its instant": """
        UPDATE incidents SET labels = '{"key": "new"}', next_due_at = now() WHERE incident_key = 'old'""",
}
AUDIT = "SELECT incident_key, episode, level, reason FROM escalation_audit WHERE action = 'change_key' ORDER BY id"


def execute(dsn: str, statement: str, *values: object) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode(), values or None)


async def raised(stage: Stage, key: str, times: int, *, deliver: bool = True) -> None:
    """Insert an incident and escalate it ``times`` times; without ``deliver`` the last page stays pending."""
    stage.incident(key)
    for turn in range(times):
        stage.clock.advance(30 * MINUTE * bool(turn))
        await stage.engine.tick(deliver=deliver or turn < times - 1)


@pytest.mark.parametrize("way", WAYS)
async def test_a_changed_key_cancels_its_page_and_is_paged_anew(way: str, migrated_dsn: str) -> None:
    """A key change cancels the old key's page with the reason, and pages the new key from level 1.

    The audit has an entry for each key.
    """
    async with staged(migrated_dsn) as stage:
        if "trigger" in way:
            stage.sql(HOST_TRIGGER)
        await raised(stage, "old", 2, deliver=False)
        stage.sql(WAYS[way])
        assert (1, "delivered", None) == stage.pages("old")[0]
        assert [(2, "cancelled", "key changed")] == stage.pages("old")[1:]
        assert [("new", 1, 1)] == await stage.tick()
        assert [] == await stage.tick(30 * MINUTE - timedelta(microseconds=1))
        assert [("new", 1, 2)] == await stage.tick(timedelta(microseconds=1))
        told = [(key, episode, level) for key, episode, level, _ in stage.rows(AUDIT)]
        assert [("old", 1, 2), ("new", 1, 0)] == told
        assert ["now new", "was old"] == [reason.partition(": ")[2] for *_, reason in stage.rows(AUDIT)]
        assert (await stage.engine.prove()).holds


async def test_a_key_that_a_host_trigger_changes_last_is_paged_anew(migrated_dsn: str) -> None:
    """A key change by a host's trigger that runs after the engine's trigger cancels the old page and pages anew.

    PostgreSQL runs the triggers in the order of their names.
    """
    async with staged(migrated_dsn) as stage:
        stage.sql(HOST_TRIGGER.replace("TRIGGER a_host", "TRIGGER z_host"))
        await raised(stage, "old", 2, deliver=False)
        stage.sql(WAYS["in a trigger"])
        assert [(2, "cancelled", "key changed")] == stage.pages("old")[1:]
        assert [("new", 1, 1)] == await stage.tick()


async def test_a_key_with_a_history_is_paged_from_level_one(migrated_dsn: str) -> None:
    """The new key's episode is one more than its highest recorded episode, so the key pages again from level 1."""
    async with staged(migrated_dsn) as stage:
        await raised(stage, "new", 3)
        stage.sql("UPDATE incidents SET escalation_level = 0 WHERE incident_key = 'new'")
        stage.clock.advance(30 * MINUTE)
        assert [("new", 2, 1)] == await stage.tick()
        stage.sql("DELETE FROM incidents")
        await raised(stage, "old", 1, deliver=False)
        stage.sql("UPDATE incidents SET incident_key = 'new'")
        assert [(1, "cancelled", "key changed")] == stage.pages("old")
        assert [("new", 3, 1)] == await stage.tick()
        assert [("new", 3, 2)] == await stage.tick(30 * MINUTE)


async def test_a_key_that_is_changed_back_is_paged_anew(migrated_dsn: str) -> None:
    """If a key changes and changes back, with or without a tick between, each change begins a new incident."""
    async with staged(migrated_dsn) as stage:
        await raised(stage, "old", 1)
        stage.sql("UPDATE incidents SET incident_key = 'new'", "UPDATE incidents SET incident_key = 'old'")
        assert [("old", 2, 1)] == await stage.tick()
        stage.sql("UPDATE incidents SET incident_key = 'new'")
        assert [("new", 1, 1)] == await stage.tick()
        stage.sql("UPDATE incidents SET incident_key = 'old'")
        assert [("old", 3, 1)] == await stage.tick()
        assert (await stage.engine.prove()).holds


async def test_keys_that_are_changed_in_bulk_are_all_paged_anew(migrated_dsn: str) -> None:
    """One statement changes a hundred keys, half of them to keys that other rows leave: all of them page anew."""
    async with staged(migrated_dsn) as stage:
        stage.sql(
            "ALTER TABLE incidents DROP CONSTRAINT incidents_pkey",
            "ALTER TABLE incidents ADD CONSTRAINT incidents_pkey PRIMARY KEY (incident_key) DEFERRABLE",
            "INSERT INTO incidents (incident_key, severity, first_seen)"
            " SELECT 'k' || n, 'critical', %(now)s - interval '10 minutes' FROM generate_series(1, 100) AS n",
        )
        await stage.engine.tick(deliver=False)
        stage.sql("UPDATE incidents SET incident_key = 'k' || substr(incident_key, 2)::int + 50")
        states = "SELECT state, reason, count(*) FROM escalation_pages GROUP BY 1, 2"
        assert [("cancelled", "key changed", 100)] == stage.rows(states)
        expected = [(f"k{n}", 2 if n <= 100 else 1, 1) for n in range(51, 151)]
        assert sorted(expected) == await stage.tick()
        assert (await stage.engine.prove()).holds


@pytest.mark.parametrize("answers", ["delivered", "failed"])
async def test_a_page_under_way_when_its_key_changes_is_not_tried_again(answers: str, migrated_dsn: str) -> None:
    """A page whose key changes in flight may arrive once.

    If the page fails, the engine cancels the page with the reason, and does not try again.
    """
    held: list[Callable[[], None]] = []
    outcome = Delivered() if answers == "delivered" else Retry("later")

    def answer(page: Any) -> Any:
        if page.incident.incident_key == "old":
            held.pop()()
            return outcome
        return Delivered()

    async with staged(migrated_dsn, answer=answer) as stage:
        held.append(lambda: stage.sql("UPDATE incidents SET incident_key = 'new' WHERE incident_key = 'old'"))
        stage.incident("old")
        await stage.tick()
        expected = (1, "delivered", None) if answers == "delivered" else (1, "cancelled", "key changed")
        assert [expected] == stage.pages("old")
        assert ("new", 1, 1) in await stage.tick() + paged(stage.notifier.pages)
        assert 1 == [page.incident.incident_key for page in stage.notifier.pages].count("old")


async def test_a_page_that_waits_for_its_retry_is_cancelled_with_its_key(migrated_dsn: str) -> None:
    """A key change cancels a page that waits for its retry; the engine sends the new key's own page."""
    failing = [True]
    async with staged(migrated_dsn, answer=lambda page: Retry("no") if failing else Delivered()) as stage:
        stage.incident("old")
        await stage.tick()
        assert [(1, "pending", "no")] == stage.pages("old")
        failing.clear()
        stage.sql("UPDATE incidents SET incident_key = 'new'")
        assert [(1, "cancelled", "key changed")] == stage.pages("old")
        assert [("new", 1, 1)] == await stage.tick(MINUTE)


@pytest.mark.parametrize("column", ["acknowledged_at", "resolved_at"])
async def test_an_ended_incident_stays_ended_under_its_new_key(column: str, migrated_dsn: str) -> None:
    """A key change keeps ``first_seen``, acknowledgement and resolution.

    Once the host clears the end, the engine pages from level 1.
    """
    async with staged(migrated_dsn) as stage:
        await raised(stage, "old", 2)
        stage.sql(f"UPDATE incidents SET {column} = %(now)s")
        kept = "SELECT first_seen, acknowledged_at, resolved_at FROM incidents"
        before = stage.rows(kept)
        stage.sql("UPDATE incidents SET incident_key = 'new'")
        assert before == stage.rows(kept)
        # A new acknowledged row is planned once: its policy may end the acknowledgement.
        due = None if column == "resolved_at" else NEEDS_REPLAN
        assert [(1, 0, None, due)] == stage.rows(
            "SELECT episode, escalation_level, last_escalated_at, next_due_at FROM incidents"
        )
        assert [] == await stage.tick(60 * MINUTE)
        stage.sql(f"UPDATE incidents SET {column} = NULL, first_seen = %(now)s - interval '10 minutes'")
        assert [(1, 2 if column == "resolved_at" else 1)] == [(1, paged[1]) for paged in await stage.tick()]
        assert 1 == stage.notifier.pages[-1].level


@pytest.fixture
def uuids(pg_dsn: str) -> str:
    """Create a host's table with uuid keys, and return the database's DSN."""
    execute(pg_dsn, "CREATE TABLE tickets (id uuid PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)")
    return pg_dsn


async def test_a_uuid_key_that_changes_is_paged_anew(uuids: str) -> None:
    """In a host's own table with uuid keys, a key change cancels the old page and pages the new key."""
    old, new = f"{1:032x}", f"{2:032x}"
    await migrate.up(uuids, table="tickets", columns={"incident_key": "id"}, create=True)
    execute(uuids, "INSERT INTO tickets VALUES (%s, 'critical', now() - interval '10 minutes')", old)
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(uuids), notifiers=[notifier]) as engine:
        await engine.tick(deliver=False)
        execute(uuids, "UPDATE tickets SET id = %s", new)
        await engine.tick()
        assert [new] == [page.incident.incident_key.replace("-", "") for page in notifier.pages]
        assert 1 == notifier.pages[0].level
        (page,) = (await engine.history("00000000-0000-0000-0000-000000000001")).pages
        assert ("cancelled", "key changed") == (page.state.value, page.reason)
