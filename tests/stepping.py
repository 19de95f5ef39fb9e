"""Pages that a worker leaves in a store whose clock is ahead, and health after the clock has stepped back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from escalation_adapters.worker.runner import run
from escalation_core import Delivered, Engine, Escalation, Incident, Outcome, Page, Retry, RetryPolicy, Settings, Store
from escalation_core.model import PageRecord, PageState

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RETRY = RetryPolicy(lease=2 * SECOND, send_timeout=SECOND, first=SECOND, longest=2 * SECOND, most_after=2 * SECOND)
SETTINGS = Settings(critical_window=SECOND, tick_interval=SECOND, retry=RETRY)
"""A test waits seconds at most for each span; two escalations of an incident are half an hour apart."""
STATES = {
    "sent": PageState.DELIVERED,
    "busy": PageState.PENDING,
    "down": PageState.PENDING,
    "gone": PageState.LEASED,
    "waiting": PageState.PENDING,
}
"""The state that the page to each target reaches while the clock is ahead."""
LATE = [target for target, state in STATES.items() if state is not PageState.DELIVERED]
"""The targets whose pages a later worker must send."""
NEW = "new"
"""The target of an incident that is opened once the clock has stepped back."""


class ByKey:
    """Routes an incident to the target that its key names, up to a dash."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        return [incident.incident_key.partition("-")[0]]


class Receiver:
    """Keeps the pages. It delivers unless ``answers`` has another outcome; a page to a ``stuck`` target never ends."""

    channel = "receiver"
    targets: Sequence[str] = (*STATES, NEW, "snoozed", "held")

    def __init__(self, answers: Mapping[str, Outcome] | None = None, stuck: Collection[str] = ()) -> None:
        self.answers = answers or {}
        self.stuck = stuck
        self.pages: list[Page] = []

    async def send(self, page: Page) -> Outcome:
        self.pages.append(page)
        if page.target in self.stuck:
            await asyncio.Event().wait()
        return self.answers.get(page.target, Delivered())

    async def aclose(self) -> None:
        pass

    def count(self) -> Counter[str]:
        """Return how often each target got a page."""
        return Counter(page.target for page in self.pages)


class Ticks:
    """Counts the completed ticks of a worker."""

    def __init__(self) -> None:
        self.count = 0

    async def beat(self) -> None:
        self.count += 1


def engine_of(
    store: Store,
    receiver: Receiver,
    worker: str,
    *,
    settings: Settings = SETTINGS,
    heartbeat: Ticks | None = None,
) -> Engine:
    """Return a worker."""
    return Engine(store, settings=settings, router=ByKey(), notifiers=[receiver], worker=worker, heartbeat=heartbeat)


async def open_incidents(engine: Engine, *keys: str) -> None:
    """Open incidents that have been due for days, so that they are due even if a clock is days behind."""
    for key in keys:
        await engine.open(key, severity="critical", first_seen=await engine.now() - 5 * DAY)


async def leave_behind(store: Store, settings: Settings = SETTINGS) -> Receiver:
    """Let a worker leave a page in each state of STATES by the present clock; return the worker's receiver."""
    receiver = Receiver({"busy": Retry("busy", after=HOUR, throttled=True), "down": Retry("down")}, stuck=["gone"])
    engine = engine_of(store, receiver, "gone", settings=settings)
    await open_incidents(engine, "sent", "busy", "down", "gone")
    assert 4 == (await engine.tick(deliver=False)).escalated
    await engine._delivery.start_due()
    while len(engine._delivery._finished) < 3:
        await engine._delivery.wait(SECOND)
    await engine._delivery.settle()
    await engine._delivery.abandon()
    await open_incidents(engine, "waiting")
    assert 1 == (await engine.tick(deliver=False)).escalated
    assert STATES == {page.target: page.state for page in await pages(store)}
    return receiver


async def pages(store: Store) -> Sequence[PageRecord]:
    """Return every page."""
    return await store.read(lambda tx: tx.outbox.pages(limit=1000))


async def escalations(store: Store) -> Sequence[Escalation]:
    """Return every escalation."""
    return [one for _, one in await store.read(lambda tx: tx.ledger.escalations(limit=1000))]


async def steps(store: Store) -> list[tuple[str, int, int]]:
    """Return the incident, episode and level of every escalation."""
    return sorted((one.incident_key, one.episode, one.level) for one in await escalations(store))


async def incident(engine: Engine, key: str) -> Incident:
    """Return an incident from the store."""
    found = (await engine.history(key)).incident
    assert found is not None
    return found


async def due(engine: Engine, key: str) -> datetime:
    """Return when an incident may escalate next."""
    instant = (await incident(engine, key)).next_due_at
    assert instant is not None
    return instant


def names_a_clock(warnings: Sequence[str]) -> bool:
    """Return True if a warning is about a clock."""
    return any("clock" in warning for warning in warnings)


async def assert_not_well(engine: Engine, step: timedelta, *, within: timedelta = timedelta()) -> None:
    """Fail unless health is not ok in every form, and reports this step of the clock with a warning."""
    health = await engine.health()
    assert not health.ok, f"ok, with a lag of {health.tick_lag}"
    assert abs(health.clock_step - step) <= within
    assert health.as_dict()["clockStepMs"] == health.clock_step // timedelta(milliseconds=1)
    assert names_a_clock(health.warnings)
    assert not await engine.is_healthy()


async def assert_well(engine: Engine) -> None:
    """Fail unless health is ok and reports no step of the clock."""
    health = await engine.health()
    assert (True, timedelta(), []) == (health.ok, health.clock_step, list(health.warnings))
    assert await engine.is_healthy()


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[None]:
    """Run a worker during the block; stop it afterwards, and fail if it ended by itself."""
    stop = asyncio.Event()
    task = asyncio.create_task(run(engine, stop=stop, signals=False))
    try:
        yield
        assert not task.done(), "the runner ended by itself"
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
