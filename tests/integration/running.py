"""Helpers for tests of the runner: a store that fails on demand, a notifier that waits, a running engine."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web

from escalation_adapters.worker.runner import run
from escalation_core import Delivered, Engine, Outcome, Page, StoreError
from escalation_core.model import Canary, NextDue, PageState
from escalation_core.ports import Transaction
from escalation_core.testing import MemoryStore

Result = TypeVar("Result")
LONG_AGO = timedelta(minutes=16)
TIMEOUT = 5
"""Seconds after which a test that hangs fails."""


class Store(MemoryStore):
    """A store that raises ``fault`` if it is set, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: StoreError | None = None
        self.failures = asyncio.Semaphore(0)
        self.calls = 0

    async def check(self) -> None:
        """Raise ``fault`` if it is set."""
        self._answer()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Raise ``fault`` if it is set; otherwise run the work."""
        self._answer()
        return await super().transact(work)

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Raise ``fault`` if it is set; otherwise run the work."""
        self._answer()
        return await super().read(work)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Raise ``fault`` if it is set; otherwise return the next due instants."""
        self._answer()
        return await super().next_due(canary=canary, pages=pages)

    def _answer(self) -> None:
        self.calls += 1
        if self.fault is not None:
            self.failures.release()
            raise self.fault


class Held:
    """A notifier that sets ``came`` when it gets a page, and answers once the test sets ``door``."""

    channel = "held"
    targets: Sequence[str] = ("test",)

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.came = asyncio.Event()
        self.door = asyncio.Event()

    async def send(self, page: Page) -> Outcome:
        """Record the page, and answer ``Delivered`` once ``door`` is set."""
        self.pages.append(page)
        self.came.set()
        await self.door.wait()
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def receiver(answers: Sequence[tuple[int, str]]) -> AsyncIterator[tuple[str, "asyncio.Queue[Mapping[str, Any]]"]]:
    """Serve these answers in turn, then the last one for ever. Yield the webhook's URL and a queue of the requests."""
    came: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    left = list(answers)

    async def handler(request: web.Request) -> web.Response:
        await came.put(await request.json())
        status, body = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, text=body)

    app = web.Application()
    app.router.add_post("/hook", handler)
    server = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{server.addresses[0][1]}/hook", came
    finally:
        await server.cleanup()


@asynccontextmanager
async def running(engine: Engine, stop: asyncio.Event) -> AsyncIterator["asyncio.Task[None]"]:
    """Run the engine while the block lasts; then stop the engine and wait until it has ended."""
    task = asyncio.create_task(run(engine, stop=stop, signals=False))
    try:
        yield task
        stop.set()
        await soon(task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(work: Awaitable[Result]) -> Result:
    """Await the result for at most ``TIMEOUT`` seconds."""
    return await asyncio.wait_for(work, TIMEOUT)


def loop_here() -> str:
    """Return the name of the package that the running event loop is from."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def open_due(engine: Engine, key: str = "db-7/disk") -> None:
    """Open an incident whose first level is due now; its next level is due later than the test lasts."""
    await engine.open(key, first_seen=datetime.now(UTC) - LONG_AGO)


def states(store: MemoryStore) -> list[PageState]:
    """Return the states of all pages."""
    return [page.state for page in store.pages.values()]
