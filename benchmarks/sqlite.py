"""A tick on an SQLite file, compared with the cheapest SQL for the same rows in the same tables."""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.progress import Progress

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.sqlite.codec import micros
from escalation_core import Engine, canary_bucket, idempotency_key

from .ground import Ground, child, when_told
from .results import Ratio, Result, median_ratio, spread


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:  # noqa: ARG001 - parts are called alike
    """Measure both in turns."""
    due, rounds = (5_000, 3) if quick else (50_000, 3)
    task = progress.add_task("SQLite", total=rounds * 2)
    cheapest, rates = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="escalation-bench-") as folder:
            path = str(Path(folder) / "cheapest.db")
            fill(path, due)
            cheapest.append(due / cheapest_sql(path, due))
            progress.advance(task)
            path = str(Path(folder) / "tick.db")
            fill(path, due)
            rates.append(child("sqlite", path=path, count=due)["rate"])
            progress.advance(task)
    progress.remove_task(task)
    of_cheapest = median_ratio(rates, cheapest)
    return Result(
        name="sqlite",
        title=f"A tick over {due:,} due incidents in an SQLite file, synchronous=FULL",
        columns=("what", "incidents/s", "of the cheapest SQL"),
        rows=[
            ["the cheapest SQL: the same rows in three statements", f"{statistics.median(cheapest):,.0f}", "1.00"],
            ["engine.tick()", f"{statistics.median(rates):,.0f}", f"{of_cheapest:.2f}"],
        ],
        ratios=[Ratio(name="SQLite tick, of the cheapest SQL", value=of_cheapest, least=0.3, aim=0.6)],
        data={"due": due, "cheapest_sql": spread(cheapest), "tick": spread(rates)},
    )


def fill(path: str, due: int) -> None:
    """Make a file with ``due`` rows that are due."""
    asyncio.run(_made(path))
    now = datetime.now(UTC)
    seen, since = micros(now - timedelta(minutes=10)), micros(now - timedelta(minutes=5))
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO incidents (incident_key, severity, first_seen, next_due_at, canary_bucket)"
            " VALUES (?, 'critical', ?, ?, ?)",
            ((f"k/{n}", seen, since, canary_bucket(f"k/{n}")) for n in range(due)),
        )
    connection.close()


async def _made(path: str) -> None:
    store = await SQLiteStore.connect(path)
    await store.aclose()


def cheapest_sql(path: str, due: int) -> float:
    """Return the seconds that the same rows take in one transaction, without the time for their hashes."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = FULL")
    now = micros(datetime.now(UTC))
    hashes = [(f"k/{n}", idempotency_key(f"k/{n}", 1), now) for n in range(due)]
    began = time.perf_counter()
    with connection:
        connection.executemany(
            "INSERT INTO escalation_events (incident_key, level, unique_hash, created_at, episode)"
            " VALUES (?, 1, ?, ?, 1)",
            hashes,
        )
        connection.executemany(
            "INSERT INTO escalation_pages"
            " (incident_key, episode, level, target, dedup_key, state, created_at, due_at, fence, attempts, tried_for)"
            " VALUES (?1, 1, 1, 'log', ?2, 'pending', ?3, ?3, 0, 0, 0)",
            hashes,
        )
        connection.execute(
            "UPDATE incidents SET escalation_level = 1, last_escalated_at = ?1, next_due_at = ?1 + 1800000000"
            " WHERE next_due_at <= ?1",
            (now,),
        )
    seconds = time.perf_counter() - began
    connection.close()
    return seconds


def in_child(path: str, count: int) -> dict[str, Any]:
    """Tick once."""
    return asyncio.run(_tick(path, count))


async def _tick(path: str, count: int) -> dict[str, Any]:
    async with Engine(await SQLiteStore.connect(path), notifiers=[LogNotifier("log")]) as engine:
        when_told()
        began = time.perf_counter()
        report = await engine.tick(deliver=False)
        seconds = time.perf_counter() - began
    if report.escalated != count:
        raise SystemExit(f"the tick escalated {report.escalated} of {count}")
    return {"rate": count / seconds}
