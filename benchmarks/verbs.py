"""Opening and acknowledging under 32 clients at once, and a recalculation of every row."""

import asyncio
import statistics
import time
from typing import Any

from rich.progress import Progress

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine

from .ground import OTHERS, Ground, child, when_told
from .results import Result, quantile, spread

CLIENTS = 32


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure."""
    count, others, rounds = (640, 50_000, 1) if quick else (6_400, 1_000_000, 3)
    task = progress.add_task("verbs", total=rounds)
    found = []
    for _ in range(rounds):
        with ground.database(OTHERS.format(others=others)) as dsn:
            found.append(child("verbs", dsn=dsn, count=count))
        progress.advance(task)
    progress.remove_task(task)
    names = {"open": "open", "acknowledge": "acknowledge", "recalc": f"recalc of {others:,} rows"}
    rates = {name: [one[name]["rate"] for one in found] for name in names}
    slow = {name: [one[name]["p99_ms"] for one in found if "p99_ms" in one[name]] for name in names}
    return Result(
        name="verbs",
        title=f"Verbs under {CLIENTS} clients, and a recalculation",
        columns=("what", "a second", "p99, ms"),
        rows=[
            [
                title,
                f"{statistics.median(rates[name]):,.0f}",
                f"{statistics.median(slow[name]):.1f}" if slow[name] else "",
            ]
            for name, title in names.items()
        ],
        data={name: {"rate": spread(rates[name]), "p99_ms": slow[name]} for name in names},
    )


def in_child(dsn: str, count: int) -> dict[str, Any]:
    """Open, acknowledge, recalculate."""
    return asyncio.run(_verbs(dsn, count))


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
