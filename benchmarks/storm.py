"""A storm: 10,000 incidents due at once, and one target that takes a message a second. Two workers share its budget."""

import asyncio
import contextlib
import time
from datetime import timedelta
from typing import Any

from rich.progress import Progress

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.channels.slack_budget import SLACK_BUDGET
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run as run_worker
from escalation_core import Engine, Settings
from escalation_core.model import PageState

from .ground import Ground, child, when_told
from .receiver import Receiver
from .results import Ratio, Result

WITHIN = 20
"""Seconds after which each incident must be in a message that the receiver has taken."""
MAX_SECONDS = 120
CRITICAL = 10
"""One in so many incidents is critical, the others are warnings."""
FILL = f"""
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'k' || n, CASE WHEN n % {CRITICAL} = 0 THEN 'critical' ELSE 'warning' END,
        now() - interval '1 hour', now() - interval '30 minutes'
    FROM generate_series(1, {{count}}) AS n
"""


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:
    """Measure once: the limit is that of the receiver, not of the machine."""
    count = 2_000 if quick else 10_000
    task = progress.add_task("storm", total=1)
    with ground.database(FILL.format(count=count)) as dsn:
        found = child("storm", dsn=dsn, count=count)
    progress.remove_task(task)
    return Result(
        name="storm",
        title=f"{count:,} incidents due at once, one target that takes a message a second, two workers",
        columns=("incidents", "messages", "requests", "seconds until all were sent", "of the critical ones"),
        rows=[
            [
                f"{count:,}",
                f"{found['messages']}",
                f"{found['requests']}",
                f"{found['seconds']:.1f}",
                f"{found['critical_seconds']:.1f}",
            ]
        ],
        ratios=[
            Ratio(name="seconds until each incident is in a message", value=found["seconds"], most=WITHIN),
            Ratio(name="incidents that were sent twice or never", value=found["wrong"], most=0),
            Ratio(name="warnings that were sent before a critical one", value=found["out_of_order"], most=0),
        ],
        data=found,
    )


def in_child(dsn: str, count: int) -> dict[str, Any]:
    """Tick and deliver with two workers until each incident is in a message that was taken."""
    return asyncio.run(_work(dsn, count))


async def _work(dsn: str, count: int) -> dict[str, Any]:
    receiver = Receiver(SLACK_BUDGET.rate, SLACK_BUDGET.burst)
    async with receiver.serving() as url, contextlib.AsyncExitStack() as stack:
        settings = Settings(tick_interval=timedelta(seconds=1), budgets={"slack:ops": SLACK_BUDGET})
        engines = [
            await stack.enter_async_context(
                Engine(
                    await PostgresStore.connect(dsn),
                    settings=settings,
                    notifiers=[SlackNotifier({"slack:ops": url}, allow_http=True)],
                )
            )
            for _ in range(2)
        ]
        when_told()
        began, stop = time.monotonic(), asyncio.Event()
        offset = began - receiver.began
        # All pages are there before the first is sent, so that their order can be judged.
        while (await engines[0].tick(deliver=False)).escalated:
            pass
        workers = [asyncio.create_task(run_worker(engine, stop=stop, signals=False)) for engine in engines]
        while (found := await _sent(engines[0], receiver, count)) is None:
            if time.monotonic() - began > MAX_SECONDS:
                raise SystemExit(f"not all incidents were sent within {MAX_SECONDS} seconds")
            receiver.grown.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receiver.grown.wait(), 1)
        stop.set()
        await asyncio.gather(*workers)
        return found | {
            "messages": len(receiver.taken),
            "requests": receiver.requests,
            "seconds": max(found["seconds"]) - offset,
            "critical_seconds": max(found["critical"]) - offset,
            "wrong": found["wrong"] + receiver.twice,
        }


async def _sent(engine: Engine, receiver: Receiver, count: int) -> dict[str, Any] | None:
    """Return when each page was in a message that the receiver took; None while one is missing."""
    if len(receiver.taken) < 2:
        return None
    pages = await engine.store.read(lambda tx: tx.outbox.pages(limit=2 * count))
    if len(pages) < count or any(page.state is not PageState.DELIVERED for page in pages):
        return None
    at = [(receiver.taken.get(page.bundle or page.dedup_key), page.priority) for page in pages]
    known = [(seconds, priority) for seconds, priority in at if seconds is not None]
    worst = min(priority for _, priority in known)
    critical = [seconds for seconds, priority in known if priority == worst]
    return {
        "wrong": len(pages) - len({page.incident_key for page in pages}) + len(pages) - len(known),
        "seconds": [seconds for seconds, _ in known],
        "critical": critical,
        "out_of_order": sum(seconds < max(critical) for seconds, priority in known if priority != worst),
    }
