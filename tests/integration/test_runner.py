"""The runner: two loops that tick and deliver, stop when told, wait for the store, and never spin."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from aiohttp import web

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.worker import runner
from escalation_adapters.worker.runner import run
from escalation_core import (
    Delivered,
    Engine,
    EscalationError,
    Outcome,
    Page,
    Retry,
    RetryPolicy,
    Settings,
    StoreError,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TickReport,
    idempotency_key,
)
from escalation_core.model import Canary, NextDue, PageState
from escalation_core.ports import Transaction
from escalation_core.rules.retry import backoff
from escalation_core.testing import MemoryStore

Result = TypeVar("Result")
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

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


async def test_loop_is_the_one_that_it_says(request: pytest.FixtureRequest) -> None:
    """These tests run under asyncio's own loop, and under uvloop, which ``escalation run`` takes."""
    assert f"[{loop_here()}]" in request.node.name


async def test_due_incident_reaches_the_receiver() -> None:
    """What is due is escalated and its page posted, without anybody calling tick or deliver."""
    store = MemoryStore()
    async with receiver([(200, "ok")]) as (url, came):
        engine = Engine(store, notifiers=[SlackNotifier({"slack:ops": url}, allow_http=True)])
        await open_due(engine)
        async with running(engine, asyncio.Event()):
            assert idempotency_key("db-7/disk", 1) == (await soon(came.get()))["dedup_key"]
        assert [PageState.DELIVERED] == states(store)
        await engine.aclose()


async def test_failed_page_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A page that failed goes again under the same key as soon as its back-off is over, and each round is told."""
    caplog.set_level(logging.INFO)
    store = MemoryStore()
    settings = Settings(retry=RetryPolicy(first=timedelta(milliseconds=20)))
    async with receiver([(500, ""), (200, "ok")]) as (url, came):
        engine = Engine(store, settings=settings, notifiers=[SlackNotifier({"slack:ops": url}, allow_http=True)])
        await open_due(engine)
        async with running(engine, asyncio.Event()):
            keys = {(await soon(came.get()))["dedup_key"] for _ in range(2)}
        await engine.aclose()
    told = [record.getMessage() for record in caplog.records if record.name == "escalation_adapters.worker.runner"]
    assert ({idempotency_key("db-7/disk", 1)}, [PageState.DELIVERED]) == (keys, states(store))
    assert ["retried=1", "delivered=1"] == [word for line in told for word in line.split() if word.endswith("ed=1")]


async def test_landing_page_is_settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that lands wakes the delivery loop: it is settled long before the next tick."""
    store, notifier, settled = Store(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    monkeypatch.setattr(engine._delivery.telemetry, "settled", lambda _: settled.set())
    await open_due(engine)
    async with running(engine, asyncio.Event()):
        await soon(notifier.came.wait())
        assert not settled.is_set()
        notifier.door.set()
        await soon(settled.wait())
    assert [PageState.DELIVERED] == states(store)


async def test_stop_finishes_what_is_in_flight() -> None:
    """Told to stop, it claims nothing new and ends when the page in flight has been answered and settled."""
    store, notifier, stop = MemoryStore(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    await open_due(engine)
    async with running(engine, stop) as task:
        await soon(notifier.came.wait())
        stop.set()
        await open_due(engine, "too late")
        done, _ = await asyncio.wait([task], timeout=0.05)
        assert set() == done
        notifier.door.set()
        await soon(task)
    assert ([PageState.DELIVERED], 1) == (states(store), len(notifier.pages))


async def test_stop_before_the_start_sends_nothing() -> None:
    """An event that is set already ends it at once."""
    store, notifier, stop = MemoryStore(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    stop.set()
    await soon(run(engine, stop=stop, signals=False))
    assert [] == notifier.pages


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_it_and_their_handlers_come_back(number: signal.Signals) -> None:
    """SIGTERM and SIGINT set the event; afterwards the process's own handlers are in place again."""
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    notifier, stop = Held(), asyncio.Event()
    engine = Engine(MemoryStore(), notifiers=[notifier])
    await open_due(engine)
    task = asyncio.create_task(run(engine, stop=stop))
    await soon(notifier.came.wait())
    signal.raise_signal(number)
    await soon(stop.wait())
    notifier.door.set()
    await soon(task)
    assert before == [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]


SERVICE = """
import asyncio, importlib, logging, sys
from datetime import UTC, datetime, timedelta
from escalation_adapters.worker.runner import run
from escalation_adapters.channels.slack import SlackNotifier
from escalation_core import Engine
from escalation_core.testing import MemoryStore

async def main():
    store = MemoryStore()
    async with Engine(store, notifiers=[SlackNotifier({"slack:ops": sys.argv[1]}, allow_http=True)]) as engine:
        await engine.open("db-7/disk", first_seen=datetime.now(UTC) - timedelta(minutes=16))
        await run(engine)
    print([str(page.state) for page in store.pages.values()])

logging.basicConfig(level=logging.INFO)
with asyncio.Runner(loop_factory=importlib.import_module(sys.argv[2]).new_event_loop) as runner:
    runner.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM cannot be caught on Windows")
async def test_terminated_process_finishes_its_pages() -> None:
    """A service that gets SIGTERM while a page is in flight waits for the answer, settles, and exits with 0."""
    came, door = asyncio.Event(), asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        came.set()
        await door.wait()
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_post("/hook", handler)
    server = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVICE, f"http://127.0.0.1:{server.addresses[0][1]}/hook", loop_here()),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert service.stdout is not None
        assert service.stderr is not None
        await asyncio.wait_for(came.wait(), 2 * TIMEOUT)
        service.terminate()
        while b"stopping" not in await soon(service.stderr.readline()):
            pass
        door.set()
        assert b"['delivered']\n" == await soon(service.stdout.read())
        assert 0 == await soon(service.wait())
    finally:
        if service.returncode is None:
            service.kill()
        await service.communicate()
        await server.cleanup()


async def test_store_that_is_down_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt to reach a store that is down is one warning; when it is back, work goes on and a line says so."""
    monkeypatch.setattr(runner, "FIRST_WAIT", timedelta(seconds=0.001))
    caplog.set_level(logging.INFO)
    store, notifier, stop = Store(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    await open_due(engine)
    notifier.door.set()
    store.fault = StoreUnavailable("the server closed the connection\nDETAIL: and more of it")
    async with running(engine, stop):
        for _number in range(6):
            await soon(store.failures.acquire())
        store.fault = None
        await soon(notifier.came.wait())
    told = [record for record in caplog.records if record.name == "escalation_adapters.worker.runner"]
    warnings = [record.getMessage() for record in told if record.levelno == logging.WARNING]
    assert (len(warnings) >= 6, {1}) == (True, {len(line.splitlines()) for line in warnings})
    assert all("out of reach (the server closed the connection)" in line for line in warnings)
    assert ["delivery: the store is back", "tick: the store is back"] == sorted(
        record.getMessage().split(" after ")[0] for record in told if " is back" in record.getMessage()
    )
    assert [PageState.DELIVERED] == states(store)


async def test_waits_double_up_to_half_a_minute() -> None:
    """The waits for the store double from one second to thirty, less a jitter of at most half."""
    first, most = runner.FIRST_WAIT, runner.MAX_WAIT
    for failures, seconds in enumerate([1, 2, 4, 8, 16, 30, 30], 1):
        longest = timedelta(seconds=seconds)
        waits = [backoff(failures, first=first, longest=most, jitter=jitter) for jitter in (0.0, 0.5, 1.0)]
        assert [longest / 2, longest * 0.75, longest] == waits
    assert most == backoff(10_000, first=first, longest=most, jitter=1.0)


async def test_outcome_survives_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that lands while the store is out of reach is settled when it is back, and not sent twice."""
    monkeypatch.setattr(runner, "FIRST_WAIT", timedelta(seconds=0.001))
    store, notifier, stop = Store(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    await open_due(engine)
    async with running(engine, stop):
        await soon(notifier.came.wait())
        store.fault = StoreUnavailable("gone")
        notifier.door.set()
        await soon(store.failures.acquire())
        store.fault = None
    assert ([PageState.DELIVERED], 1) == (states(store), len(notifier.pages))


async def test_stop_ends_even_if_the_store_stays_down(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Outcomes that cannot be written are given up after a send timeout, with a warning: the pages go once more."""
    monkeypatch.setattr(runner, "FIRST_WAIT", timedelta(seconds=0.01))
    store, notifier, stop = Store(), Held(), asyncio.Event()
    settings = Settings(retry=RetryPolicy(send_timeout=timedelta(milliseconds=100)))
    engine = Engine(store, settings=settings, notifiers=[notifier])
    await open_due(engine)
    async with running(engine, stop):
        await soon(notifier.came.wait())
        store.fault = StoreUnavailable("gone")
        stop.set()
        notifier.door.set()
    assert "could not be settled (gone)" in caplog.text


@pytest.mark.parametrize("fault", [StoreNotReady("run: escalation migrate"), StoreRefused("permission denied")])
async def test_permanent_fault_in_the_beginning_ends_it(fault: StoreError, caplog: pytest.LogCaptureFixture) -> None:
    """The caller that starts a worker on such a store is told at once, and no task is left."""
    before = asyncio.all_tasks()
    store = Store()
    store.fault = fault
    with pytest.raises(type(fault), match=str(fault)):
        await soon(run(Engine(store, notifiers=[Held()]), signals=False))
    assert before == asyncio.all_tasks()
    assert [(logging.CRITICAL, f"this worker ends, nothing escalates here any more: {fault}")] == critical(caplog)


def critical(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return what was logged as critical."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.levelno >= logging.CRITICAL]


@pytest.mark.parametrize("fault", [StoreNotReady("a policy hides rows"), StoreRefused("permission denied")])
async def test_fault_under_way_is_told_and_tried_again(
    fault: StoreError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the store refuses once the worker is at work is logged as critical; when it is mended, pages go out."""
    monkeypatch.setattr(runner, "FIRST_WAIT", timedelta(seconds=0.01))
    store, notifier, stop = Store(), Held(), asyncio.Event()
    notifier.door.set()
    engine = Engine(store, notifiers=[notifier], settings=Settings(tick_interval=timedelta(seconds=1)))
    async with running(engine, stop):
        await soon(until_idle(engine))
        store.fault = fault
        async with asyncio.timeout(TIMEOUT):
            for _ in range(3):
                await store.failures.acquire()
        store.fault = None
        await open_due(engine)
        await soon(notifier.came.wait())
        stop.set()
    assert {logging.CRITICAL} == {level for level, _ in critical(caplog)}
    assert all(f"nothing goes on here ({fault})" in line for _, line in critical(caplog))


async def until_idle(engine: Engine) -> None:
    """Wait until the first tick is over."""
    while engine.observed_lag() is None:  # noqa: ASYNC110 - a tick's end sets no event
        await asyncio.sleep(0.005)


async def test_fault_of_one_loop_leaves_the_other_at_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A tick that fails for an unforeseen reason is told of without its text; pages are sent all the same."""
    store, notifier, stop = Store(), Held(), asyncio.Event()
    notifier.door.set()
    engine = Engine(store, notifiers=[notifier])
    await open_due(engine)
    await engine.tick(deliver=False)

    async def broken(**_: object) -> TickReport:
        raise RuntimeError("https://hooks.example/secret")

    monkeypatch.setattr(engine, "tick", broken)
    async with running(engine, stop):
        await soon(notifier.came.wait())
        stop.set()
    assert [PageState.DELIVERED] == states(store)
    ((_, line),) = critical(caplog)
    assert "tick: nothing goes on here (RuntimeError, " in line
    assert "secret" not in caplog.text


async def test_an_engine_of_another_loop_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """No later attempt can succeed, so run ends, and says so."""
    engine = Engine(Store(), notifiers=[Held()])
    await asyncio.to_thread(asyncio.run, engine.tick(deliver=False))
    with pytest.raises(EscalationError, match="another event loop"):
        await soon(run(engine, signals=False))
    assert "this worker ends" in caplog.text


async def test_cancellation_leaves_no_task() -> None:
    """Cancelled, it lets the page in flight end, settles it, and leaves nothing running."""
    before = asyncio.all_tasks()
    store, notifier = MemoryStore(), Held()
    engine = Engine(store, notifiers=[notifier])
    await open_due(engine)
    task = asyncio.create_task(run(engine, signals=False))
    await soon(notifier.came.wait())
    task.cancel()
    notifier.door.set()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert (before, [PageState.DELIVERED]) == (asyncio.all_tasks(), states(store))


async def test_cancelled_tick_leaves_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation in the middle of a tick ends the tick with it."""
    before = asyncio.all_tasks()
    store, began = Store(), asyncio.Event()

    async def hang(_: object) -> None:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "transact", hang)
    task = asyncio.create_task(run(Engine(store), signals=False))
    await soon(began.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert before == asyncio.all_tasks()


async def test_cancellation_that_is_lost_on_its_way_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver may answer instead of being cancelled, as asyncio.wait_for does in Python 3.11; both loops still end."""
    before = asyncio.all_tasks()
    store, both, lost = Store(), asyncio.Barrier(3), 0

    async def look(**how: Any) -> NextDue:
        nonlocal lost
        await both.wait()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost += 1
        return await MemoryStore.next_due(store, **how)

    monkeypatch.setattr(store, "next_due", look)
    task = asyncio.create_task(run(Engine(store, notifiers=[Held()]), signals=False))
    await soon(both.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await soon(task)
    assert (before, 2) == (asyncio.all_tasks(), lost)


async def run_for(seconds: float, engine: Engine) -> None:
    """Run the engine for so long."""
    async with running(engine, asyncio.Event()):
        await asyncio.sleep(seconds)


async def test_idle_engine_rests() -> None:
    """With nothing to do there is one tick, one claim and a handful of questions, not a loop."""
    store = Store()
    await run_for(0.2, Engine(store, notifiers=[Held()]))
    assert 12 > store.calls


async def test_row_that_others_hold_does_not_make_it_spin() -> None:
    """A row that is due but cannot be claimed is looked for again after a tick interval, not at once."""
    engine = Engine(Store())
    await open_due(engine)
    elsewhere = Store()
    engine._ticker.store = elsewhere  # the tick finds nothing there, while the rhythm sees a row that is due
    await run_for(0.2, engine)
    assert 1 == elsewhere.calls


async def test_no_rhythm_makes_ticks_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if every tick asked for the next one at once, there is a breath between two."""
    engine, ticks = Engine(Store()), []

    async def at_once(report: TickReport) -> timedelta:
        ticks.append(report)
        return timedelta()

    monkeypatch.setattr(engine, "next_tick_in", at_once)
    await run_for(0.2, engine)
    assert 2 <= len(ticks) <= 0.2 / runner.MIN_TICK_GAP.total_seconds() + 1


async def test_page_that_others_hold_does_not_make_it_spin() -> None:
    """A page that is due but cannot be claimed is asked for at a walking pace."""
    engine = Engine(Store(), notifiers=[Held()])
    await open_due(engine)
    await engine.tick(deliver=False)
    elsewhere = Store()
    engine._delivery.store = elsewhere  # the claim finds nothing there, while the rhythm sees a page that is due
    await run_for(0.3, engine)
    assert 2 <= elsewhere.calls <= 8


async def test_many_pages_are_sent_in_one_go() -> None:
    """As long as there is something to claim, no time is lost between two rounds."""
    store, count = MemoryStore(), 100
    came = asyncio.Semaphore(0)

    class Quick(Held):
        async def send(self, page: Page) -> Outcome:
            self.pages.append(page)
            came.release()
            return Retry("busy") if len(self.pages) % 10 == 0 else Delivered()

    notifier = Quick()
    engine = Engine(store, notifiers=[notifier], settings=Settings(retry=RetryPolicy(per_target=7)))
    for number in range(count):
        await open_due(engine, f"incident-{number}")
    async with running(engine, asyncio.Event()):
        for _number in range(count):
            await soon(came.acquire())
    assert {f"incident-{number}" for number in range(count)} == {page.incident.incident_key for page in notifier.pages}
