"""While its store is down or faulty, the runner waits, logs the fault, and continues or ends."""

import asyncio
import logging
from datetime import timedelta

import pytest

from escalation_adapters.worker import runner
from escalation_adapters.worker.runner import run
from escalation_core import (
    Engine,
    EscalationError,
    RetryPolicy,
    Settings,
    StoreError,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
    TickReport,
)
from escalation_core.model import PageState
from escalation_core.rules.retry import backoff

from .running import TIMEOUT, Held, Store, open_due, running, soon, states

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


async def test_store_that_is_down_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failed attempt to reach the store is one warning. After the outage a line says so, and work continues."""
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
    """A page is answered while the store is down. The runner settles it after the outage and does not send it twice."""
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
    """On stop with the store down, the runner drops outcomes after a send timeout and warns. Pages are sent again."""
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
    """A permanent fault at the start ends ``run`` with that fault and a critical log line, and leaves no task."""
    before = asyncio.all_tasks()
    store = Store()
    store.fault = fault
    with pytest.raises(type(fault), match=str(fault)):
        await soon(run(Engine(store, notifiers=[Held()]), signals=False))
    assert before == asyncio.all_tasks()
    assert [(logging.CRITICAL, f"the worker ends and escalates no more incidents: {fault}")] == critical(caplog)


def critical(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return the level and message of each critical log record."""
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.levelno >= logging.CRITICAL]


@pytest.mark.parametrize("fault", [StoreNotReady("a policy hides rows"), StoreRefused("permission denied")])
async def test_fault_under_way_is_told_and_tried_again(
    fault: StoreError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The runner logs a permanent fault after its start as critical and tries again. After the fault, pages go out."""
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
    assert all(f"stopped by an error ({fault})" in line for _, line in critical(caplog))


async def until_idle(engine: Engine) -> None:
    """Wait until the first tick is over."""
    while engine.observed_lag() is None:  # noqa: ASYNC110 - a tick's end sets no event
        await asyncio.sleep(0.005)


async def test_fault_of_one_loop_leaves_the_other_at_work(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The runner logs an unforeseen error of the tick loop without its text. The delivery loop still sends pages."""
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
    assert "tick: stopped by an error (RuntimeError, " in line
    assert "secret" not in caplog.text


async def test_an_engine_of_another_loop_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """``run`` raises and logs the end of the worker if the engine belongs to another loop: no retry can succeed."""
    engine = Engine(Store(), notifiers=[Held()])
    await asyncio.to_thread(asyncio.run, engine.tick(deliver=False))
    with pytest.raises(EscalationError, match="another event loop"):
        await soon(run(engine, signals=False))
    assert "the worker ends" in caplog.text
