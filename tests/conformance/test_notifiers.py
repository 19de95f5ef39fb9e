"""The library's own notifiers, checked for every promise of their port, with real receivers."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta

import pytest
from aiohttp import web

from escalation_adapters.channels.log import LogNotifier
from escalation_adapters.channels.pagerduty import PagerDutyNotifier
from escalation_adapters.channels.slack import SlackNotifier
from escalation_core import Delivered, Notifier, Outcome, Page, Rejected, Retry
from escalation_core.testing import RecordingNotifier, TellingNotifier
from escalation_core.testing.conformance import NOTIFIER_CHECKS, NotifierHarness

from ..pagerduty_server import KEY, PagerDutyServer

Check = Callable[[NotifierHarness], Awaitable[None]]


class SlackHarness:
    """A receiver on the loopback interface, whose behaviour each method sets."""

    target = "slack:ops"
    secrets: Sequence[str] = ("T0K3N",)

    def __init__(self) -> None:
        self._arrived: list[str] = []
        self._behave: Callable[[], Awaitable[web.Response]] = self._ok
        self._site: web.TCPSite | None = None
        self._port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/T0K3N", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        url = f"http://127.0.0.1:{self._port}/T0K3N"
        self._notifier = SlackNotifier({self.target: url}, allow_http=True)

    async def _listen(self) -> None:
        if self._site is None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
            await self._site.start()
            self._port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        await self._notifier.aclose()
        await self._runner.cleanup()

    @property
    def notifier(self) -> Notifier:
        return self._notifier

    async def accept(self) -> None:
        await self._listen()
        self._behave = self._ok

    async def refuse(self) -> bool:
        self._behave = lambda: self._answer(404)
        return True

    async def throttle(self, after: timedelta) -> bool:
        self._behave = lambda: self._answer(429, {"Retry-After": str(int(after.total_seconds()))})
        return True

    async def vanish(self) -> bool:
        assert self._site is not None
        await self._site.stop()
        self._site = None
        await self._notifier.aclose()
        return True

    async def stall(self) -> bool:
        self._behave = self._never
        return True

    def arrived(self) -> Sequence[str]:
        return self._arrived

    async def _take(self, request: web.Request) -> web.Response:
        key = (await request.json())["dedup_key"]
        assert key == request.headers["X-Dedup-Key"]
        response = await self._behave()
        if response.status == 200:
            self._arrived.append(key)
        return response

    async def _ok(self) -> web.Response:
        return web.Response(text="ok")

    async def _answer(self, status: int, headers: dict[str, str] | None = None) -> web.Response:
        return web.Response(status=status, headers=headers, text="https://hooks.example/T0K3N")

    async def _never(self) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("it is never set")


class PagerDutyHarness:
    """A server that speaks the Events API v2. It refuses each event that breaks a rule of PagerDuty."""

    target = "pagerduty:ops"
    secrets: Sequence[str] = (KEY, "127.0.0.1")

    def __init__(self) -> None:
        self._server = PagerDutyServer(limit=10_000)

    async def start(self) -> None:
        await self._server.accept()
        self._notifier = PagerDutyNotifier({self.target: self._server.url()}, allow_http=True)

    async def aclose(self) -> None:
        await self._notifier.aclose()
        await self._server.aclose()
        assert [] == self._server.errors

    @property
    def notifier(self) -> Notifier:
        return self._notifier

    async def accept(self) -> None:
        await self._server.accept()

    async def refuse(self) -> bool:
        self._server.answer(400, json.dumps({"status": "invalid event", "message": KEY, "errors": [KEY]}))
        return True

    async def throttle(self, after: timedelta) -> bool:
        self._server.answer(429, KEY, {"Retry-After": str(int(after.total_seconds()))})
        return True

    async def vanish(self) -> bool:
        await self._server.vanish()
        return True

    async def stall(self) -> bool:
        self._server.stall()
        return True

    def arrived(self) -> Sequence[str]:
        return [
            event["payload"]["custom_details"]["dedup_key"] if "payload" in event else event["dedup_key"]
            for event in self._server.events
        ]


class LogHarness:
    """A harness whose receiver is a logger, which takes everything."""

    target = "log"
    secrets: Sequence[str] = ()

    def __init__(self) -> None:
        self._records: list[logging.LogRecord] = []
        logger = logging.Logger("pages")  # noqa: LOG001 - a separate logger, whose records reach no other test
        logger.addFilter(self._keep)
        self._notifier = LogNotifier(self.target, logger=logger)

    async def start(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @property
    def notifier(self) -> Notifier:
        return self._notifier

    async def accept(self) -> None:
        pass

    async def refuse(self) -> bool:
        return False

    async def throttle(self, after: timedelta) -> bool:
        return False

    async def vanish(self) -> bool:
        return False

    async def stall(self) -> bool:
        return False

    def arrived(self) -> Sequence[str]:
        return [re.findall("dedup_key ([^ ]+)", record.getMessage())[0] for record in self._records]

    def _keep(self, record: logging.LogRecord) -> bool:
        self._records.append(record)
        return False


class RecordingHarness(LogHarness):
    """A harness of the kit's own notifier, whose answer each method sets."""

    target = "test"

    def __init__(self) -> None:
        self._outcome: Outcome = Delivered()
        self._recording: RecordingNotifier = RecordingNotifier(self.target, answer=self._answer)

    @property
    def notifier(self) -> Notifier:
        return self._recording

    async def accept(self) -> None:
        self._outcome = Delivered()

    async def refuse(self) -> bool:
        self._outcome = Rejected("no")
        return True

    async def throttle(self, after: timedelta) -> bool:
        self._outcome = Retry("busy", after, throttled=True)
        return True

    async def vanish(self) -> bool:
        self._outcome = Retry("gone")
        return True

    def arrived(self) -> Sequence[str]:
        return [page.dedup_key for page in self._recording.pages]

    def _answer(self, page: Page) -> Outcome:
        return self._outcome


class TellingHarness(RecordingHarness):
    """A harness of the kit's notifier that tells notices."""

    def __init__(self) -> None:
        super().__init__()
        self._telling = TellingNotifier(self.target, answer=self._answer, answer_notice=lambda notice: self._outcome)
        self._recording = self._telling

    def arrived(self) -> Sequence[str]:
        return [*super().arrived(), *(notice.dedup_key for notice in self._telling.notices)]


@pytest.fixture(params=[SlackHarness, PagerDutyHarness, LogHarness, RecordingHarness, TellingHarness])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[NotifierHarness]:
    """A harness of each notifier."""
    made = request.param()
    await made.start()
    yield made
    await made.aclose()


@pytest.mark.parametrize("check", NOTIFIER_CHECKS, ids=lambda check: check.__name__)
async def test_notifier_keeps_the_promise(
    check: Check, harness: NotifierHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The notifier does what the port promises, and nothing it logs holds a secret."""
    caplog.set_level(logging.DEBUG)
    await check(harness)
    assert not [record for record in caplog.records for secret in harness.secrets if secret in record.getMessage()]
