"""A receiver that takes a few messages a second and answers 429 to the others, as Slack's webhooks do."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
from aiohttp import web


@attrs.define
class Receiver:
    """Counts the requests, and keeps the keys that it has taken, each with the seconds since the start."""

    rate: float
    """Messages a second."""
    burst: int = 1
    requests: int = 0
    taken: dict[str, float] = attrs.field(factory=dict)
    twice: int = 0
    """How many messages came again after they were taken."""
    grown: asyncio.Event = attrs.field(factory=asyncio.Event)
    began: float = attrs.field(factory=time.monotonic)
    _free: float = attrs.field(init=False)
    _at: float = attrs.field(factory=time.monotonic)

    def __attrs_post_init__(self) -> None:
        """Begin with all slots free."""
        self._free = self.burst

    async def take(self, request: web.Request) -> web.Response:
        """Take the message, or ask for fewer."""
        await request.read()
        now = time.monotonic()
        self._free, self._at = min(self.burst, self._free + (now - self._at) * self.rate), now
        self.requests += 1
        # A little tolerance: two requests that left a second apart may arrive a few milliseconds closer together.
        if self._free < 1 - 0.05:
            return web.Response(status=429, headers={"Retry-After": "1"})
        self._free -= 1
        key = request.headers["X-Dedup-Key"]
        self.twice += key in self.taken
        self.taken.setdefault(key, now - self.began)
        self.grown.set()
        return web.Response(text="ok")

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on the loopback interface, and yield the URL."""
        app = web.Application()
        app.router.add_post("/", self.take)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()
