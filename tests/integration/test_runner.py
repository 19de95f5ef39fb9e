"""The runner's two loops tick and deliver, stop on request, and never spin."""

import asyncio
import logging
import os
import signal
import sys
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.worker import runner
from escalation_adapters.worker.runner import run
from escalation_core import (
    Delivered,
    Engine,
    Outcome,
    Page,
    Policies,
    Retry,
    RetryPolicy,
    Settings,
    TickReport,
    idempotency_key,
)
from escalation_core.model import NextDue, PageState
from escalation_core.testing import MemoryStore

from .running import TIMEOUT, Held, Store, loop_here, open_due, receiver, running, soon, states

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


async def test_loop_is_the_one_that_it_says(request: pytest.FixtureRequest) -> None:
    """The loop is the one that the test's parameter names: asyncio's own, or uvloop, which ``escalation run`` uses."""
    assert f"[{loop_here()}]" in request.node.name


async def test_due_incident_reaches_the_receiver() -> None:
    """The runner escalates a due incident and posts its page. The test calls neither tick nor deliver."""
    store = MemoryStore()
    async with receiver([(200, "ok")]) as (url, came):
        engine = Engine(store, notifiers=[SlackNotifier({"slack:ops": url}, allow_http=True)])
        await open_due(engine)
        async with running(engine, asyncio.Event()):
            assert idempotency_key("db-7/disk", 1) == (await soon(came.get()))["dedup_key"]
        assert [PageState.DELIVERED] == states(store)
        await engine.aclose()


async def test_an_incident_that_is_due_at_once_is_paged_at_once() -> None:
    """``open`` wakes the runner of its own engine from its sleep: the page does not wait for a tick interval."""
    levels = {"ops": {"levels": [{"after": "0m"}]}}
    policies = Policies.from_mapping({"policies": levels, "assign": [{"severity": "critical", "policy": "ops"}]})
    notifier = Held()
    engine = Engine(MemoryStore(), notifiers=[notifier], policies=policies)
    async with running(engine, asyncio.Event()):
        await asyncio.sleep(0.3)  # after the first tick the runner sleeps for a minute
        await engine.open("k", severity="critical")
        await soon(notifier.came.wait())
        notifier.door.set()
    await engine.aclose()


async def test_failed_page_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """The runner sends a failed page again with the same dedup key after its back-off, and logs each round."""
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
    """A receiver's answer wakes the delivery loop, which settles the page long before the next tick."""
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


async def test_many_pages_are_sent_in_one_go() -> None:
    """The delivery loop sends 100 pages, 7 at a time, and begins each round right after the one before."""
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


# --- stopping


async def test_stop_finishes_what_is_in_flight() -> None:
    """On stop the runner claims nothing new. It ends when the page in flight is answered and settled."""
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
    """A runner whose stop event is already set ends at once and sends no page."""
    store, notifier, stop = MemoryStore(), Held(), asyncio.Event()
    engine = Engine(store, notifiers=[notifier])
    stop.set()
    await soon(run(engine, stop=stop, signals=False))
    assert [] == notifier.pages


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_stop_it_and_their_handlers_come_back(number: signal.Signals) -> None:
    """SIGTERM and SIGINT set the stop event. After the run, the process's own signal handlers are in place again."""
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


async def test_cancellation_leaves_no_task() -> None:
    """A cancelled runner waits for the answer to the page in flight, settles the page, and leaves no task."""
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
    """A cancellation during a tick ends the tick and the runner, and leaves no task."""
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
    """Both loops end even if a driver answers instead of being cancelled, as asyncio.wait_for does in Python 3.11."""
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


# --- idle time


async def run_for(seconds: float, engine: Engine) -> None:
    """Run the engine for this many seconds."""
    async with running(engine, asyncio.Event()):
        await asyncio.sleep(seconds)


async def test_idle_engine_rests() -> None:
    """An idle runner calls the store fewer than 12 times in 0.2 seconds: for one tick, one claim and a few reads."""
    store = Store()
    await run_for(0.2, Engine(store, notifiers=[Held()]))
    assert 12 > store.calls


async def test_row_that_others_hold_does_not_make_it_spin() -> None:
    """If a tick cannot claim a due row, the runner ticks again after a tick interval, not at once."""
    engine = Engine(Store())
    await open_due(engine)
    elsewhere = Store()
    engine._ticker.store = elsewhere  # the tick finds nothing there, while the engine's own store has a row that is due
    await run_for(0.2, engine)
    assert 1 == elsewhere.calls


async def test_no_rhythm_makes_ticks_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if each tick asks for another at once, the runner waits at least 2 ms between two ticks."""
    engine, ticks = Engine(Store()), []

    async def at_once(report: TickReport) -> timedelta:
        ticks.append(report)
        return timedelta()

    monkeypatch.setattr(engine, "next_tick_in", at_once)
    await run_for(0.2, engine)
    assert 2 <= len(ticks) <= 0.2 / runner.MIN_TICK_GAP.total_seconds() + 1


async def test_page_that_others_hold_does_not_make_it_spin() -> None:
    """If the delivery loop cannot claim a due page, it asks the store at most 8 times in 0.3 seconds."""
    engine = Engine(Store(), notifiers=[Held()])
    await open_due(engine)
    await engine.tick(deliver=False)
    elsewhere = Store()
    engine._delivery.store = elsewhere  # the claim finds nothing there, while the engine's own store has a due page
    await run_for(0.3, engine)
    assert 2 <= elsewhere.calls <= 8
