"""A host guards its own route with verifier, role check and limiter, without the endpoints, on aiohttp and ASGI."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from escalation_adapters.auth.client_address import client_address
from escalation_adapters.auth.hmac_signature import HmacVerifier, Verified, signed_headers
from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter
from escalation_adapters.auth.rbac import Principal, admits
from escalation_core import Engine
from escalation_core.testing import MemoryStore

SECRET = "a plain secret of thirty-two bytes, or more"
USERS = {"ada": Principal("ada", {"ops_admin"}), "eve": Principal("eve", {"visitor"})}
Post = Callable[..., Awaitable[int]]


class Route:
    """A host's own route that checks the limit, the signature, a replay and the role."""

    def __init__(self) -> None:
        self.engine = Engine(MemoryStore())
        self.verifier = HmacVerifier([SECRET])
        self.limiter = MemoryLimiter()

    async def answer(self, peer: str | None, headers: Iterable[tuple[bytes, bytes]], body: bytes, user: str) -> int:
        if not (await self.limiter.hit(client_address(peer, [], ()), Limit(6))).allowed:
            return 429
        verdict = self.verifier.verify(headers, body, now=await self.engine.now())
        if not isinstance(verdict, Verified) or verdict.message_id is None or verdict.expires is None:
            return 401
        if not await self.engine.remember_request(verdict.message_id, expires=verdict.expires):
            return 401
        return 200 if admits(USERS.get(user), "ops_admin") else 403


@pytest.fixture(params=["aiohttp", "asgi"])
async def post(request: pytest.FixtureRequest) -> AsyncIterator[Post]:
    """Yield a function that sends a request to the route, on each kind of server."""
    route = Route()

    async def on_aiohttp(request: web.Request) -> web.Response:
        user = request.headers.get("x-user", "")
        return web.Response(status=await route.answer(request.remote, request.raw_headers, await request.read(), user))

    async def on_asgi(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        headers = dict(scope["headers"])
        user = headers.get(b"x-user", b"").decode()
        status = await route.answer(scope["client"][0], scope["headers"], body, user)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    if request.param == "asgi":

        async def call(body: bytes, headers: dict[str, str], user: str = "ada") -> int:
            given = [(name.encode(), value.encode()) for name, value in {**headers, "x-user": user}.items()]
            sent: list[Any] = []

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: Any) -> None:
                sent.append(message)

            await on_asgi({"type": "http", "client": ("192.0.2.1", 5), "headers": given}, receive, send)
            return int(sent[0]["status"])

        yield call
        return
    app = web.Application()
    app.router.add_post("/reindex", on_aiohttp)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/reindex"
        async with aiohttp.ClientSession() as http:

            async def post(body: bytes, headers: dict[str, str], user: str = "ada") -> int:
                async with http.post(url, data=body, headers={**headers, "x-user": user}) as answer:
                    return answer.status

            yield post
    finally:
        await runner.cleanup()


async def test_parts_alone_guard_a_route(post: Post) -> None:
    """The route accepts an admin's signed request once. It refuses changed bodies, replays, visitors and request 7."""
    body = json.dumps({"action": "reindex"}).encode()
    signed = signed_headers(body, secret=SECRET)
    assert 401 == await post(body + b" ", signed)
    assert 200 == await post(body, signed)
    assert 401 == await post(body, signed)
    assert 403 == await post(body, signed_headers(body, secret=SECRET), user="eve")
    assert 401 == await post(body, {})
    assert 200 == await post(body, signed_headers(body, secret=SECRET))
    assert 429 == await post(body, signed_headers(body, secret=SECRET))
