"""Settling: the record of an attempt, also when the incident ended or the lease was lost meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from escalation_core import Delivered, DeliveryReport, Engine, Outcome, Page, Rejected, Retry, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import HOUR, MINUTE, SECOND, GatedNotifier, picture, states
from .delivery import FailingStore, Result, engine_of, escalated

# --- attempts and throttling


async def test_attempts_are_numbered_and_keep_their_key(store: MemoryStore, clock: ManualClock) -> None:
    """Each attempt has the next number and the same dedup key; a throttled attempt does not count."""
    await escalated(store, clock)
    answers: list[Outcome] = [Retry("down"), Retry("busy", throttled=True), Retry("down"), Delivered()]
    notifier = RecordingNotifier()
    notifier.answer = lambda page: answers[len(notifier.pages) - 1]
    engine = engine_of(store, notifier)
    for _ in answers:
        await engine.deliver()
        clock.advance(MINUTE)
    assert [1, 2, 2, 3] == [page.attempt for page in notifier.pages]
    assert 1 == len({page.dedup_key for page in notifier.pages})
    assert (["delivered"], 3) == (states(store), store.pages[1].attempts)


async def test_throttling_holds_the_whole_target(store: MemoryStore, clock: ManualClock) -> None:
    """After a 429 no worker sends to the target until the receiver's time is over, and then one page a second.

    Other targets get their pages.
    """
    await escalated(store, clock, "busy", "free", keys=["a", "b"])
    busy = RecordingNotifier("busy", answer=lambda page: Retry("busy", 20 * SECOND, throttled=True))
    free = RecordingNotifier("free")
    engine = engine_of(store, busy, free, per_target=1)
    await engine.deliver()
    assert (1, 2) == (len(busy.pages), len(free.pages))
    other = RecordingNotifier("busy")
    worker = engine_of(store, other)
    clock.advance(20 * SECOND - timedelta(microseconds=1))
    assert 0 == (await worker.deliver()).sent
    clock.advance(timedelta(microseconds=1))
    assert 1 == (await worker.deliver()).delivered
    clock.advance(SECOND)
    assert 1 == (await worker.deliver()).delivered


async def test_retry_after_alone_holds_no_target(store: MemoryStore, clock: ManualClock) -> None:
    """A Retry with a time that is not throttled delays its own page, and no other page of the target."""
    await escalated(store, clock, keys=["a", "b"])
    notifier = RecordingNotifier(answer=lambda page: Retry("down", 20 * SECOND))
    assert 2 == (await engine_of(store, notifier, per_target=1).deliver()).sent
    assert {} == store.paces


async def test_page_is_given_up_after_the_horizon(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that was retried for the whole horizon becomes dead, and is listed and logged."""
    await escalated(store, clock)
    engine = engine_of(store, RecordingNotifier(answer=lambda page: Retry("down", MINUTE)), horizon=3 * MINUTE)
    for _ in range(3):
        report = await engine.deliver()
        clock.advance(MINUTE)
    assert DeliveryReport(sent=1, dead=1) == report
    assert ["gave up after 3 attempts: down"] == [page.reason for page in await engine.dead()]
    assert "page 1 is dead: incident 'k' level 1 to test: gave up after 3 attempts: down" in caplog.text


# --- incidents that end while their pages are in flight


async def test_acknowledged_page_in_flight_may_finish(store: MemoryStore, clock: ManualClock) -> None:
    """A page in flight when its incident is acknowledged is delivered if the attempt succeeds."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    await engine.acknowledge("k", by="op")
    assert ["cancelling"] == states(store)
    notifier.gate.set()
    assert DeliveryReport(sent=1, delivered=1) == await passing
    assert ["delivered"] == states(store)


ENDS: list[tuple[str, Callable[[Engine], Awaitable[object]]]] = [
    ("acknowledged", lambda engine: engine.acknowledge("k")),
    ("resolved", lambda engine: engine.resolve("k")),
    ("drained", lambda engine: engine.drain("k")),
]


@pytest.mark.parametrize(("reason", "end"), ENDS)
@pytest.mark.parametrize("outcome", [Retry("down"), Retry("busy", throttled=True), Rejected("gone")])
async def test_ended_page_in_flight_that_fails_is_cancelled(
    reason: str,
    end: Callable[[Engine], Awaitable[object]],
    outcome: Outcome,
    store: MemoryStore,
    clock: ManualClock,
) -> None:
    """A page whose attempt fails after its incident ended is cancelled; it is never retried and never dead."""
    await escalated(store, clock)
    notifier = GatedNotifier(outcome=outcome)
    engine = engine_of(store, notifier)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    await end(engine)
    notifier.gate.set()
    assert DeliveryReport(sent=1, cancelled=1) == await passing
    assert (["cancelled"], reason) == (states(store), store.pages[1].reason)
    clock.advance(HOUR)
    await engine.deliver()
    assert 1 == len(notifier.pages)


async def test_unacknowledged_page_in_flight_is_cancelled_all_the_same(store: MemoryStore, clock: ManualClock) -> None:
    """A page stays cancelled if its incident is acknowledged and unacknowledged while the attempt is in flight."""
    await escalated(store, clock)
    notifier = GatedNotifier(outcome=Retry("down"))
    engine = engine_of(store, notifier)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    await engine.acknowledge("k")
    await engine.unacknowledge("k")
    notifier.gate.set()
    assert DeliveryReport(sent=1, cancelled=1) == await passing


async def test_settling_survives_a_row_that_became_unreadable(store: MemoryStore, clock: ManualClock) -> None:
    """If a host makes the row unreadable while its page is in flight, the page is settled by its outcome."""
    await escalated(store, clock)
    notifier = GatedNotifier(outcome=Retry("down"))
    passing = asyncio.create_task(engine_of(store, notifier).deliver())
    await notifier.begun.wait()
    await store.host.update("k", level=None)
    notifier.gate.set()
    assert DeliveryReport(sent=1, retried=1) == await passing


# --- lost leases and stores that are down


async def test_late_settlement_of_a_lost_lease_is_stale(store: MemoryStore, clock: ManualClock) -> None:
    """If another sender has claimed the page, the first sender's outcome is dropped and counted as stale."""
    await escalated(store, clock)
    slow = GatedNotifier(outcome=Rejected("gone"))
    passing = asyncio.create_task(engine_of(store, slow).deliver())
    await slow.begun.wait()
    clock.advance(30 * SECOND)
    quick = RecordingNotifier()
    assert DeliveryReport(sent=1, delivered=1) == await engine_of(store, quick).deliver()
    settled = picture(store)
    slow.gate.set()
    assert DeliveryReport(sent=1, stale=1) == await passing
    assert settled == picture(store)
    assert slow.pages[0].dedup_key == quick.pages[0].dedup_key


async def test_outcome_is_kept_while_the_store_is_down(clock: ManualClock) -> None:
    """If the store is down, the engine keeps the outcome; a later pass settles it without a second send."""
    store = FailingStore(clock)
    await escalated(store, clock)

    def answer(page: Page) -> Outcome:
        store.down = True
        return Delivered()

    notifier = RecordingNotifier(answer=answer)
    engine = engine_of(store, notifier)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await engine.deliver()
        assert (True, ["leased"]) == (engine._delivery.busy, states(store))
    store.down = False
    assert DeliveryReport(sent=1, delivered=1) == await engine.deliver()
    assert 1 == len(notifier.pages)
    assert ["delivered"] == states(store)
    assert False is engine._delivery.busy


async def test_page_that_lands_while_the_last_are_settled_is_in_the_report(clock: ManualClock) -> None:
    """A pass ends when every page is settled, also one whose attempt ends during the last transaction."""
    first, second, third = GatedNotifier("first"), GatedNotifier("second"), GatedNotifier("third")
    doors = [third.gate, second.gate]

    class Slow(MemoryStore):
        async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
            if first.gate.is_set() and doors:
                doors.pop().set()
                for _ in range(10):
                    await asyncio.sleep(0)
            return await super().transact(work)

    store = Slow(clock=clock)
    await escalated(store, clock, "first", "second", "third")
    passing = asyncio.create_task(engine_of(store, first, second, third).deliver())
    for notifier in (first, second, third):
        await notifier.begun.wait()
    first.gate.set()
    assert DeliveryReport(sent=3, delivered=3) == await passing
    assert ["delivered"] * 3 == states(store)
