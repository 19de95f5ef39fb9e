"""The notifier passes the library's checks over a real socket, and its factory reads the environment."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from escalation_adapters.worker.plugins import PluginContext
from escalation_core import Delivered, Incident, InvalidValue, Notifier, Page, Rejected, Retry, Settings
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import NOTIFIER_CHECKS, NotifierHarness
from escalation_ntfy import Ntfy, make

TOPIC, TOKEN = "hush-topic", "hush-token"
Answer = Callable[[], Awaitable[web.Response]]


class Server:
    """A server of ntfy on this machine, whose answer a test sets; a harness for the library's checks."""

    target = "ntfy:ops"
    secrets: Sequence[str] = (TOPIC, TOKEN)

    def __init__(self) -> None:
        self.answer: Answer = self._accepted
        self.parts = False
        self.messages: list[dict[str, Any]] = []
        self._arrived: list[str] = []
        self._site: web.TCPSite | None = None
        self._port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/", self._publish)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        self.ntfy = Ntfy(f"http://127.0.0.1:{self._port}/", {self.target: TOPIC}, TOKEN, allow_http=True)

    async def aclose(self) -> None:
        await self.ntfy.aclose()
        await self._runner.cleanup()

    @property
    def notifier(self) -> Notifier:
        return self.ntfy

    def arrived(self) -> Sequence[str]:
        return self._arrived

    async def accept(self) -> None:
        await self._listen()
        self.answer = self._accepted

    async def refuse(self) -> bool:
        self.answer = self.says(403)
        return True

    async def throttle(self, after: timedelta) -> bool:
        self.answer = self.says(429, {"Retry-After": str(int(after.total_seconds()))})
        return True

    async def vanish(self) -> bool:
        assert self._site is not None
        await self._site.stop()
        self._site = None
        await self.ntfy.aclose()  # else its connection would go on
        return True

    async def stall(self) -> bool:
        self.answer = self._never
        return True

    def says(self, status: int, headers: dict[str, str] | None = None, text: str = TOPIC) -> Answer:
        """Return an answer with this status."""

        async def answer() -> web.Response:
            return web.Response(status=status, headers=headers, text=text)

        return answer

    async def _listen(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
            await self._site.start()
            self._port = self._runner.addresses[0][1]

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        message = await request.json()
        assert f"Bearer {TOKEN}" == request.headers["Authorization"]
        assert message["sequence_id"] == request.headers["X-Dedup-Key"]
        self.messages.append(message)
        response = await self.answer()
        if response.status == 200:
            self._arrived.append(message["sequence_id"])
        return await self._in_parts(request, response.body) if self.parts else response

    async def _in_parts(self, request: web.Request, body: Any) -> web.StreamResponse:
        """Send a body in parts, with a moment between two of them."""
        response = web.StreamResponse()
        await response.prepare(request)
        middle = len(body) // 2
        for part in (body[:middle], body[middle:]):
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    async def _accepted(self) -> web.Response:
        return web.json_response({"id": "x", "event": "message"})

    async def _never(self) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("it is never set")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server of ntfy, and the notifier that publishes there."""
    made = Server()
    await made.start()
    yield made
    await made.aclose()


@pytest.mark.parametrize("check", NOTIFIER_CHECKS, ids=lambda check: check.__name__)
async def test_check(check: Callable[[NotifierHarness], Awaitable[None]], server: Server) -> None:
    """The notifier passes each of the library's checks."""
    await check(server)


def page(**incident: Any) -> Page:
    first_seen = ManualClock()()
    one = Incident(incident_key="db-7/disk", level=2, first_seen=first_seen, **incident)
    return Page(incident=one, episode=1, level=2, target="ntfy:ops", dedup_key="d" * 64, at=first_seen)


async def test_message(server: Server) -> None:
    """A message has the topic, a title, the summary and the severity's priority, and is not too long."""
    await server.ntfy.send(page(severity="critical", summary="Disk nearly full"))
    await server.ntfy.send(page(summary="\U0001f4df" * 5000))
    first, second = server.messages
    assert {
        "topic": TOPIC,
        "title": "critical, level 2: db-7/disk",
        "message": "Disk nearly full",
        "priority": 5,
        "sequence_id": "d" * 64,
    } == first
    assert ("incident, level 2: db-7/disk", 3) == (second["title"], second["priority"])
    assert 4000 == len(second["message"].encode())


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (302, Rejected("HTTP 302")),
        (401, Rejected("HTTP 401")),
        (408, Retry("HTTP 408")),
        (413, Rejected("HTTP 413")),
        (500, Retry("HTTP 500")),
        (200, Retry("HTTP 200 without a message of ntfy")),
    ],
)
async def test_outcome(status: int, outcome: Rejected | Retry, server: Server) -> None:
    """Each status has its outcome. A proxy that answers 200 has not published the page."""
    server.answer = server.says(status)
    assert outcome == await server.ntfy.send(page())


async def test_reply_in_parts(server: Server) -> None:
    """A reply that arrives in two parts confirms the page, so that no second copy is sent."""
    server.parts = True
    assert Delivered() == await server.ntfy.send(page())


async def test_long_reply(server: Server) -> None:
    """The notifier reads no endless reply, and one that it has not read to its end confirms nothing."""
    long = b'{"event": "message", "more": "' + bytes(range(65, 91)) * 2600 + b'"}'
    server.answer = server.says(200, text=long.decode())
    assert Retry("HTTP 200 without a message of ntfy") == await server.ntfy.send(page())


async def test_compressed_reply(server: Server) -> None:
    """The notifier unpacks no reply, because a small one may fill the memory."""

    async def answer() -> web.Response:
        return web.Response(body=gzip.compress(b'{"event": "message"}'), headers={"Content-Encoding": "gzip"})

    server.answer = answer
    assert Retry("HTTP 200 without a message of ntfy") == await server.ntfy.send(page())


async def test_deep_reply(server: Server) -> None:
    """A reply that no parser can read confirms nothing."""
    server.answer = server.says(200, text="[" * 60_000)
    assert Retry("HTTP 200 without a message of ntfy") == await server.ntfy.send(page())


def context(**environ: str) -> PluginContext:
    return PluginContext(Settings(), environ)


def test_factory(tmp_path: Path) -> None:
    """The topics and the token may come from files; each target has a budget."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    made = make(context(NTFY_TOPICS='{"ntfy:ops": "a", "ntfy:dev": "b"}', NTFY_TOKEN_FILE=str(tmp_path / "token")))
    assert ("ntfy:ops", "ntfy:dev") == made.targets
    assert set(made.targets) == set(made.abilities.budgets)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NTFY_TOPICS", "hush"), ("NTFY_TOPICS", '["hush"]'), ("NTFY_TOPICS", '{"a": 5}'), ("NTFY_URL", "http://hush")],
)
def test_faults_of_the_environment(variable: str, value: str) -> None:
    """A variable that is not valid is named, and its value is not shown."""
    with pytest.raises(InvalidValue) as caught:
        make(context(**{"NTFY_TOPICS": '{"ntfy:ops": "a"}', "NTFY_TOKEN": TOKEN, variable: value}))
    assert variable == caught.value.field
    assert "hush" not in str(caught.value)
