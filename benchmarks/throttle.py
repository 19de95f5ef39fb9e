"""A receiver that takes a few messages a second and answers 429 to the others: requests for pages within a budget."""

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

from .ground import Ground, child, when_told
from .receiver import Receiver
from .results import Ratio, Result

RATE = 20.0
"""Messages a second that the receiver takes, one at a time."""
MAX_SECONDS = 300


def run(ground: Ground, progress: Progress, *, quick: bool) -> Result:  # noqa: ARG001 - parts are called alike
    """Measure once: a request too many is one whatever the machine's speed, and the first ones count for all."""
    pages = 500
    names = {True: "its rate as the budget", False: "no budget"}
    task = progress.add_task("throttle", total=len(names))
    found: dict[bool, dict[str, Any]] = {}
    for limited in names:
        with ground.database() as dsn:
            found[limited] = child("throttle", dsn=dsn, count=pages, limited=limited)
        progress.advance(task)
    progress.remove_task(task)
    extra = {limited: one["requests"] - pages for limited, one in found.items()}
    return Result(
        name="throttle",
        title=f"{pages} pages due at once, and a receiver that takes {RATE:g} a second",
        columns=("", "pages", "requests", "seconds"),
        rows=[
            [name, f"{pages}", f"{found[limited]['requests']}", f"{found[limited]['seconds']:.0f}"]
            for limited, name in names.items()
        ],
        ratios=[
            Ratio(name="requests above pages, within a budget", value=extra[True], most=2),
            Ratio(name="throttled requests for each page, without a budget", value=extra[False] / pages, most=0.1),
        ],
        data={names[limited]: one for limited, one in found.items()},
    )


def in_child(dsn: str, count: int, limited: bool) -> dict[str, Any]:
    """Deliver all pages with one worker."""
    return asyncio.run(_work(dsn, count, limited))


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


async def _work(dsn: str, count: int, limited: bool) -> dict[str, Any]:
    receiver = Receiver(RATE)
    settings = Settings(
        critical_window=timedelta(seconds=1),
        tick_interval=timedelta(seconds=1),
        budgets={"slack:ops": Budget(rate=RATE) if limited else None},
    )
    async with (
        receiver.serving() as url,
        Engine(await PostgresStore.connect(dsn), settings=settings, notifiers=[OneByOne(url)]) as engine,
    ):
        for number in range(count):
            await engine.open(f"k{number}", severity="critical", first_seen=datetime.now(UTC) - timedelta(minutes=1))
        when_told()
        began, stop = time.monotonic(), asyncio.Event()
        worker = asyncio.create_task(run_worker(engine, stop=stop, signals=False))
        while len(receiver.taken) < count and time.monotonic() - began < MAX_SECONDS:
            receiver.grown.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(receiver.grown.wait(), 1)
        seconds = time.monotonic() - began
        stop.set()
        await worker
    if len(receiver.taken) < count:
        raise SystemExit(f"{len(receiver.taken)} of {count} pages were taken in {MAX_SECONDS} seconds")
    return {"requests": receiver.requests, "seconds": seconds}
