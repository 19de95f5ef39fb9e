"""Many workers on one database, and what may befall any of them: conflicts, kills, outages, locks that others hold."""

import asyncio
import logging
import os
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, LiteralString, TypeVar

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import PostgresStore, migrate, pool
from escalation_adapters.postgres import store as store_module
from escalation_adapters.postgres.statements import statements
from escalation_core import (
    AuditEntry,
    Engine,
    Incident,
    InvalidValue,
    RetryPolicy,
    Settings,
    StoreRefused,
    StoreUnavailable,
    idempotency_key,
    in_canary,
)
from escalation_core.engine.deliver import Exchange
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction
from escalation_core.rules.gate import Mode
from escalation_core.testing import ManualClock, RecordingNotifier

from ..postgres import own_server

Result = TypeVar("Result")
MANY = Settings(retry=RetryPolicy(per_target=500))
"""Settings that send more pages at once, so that the tests are quick."""

OVERDUE: LiteralString = """
INSERT INTO incidents (incident_key, severity, first_seen)
SELECT %(prefix)s || n, 'critical', now() - interval '1 hour' FROM generate_series(1, %(count)s) AS n
"""


def execute(dsn: str, statement: LiteralString, **values: object) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(statement, values or None)


def select(dsn: str, statement: LiteralString, **values: object) -> list[Any]:
    """Return rows; of one column, its values."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(statement, values or None).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def overdue(dsn: str, count: int, prefix: str = "k") -> list[str]:
    """Let the host insert so many incidents that are due; return their keys."""
    execute(dsn, OVERDUE, prefix=prefix, count=count)
    return [f"{prefix}{n}" for n in range(1, count + 1)]


def recorded(dsn: str) -> list[tuple[str, int, int]]:
    return select(dsn, "SELECT incident_key, episode, level FROM escalation_events ORDER BY 1, 2, 3")


def page_states(dsn: str) -> dict[str, int]:
    return dict(select(dsn, "SELECT state, count(*) FROM escalation_pages GROUP BY state"))


async def until(condition: Callable[[], bool]) -> None:
    """Look at the server until it is so, for ten seconds at most."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the server did not get there")


@asynccontextmanager
async def engines(
    dsn: str, count: int, *, clock: ManualClock | None = None, **kwargs: Any
) -> AsyncIterator[list[tuple[Engine, RecordingNotifier]]]:
    """Yield engines with a store and a notifier of their own each."""
    made: list[tuple[Engine, RecordingNotifier]] = []
    try:
        for _ in range(count):
            notifier = RecordingNotifier()
            store = await PostgresStore.connect(dsn, clock=clock, max_connections=2)
            made.append((Engine(store, notifiers=[notifier], **({"settings": MANY} | kwargs)), notifier))
        yield made
    finally:
        for engine, _ in made:
            await engine.aclose()


# --- many at once


async def test_eight_workers_record_each_level_once(migrated_dsn: str) -> None:
    """Eight workers on one backlog record each level exactly once, leave nothing, and send one page for each."""
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


WORKER = """
import asyncio, os, sys
from escalation_adapters.postgres import PostgresStore
from escalation_core import Delivered, Engine
from escalation_core.testing import RecordingNotifier

class Stuck(RecordingNotifier):
    async def send(self, page):
        print(page.dedup_key, flush=True)
        await asyncio.Event().wait()

async def main():
    notifier = Stuck() if "stuck" in sys.argv else RecordingNotifier()
    store = await PostgresStore.connect(os.environ["WORKER_DSN"], pooler=os.environ.get("WORKER_POOLER"))
    async with Engine(store, notifiers=[notifier], batch_size=50) as engine:
        print("ready", flush=True)
        sys.stdin.readline()
        report = await engine.tick()
        print(report.escalated, *(page.dedup_key for page in notifier.pages))

asyncio.run(main())
"""


@asynccontextmanager
async def workers(dsn: str, count: int, *arguments: str) -> AsyncIterator[list[Process]]:
    """Start worker processes and wait until all are ready; they tick when they are told to go."""
    started: list[Process] = []
    try:
        for _ in range(count):
            environment = os.environ | {"WORKER_DSN": make_conninfo(dsn, application_name="escalation worker")}
            command = (sys.executable, "-c", WORKER, *arguments)
            limit = 2**20  # a line holds every key that a worker sent
            started.append(
                await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment, limit=limit)
            )
        assert {"ready"} == {await line(process) for process in started}
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")


async def test_three_processes_record_each_level_once(migrated_dsn: str, worker_dsn: str) -> None:
    """Three processes on one backlog record each level exactly once, leave nothing, and send one page for each."""
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
        # The claim waits: nothing was sent yet.
        ("LOCK TABLE escalation_unreadable IN ACCESS EXCLUSIVE MODE", 0),
        # The pages wait, between the events and the rows; all of the first batch was sent, with its commit.
        ("LOCK TABLE escalation_pages IN SHARE MODE", 50),
    ],
)
async def test_worker_killed_in_mid_tick_loses_nothing(migrated_dsn: str, held: LiteralString, stands: int) -> None:
    """A worker that is killed leaves all of its batch or nothing; whoever comes next records each level once."""
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
    """What a killed worker was sending goes again, under the same keys, from another one when the lease has ended."""
    keys = overdue(migrated_dsn, 20)
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
    assert {"delivered": 20} == page_states(migrated_dsn)


ROUNDS = 16


class Watched:
    """A store that notes when the claim of each page began."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.begun: list[tuple[str, float]] = []

    async def check(self) -> None:
        await self._store.check()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        began = monotonic()
        result = await self._store.transact(work)
        if isinstance(result, Exchange):
            self.begun += [(page.incident_key, began) for page, _ in result.leased]
        return result

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        return await self._store.read(work)

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        return await self._store.next_due(canary=canary, targets=targets)

    async def aclose(self) -> None:
        await self._store.aclose()


async def test_no_page_is_claimed_after_its_acknowledgement(migrated_dsn: str) -> None:
    """However acknowledgements race with ticks and claims, none of the API or of SQL is followed by a claim."""
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
    # Both sides won some of the races; else this test would tell nothing.
    assert 0 < states["delivered"] == len(claims) < ROUNDS * 24
    assert [] == select(migrated_dsn, "SELECT incident_key FROM incidents WHERE next_due_at IS NOT NULL")


# --- conflicts


def raising(state: LiteralString) -> LiteralString:
    return f"DO $$ BEGIN RAISE 'as if' USING ERRCODE = '{state}'; END $$"


def failing(state: LiteralString, times: int) -> tuple[Callable[[Transaction], Awaitable[int]], list[int]]:
    """Return work that writes a note and meets an error the first few times, and the list of its runs."""
    runs: list[int] = []

    async def work(tx: Transaction) -> int:
        runs.append(len(runs))
        await tx.journal.note([AuditEntry(at=await tx.now(), action="tried", reason=str(len(runs)))])
        if len(runs) <= times:
            anything: Any = tx
            await anything.incidents.session.connection.execute(raising(state))
        return len(runs)

    return work, runs


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_conflict_runs_the_work_again(migrated_dsn: str, state: LiteralString) -> None:
    """After a serialization failure or a deadlock the work runs again from its beginning, and is kept once."""
    store = await PostgresStore.connect(migrated_dsn)
    work, _ = failing(state, 2)
    assert 3 == await store.transact(work)
    await store.aclose()
    assert ["3"] == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


async def test_conflict_without_end_is_temporary(migrated_dsn: str) -> None:
    """Work that meets a conflict each time is given up as temporary, and any other error is not tried again."""
    store = await PostgresStore.connect(migrated_dsn)
    work, runs = failing("40001", 99)
    with pytest.raises(StoreUnavailable, match="met a conflict each time"):
        await store.transact(work)
    assert store_module.TRIES == len(runs)
    work, runs = failing("22012", 99)
    with pytest.raises(StoreRefused, match="as if"):
        await store.transact(work)
    assert [0] == runs
    await store.aclose()
    assert [] == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


TEMPORARY: Sequence[LiteralString] = ("08006", "25P03", "53300", "55P03", "57014", "57P01", "57P05", "58030")


async def test_interruptions_are_temporary(migrated_dsn: str) -> None:
    """Time limits, lost connections, full servers and operators who cancel statements are no reason to stop for."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=1)
    for state in TEMPORARY:
        work, runs = failing(state, 1)
        with pytest.raises(StoreUnavailable, match=r"^PostgreSQL is not available: as if$"):
            await store.transact(work)
        assert 2 == await store.transact(work)
        assert [0, 1] == runs
    await store.aclose()
    assert ["2"] * len(TEMPORARY) == select(migrated_dsn, "SELECT reason FROM escalation_audit WHERE action = 'tried'")


OTHERS: LiteralString = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_terminated_connection_costs_one_call_at_most(migrated_dsn: str) -> None:
    """An operator who ends the engine's connections interrupts what runs on them, and no later call."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=2)
    end: LiteralString = "SELECT pg_terminate_backend(%(pid)s::int)"

    async def work(tx: Transaction) -> None:
        anything: Any = tx
        # It is asked for: a pooler tells its clients pids of its own.
        cursor = await anything.incidents.session.connection.execute("SELECT pg_backend_pid()")
        select(migrated_dsn, end, pid=(await cursor.fetchone())[0])
        await tx.incidents.load("k")

    async with Engine(store) as engine:
        with pytest.raises(StoreUnavailable, match="terminating connection"):
            await store.transact(work)
        await engine.open("k")
        mine = select(
            migrated_dsn,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        for pid in mine:
            select(migrated_dsn, end, pid=pid)
        await until(lambda: select(migrated_dsn, OTHERS) == [0])
        assert 1 == (await engine.acknowledge("k")).episode


@pytest.mark.direct("a pooler may refuse a call just after the server is back")
@own_server
async def test_restart_costs_no_call_once_the_server_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was idle in the pool during a restart is dead; the first call afterwards is none the wiser."""
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 2.0)
    with EmbeddedPostgres.start() as server:
        await migrate.up(server.dsn())
        store = await PostgresStore.connect(server.dsn())
        everybody = asyncio.Barrier(8)

        async def work(tx: Transaction) -> None:
            await everybody.wait()

        async with Engine(store) as engine:
            await asyncio.gather(*(store.transact(work) for _ in range(8)))
            server.crash()
            server.restart()
            assert Mode.OPEN is (await engine.tick()).mode


async def test_true_deadlock_is_resolved(migrated_dsn: str) -> None:
    """Two transactions that lock two incidents crosswise both succeed in the end."""
    a, b = overdue(migrated_dsn, 2)
    store = await PostgresStore.connect(migrated_dsn)
    both_hold_one = asyncio.Barrier(2)
    tries = []

    async def lock(first: str, second: str) -> None:
        met = False

        async def work(tx: Transaction) -> None:
            nonlocal met
            tries.append(first)
            await tx.incidents.load(first)
            if not met:
                met = True
                await both_hold_one.wait()
            await tx.incidents.load(second)

        await store.transact(work)

    await asyncio.wait_for(asyncio.gather(lock(a, b), lock(b, a)), 20)
    await store.aclose()
    assert 3 == len(tries)


async def test_read_only_database_is_temporary(migrated_dsn: str) -> None:
    """A database that takes no writes, such as a standby before its promotion, is unavailable, not refusing."""
    name = conninfo_to_dict(migrated_dsn)["dbname"]
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
    async with Engine(await PostgresStore.connect(migrated_dsn)) as engine:
        with pytest.raises(StoreUnavailable, match="read-only transaction"):
            await engine.open("k")


# --- an outage


@pytest.mark.direct("a pooler may refuse a call just after the server is back; tests/faults has such outages")
@own_server
async def test_store_survives_an_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that dies in mid-tick costs one clear error; once it is back the same store goes on without any."""
    # Not less: between two attempts of the pool there may be 2.2 seconds.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 2.5)
    with EmbeddedPostgres.start(durable=True) as server:
        dsn = make_conninfo(server.dsn(), password="hunter2-hunter2")
        await migrate.up(dsn)
        keys = overdue(dsn, 500)
        routed: list[str] = []

        class Router:
            """Kills the server when it is asked for the 120th time."""

            def route(self, incident: Incident, level: int) -> Sequence[str]:
                routed.append(incident.incident_key)
                if len(routed) == 120:
                    server.crash()
                return ["test"]

        notifier = RecordingNotifier()
        store = await PostgresStore.connect(dsn)
        async with Engine(store, settings=MANY, notifiers=[notifier], router=Router(), batch_size=50) as engine:
            # Several connections of the pool are open when the server dies, and each of them is dead afterwards.
            await asyncio.gather(*(engine.health() for _ in range(8)))
            faults = []
            for _ in range(2):
                with pytest.raises(StoreUnavailable) as fault:
                    await engine.tick()
                faults.append(str(fault.value))
            server.restart()
            # The batch before the one that met the end may have been on its way to its commit.
            before = len(recorded(dsn))
            assert before in (50, 100)
            await asyncio.gather(*(engine.health() for _ in range(8)))
            assert 500 - before == (await engine.tick()).escalated
        assert [(key, 1, 1) for key in sorted(keys)] == recorded(dsn)
        assert {"delivered": 500} == page_states(dsn)
    assert [True, True] == [fault.startswith("PostgreSQL ") and "\n" not in fault for fault in faults]
    assert "hunter2" not in "".join(faults) + caplog.text


@pytest.mark.direct("it is refused before anything connects")
@pytest.mark.parametrize(
    "dsn",
    [
        "postgres:/ann:hunter2@localhost/incidents",
        "postgresql://ann:hun%ter2@localhost/incidents",
        "postgresql://ann:hunter2/x@localhost/incidents",
        "postgresql://ann:x@hunter2@localhost/incidents",
        "host=localhost password=x hunter2",
    ],
)
async def test_dsn_that_cannot_be_read_is_not_quoted(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """A connection string with a fault is refused without any part of it, since that may be the password's."""
    caplog.set_level(logging.DEBUG)
    for call in (PostgresStore.connect, migrate.up, migrate.status):
        with pytest.raises(InvalidValue, match="dsn: ") as refusal:
            await call(dsn)
        assert "hunter2" not in f"{refusal.value!r} {refusal.value}" + caplog.text
        assert "hun%ter2" not in str(refusal.value)


@pytest.mark.direct("a pooler that is reached stands for a server that is not")
async def test_server_out_of_reach_is_one_clear_line() -> None:
    """A server that is not there is temporary; the message says where it was looked for, and nothing more."""
    with pytest.raises(StoreUnavailable, match=r"^PostgreSQL is not available: .*127\.0\.0\.1.*$") as fault:
        await PostgresStore.connect("postgresql://ann:hunter2@127.0.0.1:1/incidents")
    assert "hunter2" not in str(fault.value)
    assert fault.value.__cause__ is None


# --- what others hold


async def test_a_held_row_and_a_held_snapshot_stop_nobody_else(migrated_dsn: str) -> None:
    """A long transaction on one row and an old snapshot leave all other rows to the workers, and end in peace."""
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
    """A page that somebody holds locked is passed over, and goes when it is free."""
    overdue(migrated_dsn, 50)
    async with engines(migrated_dsn, 1) as ((engine, notifier),):
        await engine.tick(deliver=False)
        with psycopg.connect(migrated_dsn) as holder:
            holder.execute("SELECT FROM escalation_pages WHERE incident_key = 'k1' FOR UPDATE")
            assert 49 == (await asyncio.wait_for(engine.deliver(), 10)).delivered
            holder.rollback()
        assert 1 == (await engine.deliver()).delivered
        assert "k1" == notifier.pages[-1].incident.incident_key


# --- the canary


async def test_outsiders_do_not_starve_the_canary(migrated_dsn: str) -> None:
    """With 2,000 older outsiders due, a canary of 10 % claims all of its own and nobody else's."""
    names = (f"c{n}" for n in range(10**6))
    inside: list[str] = []
    outside: list[str] = []
    while len(inside) < 200 or len(outside) < 2000:
        name = next(names)
        (inside if in_canary(name, 10) else outside).append(name)
    inside, outside = inside[:200], outside[:2000]
    # As engines have left them: with their true instants, which no trigger touches. Then a marked one of each kind.
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


# --- sessions and plans


@pytest.mark.direct("looks at a session of its own, with statements prepared in it")
@pytest.mark.parametrize(("pooler", "prepared"), [("transaction", False), (None, True)])
async def test_nothing_stays_behind_in_a_session(migrated_dsn: str, pooler: Any, prepared: bool) -> None:
    """For a transaction pooler no statement is prepared; and in no mode a setting or a lock outlives a transaction."""
    overdue(migrated_dsn, 20)
    store = await PostgresStore.connect(migrated_dsn, pooler=pooler, max_connections=1)
    async with Engine(store, notifiers=[RecordingNotifier()], batch_size=2) as engine:
        for _ in range(8):
            await engine.tick()
            await engine.health()
            await engine.audit(datetime.now(UTC) - timedelta(days=1))
        await engine.acknowledge("k1")
        await engine.recalc()
        async with store._pool.connection() as connection:
            found = await connection.execute(
                "SELECT (SELECT count(*) > 0 FROM pg_prepared_statements),"
                " (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name !~ '^transaction_'),"
                " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),"
                " (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), count(*) FROM pg_listening_channels()"
            )
            assert (prepared, 0, 0, 0, 0) == await found.fetchone()


async def test_encoding_of_the_environment_does_not_matter(migrated_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and summaries in any script arrive whole even where the environment asks for another encoding."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    key = "база/диск-✓"
    notifier = RecordingNotifier()
    async with Engine(await PostgresStore.connect(migrated_dsn), notifiers=[notifier]) as engine:
        await engine.open(key, summary="満杯", first_seen=datetime.now(UTC) - timedelta(hours=1))
        await engine.tick()
    assert [(key, "満杯", idempotency_key(key, 1))] == [
        (page.incident.incident_key, page.incident.summary, page.dedup_key) for page in notifier.pages
    ]


def nodes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the scans of a plan: each node's type with the table's or the index's name."""
    name = plan.get("Index Name") or plan.get("Relation Name") or ""
    return [(plan["Node Type"], name), *(found for child in plan.get("Plans", ()) for found in nodes(child))]


@pytest.mark.parametrize("due", ["few", "all"])
async def test_claims_are_served_from_the_partial_indexes(migrated_dsn: str, due: str) -> None:
    """On 50,000 rows no claim reads the whole table, whether few or all are due, with plans of either kind."""
    execute(
        migrated_dsn,
        """
        INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
        SELECT 'k' || n, 'critical', now(),
            CASE WHEN n %% 5 < 3 THEN now() + make_interval(secs => CASE WHEN %(all)s THEN -n ELSE n - 60 END) END
        FROM generate_series(1, 50000) AS n
        """,
        all=due == "all",
    )
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    values: dict[str, object] = {"until": datetime.now(UTC), "limit": 1000, "targets": "{}", "at": None}
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        connection.execute("ANALYZE incidents")
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name, buckets, index in (
                ("claim", None, "escalation_due"),
                ("look", None, "escalation_due"),
                ("claim_canary", "{0,1,2}", "escalation_canary"),
                ("look_canary", "{0,1,2}", "escalation_canary"),
            ):
                values["buckets"] = buckets
                row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], values, prepare=True).fetchone()
                assert row is not None
                scans = nodes(row[0][0]["Plan"])
                assert [] == [scan for scan in scans if scan == ("Seq Scan", "incidents")], (name, mode)
                assert index in {scanned for kind, scanned in scans if "Index" in kind}, (name, mode)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_delivery_reads_no_whole_table(migrated_dsn: str, analyzed: bool) -> None:
    """Pages are claimed, leased and settled by indexes, their incidents as well, whatever the planner knows."""
    execute(
        migrated_dsn,
        """
        INSERT INTO incidents (incident_key, severity, first_seen) SELECT 'k' || n, 'critical', now()
        FROM generate_series(1, 10000) AS n
        """,
    )
    execute(
        migrated_dsn,
        """
        INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
        SELECT 'k' || n, 1, 1, 'ops', 'd' || n, 'pending', now(), now() FROM generate_series(1, 10000) AS n
        """,
    )
    store = await PostgresStore.connect(migrated_dsn)
    texts = statements(store.table)
    await store.aclose()
    ids = list(range(1, 101))
    page = {"state": "leased", "due": datetime.now(UTC), "fence": 1, "attempts": 0, "tried": "0 s", "reason": None}
    columns = {"states": "state", "dues": "due", "fences": "fence", "reasons": "reason"}
    columns |= {"attempts": "attempts", "tried": "tried"}
    values: dict[str, object] = {name: [page[column]] * len(ids) for name, column in columns.items()}
    values |= {"ids": ids, "targets": ["ops"], "capacities": [100], "now": page["due"], "until": page["due"]}
    with psycopg.connect(migrated_dsn, autocommit=True) as connection:
        if analyzed:
            connection.execute("ANALYZE")
        for mode in ("force_custom_plan", "force_generic_plan"):
            connection.execute(f"SET plan_cache_mode = {mode}".encode())
            for name in ("claim_pages", "lock_pages", "write_pages", "settle_pages"):
                row = connection.execute(b"EXPLAIN (FORMAT JSON) " + texts[name], values, prepare=True).fetchone()
                assert row is not None
                whole = {scanned for kind, scanned in nodes(row[0][0]["Plan"]) if kind == "Seq Scan"}
                assert set() == whole - {"escalation_targets"}, (name, mode)


async def test_many_workers_fit_in_few_connections(migrated_dsn: str) -> None:
    """More calls at once than a store has connections wait for their turn, and all succeed."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=2)
    async with Engine(store) as engine:
        opened = await asyncio.gather(*(engine.open(f"k{n}") for n in range(100)))
        again = await asyncio.gather(*(engine.open("same", summary=str(n)) for n in range(20)))
    assert 100 == len({incident.incident_key for incident in opened})
    assert {1} == {incident.episode for incident in again}
    assert [101] == select(migrated_dsn, "SELECT count(*) FROM incidents")


async def test_storm_of_cancellations_loses_no_connection(migrated_dsn: str) -> None:
    """Calls that are cancelled at any moment give their connections back; the store serves on with all of them."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=4)
    async with Engine(store) as engine:
        await engine.open("k")
        for number in range(300):
            calls = [asyncio.create_task(engine.open("k", summary=str(number))) for _ in range(8)]
            await asyncio.sleep(random.random() * 0.01)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        # As many at once as there are connections, each holding its own.
        gather, arrived = asyncio.Event(), 0

        async def hold(tx: Transaction) -> None:
            nonlocal arrived
            await tx.now()
            arrived += 1
            if arrived == 4:
                gather.set()
            await gather.wait()

        await asyncio.wait_for(asyncio.gather(*(store.transact(hold) for _ in range(4))), 20)
