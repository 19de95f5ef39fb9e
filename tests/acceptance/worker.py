"""A worker that a test starts as a program, and a real receiver of its pages."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web

from .console import TIMEOUT, Console, Said, finish


@attrs.define
class Receiver:
    """A web server that answers each page after ``delay`` seconds."""

    delay: float = 0
    url: str = ""
    began: list[str] = attrs.field(factory=list)
    pages: list[dict[str, Any]] = attrs.field(factory=list)

    async def take(self, request: web.Request) -> web.Response:
        page = await request.json()
        self.began.append(page["dedup_key"])
        await asyncio.sleep(self.delay)
        self.pages.append(page)
        return web.Response(text="ok")


@asynccontextmanager
async def receiving(delay: float = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver(delay)
    app = web.Application()
    app.router.add_post("/page", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/page"
        yield receiver
    finally:
        await runner.cleanup()


async def until(true: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until a condition holds, for half of TIMEOUT at most."""
    async with asyncio.timeout(TIMEOUT / 2):
        while not true():
            assert process.poll() is None, finish(process)
            await asyncio.sleep(0.01)


async def ended(process: "subprocess.Popen[str]") -> Said:
    """Wait for the program's end while the receiver in this process goes on serving."""
    return await asyncio.to_thread(finish, process)


def variables(receiver: Receiver) -> dict[str, str]:
    return {
        "ESC_TARGETS": json.dumps({"slack:ops": receiver.url, "other": receiver.url + "?other"}),
        "ESC_ALLOW_HTTP": "true",
        "ESC_DEFAULT_TARGET": "slack:ops",
        "ESC_TICK_MS": "1000",
    }


async def tick_line(process: "subprocess.Popen[str]") -> Any:
    """Return the log line of the next tick that ends."""
    log = process.stderr
    assert log is not None
    while True:
        line = json.loads(await asyncio.wait_for(asyncio.to_thread(log.readline), TIMEOUT / 2))
        if "mode" in line:
            return line


async def call(console: Console, *args: str, **env: str) -> Said:
    """Call the command line in a thread, because the command runs its own event loop."""
    return await asyncio.to_thread(console, *args, **env)
