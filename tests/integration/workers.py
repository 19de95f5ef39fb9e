"""Helpers for many workers on one database: engines in this process, worker processes, and reads of the tables."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, RetryPolicy, Settings
from escalation_core.testing import ManualClock, RecordingNotifier

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
    """Return the rows. A row of one column is its value."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(statement, values or None).fetchall()
    return [row[0] if len(row) == 1 else row for row in rows]


def overdue(dsn: str, count: int, prefix: str = "k") -> list[str]:
    """Insert this many due incidents as a host does; return their keys."""
    execute(dsn, OVERDUE, prefix=prefix, count=count)
    return [f"{prefix}{n}" for n in range(1, count + 1)]


def recorded(dsn: str) -> list[tuple[str, int, int]]:
    return select(dsn, "SELECT incident_key, episode, level FROM escalation_events ORDER BY 1, 2, 3")


def page_states(dsn: str) -> dict[str, int]:
    return dict(select(dsn, "SELECT state, count(*) FROM escalation_pages GROUP BY state"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, for ten seconds at most."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the server did not get there")


@asynccontextmanager
async def engines(
    dsn: str, count: int, *, clock: ManualClock | None = None, **kwargs: Any
) -> AsyncIterator[list[tuple[Engine, RecordingNotifier]]]:
    """Yield engines, each with a store and a notifier of its own."""
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
    """Start worker processes and wait until all are ready. Each process ticks after ``go``."""
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
