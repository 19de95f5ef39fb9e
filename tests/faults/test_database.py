"""The database is restarted, stopped, slow, full or locked, or an operator changes its tables."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import psycopg
import pytest
from psycopg import AsyncConnection

from .conftest import NewRun
from .harness.rules import Rules
from .harness.run import Run
from .harness.servers import WORKER
from .harness.worker import LONG_OUTAGE, RECONNECT_TIME

RESTARTS = {False: 4, True: 100}
TERMINATIONS = {False: 6, True: 60}
CALM = RECONNECT_TIME + 4.0
"""Seconds to wait after a restart: time to reconnect, two ticks, and then a time in which no fault excuses lateness."""
SOON_CALM = 4.0
"""The same if workers can reconnect at once."""
END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'w_-%'"


@asynccontextmanager
async def busy(
    new_run: NewRun, seed: int, *, incidents: int = 16, over: float = 3.0, count: int = 2, rules: Rules | None = None
) -> AsyncIterator[Run]:
    """Open a run with workers and incidents, and judge the run at the end."""
    async with new_run(seed=seed, rules=rules) as run:
        await run.start_workers(count)
        run.start_incidents(incidents, over=over)
        await asyncio.sleep(0.5)
        yield run
        assert [] == await run.judge()


@pytest.mark.timeout(3000)
async def test_restarted_again_and_again(new_run: NewRun, full: bool) -> None:
    """After each of many restarts, half of them crashes, workers continue within two ticks, and no commit is lost."""
    random = Random(5)
    times = RESTARTS[full]
    async with busy(new_run, 5, incidents=8 * times, over=2.5 * times) as run:
        for number in range(times):
            with run.fault("restart", stops=True, recovery=RECONNECT_TIME):
                if number % 2:
                    await asyncio.to_thread(run.servers.server.crash)
                await asyncio.to_thread(run.servers.server.restart)
            await asyncio.sleep(CALM if number % 4 == 3 else 0.3 + random.random() * 2)


async def test_stopped_for_long(new_run: NewRun) -> None:
    """During an outage nothing is lost, health shows it, and no worker reconnects in a busy loop."""
    async with busy(new_run, 6) as run:
        with run.fault("database stopped for long", stops=True, unhealthy=True, recovery=RECONNECT_TIME):
            await asyncio.to_thread(run.servers.server.crash)
            before = {slot: proxy.connects for slot, proxy in run.proxies.items()}
            await asyncio.sleep(5)
            tries = {slot: proxy.connects - before[slot] for slot, proxy in run.proxies.items()}
            await asyncio.to_thread(run.servers.server.restart)
        assert all(count < 60 for count in tries.values()), tries


@pytest.mark.timeout(600)
async def test_backends_terminated(new_run: NewRun, full: bool) -> None:
    """If an operator terminates the workers' connections, each worker only tries again."""
    times, random = TERMINATIONS[full], Random(7)
    async with busy(new_run, 7, incidents=6 * times, over=1.6 * times) as run:
        for number in range(times):
            with run.fault("backends terminated", stops=True):
                await run.execute(END)
            await asyncio.sleep(SOON_CALM if number % 4 == 3 else 0.2 + random.random() * 1.5)


async def test_slow(new_run: NewRun) -> None:
    """A slow network only adds its round trips to the lateness."""
    async with busy(new_run, 9) as run:
        with run.disturbance("slow network"):
            for proxy in run.proxies.values():
                proxy.delay = 0.01
            await asyncio.sleep(3)
            for proxy in run.proxies.values():
                proxy.delay = 0.0


async def test_stalled_for_a_while(new_run: NewRun) -> None:
    """A worker whose connections do not answer for longer than a lease loses its pages to other workers."""
    async with busy(new_run, 10) as run:
        for slot in ("w1", "w2"):
            worker = next(worker for worker in run.workers if worker.name.startswith(slot))
            with run.fault("no answer for a while", worker):
                run.proxies[slot].stall()
                await asyncio.sleep(run.rules.lease + 0.5)
                run.proxies[slot].flow()


async def test_half_open(new_run: NewRun) -> None:
    """A worker gives up connections that never answer again, and continues with new ones."""
    async with busy(new_run, 11, count=1) as run:
        [worker] = run.workers
        with run.fault("half-open", worker, stops=True, unhealthy=True, recovery=RECONNECT_TIME):
            run.proxies["w1"].half_open()
            connects = run.proxies["w1"].connects

            async def again() -> bool:
                return run.proxies["w1"].connects > connects

            assert await run.until(again), "the worker does not reconnect"


async def test_locked_by_a_person(new_run: NewRun) -> None:
    """A locked row delays no other row. If a table is locked, workers wait for the lock."""
    async with busy(new_run, 12) as run:
        await run.hosts.do("open", "locked", sql=True)
        async with await AsyncConnection.connect(run.dsn) as person:
            with run.disturbance("row locked", stops=True, keys=frozenset({"locked"})):
                await person.execute("SELECT FROM incidents WHERE incident_key = 'locked' FOR UPDATE")
                await asyncio.sleep(2.5)
                await person.rollback()
            for table in ("escalation_pages", "incidents"):
                with run.fault("table locked", stops=True):
                    await person.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
                    await asyncio.sleep(1.5)
                    await person.rollback()


CHANGES = (
    "VACUUM FULL escalation_pages", "VACUUM FULL incidents", "ALTER TABLE incidents ADD COLUMN note text",
    "ALTER TABLE incidents ALTER COLUMN summary TYPE varchar(60)", "VACUUM FULL escalation_events",
    "ALTER TABLE incidents DROP COLUMN note", "ALTER TABLE incidents ALTER COLUMN summary TYPE text",
    "REINDEX TABLE escalation_pages",
)  # fmt: skip


async def test_tables_are_rebuilt(new_run: NewRun) -> None:
    """VACUUM FULL and ALTER TABLE on the tables in use delay the workers only while they run."""
    async with busy(new_run, 13) as run:
        for change in CHANGES:
            with run.disturbance("table rebuilt"):
                await _execute_until_no_deadlock(run, change)
            await asyncio.sleep(0.3)


async def _execute_until_no_deadlock(run: Run, change: str) -> None:
    """Run a statement, and run it again if PostgreSQL ended it because of a deadlock."""
    while True:
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            await run.execute(change)
            return


FULL = """
CREATE FUNCTION faults.full() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100';
END $body$;
CREATE TRIGGER faults_full BEFORE INSERT OR UPDATE ON escalation_events
    FOR EACH STATEMENT EXECUTE FUNCTION faults.full();
CREATE TRIGGER faults_full BEFORE INSERT OR UPDATE ON escalation_workers
    FOR EACH STATEMENT EXECUTE FUNCTION faults.full();
CREATE TRIGGER faults_full BEFORE INSERT OR UPDATE ON escalation_pages
    FOR EACH STATEMENT EXECUTE FUNCTION faults.full();
"""
"""Triggers that raise the error of a full disk. A test must not really fill the disk."""
SHORTAGES = {
    "out of connections": (f"ALTER ROLE {WORKER} CONNECTION LIMIT 0", f"ALTER ROLE {WORKER} CONNECTION LIMIT -1"),
    "read-only": (
        f"ALTER ROLE {WORKER} SET default_transaction_read_only = on",
        f"ALTER ROLE {WORKER} RESET default_transaction_read_only",
    ),
    "disk full": (FULL, "DROP FUNCTION faults.full() CASCADE"),
}


@pytest.mark.parametrize("shortage", list(SHORTAGES))
async def test_shortage(new_run: NewRun, shortage: str) -> None:
    """Workers wait for a database that accepts no connections or no writes, or whose disk is full. Health shows it."""
    begin, end = SHORTAGES[shortage]
    async with busy(new_run, 15) as run:
        with run.fault(shortage, stops=True, unhealthy=True, recovery=RECONNECT_TIME):
            await run.execute(begin)
            await run.execute(END)
            await asyncio.sleep(LONG_OUTAGE)
            await run.execute(end)
            await run.execute(END)
