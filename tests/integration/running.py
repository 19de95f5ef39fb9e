"""What tests of the runner share: a store that fails when told, a notifier that waits, and a runner beside a test."""

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
"""Seconds after which a test that hangs has failed."""


class Store(MemoryStore):
    """A store that fails when told, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: StoreError | None = None
        self.failures = asyncio.Semaphore(0)
        self.calls = 0

    async def check(self) -> None:
        """Fail if it is out of order."""
        self._answer()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Fail, or do it."""
        self._answer()
        return await super().transact(work)

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Fail, or do it."""
        self._answer()
        return await super().read(work)

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        """Fail, or do it."""
        self._answer()
        return await super().next_due(canary=canary, targets=targets)

    def _answer(self) -> None:
        self.calls += 1
        if self.fault is not None:
            self.failures.release()
            raise self.fault


class Held:
    """A notifier that tells when a page has come, and answers when the door is opened."""

    channel = "held"
    targets: Sequence[str] = ("test",)

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.came = asyncio.Event()
        self.door = asyncio.Event()

    async def send(self, page: Page) -> Outcome:
        """Wait for the door."""
        self.pages.append(page)
        self.came.set()
        await self.door.wait()
        return Delivered()

    async def aclose(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def receiver(answers: Sequence[tuple[int, str]]) -> AsyncIterator[tuple[str, "asyncio.Queue[Mapping[str, Any]]"]]:
    """Serve these answers, the last of them for ever; yield a webhook's URL and what comes in there."""
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
    """Run the engine while the block lasts, then stop it and wait for its end."""
    task = asyncio.create_task(run(engine, stop=stop, signals=False))
    try:
        yield task
        stop.set()
        await soon(task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(work: Awaitable[Result]) -> Result:
    """Await what must happen soon."""
    return await asyncio.wait_for(work, TIMEOUT)


def loop_here() -> str:
    """Return the name of the package that the running event loop is from."""
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def open_due(engine: Engine, key: str = "db-7/disk") -> None:
    """Open an incident that is due at once, and once only."""
    await engine.open(key, first_seen=datetime.now(UTC) - LONG_AGO)


def states(store: MemoryStore) -> list[PageState]:
    """Return the states of all pages."""
    return [page.state for page in store.pages.values()]
