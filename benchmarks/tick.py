"""A tick over 100,000 due incidents of 1,000,000, compared with the cheapest SQL and the row-at-a-time worker."""

import asyncio
import statistics
import time
from typing import Any

import psycopg
from rich.progress import Progress

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine

from . import row_at_a_time
from .ground import DUE, OTHERS, Ground, child, children, peak_megabytes, stopwatch, wal_bytes, when_told
from .results import Ratio, Result, median_ratio, spread

ROW_AT_A_TIME = "row-at-a-time worker"
"""The name of the baseline in tables and results."""
CHEAPEST = (
    """
    INSERT INTO escalation_events (incident_key, level, unique_hash, episode)
    SELECT 'bench/' || n, 1, encode(sha256(convert_to('bench/' || n || '|1', 'UTF8')), 'hex'), 1
    FROM generate_series(1, {due}) AS n
    """,
    """
    INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
    SELECT 'bench/' || n, 1, 1, 'log', encode(sha256(convert_to('bench/' || n || '|1', 'UTF8')), 'hex'), 'pending',
        now(), now()
    FROM generate_series(1, {due}) AS n
    """,
    """
    UPDATE incidents SET escalation_level = 1, last_escalated_at = now(), next_due_at = now() + interval '30 minutes'
    WHERE next_due_at <= now()
    """,
)
"""SQL that writes the same rows in one transaction. No worker that decides row by row can be faster."""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure in turns: the cheapest SQL, the row-at-a-time worker, and the engine in each way."""
    due, others = (20_000, 180_000) if quick else (100_000, 900_000)
    rounds = 3
    ways: list[tuple[int, int, int]] = [(1000, 1, 1), (1000, 2, 1)]
    if not quick:
        ways += [(500, 2, 1), (2000, 2, 1), (5000, 2, 1), (1000, 4, 1), (1000, 1, 2), (1000, 2, 2)]
    rows = (DUE.format(due=due), OTHERS.format(others=others))
    task = progress.add_task("tick", total=rounds * (2 + len(ways)))
    cheapest: list[float] = []
    baseline: list[float] = []
    runs: dict[tuple[int, int, int], list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        with ground.database(*rows) as dsn:
            before = wal_bytes(dsn)
            cheapest.append(due / cheapest_sql(dsn, due))
            cheapest_wal = (wal_bytes(dsn) - before) / due
        progress.advance(task)
        with ground.database(*rows) as dsn:
            baseline.append(child("tick", dsn=dsn, one_by_one=due // 20)["rate"])
        progress.advance(task)
        for way in ways:
            with ground.database(*rows) as dsn:
                runs[way].append(measure(dsn, due, *way))
            progress.advance(task)
    progress.remove_task(task)
    base, slow = statistics.median(cheapest), statistics.median(baseline)
    table = [
        ["the cheapest SQL: the same rows in three statements", f"{base:,.0f}", "1.00", "", f"{cheapest_wal:,.0f}", ""],
        [ROW_AT_A_TIME, f"{slow:,.0f}", f"{slow / base:.3f}", "", "", ""],
    ]
    figures: dict[str, Any] = {
        "due": due,
        "rows": due + others,
        "cheapest_sql": spread(cheapest),
        ROW_AT_A_TIME: spread(baseline),
    }
    for (batch, claims, processes), found in runs.items():
        rates = [one["rate"] for one in found]
        middle = {name: statistics.median(one[name] for one in found) for name in ("cpu", "wal", "megabytes")}
        name = f"batches of {batch}, concurrency {claims}" + (f", {processes} processes" if processes > 1 else "")
        of_cheapest = median_ratio(rates, cheapest)
        table.append(
            [
                name,
                f"{statistics.median(rates):,.0f}",
                f"{of_cheapest:.2f}",
                f"{middle['cpu']:.0f}",
                f"{middle['wal']:,.0f}",
                f"{middle['megabytes']:.0f}",
            ]
        )
        figures[f"{batch}/{claims}/{processes}"] = middle | {"rate": spread(rates), "of_cheapest_sql": of_cheapest}
    rates = [one["rate"] for one in runs[1000, 2, 1]]
    return Result(
        name="tick",
        title=f"A tick over {due:,} due incidents of {due + others:,}, durable PostgreSQL",
        columns=("what", "incidents/s", "of the cheapest SQL", "client CPU µs each", "WAL bytes each", "peak MB"),
        rows=table,
        ratios=[
            Ratio(name="tick, of the cheapest SQL", value=median_ratio(rates, cheapest), least=0.45, aim=0.7),
            Ratio(name=f"tick, times the {ROW_AT_A_TIME}", value=median_ratio(rates, baseline), least=20),
        ],
        data=figures,
    )


def cheapest_sql(dsn: str, due: int) -> float:
    """Return the seconds that the cheapest SQL takes."""
    with psycopg.connect(dsn) as connection:
        began = time.perf_counter()
        for statement in CHEAPEST:
            connection.execute(statement.format(due=due).encode())
        connection.commit()
        return time.perf_counter() - began


def measure(dsn: str, due: int, batch: int, claims: int, processes: int) -> dict[str, Any]:
    """Measure one run of the engine, with its costs for each incident."""
    before = wal_bytes(dsn)
    if processes == 1:
        found = [child("tick", dsn=dsn, batch=batch, claims=claims)]
    else:
        found = children("tick", [{"dsn": dsn, "batch": batch, "claims": claims}] * processes)
    done = sum(one["count"] for one in found)
    if done != due:
        raise SystemExit(f"the tick escalated {done} of {due}")
    return {
        "rate": due / max(one["seconds"] for one in found),
        "cpu": sum(one["cpu"] for one in found) / due * 1e6,
        "wal": (wal_bytes(dsn) - before) / due,
        "megabytes": max(one["megabytes"] for one in found),
    }


def in_child(dsn: str, batch: int = 0, claims: int = 0, one_by_one: int = 0) -> dict[str, Any]:
    """Tick once, or let the row-at-a-time worker escalate ``one_by_one`` rows."""
    return rate_of_row_at_a_time(dsn, one_by_one) if one_by_one else asyncio.run(_tick(dsn, batch, claims))


def rate_of_row_at_a_time(dsn: str, limit: int, webhook: str | None = None) -> dict[str, Any]:
    """Return the row-at-a-time worker's rate over ``limit`` rows."""
    when_told()
    began = time.perf_counter()
    count = asyncio.run(row_at_a_time.tick(dsn, limit, webhook))
    return {"rate": count / (time.perf_counter() - began), "megabytes": peak_megabytes()}


async def _tick(dsn: str, batch: int, claims: int) -> dict[str, Any]:
    store = await PostgresStore.connect(dsn)
    engine = Engine(store, notifiers=[LogNotifier("log")], batch_size=batch, concurrency=claims)
    async with engine:
        when_told()
        wall, cpu = stopwatch()
        report = await engine.tick(deliver=False)
        wall, cpu = stopwatch()[0] - wall, stopwatch()[1] - cpu
    return {"seconds": wall, "cpu": cpu, "count": report.escalated, "megabytes": peak_megabytes()}
