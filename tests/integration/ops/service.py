"""Services of three frameworks serve the operators' endpoints on real sockets. A raw client sends any request."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import uvicorn
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from escalation_adapters.auth.hmac_signature import sign
from escalation_adapters.auth.rbac import Principal
from escalation_adapters.ops import OpsHandler
from escalation_adapters.ops.asgi import OpsASGI
from escalation_adapters.ops.http import ops_app
from escalation_core import Engine
from escalation_core.testing import ManualClock

SECRET = "a plain secret of thirty-two bytes, or more"
OLD_SECRET = "whsec_" + "b2xkIHNlY3JldCB0aGF0IHdhcyByb3RhdGVk"
BINDINGS = ("aiohttp", "starlette", "fastapi")
USERS = {
    "ada": Principal("ada", {"ops_admin", "ops_read"}),
    "carol": Principal("carol", {"ops_admin", "ops_read"}),
    "bob": Principal("bob", {"ops_read"}),
    "eve": Principal("eve", {"visitor"}),
}
Headers = Sequence[tuple[str, str]]


def login(native: Any) -> Principal | None:
    """Return the principal that the cookie names, without a signature, as a host's own login does."""
    headers = native["headers"] if isinstance(native, Mapping) and "headers" in native else native.raw_headers
    cookies = [value.decode() for name, value in headers if name.lower() == b"cookie"]
    return USERS.get(cookies[0].removeprefix("user=")) if cookies else None


@attrs.frozen
class Answer:
    """The answer to one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.frozen
class Service:
    """A running service, its engine, and the clock of both."""

    port: int
    engine: Engine
    clock: ManualClock
    handler: OpsHandler

    async def send(self, method: str, path: str, headers: Headers = (), body: bytes = b"") -> Answer:
        """Send one request exactly as given, and read the whole answer."""
        lines = [f"{method} /ops/escalation{path} HTTP/1.1", "Host: localhost", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body and not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in headers):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(head + body)
            async with asyncio.timeout(10):
                raw = await reader.read()
        finally:
            writer.close()
        top, _, rest = raw.partition(b"\r\n\r\n")
        first, *named = top.decode("latin-1").split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in named)}
        return Answer(int(first.split(" ")[1]), found, rest)

    async def get(self, path: str, user: str | None = "ada") -> Answer:
        """Send a GET as a user, or without a login."""
        return await self.send("GET", path, cookie(user))

    def signed(self, body: bytes, *, secret: str = SECRET, age: int = 0, message_id: str | None = None) -> Headers:
        """Return the headers that sign a body, by the service's clock."""
        at = int(self.clock().timestamp()) - age
        message_id = message_id or f"msg_{os.urandom(8).hex()}"
        return [
            ("content-type", "application/json"),
            ("webhook-id", message_id),
            ("webhook-timestamp", str(at)),
            ("webhook-signature", sign(secret=secret, message_id=message_id, timestamp=at, body=body)),
        ]

    async def act(self, action: str, *, user: str | None = "ada", **fields: Any) -> Answer:
        """Send an action, signed and as a user."""
        body = json.dumps({"action": action, **fields}).encode()
        return await self.send("POST", f"/{action}", [*self.signed(body), *cookie(user)], body)


def cookie(user: str | None) -> Headers:
    """Return the cookie that names a user to ``login``."""
    return [] if user is None else [("cookie", f"user={user}")]


@asynccontextmanager
async def serving(binding: str, engine: Engine, clock: ManualClock, **options: Any) -> AsyncIterator[Service]:
    """Serve the endpoints below /ops/escalation."""
    handler = OpsHandler(engine, **{"login": login, **options})
    async with listening(mounted(binding, handler)) as port:
        yield Service(port, engine, clock, handler)


def mounted(binding: str, handler: OpsHandler) -> Any:
    """Return a host's application of a framework, with the endpoints below /ops/escalation."""
    if binding == "starlette":
        return Starlette(routes=[Mount("/ops/escalation", OpsASGI(handler))])
    if binding == "fastapi":
        app = FastAPI()
        app.mount("/ops/escalation", OpsASGI(handler))
        return app
    site = web.Application()
    site.add_subapp("/ops/escalation", ops_app(handler))
    return site


@asynccontextmanager
async def listening(app: Any, unix: str | None = None) -> AsyncIterator[int]:
    """Serve an aiohttp or ASGI application on a port, which is yielded, or on a Unix socket."""
    if isinstance(app, web.Application):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, lingering_time=0.1)
        await runner.setup()
        try:
            await (web.TCPSite(runner, "127.0.0.1", 0) if unix is None else web.UnixSite(runner, unix)).start()
            yield 0 if unix else runner.addresses[0][1]
        finally:
            await runner.cleanup()
        return
    config = uvicorn.Config(app, port=0, uds=unix, log_config=None, lifespan="on", proxy_headers=False)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.005)
        yield 0 if unix else server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
