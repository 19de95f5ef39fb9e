"""Escalate 100,000 due rows inside a canary, while 90,000 rows outside it were due earlier."""

import asyncio
import statistics
import time
from typing import Any

from rich.progress import Progress

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Settings

from .ground import Ground, child, when_told
from .results import Ratio, Result, median_ratio, spread

FILL = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT key, 'critical', now() - interval '10 minutes',
        now() - CASE WHEN bucket < {canary} THEN interval '1 minute' ELSE interval '5 minutes' END
    FROM (
        SELECT key, bucket, row_number() OVER (PARTITION BY bucket < {canary} ORDER BY key) AS place FROM (
            SELECT 'k/' || n AS key, ('x' || substr(md5('k/' || n), 1, 8))::bit(32)::bigint % 100 AS bucket
            FROM generate_series(1, {made}) AS n
        ) AS hashed
    ) AS placed
    WHERE place <= CASE WHEN bucket < {canary} THEN {inside} ELSE {outside} END
"""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure in turns: canaries of 100 %, 50 % and 10 %."""
    inside, outside = (10_000, 9_000) if quick else (100_000, 90_000)
    percents, rounds = (100, 50, 10), 3
    task = progress.add_task("canary", total=rounds * len(percents))
    rates: dict[int, list[float]] = {percent: [] for percent in percents}
    for _ in range(rounds):
        for percent in percents:
            made = inside * 100 // percent * 11 // 10 + outside * 3
            fill = FILL.format(canary=percent, inside=inside, outside=outside if percent < 100 else 0, made=made)
            with ground.database(fill) as dsn:
                rates[percent].append(child("canary", dsn=dsn, percent=percent, count=inside)["rate"])
            progress.advance(task)
    progress.remove_task(task)
    return Result(
        name="canary",
        title=f"Escalating {inside:,} due rows inside a canary, {outside:,} rows outside it due earlier",
        columns=("canary", "incidents/s", "of the rate at 100 %"),
        rows=[
            [f"{percent} %", f"{statistics.median(found):,.0f}", f"{median_ratio(found, rates[100]):.2f}"]
            for percent, found in rates.items()
        ],
        ratios=[
            Ratio(name=f"rate at canary {percent}", value=median_ratio(rates[percent], rates[100]), least=0.5, aim=0.8)
            for percent in percents[1:]
        ],
        data={str(percent): spread(found) for percent, found in rates.items()},
    )


def in_child(dsn: str, percent: int, count: int) -> dict[str, Any]:
    """Tick once."""
    return asyncio.run(_tick(dsn, percent, count))


async def _tick(dsn: str, percent: int, count: int) -> dict[str, Any]:
    store = await PostgresStore.connect(dsn)
    async with Engine(store, settings=Settings(canary_pct=percent), notifiers=[LogNotifier("log")]) as engine:
        when_told()
        began = time.perf_counter()
        report = await engine.tick(deliver=False)
        seconds = time.perf_counter() - began
    if report.escalated != count:
        raise SystemExit(f"the tick escalated {report.escalated} of {count}")
    return {"rate": count / seconds}
