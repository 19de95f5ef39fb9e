"""An incident may fall due between a tick and the next-due read after it. It does not wait for a tick interval."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from selectors import SelectSelector
from typing import Any, LiteralString, TypeVar, TypeVarTuple

import psycopg
import pytest

from escalation_adapters.postgres import PostgresStore
from escalation_adapters.worker.runner import run
from escalation_core import Delivered, Engine, Outcome, Page, Settings
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction
from escalation_core.testing import MemoryStore, RecordingNotifier

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")
START = datetime(2025, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SETTINGS = Settings(critical_window=300 * SECOND, tick_interval=60 * SECOND)
EARLY = 0.001
LOOK = 0.0006
"""EARLY: seconds by which a timer fires too early. LOOK: seconds that an answer of ``next_due`` takes. A timer that is
set from such an answer fires before its instant. One more read later, that instant is over."""


class Leap(SelectSelector):
    """A selector that does not wait: the loop's time jumps to the next timer instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Add the timeout to the time, and a microsecond for the loop's own work."""
        self.now += 1e-6 + (timeout or 0.0)
        return super().select(timeout and 0.0)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while it waits or when a test adds to it. Timers fire ``early`` seconds early."""

    def __init__(self, early: float) -> None:
        self.leap, self.early = Leap(), early
        super().__init__(self.leap)

    def time(self) -> float:
        """Return the loop's own time."""
        return self.leap.now

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Fire early, as uvloop's timers do, which have a resolution of one millisecond."""
        return super().call_at(when - self.early, callback, *args, context=context)


class Store(MemoryStore):
    """A store that uses the loop's time. Its next-due reads and transactions take time."""

    def __init__(self, loop: Loop, transaction: float = 0.0) -> None:
        super().__init__(lambda: START + timedelta(seconds=loop.time()))
        self.leap, self.transaction = loop.leap, transaction

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Answer after LOOK seconds. A read for pages takes no time, so that it does not move the timer of a tick."""
        seen = await super().next_due(canary=canary, pages=pages)
        self.leap.now += 0 if pages else LOOK
        return seen

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run the transaction, and add the seconds that the test has set."""
        done = await super().transact(work)
        self.leap.now += self.transaction
        return done


def under(loop: Loop, work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work)


async def run_for(seconds: float, engine: Engine) -> None:
    """Run the engine for this many seconds of the loop's time."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    await run(engine, stop=stop, signals=False)


def late(early: float, *, due: datetime, pause: datetime | None = None, transaction: float = 0.0) -> list[float]:
    """Run an engine for half a minute; return how late, in seconds, each escalation was recorded."""
    loop = Loop(early)
    store = Store(loop, transaction)

    async def work() -> None:
        async with Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier()]) as engine:
            await engine.open("k", severity="critical", first_seen=due - SETTINGS.critical_window)
            if pause is not None:
                await engine.pause(until=pause, reason="maintenance", by="test")
            await run_for(30, engine)

    under(loop, work())
    return [(one.created_at - max(due, pause or due)).total_seconds() for one in store.ledger.values()]


def test_timer_that_rings_early_costs_no_interval() -> None:
    """A tick runs just before an incident is due. The read after it finds the incident, which escalates at once."""
    [lateness] = late(EARLY, due=START + 10 * SECOND)
    assert 0 <= lateness < 0.01


def test_timer_that_rings_before_a_pause_ends_costs_no_interval() -> None:
    """A pause ends between a tick and the read after it. The incident that the pause held back escalates at once."""
    [lateness] = late(EARLY, due=START + 5 * SECOND, pause=START + 10 * SECOND)
    assert 0 <= lateness < 0.01


def test_counts_behind_a_tick_cost_no_interval() -> None:
    """An incident falls due while the engine takes counts for metrics after a tick. It escalates within two seconds."""
    [lateness] = late(0.0, due=START + timedelta(seconds=1.3), transaction=0.5)
    assert 0 <= lateness < 2


def test_page_is_claimed_when_its_target_is_free() -> None:
    """A timer fires as a target's throttling ends. The delivery loop has no such interval and sends within 60 ms."""
    loop, sent = Loop(EARLY), list[float]()
    store = Store(loop)

    def note(_: Page) -> Outcome:
        sent.append(loop.time())
        return Delivered()

    async def work() -> None:
        async with Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier(answer=note)]) as engine:
            await engine.open("k", severity="critical", first_seen=START - SETTINGS.critical_window)
            await engine.tick(deliver=False)
            await store.transact(lambda tx: tx.outbox.throttle_target("test", START + 10 * SECOND))
            await run_for(30, engine)

    under(loop, work())
    [at] = sent
    assert 10 <= at < 10.06


# --- on a real server, in real time

OTHERS: LiteralString = """
INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
SELECT 'other/' || n, 'critical', now(), now() + interval '1 day' + n * interval '1 ms'
FROM generate_series(1, 100000) AS n
"""
SOON: LiteralString = """
INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
SELECT 'soon/' || n, 'critical', due - interval '5 minutes', due
FROM (
    SELECT n, clock_timestamp() + interval '500 ms' + n % 400 * interval '25 ms' + random() * interval '25 ms' AS due
    FROM generate_series(1, 400) AS n
) AS made
"""
LATE: LiteralString = """
SELECT extract(epoch FROM e.created_at - (i.first_seen + interval '5 minutes'))
FROM escalation_events e JOIN incidents i USING (incident_key)
"""


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_none_is_late_under_either_loop(migrated_dsn: str) -> None:
    """Among 100,000 others, 400 incidents fall due in about ten seconds. Each is recorded at most a second late."""
    async with await psycopg.AsyncConnection.connect(migrated_dsn, autocommit=True) as connection:
        await connection.execute(OTHERS)
        async with Engine(
            await PostgresStore.connect(migrated_dsn), settings=SETTINGS, notifiers=[RecordingNotifier()]
        ) as engine:
            await connection.execute(SOON)
            await run_for(11.5, engine)
        rows = await (await connection.execute(LATE)).fetchall()
    lateness = [float(row[0]) for row in rows]
    assert 400 == len(lateness)
    assert max(lateness) <= 1
