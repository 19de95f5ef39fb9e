"""A notifier raises unexpected exceptions or ignores its cancellation. Each send still has an outcome and an end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import pytest

from escalation_adapters.worker.runner import run
from escalation_core import Delivered, Engine, Outcome, Page, RetryPolicy, Settings
from escalation_core.engine import tasks as flight
from escalation_core.model import PageRecord, PageState
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.conformance.harness import START

HOUR = timedelta(hours=1)
SECRET = "https://hooks.example/T1/secret"
TIMEOUT = 5


class Own(BaseException):
    """An exception that ``except Exception`` does not catch. Some frameworks raise such exceptions."""


class Unruly:
    """A notifier that calls a test's function with each page."""

    channel = "unruly"
    targets: Sequence[str] = ("test",)

    def __init__(self, act: Callable[[Page], Awaitable[Outcome]]) -> None:
        self._act = act
        self.under_way = self.most = 0

    async def send(self, page: Page) -> Outcome:
        """Call the function, and count the sends in flight."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self._act(page)
        finally:
            self.under_way -= 1

    async def aclose(self) -> None:
        """Do nothing."""


async def pages_of(store: MemoryStore) -> Sequence[PageRecord]:
    return await store.read(lambda tx: tx.outbox.pages(limit=100))


async def open_due(engine: Engine, *keys: str) -> None:
    for key in keys:
        await engine.open(key, severity="critical", first_seen=await engine.now() - HOUR)


@pytest.fixture
def complaints() -> list[dict[str, object]]:
    """Return a list for the errors that the loop's handler gets. The default handler would log their text."""
    told: list[dict[str, object]] = []
    return told


RAISED = {
    "CancelledError": asyncio.CancelledError(SECRET),
    "SystemExit": SystemExit(SECRET),
    "GeneratorExit": GeneratorExit(SECRET),
    "Own": Own(SECRET),
    "RuntimeError": RuntimeError(SECRET),
}


@pytest.mark.parametrize("kind", RAISED)
async def test_whatever_is_raised_is_an_outcome(
    kind: str, complaints: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    """A notifier's exception is a failed attempt with only its kind as reason. After the horizon the page is dead."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def act(page: Page) -> Outcome:
        raise RAISED[kind]

    clock = ManualClock(START)
    store = MemoryStore(clock)
    settings = Settings(retry=RetryPolicy(horizon=timedelta(seconds=3)), max_level=1)
    async with Engine(store, settings=settings, notifiers=[Unruly(act)]) as engine:
        await open_due(engine, "k")
        await engine.tick()
        (page,) = await pages_of(store)
        assert PageState.PENDING == page.state
        assert 1 == page.attempts
        assert f"the notifier raised {kind}" == page.reason
        for _ in range(5):
            clock.advance(timedelta(seconds=2))
            await engine.tick()
        (page,) = await pages_of(store)
        assert PageState.DEAD is page.state
    assert f"notifier unruly raised {kind}" in caplog.text
    assert SECRET not in caplog.text
    assert [] == complaints


async def test_a_timeout_of_its_own_is_no_end_of_the_send() -> None:
    """A TimeoutError that a notifier raises is an error like any other, and not the engine's send timeout."""

    async def act(page: Page) -> Outcome:
        raise TimeoutError

    store = MemoryStore()
    async with Engine(store, notifiers=[Unruly(act)]) as engine:
        await open_due(engine, "k")
        await engine.tick()
        (page,) = await pages_of(store)
        assert (1, "the notifier raised TimeoutError") == (page.attempts, page.reason)


@pytest.fixture
async def door() -> AsyncIterator[asyncio.Event]:
    """Yield the event that ends ``Deaf``, and set it after the test, so that the loop can end."""
    event = asyncio.Event()
    yield event
    event.set()
    await asyncio.sleep(0.01)


class Deaf:
    """A send that ignores its cancellation until ``door`` is set."""

    def __init__(self, door: asyncio.Event) -> None:
        self.door = door
        self.came = asyncio.Event()

    async def __call__(self, page: Page) -> Outcome:
        """Wait until ``door`` is set, and ignore each cancellation."""
        self.came.set()
        while not self.door.is_set():
            with suppress(asyncio.CancelledError):
                await self.door.wait()
        return Delivered()


async def test_a_send_that_ignores_its_cancellation_ends_for_the_engine(
    door: asyncio.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The send times out but keeps its place in flight, so that no more than ``per_target`` sends ever run."""
    monkeypatch.setattr(flight, "IGNORED", 0.01)
    clock = ManualClock(START)
    store, notifier = MemoryStore(clock), Unruly(Deaf(door))
    retry = RetryPolicy(send_timeout=timedelta(milliseconds=30), per_target=2)
    async with asyncio.timeout(TIMEOUT), Engine(store, settings=Settings(retry=retry), notifiers=[notifier]) as engine:
        await open_due(engine, *"abcd")
        for _ in range(4):
            await engine.tick()
            clock.advance(timedelta(seconds=90))
        pages = await pages_of(store)
        assert {"timed out", None} == {page.reason for page in pages}
        assert 2 == notifier.most == notifier.under_way
        await asyncio.sleep(0.03)
        assert 2 == caplog.text.count("goes on sending to test after it was cancelled")
        door.set()
        await asyncio.sleep(0.01)
        for _ in range(3):
            await engine.tick()
            clock.advance(timedelta(seconds=90))
        assert {PageState.DELIVERED} == {page.state for page in await pages_of(store) if page.level == 1}


async def test_a_send_that_ignores_its_cancellation_does_not_keep_the_runner(door: asyncio.Event) -> None:
    """On stop the runner ends after one send timeout, although the send ignores its cancellation."""
    deaf, stop = Deaf(door), asyncio.Event()
    retry = RetryPolicy(send_timeout=timedelta(milliseconds=50))
    engine = Engine(MemoryStore(), settings=Settings(retry=retry), notifiers=[Unruly(deaf)])
    await open_due(engine, "k")
    worker = asyncio.create_task(run(engine, stop=stop, signals=False))
    async with asyncio.timeout(TIMEOUT):
        await deaf.came.wait()
        stop.set()
        await worker


async def test_a_runner_that_is_cancelled_twice_does_not_wait_for_it(door: asyncio.Event) -> None:
    """A second cancellation ends the runner, although the send in flight ignores its cancellation."""
    deaf = Deaf(door)
    slow = Settings(retry=RetryPolicy(lease=HOUR, send_timeout=HOUR / 2))
    engine = Engine(MemoryStore(), settings=slow, notifiers=[Unruly(deaf)])
    await open_due(engine, "k")
    worker = asyncio.create_task(run(engine, signals=False))
    async with asyncio.timeout(TIMEOUT):
        await deaf.came.wait()
        worker.cancel()
        await asyncio.sleep(0.01)
        assert not worker.done()
        worker.cancel()
        await asyncio.wait([worker])


async def test_a_flight_that_crashes_is_told_without_its_text(complaints: list[dict[str, object]]) -> None:
    """The loop's handler gets the kind and the place of the crash, and not its text."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fly() -> None:
        raise ValueError(SECRET)

    tasks = flight.TaskGroup()
    tasks.start(fly())
    await tasks.wait()
    assert ["message"] == [name for context in complaints for name in context]
    assert str(complaints[0]["message"]).startswith("a task crashed: ValueError, ")
    assert SECRET not in str(complaints)
