"""Tests of a host's open transaction: it delays its own rows and pages, and no other page, tick or recalculation."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta

import psycopg
import pytest

from escalation_core import Delivered, Outcome, Page, RetryPolicy, Settings
from escalation_core import Retry as Again

from .stage import MINUTE, Stage, paged, staged

ACKNOWLEDGE = "UPDATE incidents SET acknowledged_at = now() WHERE incident_key = %s"
SOON = 5
"""Seconds within which a call that must not wait has to end."""
ENDS: dict[str, Callable[["psycopg.Connection[tuple[object, ...]]"], None]] = {
    "commit": lambda host: host.commit(),
    "rollback": lambda host: host.rollback(),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_open_acknowledgement_holds_up_no_other_page(end: str, migrated_dsn: str) -> None:
    """While a host's acknowledgement is not committed, the engine sends every other page.

    A commit cancels the held page; after a rollback the engine sends the held page.
    """
    async with staged(migrated_dsn) as stage:
        stage.incident("held", "a", "b")
        await stage.engine.tick(deliver=False)
        with psycopg.connect(migrated_dsn) as host:
            host.execute(ACKNOWLEDGE, ["held"])
            stage.incident("c")
            async with asyncio.timeout(SOON):
                assert [("a", 1, 1), ("b", 1, 1), ("c", 1, 1)] == await stage.tick()
            ENDS[end](host)
        went = await stage.tick()
        assert ([] if end == "commit" else [("held", 1, 1)]) == went
        assert {"rollback": "delivered", "commit": "cancelled"}[end] == stage.pages("held")[0][1]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("outcome", "committed", "rolled_back"),
    [(Delivered(), "delivered", "delivered"), (Again("no"), "cancelled", "pending")],
    ids=["arrives", "fails"],
)
async def test_a_page_that_lands_while_its_row_is_held_is_settled_later(
    outcome: Outcome, committed: str, rolled_back: str, end: str, migrated_dsn: str
) -> None:
    """While a host holds the row of a sent page, the engine settles other pages, and the held page afterwards.

    An arrived page becomes delivered. A failed page becomes cancelled after a commit, and pending after a rollback.
    """
    with ExitStack() as open_hosts:
        hosts: list[psycopg.Connection[tuple[object, ...]]] = []

        def answer(page: Page) -> Outcome:
            if page.incident.incident_key != "held":
                return Delivered()
            if not hosts:
                hosts.append(open_hosts.enter_context(psycopg.connect(migrated_dsn)))
                hosts[0].execute(ACKNOWLEDGE, ["held"])
            return outcome

        async with staged(migrated_dsn, answer=answer) as stage:
            stage.incident("held", "a", "b")
            async with asyncio.timeout(SOON):
                report = await stage.engine.tick()
            assert report.delivery is not None
            assert 2 == report.delivery.delivered
            assert ["delivered"] * 2 == [stage.pages(key)[0][1] for key in "ab"]
            assert "leased" == stage.pages("held")[0][1]
            stage.incident("c")
            async with asyncio.timeout(SOON):
                assert [("c", 1, 1)] == await stage.tick()
            assert timedelta() < await stage.engine.next_claim_in() <= timedelta(seconds=1)
            ENDS[end](hosts[0])
            await stage.engine.deliver()
            assert (committed if end == "commit" else rolled_back) == stage.pages("held")[0][1]
            assert 1 == paged(stage.notifier.pages).count(("held", 1, 1))
            assert (await stage.engine.prove()).holds


async def test_a_page_that_another_worker_took_over_meanwhile_is_settled_by_it_alone(migrated_dsn: str) -> None:
    """If a lease ends while a host holds the row, the next worker alone settles the page after the rollback."""
    with psycopg.connect(migrated_dsn) as host:
        held = [True]

        def answer(page: Page) -> Outcome:
            if held:
                held.clear()
                host.execute(ACKNOWLEDGE, ["k"])
            return Delivered()

        async with staged(migrated_dsn, answer=answer) as stage, staged(migrated_dsn) as other:
            stage.incident("k")
            await stage.engine.tick()
            assert stage.engine._delivery.owes
            host.rollback()
            other.clock.set(stage.clock() + MINUTE)
            assert [("k", 1, 1)] == await other.tick()
            assert [(1, "delivered", None)] == stage.pages("k")
            fences = "SELECT fence FROM escalation_pages"
            before = stage.rows(fences)
            report = await stage.engine.deliver()
            assert 0 == report.delivered
            assert before == stage.rows(fences)
            assert False is stage.engine._delivery.owes


async def test_a_host_that_acknowledges_step_by_step_meets_no_deadlock(migrated_dsn: str) -> None:
    """A host that acknowledges two incidents one by one gets each row at once while the engine settles both pages."""
    with psycopg.connect(migrated_dsn) as host:
        host.execute("SET lock_timeout = '2s'")
        turns: list[str] = []

        def answer(page: Page) -> Outcome:
            if not turns:
                host.execute(ACKNOWLEDGE, ["a"])
            turns.append(page.incident.incident_key)
            return Again("no")

        async with staged(migrated_dsn, answer=answer) as stage:
            stage.incident("a", "b")
            async with asyncio.timeout(SOON):
                await stage.engine.tick()
            host.execute(ACKNOWLEDGE, ["b"])
            host.commit()
            await stage.engine.deliver()
            states = [stage.pages(key)[0][1:] for key in "ab"]
            assert [("cancelled", "acknowledged")] * 2 == states


async def test_bulk_acknowledgements_beside_settling_meet_no_deadlock(migrated_dsn: str) -> None:
    """A host acknowledges and unacknowledges all incidents in turn while pages fail: PostgreSQL counts no deadlock.

    At the end no page is leased or cancelling.
    """
    settings = Settings(retry=RetryPolicy(per_target=50, first=timedelta(microseconds=1), longest=timedelta(seconds=1)))
    rounds = 15

    def hosts() -> None:
        with psycopg.connect(migrated_dsn) as host:
            host.execute("SET lock_timeout = '10s'")
            for turn in range(rounds):
                host.execute("UPDATE incidents SET acknowledged_at = %s", ["now" if turn % 2 == 0 else None])
                host.commit()

    async with staged(migrated_dsn, settings=settings, answer=lambda page: Again("no")) as stage:
        stage.sql(
            "INSERT INTO incidents (incident_key, severity, first_seen)"
            " SELECT 'k' || n, 'critical', %(now)s - interval '10 minutes' FROM generate_series(1, 200) AS n"
        )
        await stage.engine.tick(deliver=False)
        working = asyncio.create_task(asyncio.to_thread(hosts))
        async with asyncio.timeout(60):
            while not working.done():
                await stage.engine.tick()
                stage.clock.advance(timedelta(seconds=1))
            await working
        assert [0] == stage.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert [] == stage.rows("SELECT 1 FROM escalation_pages WHERE state IN ('leased', 'cancelling')")


# --- rows that other transactions hold


COUNTS = """
    CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE teams SET pages = pages + 1 WHERE team = NEW.labels ->> 'team';
        RETURN NEW;
    END $$
"""


async def test_a_trigger_that_waits_for_others_stops_no_other_row(migrated_dsn: str) -> None:
    """The engine defers rows whose trigger waits for a forgotten transaction, and pages the other rows at once."""
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
    """After a step of the clock, a host's open transaction delays only its own row's recalculation, until it ends."""
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
            assert any("workers are recalculating due instants" in warning for warning in health.warnings)
        await stage.tick(MINUTE)
        assert [] == late(stage, soon)
        assert (await stage.engine.health()).recalc.requested_at is None


def late(stage: Stage, soon: datetime) -> list[str]:
    """Return the keys of the incidents that are not due by ``soon``."""
    return [key for key in "abc" if (due := stage.due(key)) is None or due > soon]
