"""Lateness of escalations: 1,000 incidents, due at random instants within 30 seconds, among 100,000 others.

It is measured under each event loop, since a loop's timers may fire late or early.

Lateness ends with the commit, since an escalation's own instant is its tick's. The database's commit timestamps give
the instant, without a listener that polls.
"""

import asyncio
from typing import Any

import psycopg
from rich.progress import Progress

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run as run_engine
from escalation_core import Engine

from .ground import LOOPS, Ground, child, under, when_told
from .results import Ratio, Result, quantile

OTHERS = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'other/' || n, 'critical', now(), now() + interval '1 day' + n * interval '1 ms'
    FROM generate_series(1, {others}) AS n
"""
SOON = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'soon/' || n, 'critical', due - interval '5 minutes', due
    FROM (SELECT n, clock_timestamp() + interval '1 second' + random() * {within} * interval '1 second' AS due
        FROM generate_series(1, {count}) AS n) AS made
"""
LATE = """
    SELECT extract(epoch FROM pg_xact_commit_timestamp(e.xmin) - (i.first_seen + interval '5 minutes')) * 1000
    FROM escalation_events e JOIN incidents i USING (incident_key)
"""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure once under each loop: each incident is a measurement."""
    count, within = (200, 6) if quick else (1000, 30)
    task = progress.add_task("lateness", total=len(LOOPS))
    figures: dict[str, Any] = {}
    for loop in LOOPS:
        with ground.database(OTHERS.format(others=100_000)) as dsn:
            late = child("lateness", loop=loop, dsn=dsn, count=count, within=within)["late_ms"]
        figures[loop] = {"p50": quantile(late, 0.5), "p99": quantile(late, 0.99), "max": max(late)}
        figures[loop]["late_ms"] = sorted(late)
        progress.advance(task)
    progress.remove_task(task)
    return Result(
        name="lateness",
        title=f"Lateness of {count:,} incidents due at random instants, among 100,000 others",
        columns=("event loop", "p50, ms", "p99, ms", "max, ms"),
        rows=[[loop, *(f"{one[name]:.1f}" for name in ("p50", "p99", "max"))] for loop, one in figures.items()],
        ratios=[
            Ratio(name=f"lateness, p99, {loop}", value=one["p99"], most=20, aim=5, unit=" ms")
            for loop, one in figures.items()
        ],
        data=figures,
    )


def in_child(loop: str, dsn: str, count: int, within: int) -> dict[str, Any]:
    """Run a worker while the incidents come due."""
    when_told()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SOON.format(count=count, within=within).encode())
    under(loop, _work(dsn, within + 3))
    with psycopg.connect(dsn, autocommit=True) as connection:
        late = [float(row[0]) for row in connection.execute(LATE.encode()).fetchall()]
    if len(late) != count:
        raise SystemExit(f"{len(late)} of {count} were recorded")
    return {"late_ms": late}


async def _work(dsn: str, seconds: float) -> None:
    stop = asyncio.Event()
    async with Engine(await PostgresStore.connect(dsn), notifiers=[LogNotifier("log")]) as engine:
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await run_engine(engine, stop=stop, signals=False)
