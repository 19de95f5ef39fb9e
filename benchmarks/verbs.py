"""Rates of opening and acknowledging with 32 clients, and of a recalculation of all rows, under each event loop."""

import asyncio
import statistics
import time
from collections import defaultdict
from typing import Any

from rich.progress import Progress

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine

from .ground import LOOPS, OTHERS, Ground, child, under, when_told
from .results import Result, quantile, spread

CLIENTS = 32


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure each event loop in turns."""
    count, others, rounds = (640, 50_000, 1) if quick else (6_400, 1_000_000, 3)
    task = progress.add_task("verbs", total=rounds * len(LOOPS))
    rates: dict[str, list[float]] = defaultdict(list)
    slow: dict[str, list[float]] = defaultdict(list)
    for loop in list(LOOPS) * rounds:
        with ground.database(OTHERS.format(others=others)) as dsn:
            found = child("verbs", loop=loop, dsn=dsn, count=count)
        for name, one in found.items():
            title = f"recalc of {others:,} rows" if name == "recalc" else name
            title += "" if loop == "asyncio" else f", {loop}"
            rates[title].append(one["rate"])
            slow[title] += [one["p99_ms"]] if "p99_ms" in one else []
        progress.advance(task)
    progress.remove_task(task)
    return Result(
        name="verbs",
        title=f"Verbs from {CLIENTS} clients, and a recalculation",
        columns=("what", "a second", "p99, ms"),
        rows=[
            [
                title,
                f"{statistics.median(rates[title]):,.0f}",
                f"{statistics.median(slow[title]):.1f}" if slow[title] else "",
            ]
            for title in rates
        ],
        data={title: {"rate": spread(rates[title]), "p99_ms": slow[title]} for title in rates},
    )


def in_child(loop: str, dsn: str, count: int) -> dict[str, Any]:
    """Open, acknowledge, recalculate."""
    return under(loop, _verbs(dsn, count))


async def _verbs(dsn: str, count: int) -> dict[str, Any]:
    async with Engine(await PostgresStore.connect(dsn)) as engine:
        when_told()
        figures: dict[str, Any] = {}
        for name, verb in (("open", engine.open), ("acknowledge", engine.acknowledge)):
            left = iter(range(count))
            took: list[float] = []

            async def client(verb: Any = verb, left: Any = left, took: list[float] = took) -> None:
                for number in left:
                    began = time.perf_counter()
                    await verb(f"verbs/{number}", by="bench")
                    took.append(time.perf_counter() - began)

            began = time.perf_counter()
            await asyncio.gather(*(client() for _ in range(CLIENTS)))
            figures[name] = {
                "rate": count / (time.perf_counter() - began),
                "p99_ms": quantile(took, 0.99) * 1000,
            }
        began = time.perf_counter()
        rows = await engine.recalc()
        figures["recalc"] = {"rate": rows / (time.perf_counter() - began)}
    return figures
