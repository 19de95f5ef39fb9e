"""A web server with a certificate of its own, for calendars."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import attrs
import trustme
from aiohttp import web

from escalation_adapters.calendars.ical import IcalSource
from escalation_core.testing import ManualClock

from ..unit.adapters.calendars.texts import calendar, event

NOW = datetime(2026, 3, 25, 12, 30, tzinfo=UTC)
SECRET = "private-0f5c9e"
ROTA = calendar(
    *event("DTSTART;TZID=Europe/Berlin:20260105T090000", "DTEND;TZID=Europe/Berlin:20260106T090000", "RRULE:FREQ=DAILY")
)
"""One person, each day from nine to nine."""


def hostile() -> bytes:
    """Return a calendar whose rule is searched for two thousand years, hour by hour."""
    return calendar(*event("DTSTART:00010101T000000Z", "DURATION:PT1H", "RRULE:FREQ=HOURLY"))


@attrs.frozen
class Server:
    """The address, and what the client needs in order to trust it."""

    url: str
    tls: ssl.SSLContext
    asked: list[str] = attrs.field(factory=list)
    """The paths that the server was asked for, in order."""

    def source(self, *paths: str, folder: Path | None = None, **files: str) -> IcalSource:
        """Return a source of these paths of the server, each under its own name, and of these files."""
        urls = {path: f"{self.url}/{path}?key={SECRET}" for path in paths}
        return IcalSource({**urls, **files}, folder=folder, tls=self.tls, clock=ManualClock(NOW))


@asynccontextmanager
async def serving(replies: dict[str, web.Response | str]) -> AsyncIterator[Server]:
    """Serve replies by path; a text is the target of a redirect.

    ``hang`` and ``long`` never end, slowly and fast; ``garbage`` is not HTTP.
    """
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    asked: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/")
        asked.append(path)
        if path in ("hang", "long"):
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b"BEGIN:VCALENDAR\r\n" * (1000 if path == "long" else 1))
                await asyncio.sleep(0.02 if path == "hang" else 0)
        if path == "garbage":
            assert request.transport is not None
            request.transport.write(b"nonsense\r\n\r\n")
            request.transport.close()
            return web.Response()
        reply = replies[path]
        if isinstance(reply, str):
            return web.Response(status=302, headers={"Location": reply})
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served).start()
    try:
        yield Server(f"https://127.0.0.1:{runner.addresses[0][1]}", context, asked)
    finally:
        await runner.cleanup()


def plain(content: bytes = ROTA) -> web.Response:
    return web.Response(body=content, content_type="text/calendar")


def bomb() -> web.Response:
    """Return a reply of 100 kB that is 100 MB once it is decompressed."""
    body = gzip.compress(ROTA[:-30] + b"X" * 100_000_000, 9)
    return web.Response(body=body, headers={"Content-Encoding": "gzip"})
