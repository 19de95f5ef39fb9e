"""Tests of the heartbeat on a real socket: the engine calls a URL after each good tick, without waiting."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import attrs
import pytest
from aiohttp import web

from escalation_adapters.worker.app import open_engine
from escalation_adapters.worker.heartbeat import HttpHeartbeat
from escalation_core import Engine, InvalidValue, Settings, StoreUnavailable
from escalation_core.model import Canary, NextDue
from escalation_core.testing import MemoryStore

SECRET = "T0HUSH"


@attrs.define
class Watcher:
    """An external service that the heartbeat calls."""

    url: str = ""
    heard: int = 0
    hung_up: int = 0
    status: int = 200
    delay: float = 0

    async def hear(self, request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.hung_up += 1
            raise
        self.heard += 1
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@asynccontextmanager
async def watching() -> AsyncIterator[Watcher]:
    watcher = Watcher()
    app = web.Application()
    app.router.add_get("/{secret}", watcher.hear)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        watcher.url = f"http://127.0.0.1:{runner.addresses[0][1]}/{SECRET}"
        yield watcher
    finally:
        await runner.cleanup()


async def test_each_good_tick_is_heard() -> None:
    """The watcher gets a call after each complete tick, even if paused or dry, and none after a failed tick."""

    class Failing(MemoryStore):
        down = False

        async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
            if self.down:
                raise StoreUnavailable("down")
            return await super().next_due(canary=canary, pages=pages)

    store = Failing()
    async with watching() as watcher:
        engine = Engine(store, heartbeat=HttpHeartbeat(watcher.url, allow_http=True))
        await engine.tick()
        await engine.aclose()
        assert 1 == watcher.heard
        await engine.pause(timedelta(hours=1))
        await engine.tick()
        await engine.aclose()
        assert 2 == watcher.heard
        dry = Engine(store, settings=Settings(dry_run=True), heartbeat=HttpHeartbeat(watcher.url, allow_http=True))
        await dry.tick()
        await dry.aclose()
        assert 3 == watcher.heard
        store.down = True
        with pytest.raises(StoreUnavailable):
            await engine.tick()
        await engine.aclose()
        assert 3 == watcher.heard


async def test_no_tick_waits_for_it() -> None:
    """While the watcher is slow, ticks continue with one call at a time; closing waits for the last call."""
    async with watching() as watcher:
        watcher.delay = 0.3
        engine = Engine(MemoryStore(), heartbeat=HttpHeartbeat(watcher.url, allow_http=True))
        for _ in range(20):
            await engine.tick()
        assert 0 == watcher.heard
        await engine.aclose()
        assert 1 == watcher.heard


async def test_failures_are_told_once_and_without_the_url(caplog: pytest.LogCaptureFixture) -> None:
    """The heartbeat logs once if the watcher refuses, redirects, is slow or is gone, and once when it is back.

    The log does not show the secret of the URL.
    """
    caplog.set_level(logging.DEBUG)
    async with watching() as watcher:
        heartbeat = HttpHeartbeat(watcher.url, allow_http=True, timeout=timedelta(seconds=0.2))
        for status, delay in ((500, 0), (302, 0), (200, 1), (200, 0), (204, 0)):
            watcher.status, watcher.delay = status, delay
            await heartbeat.beat()
        assert 5 == watcher.heard + watcher.hung_up, "a redirect was followed"
    await heartbeat.beat()
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "the heartbeat does not arrive: status 500" == told[0]
    assert "the heartbeat arrives again" == told[1]
    assert told[2].startswith("the heartbeat does not arrive: ClientConnectorError")
    assert 3 == len(told)
    assert SECRET not in caplog.text + repr(heartbeat)


@pytest.mark.parametrize(
    "url", ["", "http://h/T0HUSH", "https://", "https://[]@", "ftp://h/T0HUSH", "https://h/T0 HUSH", None]
)
def test_bad_urls_are_refused(url: Any) -> None:
    """Without ``allow_http`` the heartbeat accepts only valid https URLs; the error does not quote the URL."""
    with pytest.raises(InvalidValue, match="heartbeat: is not a valid https URL") as refusal:
        HttpHeartbeat(url)
    assert "HUSH" not in str(refusal.value)


async def test_by_settings(tmp_path: Any) -> None:
    """The command line needs ``ESC_HEARTBEAT_URL`` alone for a heartbeat; the settings' ``repr`` hides the URL."""
    async with watching() as watcher:
        settings = Settings.from_env(
            {
                "ESC_DATABASE_URL": f"sqlite:///{tmp_path / 'e.db'}",
                "ESC_HEARTBEAT_URL": watcher.url,
                "ESC_ALLOW_HTTP": "true",
            }
        )
        assert SECRET not in repr(settings)
        async with await open_engine(settings) as engine:
            await engine.tick()
        assert 1 == watcher.heard
