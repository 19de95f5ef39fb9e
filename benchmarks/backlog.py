"""A worker with a backlog: 1,000,000 incidents due at once. Measures its memory, and the cost of an open snapshot.

The snapshot is another client's open transaction, which keeps VACUUM from removing dead rows.
"""

import asyncio
import time
from typing import Any

import psycopg
from rich.progress import Progress

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine

from .ground import DUE, Ground, child, peak_megabytes, when_told
from .results import Ratio, Result


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure once."""
    due = 20_000 if quick else 1_000_000
    task = progress.add_task("backlog", total=2)
    with ground.database(DUE.format(due=due)) as dsn:
        whole = child("backlog", dsn=dsn, count=due)
    progress.advance(task)
    with ground.database(DUE.format(due=min(due, 100_000))) as dsn, psycopg.connect(dsn) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM incidents")
        held = child("backlog", dsn=dsn, count=min(due, 100_000))
    progress.remove_task(task)
    return Result(
        name="backlog",
        title=f"{due:,} due at once",
        columns=("what", "incidents/s", "peak MB", "an empty tick afterwards, ms"),
        rows=[
            [name, f"{one['rate']:,.0f}", f"{one['megabytes']:.0f}", f"{one['empty_ms']:.2f}"]
            for name, one in ((f"{due:,} due", whole), (f"{min(due, 100_000):,} due, an open snapshot", held))
        ],
        ratios=[
            Ratio(name="memory during a backlog", value=whole["megabytes"], most=120, aim=80, unit=" MB"),
            Ratio(name="empty tick under an open snapshot", value=held["empty_ms"], most=100, unit=" ms"),
        ],
        data={"whole": whole, "snapshot": held},
    )


def in_child(dsn: str, count: int) -> dict[str, Any]:
    """Tick until nothing is due, then measure empty ticks."""
    return asyncio.run(_work(dsn, count))


async def _work(dsn: str, count: int) -> dict[str, Any]:
    async with Engine(await PostgresStore.connect(dsn), notifiers=[LogNotifier("log")]) as engine:
        when_told()
        began = time.perf_counter()
        escalated, behind = 0, True
        while behind:
            report = await engine.tick(deliver=False)
            escalated, behind = escalated + report.escalated, report.behind
        seconds = time.perf_counter() - began
        if escalated != count:
            raise SystemExit(f"ticks escalated {escalated} of {count}")
        took = []
        for _ in range(20):
            began = time.perf_counter()
            await engine.tick(deliver=False)
            took.append((time.perf_counter() - began) * 1000)
    return {"rate": count / seconds, "megabytes": peak_megabytes(), "empty_ms": sorted(took)[len(took) // 2]}
