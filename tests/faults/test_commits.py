"""Replies to a COMMIT are lost, and transactions meet conflicts and deadlocks."""

import asyncio
import contextlib
from random import Random
from time import time

import psycopg
from psycopg import AsyncConnection

from escalation_core.testing.invariants.escalations import expected_hash

from .conftest import NewRun
from .harness.frames import Frame
from .harness.proxy import Action, Direction
from .harness.rules import Rules
from .harness.run import Run
from .harness.servers import WORKER
from .test_database import END, busy

EACH = 25
"""One in so many updates by workers meets a conflict. A sequence counts them, because a rollback does not reset it.

This is more than one transaction updates. A transaction that meets a conflict each time it is run defers rows at last.
"""
CONFLICT = f"""
CREATE SEQUENCE faults.updates;
GRANT USAGE ON SCHEMA faults TO {WORKER};
GRANT USAGE ON SEQUENCE faults.updates TO {WORKER};
CREATE FUNCTION faults.conflict() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    IF current_user = '{WORKER}' THEN
        IF nextval('faults.updates') % {EACH} = 1 THEN
            RAISE 'simulated conflict' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    RETURN NEW;
END $body$;
CREATE TRIGGER conflict BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION faults.conflict()
"""
"""Simulates a serialization failure, which PostgreSQL itself reports only above READ COMMITTED."""

CUT_OFF = 10
"""The number of replies to a COMMIT that the test cuts off."""
LOST = 3
"""The number of replies to a worker's COMMIT that are lost on connections that stay open."""
AGAIN = "is run again"
"""Part of the line that a worker logs when it repeats a transaction after a conflict."""
DEADLOCKS = 6
"""The most tries to cause a deadlock: another worker than expected may wait for the lock."""
RECORD = """
INSERT INTO escalation_events (incident_key, episode, level, unique_hash, created_at) VALUES (%s, 1, 1, %s, now())
"""
"""Records an escalation as a worker does."""
WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'w_-%')
"""
GIVEN_UP = "the call is given up"
"""Part of the line that a worker logs for a call that the database does not answer."""


async def test_reply_to_commit_is_cut_off(new_run: NewRun) -> None:
    """If the reply to a COMMIT is cut off, each escalation is still recorded once, and its page is accepted."""
    random = Random(8)
    async with busy(new_run, 8) as run:
        lost = 0

        def decide(direction: Direction, frame: Frame) -> Action:
            nonlocal lost
            if direction == "out" and frame.commits and random.random() < 0.25:
                lost += 1
                return "cut"
            return "pass"

        async def enough() -> bool:
            return lost >= CUT_OFF

        with run.disturbance("reply to COMMIT cut off"):
            for proxy in run.proxies.values():
                proxy.decide = decide
            assert await run.until(enough), "the workers make too few commits"
            for proxy in run.proxies.values():
                proxy.decide = lambda direction, frame: "pass"


async def test_reply_to_commit_is_lost(new_run: NewRun) -> None:
    """A worker gives up a connection that stops answering at a COMMIT, and does not repeat committed work."""
    async with busy(new_run, 8) as run:
        [worker] = [worker for worker in run.workers if worker.name.startswith("w1-")]
        proxy = run.proxies["w1"]
        lost = 0
        connects = proxy.connects

        def decide(direction: Direction, frame: Frame) -> Action:
            nonlocal lost
            if direction == "out" and frame.commits and lost < LOST:
                lost += 1
                return "lose"
            return "pass"

        async def given_up() -> bool:
            return worker.text.count(GIVEN_UP) >= LOST

        with run.fault("reply to COMMIT lost", worker):
            proxy.decide = decide
            assert await run.until(given_up), "the worker does not give the connection up"
        assert LOST == lost
        assert proxy.connects >= connects + LOST
        assert worker.alive


async def test_conflicts(new_run: NewRun) -> None:
    """After a serialization failure or a deadlock a worker repeats the transaction, without another effect."""
    # Settlements wait for the rows that persons lock. On a slow machine that takes longer than the usual lease.
    async with busy(new_run, 14, count=3, rules=Rules(lease=6.0)) as run:
        role = f"ALTER ROLE {WORKER} IN DATABASE {run.database}"
        # Workers use READ COMMITTED, so a trigger of the host raises the serialization failures.
        await run.execute(CONFLICT)
        # PostgreSQL ends the transaction that first looks for the deadlock. A short timeout makes that a worker's.
        await run.execute(f"{role} SET deadlock_timeout = '300ms'")
        with run.disturbance("conflicts", stops=True):
            await run.execute(END)
            crossing = [asyncio.create_task(_cross(run, order)) for order in ((0, 1), (1, 0))]
            await asyncio.gather(*crossing)
            for number in range(DEADLOCKS):
                await _deadlock(run, f"deadlock-{number}")
                if _errors(run, "40P01"):
                    break
        assert _errors(run, "40001"), "no worker met a serialization failure"
        assert _errors(run, "40P01"), "no worker met a deadlock"

        async def run_again() -> bool:
            repeats = sum(worker.text.count(AGAIN) for worker in run.workers)
            return _errors(run, "40001") + _errors(run, "40P01") <= repeats

        assert await run.until(run_again), "a worker did not repeat a transaction after a conflict"
        await run.execute(f"{role} RESET ALL")
        await run.execute("DROP FUNCTION faults.conflict() CASCADE")


def _errors(run: Run, state: str) -> int:
    """Return how often workers got the error of an SQLSTATE."""
    errors = run.servers.errors(run.database, state)
    return sum(errors[worker.name] for worker in run.workers)


async def _deadlock(run: Run, key: str) -> None:
    """Cause a deadlock: record the escalation that a worker will record, and then lock the incident that it claimed."""
    async with await AsyncConnection.connect(run.dsn) as person:

        async def waits() -> bool:
            return bool((await run.execute(WAITS))[0][0])

        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            await person.execute(RECORD, [key, expected_hash(key, 1, 1)])
            await run.hosts.do("open", key, severity="critical", first_seen=round(time() - 1, 6))
            await run.until(waits, 2 * run.rules.tick)
            await person.execute("SELECT FROM incidents WHERE incident_key = %s FOR UPDATE", [key])
        await person.rollback()


async def _cross(run: Run, order: tuple[int, int]) -> None:
    """Lock incidents and pages in a given order, which may differ from the engine's order."""
    locks = (
        "UPDATE incidents SET summary = 'x' WHERE incident_key LIKE 'inc-%'",
        "UPDATE escalation_pages SET reason = reason WHERE state <> 'x'",
    )
    for _ in range(12):
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            async with await AsyncConnection.connect(run.dsn) as person:
                await person.execute("SET LOCAL deadlock_timeout = '20ms'")
                for number in order:
                    await person.execute(locks[number].encode())
        await asyncio.sleep(0.2)
