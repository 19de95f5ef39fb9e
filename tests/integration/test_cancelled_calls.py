"""Tests of calls that are cancelled at any await: connections stay usable, and the engine settles pages in flight."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.dsn import arguments
from escalation_adapters.postgres.pool import Pool
from escalation_adapters.sqlite import SQLiteStore
from escalation_core import Delivered, Engine, Outcome, Page, RetryPolicy, Settings, Store, TickReport
from escalation_core.model import PageState
from escalation_core.ports import Transaction
from escalation_core.testing import MemoryStore, RecordingNotifier

from .stage import Stage, staged, until

HOUR = timedelta(hours=1)


async def test_a_connection_that_comes_back_in_a_pipeline_is_closed(migrated_dsn: str) -> None:
    """The pool closes a connection that comes back in pipeline mode: its next caller's SET TRANSACTION would fail."""
    pool = Pool(migrated_dsn, arguments(migrated_dsn) | {"autocommit": True}, max_connections=1)
    await pool.open()
    try:
        async with pool.connection() as connection:
            connection.pgconn.enter_pipeline_mode()
        async with pool.connection() as other:
            assert other is not connection
            assert connection.closed
            async with other.transaction():
                await other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    finally:
        await pool.aclose()


async def test_calls_cancelled_anywhere_leave_no_connection_unusable(migrated_dsn: str) -> None:
    """The test cancels ticks after 0 to 59 loop turns: the store's only connection serves every later call."""
    store = await PostgresStore.connect(migrated_dsn, max_connections=1)
    async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
        for steps in range(60):
            await engine.open(f"k{steps}", severity="critical", first_seen=await engine.now() - HOUR)
            await cancelled_after(steps, engine.tick)
            await engine.health()
            await engine.history("k0")
            await engine.tick(dry_run=True)


async def cancelled_after(steps: int, call: Callable[[], Awaitable[object]]) -> None:
    """Cancel the call after ``steps`` turns of the loop."""
    task = asyncio.ensure_future(call())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Receiver:
    """A receiver that takes two turns of the loop to answer, and records the key of each page that arrives."""

    def __init__(self) -> None:
        self.arrived: list[str] = []

    async def __call__(self, page: Page) -> Outcome:
        await asyncio.sleep(0)
        self.arrived.append(page.incident.incident_key)
        await asyncio.sleep(0)
        return Delivered()


class Notifier:
    """A notifier with one target, which passes each page to ``ask`` and returns its outcome."""

    channel, targets = "test", ("ops",)

    def __init__(self, ask: Callable[[Page], Awaitable[Outcome]]) -> None:
        self._ask = ask

    async def send(self, page: Page) -> Outcome:
        return await self._ask(page)

    async def aclose(self) -> None:
        pass


async def check_each_step(store: Store, most: int) -> None:
    """Cancel a tick after each number of turns, and check that each page arrives exactly once after another tick.

    The cancelled tick sends its page at most once, and the page is soon not leased any more.
    """
    receiver = Receiver()
    async with Engine(store, notifiers=[Notifier(receiver)]) as engine:
        for steps in range(most):
            key = f"k{steps}"
            await engine.open(key, severity="critical", first_seen=await engine.now() - HOUR)
            await cancelled_after(steps, engine.tick)
            await settled(store)
            assert receiver.arrived.count(key) <= 1
            await engine.tick()
            assert 1 == receiver.arrived.count(key), steps


async def settled(store: Store) -> None:
    """Wait until no page is leased: the engine settles the pages that it sent without a further call."""
    async with asyncio.timeout(5):
        while await store.read(lambda tx: tx.outbox.pages(limit=9, state=PageState.LEASED)):  # noqa: ASYNC110 - rows send no event
            await asyncio.sleep(0)


async def test_a_tick_cancelled_at_any_await_in_memory() -> None:
    """If the test cancels a tick at any await, its page arrives exactly once, with a store in memory."""
    await check_each_step(MemoryStore(), 60)


async def test_a_tick_cancelled_at_any_await_on_sqlite(tmp_path: object) -> None:
    """If the test cancels a tick at any await, its page arrives exactly once, with a store on SQLite."""
    await check_each_step(await SQLiteStore.connect(f"{tmp_path}/e.db"), 60)


async def test_a_tick_cancelled_at_any_await_on_postgresql(migrated_dsn: str) -> None:
    """If the test cancels a tick at any await, its page arrives exactly once, with a store on PostgreSQL."""
    await check_each_step(await PostgresStore.connect(migrated_dsn), 120)


class HeldStore(MemoryStore):
    """A store whose answer to a claim is slow: it waits for ``answer`` once a page is leased."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.leased = asyncio.Event(), asyncio.Event()

    async def transact(self, work: Callable[[Transaction], Awaitable[Any]]) -> Any:
        """Run ``work``, and answer late if it leased a page."""
        result = await super().transact(work)
        if getattr(result, "sends", None):
            self.leased.set()
            await self.answer.wait()
        return result


async def test_a_tick_waits_for_the_claim_of_a_cancelled_one() -> None:
    """If a tick is cancelled while the store claims, the next tick waits for that claim, and its page is delivered."""
    store, receiver = HeldStore(), Receiver()
    async with Engine(store, notifiers=[Notifier(receiver)]) as engine:
        await engine.open("k", severity="critical", first_seen=await engine.now() - HOUR)
        first = asyncio.ensure_future(engine.tick())
        await store.leased.wait()
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.ensure_future(engine.tick())
        for _ in range(50):
            await asyncio.sleep(0)
        waiting = not second.done()
        store.answer.set()
        delivery = (await second).delivery
        assert waiting
        assert delivery is not None
        assert 1 == delivery.delivered
        assert ["k"] == receiver.arrived


@asynccontextmanager
async def tick_in_flight(stage: Stage) -> AsyncIterator[tuple["asyncio.Task[TickReport]", asyncio.Event]]:
    """Let another engine tick until its page is leased; yield the tick, and an event that lets the receiver answer."""
    answer = asyncio.Event()

    async def ask(page: Page) -> Outcome:
        await answer.wait()
        return Delivered()

    store = await PostgresStore.connect(stage.dsn, clock=stage.clock)
    async with Engine(store, notifiers=[Notifier(ask)]) as engine:
        stage.incident("k")
        tick = asyncio.create_task(engine.tick())
        await until(lambda: [(1, "leased", None)] == stage.pages("k"))
        yield tick, answer


async def test_a_page_in_flight_when_its_tick_is_cancelled_is_settled(migrated_dsn: str) -> None:
    """If the receiver answers after the cancel, the engine settles the page by itself; no other worker sends a copy."""
    async with staged(migrated_dsn) as stage, tick_in_flight(stage) as (tick, answer):
        tick.cancel()
        await asyncio.wait([tick])
        assert tick.cancelled()
        answer.set()
        await until(lambda: [(1, "delivered", None)] == stage.pages("k"))
        assert [] == await stage.tick(after=timedelta(minutes=1))


async def test_an_engine_that_is_closed_waits_for_what_a_cancelled_tick_left(migrated_dsn: str) -> None:
    """Closing the engine settles the page that a cancelled tick left in flight; no task is left in the loop."""
    async with staged(migrated_dsn) as stage:
        before = asyncio.all_tasks()
        async with tick_in_flight(stage) as (tick, answer):
            tick.cancel()
            asyncio.get_running_loop().call_later(0.05, answer.set)
        assert [(1, "delivered", None)] == stage.pages("k")
        assert before == asyncio.all_tasks()


async def test_finishing_alone_has_an_end() -> None:
    """If a cancelled tick's receiver never answers, the page is pending again after the send timeout."""
    quick = Settings(retry=RetryPolicy(send_timeout=timedelta(milliseconds=50)))

    asked = asyncio.Event()

    async def ask(page: Page) -> Outcome:
        asked.set()
        await asyncio.Event().wait()
        return Delivered()

    store = MemoryStore()
    async with Engine(store, settings=quick, notifiers=[Notifier(ask)]) as engine:
        await engine.open("k", severity="critical", first_seen=await engine.now() - HOUR)
        tick = asyncio.create_task(engine.tick())
        await asked.wait()
        tick.cancel()
        await settled(store)
        (page,) = await store.read(lambda tx: tx.outbox.pages(limit=9))
        assert (PageState.PENDING, "timed out") == (page.state, page.reason)
