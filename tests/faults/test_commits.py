"""Commits whose replies never come, and transactions that collide before they come to theirs."""

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
from .harness.receiver import OK, Answer
from .harness.run import Run
from .harness.servers import WORKER
from .scenarios.busy import SLOW, until_sending
from .test_database import END, busy

EACH = 10
"""Of so many updates by workers the first one meets a conflict; a sequence counts on when a transaction is undone."""
CONFLICT = f"""
CREATE SEQUENCE faults.updates;
GRANT USAGE ON SCHEMA faults TO {WORKER};
GRANT USAGE ON SEQUENCE faults.updates TO {WORKER};
CREATE FUNCTION faults.conflict() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    IF current_user = '{WORKER}' THEN
        IF nextval('faults.updates') % {EACH} = 1 THEN
            RAISE 'as if others were at it' USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    RETURN NEW;
END $body$;
CREATE TRIGGER conflict BEFORE UPDATE ON incidents FOR EACH ROW EXECUTE FUNCTION faults.conflict()
"""
"""A conflict that PostgreSQL reports only of transactions above READ COMMITTED."""

CUT_OFF = 10
"""How many replies to a COMMIT are cut off."""
LOST = 3
"""How many replies to a worker's COMMIT are lost, on connections that stay open."""
AGAIN = "is run again"
"""What a worker says of a transaction that met a conflict."""
DEADLOCKS = 6
"""How many are tried: the worker that waits may be another one."""
THROTTLING = Answer(status=429, accepts=False, delay=SLOW.delay)
TARGET = "INSERT INTO escalation_targets VALUES ('ops', now()), ('boss', now()) ON CONFLICT DO NOTHING"
"""Both are there, so that they can be held."""
WAITS = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'w_-%')
"""
GIVEN_UP = "the call is given up"
"""What a worker says of a call that the database does not answer."""


async def test_reply_to_commit_is_cut_off(new_run: NewRun) -> None:
    """A commit whose reply never comes was made or was not; either direction each escalation is there once, and is heard."""
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
            assert await run.until(enough), "hardly any worker commits"
            for proxy in run.proxies.values():
                proxy.decide = lambda direction, frame: "pass"


async def test_reply_to_commit_is_lost(new_run: NewRun) -> None:
    """A connection that is silent from a commit's reply on is given up, and what was committed is not done again."""
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
            assert await run.until(given_up), "it waits for ever"
        assert LOST == lost
        assert proxy.connects >= connects + LOST
        assert worker.alive


async def test_conflicts(new_run: NewRun) -> None:
    """Serialization failures and deadlocks make transactions run again, and nothing else."""
    async with busy(new_run, 14, count=3) as run:
        role = f"ALTER ROLE {WORKER} IN DATABASE {run.database}"
        # Workers say READ COMMITTED themselves: whoever else conflicts with them is a trigger of the host.
        await run.execute(CONFLICT)
        # Whoever looks for a deadlock when there is one has to give direction: a worker, before any other client does.
        await run.execute(f"{role} SET deadlock_timeout = '300ms'")
        with run.disturbance("conflicts", stops=True):
            await run.execute(END)
            crossing = [asyncio.create_task(_cross(run, order)) for order in ((0, 1), (1, 0))]
            await asyncio.gather(*crossing)
            for number in range(DEADLOCKS):
                await _deadlock(run, f"deadlock-{number}")
                if _met(run, "40P01"):
                    break
        assert _met(run, "40001"), "no worker met a serialization failure"
        assert _met(run, "40P01"), "no worker met a deadlock"

        async def run_again() -> bool:
            told = sum(worker.text.count(AGAIN) for worker in run.workers)
            return _met(run, "40001") + _met(run, "40P01") <= told

        assert await run.until(run_again), "not each transaction that met a conflict was run again"
        await run.execute(f"{role} RESET ALL")
        await run.execute("DROP FUNCTION faults.conflict() CASCADE")


def _met(run: Run, state: str) -> int:
    """Return how often workers have met an error."""
    met = run.servers.errors(run.database, state)
    return sum(met[worker.name] for worker in run.workers)


async def _deadlock(run: Run, key: str) -> None:
    """Hold a target that a worker is to throttle, and ask for a page that it settles once it waits for that."""
    run.receiver.answers = lambda number: THROTTLING
    await run.execute(TARGET)
    await run.hosts.do("open", key, severity="critical", first_seen=round(time() - 1, 6))
    await until_sending(run, run.workers, expected_hash(key, 1, 1))
    async with await AsyncConnection.connect(run.dsn) as person:

        async def waits() -> bool:
            return bool((await run.execute(WAITS))[0][0])

        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            await person.execute("SELECT FROM escalation_targets FOR UPDATE")
            await run.until(waits, run.rules.tick)
            await person.execute("SELECT FROM escalation_pages WHERE incident_key = %s FOR UPDATE", [key])
        await person.rollback()
    run.receiver.answers = lambda number: OK


async def _cross(run: Run, order: tuple[int, int]) -> None:
    """Lock pages and incidents in an order of one's own, as no engine does."""
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
