"""The cost of a wake of the delivery loop, by number of targets. Those that have nothing due must cost nothing."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from rich.progress import Progress

from escalation_adapters.postgres import PostgresStore
from escalation_core import Budget, Delivered, Engine, Outcome, Page, Settings

from .ground import Ground, child, when_told
from .results import Ratio, Result, spread

DUE = 10
"""How many targets have a page that is due."""
FILL = f"""
    INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, last_escalated_at, next_due_at)
    SELECT 'k' || n, 'critical', now() - interval '1 hour', 1, now(), now() + interval '1 day'
    FROM generate_series(1, {DUE}) AS n;
    INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
    SELECT 'k' || n, 1, 1, 't' || n, 'd' || n, 'pending', now(), now() FROM generate_series(1, {DUE}) AS n
"""

RENEW = "UPDATE escalation_pages SET state = 'pending', due_at = now()"
"""Makes the pages due again."""


class Many:
    """A notifier with very many targets."""

    channel = "many"

    def __init__(self, count: int) -> None:
        self.targets: Sequence[str] = [f"t{number}" for number in range(1, count + 1)]

    async def send(self, _: Page) -> Outcome:
        """Accept the page."""
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing."""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure with few and with many targets in turns."""
    sizes, rounds = (DUE, 10_000), 1 if quick else 3
    task = progress.add_task("targets", total=rounds * len(sizes))
    figures: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            with ground.database(FILL) as dsn:
                figures[size].append(child("targets", dsn=dsn, count=size))
            progress.advance(task)
    progress.remove_task(task)
    found = {
        size: {what: spread([one[what] for one in runs]) for what in ("look_ms", "wake_ms")}
        for size, runs in figures.items()
    }
    few, many = (found[size] for size in sizes)
    return Result(
        name="targets",
        title=f"A wake of the delivery loop, {DUE} targets with a page that is due",
        columns=("targets", "a look at what is due, ms", "look, claim, send and settle, ms"),
        rows=[
            [f"{size:,}", f"{one['look_ms']['median']:.2f}", f"{one['wake_ms']['median']:.2f}"]
            for size, one in found.items()
        ],
        ratios=[
            Ratio(
                name=f"{what} with {sizes[1]:,} targets against {sizes[0]}",
                value=many[key]["median"] / few[key]["median"],
                most=3,
            )
            for what, key in (("a look", "look_ms"), ("a wake", "wake_ms"))
        ],
        data={str(size): one for size, one in found.items()},
    )


def in_child(dsn: str, count: int) -> dict[str, Any]:
    """Look many times; then wake once for pages that are due, many times."""
    return asyncio.run(_work(dsn, count))


async def _work(dsn: str, count: int) -> dict[str, Any]:
    budgets = {f"t{number}": Budget(rate=1000, burst=1000) for number in range(1, DUE + 1)}
    store = await PostgresStore.connect(dsn)
    async with (
        Engine(store, settings=Settings(budgets=budgets), notifiers=[Many(count)]) as engine,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as other,
    ):
        await engine.next_claim_in()
        when_told()
        looks, wakes = [], []
        for _ in range(100):
            began = time.perf_counter()
            await engine.next_claim_in()
            looks.append(time.perf_counter() - began)
        for _ in range(30):
            began = time.perf_counter()
            report = await engine.deliver()
            wakes.append(time.perf_counter() - began)
            if report.delivered != DUE:
                raise SystemExit(f"a wake delivered {report.delivered} of {DUE} pages")
            await other.execute(RENEW)
    return {name: sorted(took)[len(took) // 2] * 1000 for name, took in (("look_ms", looks), ("wake_ms", wakes))}
