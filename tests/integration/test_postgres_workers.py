"""Tests of many workers on one database: they record each level once, even if workers die or rows are locked."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import LiteralString, TypeVar

import psycopg
import pytest
from psycopg import AsyncConnection

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Settings, idempotency_key, in_canary
from escalation_core.engine.exchange import Exchange
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, RecordingNotifier

from .workers import MANY, engines, go, line, overdue, page_states, recorded, select, until, workers

Result = TypeVar("Result")


# --- many workers at once


async def test_eight_workers_record_each_level_once(migrated_dsn: str) -> None:
    """Eight workers on one backlog record each level exactly once, miss no incident, and send one page for each."""
    keys = overdue(migrated_dsn, 4000)
    clock = ManualClock(datetime.now(UTC))
    async with engines(migrated_dsn, 8, clock=clock, batch_size=100) as made:
        for level in (1, 2):
            reports = await asyncio.gather(*(engine.tick() for engine, _ in made))
            assert 4000 == sum(report.escalated for report in reports)
            assert 1 < sum(report.escalated > 0 for report in reports)
            assert 0 == sum(sum(report.skipped.values()) for report in reports)
            assert sorted((key, 1, n) for key in keys for n in range(1, level + 1)) == recorded(migrated_dsn)
            clock.advance(timedelta(minutes=30))
        pages = [page.dedup_key for _, notifier in made for page in notifier.pages]
    assert sorted(idempotency_key(key, level) for key in keys for level in (1, 2)) == sorted(pages)
    assert {"delivered": 8000} == page_states(migrated_dsn)


async def test_three_processes_record_each_level_once(migrated_dsn: str, worker_dsn: str) -> None:
    """Three processes on one backlog record each level exactly once, miss no incident, and send one page for each."""
    keys = overdue(migrated_dsn, 4000)
    async with workers(worker_dsn, 3) as processes:
        for process in processes:
            go(process)
        told = [(await line(process)).split() for process in processes]
    assert 4000 == sum(int(escalated) for escalated, *_ in told)
    assert [(key, 1, 1) for key in sorted(keys)] == recorded(migrated_dsn)
    assert sorted(idempotency_key(key, 1) for key in keys) == sorted(sent for _, *pages in told for sent in pages)
    assert {"delivered": 4000} == page_states(migrated_dsn)


@pytest.mark.direct("looks for one worker's session; tests/faults kills workers behind a pooler")
@pytest.mark.parametrize(
    ("held", "stands"),
    [
        # The claim waits: the worker has sent nothing else yet.
        ("LOCK TABLE escalation_unreadable IN ACCESS EXCLUSIVE MODE", 0),
        # The insert of pages waits, after the events and before the rows. The worker has already sent the server
        # all statements of the first batch, with the commit.
        ("LOCK TABLE escalation_pages IN SHARE MODE", 50),
    ],
)
async def test_worker_killed_in_mid_tick_loses_nothing(migrated_dsn: str, held: LiteralString, stands: int) -> None:
    """A killed worker leaves all of its batch or nothing; the next worker records the rest, each level once."""
    keys = overdue(migrated_dsn, 200)
    waiting: LiteralString = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'escalation worker' AND xact_start IS NOT NULL AND wait_event_type = 'Lock'"
    )
    connected: LiteralString = "SELECT pid FROM pg_stat_activity WHERE application_name = 'escalation worker'"
    async with workers(migrated_dsn, 1) as (process,):
        with psycopg.connect(migrated_dsn) as holder:
            holder.execute(held)
            go(process)
            await until(lambda: len(select(migrated_dsn, waiting)) == 1)
            async with engines(migrated_dsn, 1) as ((other, _),):
                process.kill()
                holder.rollback()
                await until(lambda: not select(migrated_dsn, connected))
                assert [stands, stands] == select(
                    migrated_dsn,
                    "SELECT count(*) FROM escalation_events UNION ALL SELECT count(*) FROM escalation_pages",
                )
                assert 200 - stands == (await other.tick()).escalated
    assert [(key, 1, 1) for key in sorted(keys)] == recorded(migrated_dsn)
    assert {"delivered": 200} == page_states(migrated_dsn)


async def test_pages_of_a_worker_killed_while_sending_go_again(migrated_dsn: str) -> None:
    """After the lease ends, another worker sends the killed worker's pages again, with the same dedup keys."""
    keys = overdue(migrated_dsn, 8)  # as many as a worker sends at once before any has arrived
    async with workers(migrated_dsn, 1, "stuck") as (process,):
        go(process)
        begun = [await line(process) for _ in keys]
        process.kill()
    clock = ManualClock(datetime.now(UTC))
    async with engines(migrated_dsn, 1, clock=clock) as ((other, notifier),):
        assert [0, 0] == [(await other.tick()).escalated, len(notifier.pages)]
        clock.advance(MANY.retry.lease + timedelta(seconds=1))
        await other.tick()
        assert sorted(begun) == sorted(page.dedup_key for page in notifier.pages)
    assert [(key, 1, 1) for key in sorted(keys)] == recorded(migrated_dsn)
    assert {"delivered": 8} == page_states(migrated_dsn)


ROUNDS = 16


class Watched:
    """A store that records when the claim of each page began."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.begun: list[tuple[str, float]] = []

    async def check(self) -> None:
        await self._store.check()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        began = monotonic()
        result = await self._store.transact(work)
        if isinstance(result, Exchange):
            self.begun += [(page.incident_key, began) for send in result.sends for page in send.records]
        return result

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        return await self._store.read(work)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        return await self._store.next_due(canary=canary, pages=pages)

    async def aclose(self) -> None:
        await self._store.aclose()


async def test_no_page_is_claimed_after_its_acknowledgement(migrated_dsn: str) -> None:
    """While acknowledgements by API and SQL race with ticks, no worker claims a page after its acknowledgement."""
    acknowledged: dict[str, float] = {}
    claims: list[tuple[str, float]] = []
    watched = [Watched(await PostgresStore.connect(migrated_dsn, max_connections=2)) for _ in range(2)]
    people = Engine(await PostgresStore.connect(migrated_dsn))
    ticking = [Engine(store, notifiers=[RecordingNotifier()], batch_size=7) for store in watched]
    host = await AsyncConnection.connect(migrated_dsn, autocommit=True)

    async def by_api(keys: Sequence[str]) -> None:
        for key in keys:
            await people.acknowledge(key)
            acknowledged[key] = monotonic()

    async def by_sql(keys: Sequence[str]) -> None:
        for key in keys:
            await host.execute("UPDATE incidents SET acknowledged_at = now() WHERE incident_key = %s", [key])
            acknowledged[key] = monotonic()

    try:
        for number in range(ROUNDS):
            keys = overdue(migrated_dsn, 24, prefix=f"r{number}-")
            work = [engine.tick() for engine in ticking]
            await asyncio.gather(by_api(keys[::2]), by_sql(keys[1::2]), *work)
        for engine in ticking:
            await engine.tick()
    finally:
        for engine in (*ticking, people):
            await engine.aclose()
        await host.close()
    claims = [claim for store in watched for claim in store.begun]
    states = page_states(migrated_dsn)
    assert [] == [key for key, began in claims if began > acknowledged[key]]
    assert {"delivered", "cancelled"} >= set(states)
    # Both sides must win some of the races; otherwise this test proves nothing.
    assert 0 < states["delivered"] == len(claims) < ROUNDS * 24
    assert [] == select(migrated_dsn, "SELECT incident_key FROM incidents WHERE next_due_at IS NOT NULL")


# --- rows that other transactions hold, and the canary


async def test_a_held_row_and_a_held_snapshot_stop_no_other_row(migrated_dsn: str) -> None:
    """A long transaction on one row and an old snapshot delay no other row. The held row escalates after the commit."""
    keys = overdue(migrated_dsn, 300)
    async with engines(migrated_dsn, 2, batch_size=40) as ((one, _), (other, _)):
        with psycopg.connect(migrated_dsn) as reader, psycopg.connect(migrated_dsn) as writer:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("SELECT count(*) FROM incidents")
            writer.execute("UPDATE incidents SET summary = 'held' WHERE incident_key = 'k1'")
            reports = await asyncio.wait_for(asyncio.gather(one.tick(), other.tick()), 10)
            assert 299 == sum(report.escalated for report in reports)
            assert ["k1"] == sorted(set(keys) - {key for key, _, _ in recorded(migrated_dsn)})
            assert (0,) == reader.execute("SELECT count(*) FROM escalation_events").fetchone()
            writer.commit()
        assert 1 == (await one.tick()).escalated
    assert {"delivered": 300} == page_states(migrated_dsn)


async def test_held_pages_stop_no_other_page(migrated_dsn: str) -> None:
    """The engine passes over a page that another transaction has locked, and sends the page when it is free."""
    overdue(migrated_dsn, 50)
    async with engines(migrated_dsn, 1) as ((engine, notifier),):
        await engine.tick(deliver=False)
        with psycopg.connect(migrated_dsn) as holder:
            holder.execute("SELECT FROM escalation_pages WHERE incident_key = 'k1' FOR UPDATE")
            assert 49 == (await asyncio.wait_for(engine.deliver(), 10)).delivered
            holder.rollback()
        assert 1 == (await engine.deliver()).delivered
        assert "k1" == notifier.pages[-1].incident.incident_key


async def test_outsiders_do_not_starve_the_canary(migrated_dsn: str) -> None:
    """With 2,000 older incidents due outside it, a canary of 10 % claims all incidents inside it, and no others."""
    names = (f"c{n}" for n in range(10**6))
    inside: list[str] = []
    outside: list[str] = []
    while len(inside) < 200 or len(outside) < 2000:
        name = next(names)
        (inside if in_canary(name, 10) else outside).append(name)
    inside, outside = inside[:200], outside[:2000]
    # Insert rows with true due instants, which no trigger changes. Then let one row of each kind need a new plan.
    with psycopg.connect(migrated_dsn) as connection:
        for keys, age in ((outside, 3), (inside, 2)):
            connection.execute(
                "INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)"
                " SELECT key, 'critical', now() - make_interval(hours => %(age)s),"
                " now() - make_interval(hours => %(age)s) + interval '5 minutes' FROM unnest(%(keys)s::text[]) AS key",
                {"keys": keys, "age": age},
            )
        connection.execute(
            "UPDATE incidents SET severity = 'warning' WHERE incident_key = ANY(%s)", [[inside[0], outside[0]]]
        )
    settings = Settings(canary_pct=10, retry=MANY.retry)
    async with engines(migrated_dsn, 3, settings=settings, batch_size=30) as made:
        assert 1999 == (await made[0][0].health()).stats.outside_canary
        reports = await asyncio.gather(*(engine.tick() for engine, _ in made))
        assert (200, 0) == (sum(r.escalated for r in reports), sum(r.rescheduled.total() for r in reports))
        assert timedelta() < await made[0][0].next_tick_in(reports[0])
    assert sorted((key, 1, 1) for key in inside) == recorded(migrated_dsn)
    assert (
        2000
        == select(migrated_dsn, "SELECT count(*) FROM incidents WHERE next_due_at <= now() AND escalation_level = 0")[0]
    )
