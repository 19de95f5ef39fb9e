"""The cost of a tick that finds nothing due, by number of rows. It must not read the rows that may not escalate.

One row in ten is snoozed, one in ten exhausted, and nine in a hundred are due, but outside the canary.
"""

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Any

import psycopg
from rich.progress import Progress

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.statements import statements
from escalation_core import Engine, Settings

from .ground import LOOPS, Ground, child, under, when_told
from .results import Ratio, Result, spread

CANARY = 50
FILL = """
    INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, snoozed_until, next_due_at)
    SELECT key, 'critical', now() - interval '1 day', CASE WHEN part = 1 THEN 7 ELSE 0 END,
        CASE WHEN part = 0 THEN now() + interval '1 day' END,
        CASE WHEN part = 0 THEN now() + interval '1 day' + n * interval '1 ms'
            WHEN part = 1 THEN NULL
            WHEN n % 50 BETWEEN 2 AND 12 AND bucket >= {canary} THEN now() - interval '1 hour'
            ELSE now() + interval '1 hour' + n * interval '1 ms' END
    FROM (
        SELECT n, n % 10 AS part, 'k/' || n AS key,
            ('x' || substr(md5('k/' || n), 1, 8))::bit(32)::bigint % 100 AS bucket
        FROM generate_series(1, {rows}) AS n
    ) AS made
"""
"""Nine of fifty rows, none snoozed or exhausted, are due if outside the canary. Half are: nine in a hundred."""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure at each size."""
    sizes = (10_000, 100_000) if quick else (10_000, 1_000_000, 5_000_000)
    rounds = 3
    task = progress.add_task("empty tick", total=len(sizes))
    figures: dict[str, Any] = {}
    for size in sizes:
        with ground.database(FILL.format(rows=size, canary=CANARY)) as dsn:
            runs = {loop: [child("empty", loop=loop, dsn=dsn) for _ in range(rounds)] for loop in LOOPS}
            claims = [claim(dsn) for _ in range(rounds)]
        ground.forget()
        figures[str(size)] = {
            "call_ms": {loop: spread([one["call_ms"] for one in found]) for loop, found in runs.items()},
            "claim_ms": spread(claims),
        }
        progress.advance(task)
    progress.remove_task(task)
    small, large = figures[str(sizes[0])], figures[str(sizes[-1])]
    return Result(
        name="empty",
        title=f"A tick with nothing due, canary {CANARY} %, 9 % of the rows due outside it",
        columns=("rows", "claim at the server, ms", *(f"engine.tick(), {loop}, ms" for loop in LOOPS)),
        rows=[
            [f"{size:,}", *(f"{found['median']:.3f}" for found in (one["claim_ms"], *one["call_ms"].values()))]
            for size, one in ((size, figures[str(size)]) for size in sizes)
        ],
        ratios=[
            Ratio(
                name="empty tick, the claim at the server",
                value=large["claim_ms"]["median"],
                most=0.3,
                aim=0.1,
                unit=" ms",
            ),
            *(
                Ratio(name=f"empty tick, the whole call, {loop}", value=one["median"], most=0.6, aim=0.3, unit=" ms")
                for loop, one in large["call_ms"].items()
            ),
            *(
                Ratio(
                    name=f"empty tick, {sizes[-1]:,} rows against {sizes[0]:,}, {loop}",
                    value=one["median"] / small["call_ms"][loop]["median"],
                    most=2,
                )
                for loop, one in large["call_ms"].items()
            ),
            Ratio(
                name=f"its claim at the server, {sizes[-1]:,} rows against {sizes[0]:,}",
                value=large["claim_ms"]["median"] / small["claim_ms"]["median"],
                most=2,
            ),
        ],
        data=figures,
    )


def claim(dsn: str) -> float:
    """Return the milliseconds that a claim takes at the server, after warm-up."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        table = asyncio.run(_table(dsn))
        values = {"until": datetime.now(UTC), "limit": 1000, "buckets": "{" + ",".join(map(str, range(CANARY))) + "}"}
        took = []
        for _ in range(30):
            rows = connection.execute(b"EXPLAIN (ANALYZE, TIMING OFF) " + statements(table)["claim_canary"], values)
            text = "\n".join(row[0] for row in rows.fetchall())
            [milliseconds] = re.findall(r"Execution Time: ([0-9.]+) ms", text)
            took.append(float(milliseconds))
        return sorted(took)[len(took) // 2]


async def _table(dsn: str) -> Any:
    store = await PostgresStore.connect(dsn)
    await store.aclose()
    return store.table


def in_child(loop: str, dsn: str) -> dict[str, Any]:
    """Tick many times."""
    return under(loop, _ticks(dsn))


async def _ticks(dsn: str) -> dict[str, Any]:
    async with Engine(await PostgresStore.connect(dsn), settings=Settings(canary_pct=CANARY)) as engine:
        while (await engine.tick()).changed:
            pass  # each exhausted row is planned once, as a host's row; and the first tick writes a heartbeat
        when_told()
        took = []
        for _ in range(500):
            began = time.perf_counter()
            report = await engine.tick()
            took.append(time.perf_counter() - began)
            if report.changed:
                raise SystemExit("the empty tick was not empty")
    return {"call_ms": sorted(took)[len(took) // 2] * 1000}
