"""A receiver that takes a few pages a second and answers 429 to the others: requests for pages within a budget."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web
from rich.progress import Progress

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run as run_worker
from escalation_core import Budget, Engine, Settings

from .ground import Ground, child, when_told
from .results import Ratio, Result

RATE = 20.0
"""Pages a second that the receiver takes, one at a time."""
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
            Ratio(name="refused requests for each page, without a budget", value=extra[False] / pages, most=0.1),
        ],
        data={names[limited]: one for limited, one in found.items()},
    )


def in_child(dsn: str, count: int, limited: bool) -> dict[str, Any]:
    """Deliver all pages with one worker."""
    return asyncio.run(_work(dsn, count, limited))


class Receiver:
    """Takes pages at its rate. It counts the requests and the pages that it has taken."""

    def __init__(self, count: int) -> None:
        self.count, self.requests = count, 0
        self.taken, self.all_taken = set[str](), asyncio.Event()
        self._free, self._at = 1.0, time.monotonic()

    async def take(self, request: web.Request) -> web.Response:
        """Take the page, or ask for fewer."""
        await request.read()
        now = time.monotonic()
        self._free, self._at = min(1.0, self._free + (now - self._at) * RATE), now
        self.requests += 1
        if self._free < 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        self._free -= 1
        self.taken.add(request.headers["X-Dedup-Key"])
        if len(self.taken) == self.count:
            self.all_taken.set()
        return web.Response(text="ok")


async def _work(dsn: str, count: int, limited: bool) -> dict[str, Any]:
    receiver, app = Receiver(count), web.Application()
    app.router.add_post("/", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    settings = Settings(
        critical_window=timedelta(seconds=1),
        tick_interval=timedelta(seconds=1),
        budgets={"slack:ops": Budget(rate=RATE) if limited else None},
    )
    notifier = SlackNotifier({"slack:ops": url}, allow_http=True)
    async with Engine(await PostgresStore.connect(dsn), settings=settings, notifiers=[notifier]) as engine:
        for number in range(count):
            await engine.open(f"k{number}", severity="critical", first_seen=datetime.now(UTC) - timedelta(minutes=1))
        when_told()
        began, stop = time.monotonic(), asyncio.Event()
        worker = asyncio.create_task(run_worker(engine, stop=stop, signals=False))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(receiver.all_taken.wait(), MAX_SECONDS)
        seconds = time.monotonic() - began
        stop.set()
        await worker
    await runner.cleanup()
    if not receiver.all_taken.is_set():
        raise SystemExit(f"{len(receiver.taken)} of {count} pages were taken in {MAX_SECONDS} seconds")
    return {"requests": receiver.requests, "seconds": seconds}
