"""No failure of a receiver or of a network shows a secret of a channel: no outcome, log, span, error or repr has it."""

import asyncio
import gzip
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import trustme
from aiohttp import web
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from escalation_adapters.channels.pagerduty import PagerDutyNotifier
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import Engine, Notifier, Outcome, Page, Rejected, Retry
from escalation_core.testing import ManualClock, MemoryStore

from ..fuzz.material import told
from ..pagerduty_server import KEY
from ..unit.adapters.channels.slack_page import page
from .receivers import (
    SECRET,
    Raw,
    bad_chunk,
    break_off,
    endless_header,
    garbage,
    hang_up,
    no_answer,
    no_tls,
    raw_receiver,
    receiver,
    trickle,
)

pytestmark = pytest.mark.asyncio
SECRETS = ("HUSH", "R0UT1NG")
"""Parts of the secret of each URL: of the path, or of the routing key."""
HUSH = (*SECRETS, "127.0.0.1", "localhost")
"""The same and the hosts, which asyncio alone logs in its debug mode."""
TIMEOUT = timedelta(milliseconds=300)
ECHO = f"{SECRET} {KEY} localhost"


def slack(address: str) -> Notifier:
    return SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True, timeout=TIMEOUT)


def pagerduty(address: str) -> Notifier:
    scheme, _, host = address.partition("://")
    url = f"pagerduty{'+http' if scheme == 'http' else ''}://{KEY}@{host}"
    return PagerDutyNotifier({"slack:ops": url}, allow_http=True, timeout=TIMEOUT)


CHANNELS: tuple[Callable[[str], Notifier], ...] = (slack, pagerduty)


@pytest.fixture(params=CHANNELS, ids=lambda channel: channel.__name__)
def channel(request: pytest.FixtureRequest) -> Callable[[str], Notifier]:
    """Return a function that makes the notifier of a channel, for a receiver at an address."""
    made: Callable[[str], Notifier] = request.param
    return made


@pytest.fixture(autouse=True)
def nothing_is_shown(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Search all that is logged in the test, also by asyncio and aiohttp in their debug modes."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        shown = f"{record.getMessage()} {record.args!r} {record.exc_text}"
        parts = SECRETS if record.name == "asyncio" else HUSH
        assert not [part for part in parts if part in shown], shown


async def send(notifier: Notifier, one: Page | None = None) -> Outcome:
    """Send a page, and search what can be seen of it. The notifier is closed."""
    asyncio.get_running_loop().set_debug(True)
    try:
        outcome = await notifier.send(page() if one is None else one)
    finally:
        await notifier.aclose()
    shown = f"{outcome!r} {outcome} {notifier!r} {vars(outcome) if hasattr(outcome, '__dict__') else ''}"
    assert not [part for part in HUSH if part in shown], shown
    return outcome


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection in the middle of the body."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nHUSH")
    await writer.drain()
    found: socket.socket = writer.get_extra_info("socket")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a byte every few milliseconds, without an end."""
    writer.write(b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nH\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer bytes as fast as the client reads them, without an end."""
    writer.write(b"HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
        await writer.drain()


@pytest.mark.parametrize(
    ("reply", "scheme", "reason"),
    [
        (garbage, "http", "Error"),
        (hang_up, "http", "Error"),
        (break_off, "http", "Error"),
        (reset, "http", "Error"),
        (endless_header, "http", "Error"),
        (bad_chunk, "http", "Client"),
        (no_answer, "http", "timed out"),
        (trickle, "http", "timed out"),
        (drip, "http", "timed out"),
        (endless, "http", "HTTP 202 without"),
        (no_tls, "https", "SSL"),
    ],
)
async def test_bad_sockets(channel: Callable[[str], Notifier], reply: Raw, scheme: str, reason: str) -> None:
    """Each fault of a connection is a Retry with its kind alone, within the timeout."""
    async with raw_receiver(reply, scheme=scheme) as address:
        outcome = await send(channel(address))
    assert isinstance(outcome, Retry)
    assert reason in outcome.reason


async def test_refused_and_unknown(channel: Callable[[str], Notifier]) -> None:
    """A port on which nothing listens, and a host that does not exist."""
    async with raw_receiver(no_answer) as address:
        pass
    for there in (address, "http://localhost.invalid"):
        outcome = await send(channel(there))
        assert isinstance(outcome, Retry)
        assert outcome.unanswered


async def test_a_certificate_that_is_not_trusted(channel: Callable[[str], Notifier]) -> None:
    """A receiver whose certificate another authority signed gets nothing, and the reason names the error's class."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(served)
    async with tls_receiver(served) as (address, heard):
        outcome = await send(channel(address))
    reason = "ClientConnectorCertificateError"  # the cause only if this version of aiohttp names it
    expected = [Retry(text, unanswered=True) for text in (reason, f"{reason} (SSLCertVerificationError)")]
    assert outcome in expected
    assert [] == heard


@asynccontextmanager
async def tls_receiver(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[str]]]:
    heard: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


def answers() -> Iterator[tuple[str, int, bytes, Mapping[str, str], type[Rejected | Retry]]]:
    """Yield replies that echo secrets: a name, the status, the body, the headers, and the class of the outcome."""
    echo = ECHO.encode()
    bomb = gzip.compress(b'{"status": "success"}' + b" " * 50_000_000)
    yield "bomb", 202, bomb, {"Content-Encoding": "gzip"}, Retry
    yield "deflated", 202, bomb, {"Content-Encoding": "deflate"}, Retry
    yield "packed", 202, gzip.compress(b'{"status": "success"}'), {"Content-Encoding": "gzip"}, Retry
    yield "html", 200, b"<html>" + echo, {}, Retry
    yield "json", 202, b'{"status": "' + echo + b'"}', {}, Retry
    yield "long", 202, b'{"status": "success", "x": "' + b"H" * 70_000 + b'"}', {}, Retry
    yield "deep", 202, b"[" * 60_000, {}, Retry
    yield "number", 202, b"9" * 60_000, {}, Retry
    yield "wait", 429, echo, {"Retry-After": ECHO, "Date": ECHO, "X-Request-Id": ECHO}, Retry
    for status in (400, 401, 403, 404, 410, 413, 500, 502, 503, 599):
        kind = Rejected if status < 500 else Retry
        yield f"status {status}", status, b'{"errors": ["' + echo + b'"]}', {"X-Echo": ECHO}, kind


@pytest.mark.parametrize(("name", "status", "body", "headers", "kind"), list(answers()), ids=[a[0] for a in answers()])
async def test_bad_answers(
    channel: Callable[[str], Notifier],
    name: str,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    kind: type[Rejected | Retry],
) -> None:
    """No answer is quoted, whatever it holds, and no reply is decompressed."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    async with receiver(handler) as address:
        assert isinstance(await send(channel(address)), kind), name


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host(channel: Callable[[str], Notifier], status: int) -> None:
    """The other host hears nothing, and the outcome does not name it."""
    heard: list[str] = []

    async def stranger(request: web.Request) -> web.Response:
        heard.append(request.method)
        return web.Response(text="ok")

    async with receiver(stranger) as elsewhere:

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{elsewhere}/{SECRET}?{KEY}"}, text=ECHO)

        async with receiver(handler) as address:
            assert Rejected("redirect") == await send(channel(address))
    assert [] == heard


async def test_a_send_that_is_cancelled(channel: Callable[[str], Notifier]) -> None:
    """The error of a cancelled send and its chain have no secret."""
    connected = asyncio.Event()

    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()

    async with raw_receiver(never) as address:
        notifier = channel(address)
        task = asyncio.create_task(notifier.send(page()))
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        await notifier.aclose()
    shown = told(caught.value)
    assert not [part for part in HUSH if part in shown], shown


async def test_spans_and_the_engines_log(channel: Callable[[str], Notifier]) -> None:
    """What the engine records of a failed page has no secret: its span, its reason in the store, its report."""
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    clock = ManualClock()

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=404, text=ECHO, headers={"X-Echo": ECHO})

    async with (
        receiver(handler) as address,
        Engine(MemoryStore(clock), notifiers=[channel(address)], tracer_provider=tracers) as engine,
    ):
        await engine.open("k", severity="critical")
        clock.advance(timedelta(minutes=5))
        report = await engine.tick()
        history = await engine.history("k")
    spans = exporter.get_finished_spans()
    tracers.shutdown()
    assert spans
    shown = f"{report!r} {history!r} {[span.to_json() for span in spans]}"
    assert "HTTP 404" in shown
    assert not [part for part in HUSH if part in shown], shown


async def test_the_dead_mans_switch(caplog: pytest.LogCaptureFixture) -> None:
    """It has the same client: what it logs of each failure has the kind alone."""
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        return web.Response(status=500, text=ECHO, headers={"Set-Cookie": f"a={SECRET}"})

    async with receiver(handler) as address:
        heartbeat = HttpHeartbeat(f"{address}/{SECRET}", allow_http=True)
        await heartbeat.beat()
        await heartbeat.beat()
    assert [None, None] == seen
    assert ["the heartbeat does not arrive: status 500"] == [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]
