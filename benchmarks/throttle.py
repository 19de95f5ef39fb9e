"""A receiver that takes a few messages a second and answers 429 to the others: the requests of two workers."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.progress import Progress

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run as run_worker
from escalation_core import Budget, Engine, Outcome, Page, Settings

from .ground import Ground, children, when_told
from .receiver import Receiver
from .results import Ratio, Result

PAGES = 500
RATE = 5.0
"""Messages a second that the receiver takes, one at a time. With more, a few milliseconds of waiting would count."""
WORKERS = 2
BUDGETS = {"its rate as the budget": True, "no budget": False}


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:  # noqa: ARG001 - parts are called alike
    """Measure once, and not ``quick`` either: the first requests count for all."""
    return measure(ground, progress, "throttle", RATE)


def measure(ground: Ground, progress: Progress, name: str, rate: float) -> Result:
    """Count the requests with and without a budget. Both run together: they wait for nearly all of the time."""
    task = progress.add_task(name, total=1)
    with ground.database() as one, ground.database() as other:
        ways = [
            {"dsn": dsn, "rate": rate, "limited": limited}
            for dsn, limited in zip((one, other), BUDGETS.values(), strict=True)
        ]
        each = children("throttle", ways)
    progress.remove_task(task)
    found = dict(zip(BUDGETS, each, strict=True))
    within, without = (one["requests"] - PAGES for one in each)
    return Result(
        name=name,
        title=f"{PAGES} pages due at once, a receiver that takes {rate:g} a second, two workers",
        columns=("", "pages", "requests", "seconds"),
        rows=[[way, f"{PAGES}", f"{one['requests']}", f"{one['seconds']:.0f}"] for way, one in found.items()],
        ratios=[
            Ratio(name="requests above pages, within a budget", value=within, most=2),
            Ratio(name="throttled requests for each page, without a budget", value=without / PAGES, most=0.1),
        ],
        data=found,
    )


def in_child(dsn: str, rate: float, limited: bool) -> dict[str, Any]:
    """Deliver all pages with two workers."""
    return asyncio.run(_work(dsn, rate, limited))


class OneByOne:
    """The notifier for Slack without bundles, which would hide what each page costs."""

    channel = "slack"

    def __init__(self, url: str) -> None:
        self.targets = ("slack:ops",)
        self._slack = SlackNotifier({"slack:ops": url}, allow_http=True)

    async def send(self, page: Page) -> Outcome:
        """Send the page."""
        return await self._slack.send(page)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._slack.aclose()


async def _work(dsn: str, rate: float, limited: bool) -> dict[str, Any]:
    receiver = Receiver(rate)
    longest = 300 + 2 * PAGES / rate
    settings = Settings(
        critical_window=timedelta(seconds=1),
        tick_interval=timedelta(seconds=1),
        budgets={"slack:ops": Budget(rate=rate) if limited else None},
    )
    async with receiver.serving() as url, contextlib.AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                Engine(await PostgresStore.connect(dsn), settings=settings, notifiers=[OneByOne(url)])
            )
            for _ in range(WORKERS)
        ]
        for number in range(PAGES):
            await engines[0].open(
                f"k{number}", severity="critical", first_seen=datetime.now(UTC) - timedelta(minutes=1)
            )
        when_told()
        began, stop = time.monotonic(), asyncio.Event()
        workers = [asyncio.create_task(run_worker(engine, stop=stop, signals=False)) for engine in engines]
        while len(receiver.taken) < PAGES and time.monotonic() - began < longest:
            receiver.grown.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receiver.grown.wait(), 1)
        seconds = time.monotonic() - began
        stop.set()
        await asyncio.gather(*workers)
    if len(receiver.taken) < PAGES:
        raise SystemExit(f"{len(receiver.taken)} of {PAGES} pages were taken in {longest:.0f} seconds")
    return {"requests": receiver.requests, "seconds": seconds}
