"""Reading the policies file again: what a worker does with each outcome, and the blocking engine's part in it."""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from escalation_adapters.worker import reload
from escalation_adapters.worker.blocking import BlockingEngine
from escalation_adapters.worker.reload import Reloader
from escalation_core import Engine, Policies, PoliciesError, Settings
from escalation_core.errors import Problem
from escalation_core.testing import MemoryStore, RecordingNotifier


def paging(target: str) -> Policies:
    return Policies.from_mapping(
        {"policies": {"ops": {"levels": [{"after": "0m", "to": [target]}]}}, "assign": [{"policy": "ops"}]}
    )


FAULT = PoliciesError({"policies.ops": Problem("is wrong", "mend it")})


def in_turn(outcomes: Sequence[Policies | PoliciesError]) -> Callable[[], Policies]:
    """Return a function that returns or raises each of the outcomes in turn."""
    left = list(outcomes)

    def load() -> Policies:
        outcome = left.pop(0)
        if isinstance(outcome, PoliciesError):
            raise outcome
        return outcome

    return load


async def test_each_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """A changed file is used; a faulty one, and one that does not fit, is not; the old one again ends the fault."""
    one, two = paging("one"), paging("two")
    engine = Engine(MemoryStore(), notifiers=[RecordingNotifier("one", "two")], policies=one)
    reloader = Reloader(engine, in_turn([two, FAULT, two, paging("other"), two]))
    seen = []
    for _ in range(5):
        reloader.asked.set()
        await reloader.after_tick()
        seen.append((engine.policies, (await engine.health()).policies.fault is None))
    assert [(two, True), (two, False), (two, True), (two, False), (two, True)] == seen
    assert "policies.ops: is wrong; mend it" in caplog.text
    await reloader.after_tick()  # without a request the file is not read


async def test_an_old_request_does_not_read_twice() -> None:
    """A worker that starts after a request obeys it once, and again only after another request."""
    engine = Engine(MemoryStore(), notifiers=[RecordingNotifier("one", "two")], policies=paging("one"))
    reloader = Reloader(engine, in_turn([paging("one"), paging("two")]))
    await engine.request_reload(by="ada")
    await engine.tick()
    await reloader.after_tick()
    await reloader.after_tick()
    assert paging("one") == engine.policies


def test_a_blocking_engine_reads_its_file_again() -> None:
    """With ``work=True`` and ``policies=`` a request reaches the worker in the thread."""

    async def make() -> Engine:
        settings = Settings(tick_interval=timedelta(seconds=1))
        notifiers = [RecordingNotifier("one", "two")]
        return Engine(MemoryStore(), settings=settings, notifiers=notifiers, policies=paging("one"))

    with BlockingEngine(make, work=True, policies=lambda: paging("two")) as engine:
        assert 0 == engine.forecast_rebind("ops").older
        engine.request_reload(by="ada")
        until = time.monotonic() + 20
        while engine.engine.policies != paging("two") and time.monotonic() < until:
            time.sleep(0.02)
        assert paging("two") == engine.engine.policies
        engine.open("k", policy="ops")
        assert ["k"] == [one.incident_key for one in engine.pinned("ops")]


async def test_the_first_request_ends_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    """A file that was faulty at SIGHUP and is as before now: the first request of an operator ends the fault."""
    one = paging("one")
    engine = Engine(MemoryStore(), notifiers=[RecordingNotifier("one")], policies=one)
    reloader = Reloader(engine, in_turn([FAULT, one]))
    reloader.asked.set()
    await reloader.after_tick()
    assert engine.policies_fault is not None
    await engine.request_reload(by="ada")
    await engine.tick()
    await reloader.after_tick()
    assert engine.policies_fault is None


async def test_a_load_that_raises_anything() -> None:
    """Whatever a host's own function raises counts as a faulty file. Its text may be a secret."""

    def load() -> Policies:
        raise ValueError("hunter2")

    one = paging("one")
    engine = Engine(MemoryStore(), notifiers=[RecordingNotifier("one")], policies=one)
    reloader = Reloader(engine, load)
    reloader.asked.set()
    await reloader.after_tick()
    assert one == engine.policies
    assert str(engine.policies_fault).startswith("reading it raised ValueError")
    assert "hunter2" not in str(engine.policies_fault)


async def test_a_load_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of the network that hangs stops no tick: after a time the file counts as faulty."""
    ends = threading.Event()
    one = paging("one")

    def load() -> Policies:
        ends.wait(60)
        return one

    monkeypatch.setattr(reload, "LOAD_TIMEOUT", 0.05)
    engine = Engine(MemoryStore(), notifiers=[RecordingNotifier("one")], policies=one)
    reloader = Reloader(engine, load)
    reloader.asked.set()
    await reloader.after_tick()
    ends.set()
    assert "reading it takes longer than 0.05 seconds" == engine.policies_fault
