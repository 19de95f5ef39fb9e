"""Tests of the blocking engine, for hosts without asyncio."""

import asyncio
import inspect
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from escalation_adapters.sqlite import SQLiteStore
from escalation_adapters.worker.blocking import BlockingEngine
from escalation_core import (
    Engine,
    EscalationError,
    Incident,
    InvalidValue,
    Outcome,
    Page,
    Settings,
    State,
    StoreRefused,
    TransitionRefused,
)
from escalation_core.model import Canary, NextDue
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.conformance.harness import START


async def in_memory() -> Engine:
    return Engine(MemoryStore(ManualClock(START)), notifiers=[RecordingNotifier()])


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_calls_wait_for_their_results() -> None:
    """Each call returns or raises the same as the engine's coroutine; at the end no thread is left."""
    before = threads()
    with BlockingEngine(in_memory) as engine:
        opened = engine.open("k", severity="critical", labels={"team": "db"})
        assert isinstance(opened, Incident)
        assert 0 == engine.tick().escalated
        assert State.ACKNOWLEDGED is engine.acknowledge("k", by="ada").state
        assert engine.health().ok
        assert engine.is_healthy()
        assert timedelta(hours=1) == (paused := engine.pause(timedelta(hours=1))).ends_at - paused.starts_at
        assert 1 == engine.resume().ended
        assert engine.prove().holds
        with pytest.raises(TransitionRefused):
            engine.drain("k")
        with pytest.raises(InvalidValue, match="incident_key"):
            engine.open("")
    assert threads() <= before


def test_it_has_all_of_the_engines_calls() -> None:
    """The blocking engine has ``using``, and the coroutine methods of the engine that its own thread does not call."""
    own = {
        "abandon_pages", "aclose", "check", "finish_pages", "next_claim_in", "next_tick_in", "start_pages",
        "take_delivery_report", "wait_for_due", "wait_for_pages", "wake",
    }  # fmt: skip
    calls = {name for name, call in inspect.getmembers(Engine, inspect.iscoroutinefunction) if not name.startswith("_")}
    assert calls - own == {name for name in vars(BlockingEngine) if not name.startswith("_")} - {"engine", "using"}
    with BlockingEngine(in_memory) as engine:
        now = engine.now()
        engine.note("tick", by="ada")
        assert [True, False] == [engine.remember_request("m", expires=now + timedelta(hours=1)) for _ in range(2)]
        assert ["tick"] == [entry.action for entry in engine.audit(now)]


def test_many_threads(tmp_path: Path) -> None:
    """Many threads may call one blocking engine at once: eight threads open incidents, and the audit has all keys."""

    async def on_sqlite() -> Engine:
        return Engine(SQLiteStore(tmp_path / "e.db"), notifiers=[RecordingNotifier()])

    with BlockingEngine(on_sqlite) as engine, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: engine.open(f"k{number % 5}"), range(40)))
        assert 5 == len({entry.incident_key for entry in engine.audit(datetime(2000, 1, 1, tzinfo=UTC))})


def test_it_may_work_by_itself() -> None:
    """With ``work=True`` the blocking engine ticks and delivers in its own thread until the host closes it."""
    notifier = RecordingNotifier()

    async def make() -> Engine:
        settings = Settings(tick_interval=timedelta(seconds=1))
        return Engine(MemoryStore(), settings=settings, notifiers=[notifier])

    with BlockingEngine(make, work=True) as engine:
        engine.open("k", severity="critical", first_seen=datetime.now(UTC) - timedelta(hours=1))
        until = time.monotonic() + 10
        while not notifier.pages and time.monotonic() < until:
            time.sleep(0.01)
    assert ["k"] == [page.incident.incident_key for page in notifier.pages]


def test_what_fails_leaves_nothing_behind() -> None:
    """If ``make`` fails, the host gets the error and no thread is left. An engine that is not open refuses calls."""

    async def broken() -> Engine:
        raise LookupError("no settings")

    before = threads()
    with pytest.raises(LookupError, match="no settings"), BlockingEngine(broken):
        pytest.fail("it opened")
    assert threads() <= before
    closed = BlockingEngine(in_memory)
    for call in (closed.tick, closed.health):
        with pytest.raises(EscalationError, match="is not open"):
            call()


def test_worker_that_cannot_go_on_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """If an error stops the worker, the log says so at once; the host can still acknowledge and close."""

    class Refusing(MemoryStore):
        async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
            raise StoreRefused("permission denied")

    async def make() -> Engine:
        return Engine(Refusing(), notifiers=[RecordingNotifier()])

    said = threading.Event()

    def note(record: logging.LogRecord) -> bool:
        if "stopped by an error (permission denied)" in record.getMessage():
            said.set()
        return True

    caplog.handler.addFilter(note)
    with BlockingEngine(make, work=True) as engine:
        assert said.wait(10)
        engine.open("k")
        assert State.ACKNOWLEDGED is engine.acknowledge("k").state


def test_opened_once_and_in_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses a second opening and a call after a fork. After a close the host may open the engine again."""
    engine = BlockingEngine(in_memory)
    for _ in range(2):
        with engine:
            with pytest.raises(EscalationError, match="is open already"):
                engine.__enter__()
            with monkeypatch.context() as forked:
                forked.setattr(os, "getpid", lambda: -1)
                with pytest.raises(EscalationError, match="before this process was forked"):
                    engine.health()
            assert engine.health().ok


def test_leaving_finishes_what_is_in_flight() -> None:
    """Closing settles the pages in flight and closes the notifier. Opening with a store that is not ready fails."""

    class Slow(RecordingNotifier):
        closed = False

        async def send(self, page: Page) -> Outcome:
            await asyncio.sleep(0.2)
            return await super().send(page)

        async def aclose(self) -> None:
            self.closed = True

    notifier, store = Slow(), MemoryStore()

    async def make() -> Engine:
        return Engine(store, settings=Settings(tick_interval=timedelta(seconds=1)), notifiers=[notifier])

    with BlockingEngine(make, work=True) as engine:
        engine.open("k", severity="critical", first_seen=datetime.now(UTC) - timedelta(hours=1))
        until = time.monotonic() + 10
        while not engine.health().stats.backlog and time.monotonic() < until:
            time.sleep(0.01)
    assert notifier.closed
    assert 1 == len(notifier.pages)
    with BlockingEngine(make) as engine:
        assert {} == engine.health().stats.backlog

    async def unready() -> Engine:
        return Engine(SQLiteStore("/nowhere/at/all/e.db"))

    with pytest.raises(EscalationError, match="unable to open"), BlockingEngine(unready):
        pytest.fail("it opened")
