"""Delivery: concurrent sends, the pages that a claim takes or cancels, leases, and switches and pauses."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Delivered, DeliveryReport, Outcome, Page, Rejected, Retry
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import HOUR, MINUTE, SECOND, START, GatedNotifier, incident, picture, put, states
from .delivery import FailingStore, Result, engine_of, escalated
from .helpers import HELD, HELD_IDS


class FakeTime:
    """The loop's clock, for the delivery module only."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """A monotonic clock that stands still until a test moves it."""
    fake = FakeTime()
    monkeypatch.setattr("escalation_core.engine.deliver.monotonic", fake)
    return fake


# --- concurrent sends


async def test_slow_target_does_not_delay_another(store: MemoryStore, clock: ManualClock) -> None:
    """While one target keeps its page waiting, another target gets all of its pages, one after the other."""
    await escalated(store, clock, "slow", "fast", keys=["a", "b", "c"])
    done = asyncio.Event()
    fast = RecordingNotifier("fast")

    def answer(page: Page) -> Outcome:
        if len(fast.pages) == 3:
            done.set()
        return Delivered()

    fast.answer = answer
    slow = GatedNotifier("slow")
    passing = asyncio.create_task(engine_of(store, slow, fast, per_target=1).deliver())
    await done.wait()
    assert (["a"], ["a", "b", "c"]) == tuple(
        [page.incident.incident_key for page in notifier.pages] for notifier in (slow, fast)
    )
    slow.gate.set()
    assert DeliveryReport(sent=6, delivered=6) == await passing


@pytest.mark.parametrize("most", [1, 3, 7, 8])
async def test_no_more_pages_are_in_flight_than_may_be(most: int, store: MemoryStore, clock: ManualClock) -> None:
    """A claim takes at most as many pages for a target as can start at once; other workers may claim the rest."""
    await escalated(store, clock, keys=[f"k{number}" for number in range(10)])
    notifier = GatedNotifier()
    engine = engine_of(store, notifier, per_target=most)
    passing = asyncio.create_task(engine.deliver())
    await sent(notifier, most)
    assert most == states(store).count("leased")
    assert 10 - most == states(store).count("pending")
    notifier.gate.set()
    assert DeliveryReport(sent=10, delivered=10) == await passing
    assert most == notifier.most


async def sent(notifier: GatedNotifier, count: int) -> None:
    """Wait until the notifier got so many pages, and a little longer: then more would have come."""
    while len(notifier.pages) < count:
        notifier.begun.clear()
        await notifier.begun.wait()
    for _ in range(100):
        await asyncio.sleep(0)


async def test_a_worker_begins_with_few_pages_at_once(store: MemoryStore, clock: ManualClock) -> None:
    """A silent target has eight pages on their way. As these arrive it gets more, and after a failure eight again."""
    await escalated(store, clock, keys=[f"k{number}" for number in range(60)])
    notifier = GatedNotifier()
    passing = asyncio.create_task(engine_of(store, notifier, per_target=20).deliver())
    count = 0
    for most, answer in ((8, Delivered()), (16, Delivered()), (20, Retry("down")), (8, Delivered())):
        await sent(notifier, count + most)
        assert most == states(store).count("leased")
        count += most
        notifier.outcome = answer
        notifier.gate.set()  # answers the pages that are on their way, and no later one
        notifier.gate.clear()
    notifier.gate.set()
    assert DeliveryReport(sent=60, delivered=40, retried=20) == await passing
    assert 20 == notifier.most


async def test_second_call_joins_the_pass_in_flight(store: MemoryStore, clock: ManualClock) -> None:
    """Two concurrent calls of deliver are one pass with one report."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    one, other = asyncio.create_task(engine.deliver()), asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    notifier.gate.set()
    assert await one is await other
    assert 1 == len(notifier.pages)


async def test_oldest_pages_go_first(store: MemoryStore, clock: ManualClock) -> None:
    """The engine claims pages in the order in which they became due."""
    await escalated(store, clock, keys=["b"])
    await escalated(store, clock, keys=["a"])
    notifier = RecordingNotifier()
    await engine_of(store, notifier, per_target=1).deliver()
    assert ["b", "a"] == [page.incident.incident_key for page in notifier.pages]


async def test_pass_claims_for_one_tick_interval_at_most(
    store: MemoryStore, clock: ManualClock, time: FakeTime
) -> None:
    """A pass stops claiming after one tick interval; the next pass claims the other pages."""
    await escalated(store, clock, keys=["a", "b", "c"])

    def answer(page: Page) -> Outcome:
        time.now += 61
        return Delivered()

    engine = engine_of(store, RecordingNotifier(answer=answer), per_target=1)
    assert [1, 1, 1, 0] == [(await engine.deliver()).sent for _ in range(4)]


async def test_pass_tries_each_page_once(store: MemoryStore, clock: ManualClock) -> None:
    """A pass tries each page once; a page that fails waits for another pass, even if due again before this one ends."""
    await escalated(store, clock, keys=["a", "b", "c"])

    def answer(page: Page) -> Outcome:
        clock.advance(2 * SECOND)
        return Retry("down")

    engine = engine_of(store, RecordingNotifier(answer=answer), per_target=1)
    assert DeliveryReport(sent=3, retried=3) == await engine.deliver()
    clock.advance(SECOND)
    assert DeliveryReport(sent=3, retried=3) == await engine.deliver()


async def test_notifier_gets_the_page_as_it_stands(store: MemoryStore, clock: ManualClock) -> None:
    """A page holds the incident as it is when sent, its own level and episode, and the escalation's dedup key."""
    await escalated(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", summary="newer")
    await engine.deliver()
    [page] = notifier.pages
    assert "newer" == page.incident.summary
    assert 1 == page.episode
    assert 1 == page.level
    assert "test" == page.target
    assert 1 == page.attempt
    assert store.ledger[1].unique_hash == page.dedup_key


async def test_report_counts_what_became_of_each_page(store: MemoryStore, clock: ManualClock) -> None:
    """The report counts delivered, retried, dead and cancelled pages separately; the next report begins at zero."""
    await escalated(store, clock, keys=["ok", "ok2", "down", "gone", "ended"])
    await store.host.past_triggers("ended", resolved_at=clock())
    answers: dict[str, Outcome] = {"down": Retry("down"), "gone": Rejected("gone")}
    notifier = RecordingNotifier(answer=lambda page: answers.get(page.incident.incident_key, Delivered()))
    engine = engine_of(store, notifier)
    assert DeliveryReport(sent=4, delivered=2, retried=1, dead=1, cancelled=1) == await engine.deliver()
    assert DeliveryReport() == await engine.deliver()


# --- incidents that ended before their pages were claimed


async def test_cancelling_page_of_a_lost_sender_is_cancelled_by_the_next_claim(
    store: MemoryStore, clock: ManualClock
) -> None:
    """When the sender of a cancelling page is gone, the next claim cancels it and sends nothing."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    await engine.acknowledge("k")
    passing.cancel()
    await engine._delivery.abandon()
    clock.advance(30 * SECOND)
    other = RecordingNotifier()
    assert DeliveryReport(cancelled=1) == await engine_of(store, other).deliver()
    assert [] == other.pages


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"acknowledged_at": START}, "acknowledged"),
        ({"resolved_at": START}, "resolved"),
        ({"level": 0, "episode": 2}, "episode ended"),
    ],
)
async def test_claim_cancels_pages_of_incidents_that_a_host_ended(
    columns: dict[str, Any], reason: str, store: MemoryStore, clock: ManualClock
) -> None:
    """A claim cancels, and does not send, the pages of incidents that a host ended without running the triggers."""
    await escalated(store, clock)
    await store.host.past_triggers("k", **columns)
    notifier = RecordingNotifier()
    assert DeliveryReport(cancelled=1) == await engine_of(store, notifier).deliver()
    assert [] == notifier.pages
    assert ["cancelled"] == states(store)
    assert reason == store.pages[1].reason


async def test_claim_cancels_pages_of_deleted_rows(store: MemoryStore, clock: ManualClock) -> None:
    """A claim cancels a page whose incident the host deleted."""
    await escalated(store, clock)
    await store.host.delete("k")
    assert DeliveryReport(cancelled=1) == await engine_of(store, RecordingNotifier()).deliver()
    assert "deleted" == store.pages[1].reason


async def test_page_of_a_row_that_cannot_be_read_is_dead(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that cannot be rendered becomes dead with the fault, is counted and logged; other pages are sent."""
    await escalated(store, clock, keys=["k", "sound"])
    await store.host.update("k", level=None)
    notifier = RecordingNotifier()
    assert DeliveryReport(sent=1, delivered=1, dead=1) == await engine_of(store, notifier).deliver()
    assert (store.pages[1].reason or "").startswith("unrenderable: level")
    assert "page 1 is dead" in caplog.text


# --- leases, and closing


class StallingStore(MemoryStore):
    """A store whose next answer takes ``stall`` seconds by the fake clock."""

    def __init__(self, clock: ManualClock, time: FakeTime) -> None:
        super().__init__(clock)
        self.time = time
        self.stall = 0.0

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        result = await super().transact(work)
        self.time.now += self.stall
        self.stall = 0.0
        return result


@pytest.mark.parametrize(("stall", "sent", "stale"), [(19.0, 1, 0), (20.0, 1, 0), (20.001, 0, 1), (500.0, 0, 1)])
async def test_page_whose_lease_is_nearly_over_is_not_sent(
    stall: float, sent: int, stale: int, clock: ManualClock, time: FakeTime
) -> None:
    """A sender drops a page with less than the send timeout left of its lease; the page counts as stale."""
    store = StallingStore(clock, time)
    await escalated(store, clock)
    store.stall = stall
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, tick_interval=10 * MINUTE)
    assert DeliveryReport(sent=sent, delivered=sent, stale=stale) == await engine.deliver()
    assert (sent, ["delivered"] if sent else ["leased"]) == (len(notifier.pages), states(store))
    assert not engine._delivery.busy


async def test_dropped_page_goes_when_its_lease_is_over(clock: ManualClock, time: FakeTime) -> None:
    """A worker that claims after the lease sends the page that another sender dropped."""
    store = StallingStore(clock, time)
    await escalated(store, clock)
    store.stall = 25
    await engine_of(store, RecordingNotifier()).deliver()
    notifier = RecordingNotifier()
    other = engine_of(store, notifier)
    clock.advance(30 * SECOND - timedelta(microseconds=1))
    assert DeliveryReport() == await other.deliver()
    clock.advance(timedelta(microseconds=1))
    assert DeliveryReport(sent=1, delivered=1) == await other.deliver()


async def test_abandoned_pages_go_again_when_their_leases_end(store: MemoryStore, clock: ManualClock) -> None:
    """A page that one process abandons is sent by another process under the same dedup key."""
    await escalated(store, clock)
    dropped = GatedNotifier()
    engine = engine_of(store, dropped)
    await engine._delivery.start_due()
    await dropped.begun.wait()
    await engine._delivery.abandon()
    assert ["leased"] == states(store)
    clock.advance(30 * SECOND)
    again = RecordingNotifier()
    await engine_of(store, again).deliver()
    assert [page.dedup_key for page in dropped.pages] == [page.dedup_key for page in again.pages]


class ClosingNotifier(GatedNotifier):
    """Remembers that ``aclose`` was called."""

    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_closing_settles_what_is_in_flight_first(store: MemoryStore, clock: ManualClock) -> None:
    """Closing waits for the pages in flight and settles them before it closes the notifiers."""
    await escalated(store, clock)
    notifier = ClosingNotifier()
    async with engine_of(store, notifier) as engine:
        await engine._delivery.start_due()
        await notifier.begun.wait()
        asyncio.get_running_loop().call_soon(notifier.gate.set)
        assert not notifier.closed
    assert (["delivered"], True) == (states(store), notifier.closed)


async def test_closing_closes_the_notifiers_even_if_the_store_is_down(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the store is down, closing leaves sent pages leased, logs their number, and still closes the notifiers."""
    store = FailingStore(clock)
    await escalated(store, clock)
    notifier = ClosingNotifier()
    engine = engine_of(store, notifier, send_timeout=timedelta(milliseconds=20))
    await engine._delivery.start_due()
    store.down = True
    notifier.gate.set()
    await engine.aclose()
    assert "1 pages and 0 notices that were sent could not be settled" in caplog.text
    assert (["leased"], True) == (states(store), notifier.closed)


# --- switches and pauses


@pytest.mark.parametrize("held", [*HELD, {"dry_run": True}], ids=[*HELD_IDS, "dry-run"])
async def test_no_page_is_claimed_while_the_engine_is_held(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """An engine that is disabled, has V1 off, is paused or is in dry run claims no page."""
    await escalated(store, clock)
    before = picture(store)
    notifier = RecordingNotifier()
    assert DeliveryReport() == await engine_of(store, notifier, **held).deliver()
    assert ([], before) == (notifier.pages, picture(store))


async def test_pages_go_when_the_pause_is_over(store: MemoryStore, clock: ManualClock) -> None:
    """At the pause's end, which the pause excludes, the page is sent: its wait does not use up the horizon."""
    await escalated(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, pause_cron="0 0 * * *", pause_length=HOUR, horizon=MINUTE)
    clock.set(START + HOUR - timedelta(microseconds=1))
    assert DeliveryReport() == await engine.deliver()
    clock.set(START + HOUR)
    assert DeliveryReport(sent=1, delivered=1) == await engine.deliver()


async def test_pages_in_flight_finish_in_a_pause(store: MemoryStore, clock: ManualClock) -> None:
    """The engine sends and settles a page that was claimed before the pause began."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier, pause_cron="6 0 * * *", pause_length=HOUR)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    clock.advance(MINUTE)
    notifier.gate.set()
    assert DeliveryReport(sent=1, delivered=1) == await passing


async def test_a_page_that_was_recorded_waits(store: MemoryStore, clock: ManualClock) -> None:
    """A pause set between an escalation and its page holds the page; when the pause ends, the engine sends it."""
    engine = engine_of(store, RecordingNotifier())
    await put(store, incident("k", next_due_at=START))
    clock.advance(5 * MINUTE)
    assert 1 == (await engine.tick(deliver=False)).pages
    await engine.pause(clock() + MINUTE)
    assert 0 == (await engine.deliver()).sent
    clock.advance(MINUTE)
    assert 1 == (await engine.deliver()).delivered


@pytest.mark.parametrize("held", HELD, ids=HELD_IDS)
async def test_acknowledge_cancels_while_the_engine_is_held(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """While the engine is held, operators can still end incidents, and this cancels their pages."""
    await escalated(store, clock, keys=["a", "b"])
    engine = engine_of(store, RecordingNotifier(), **held)
    await engine.acknowledge("a")
    await engine.resolve("b")
    assert ["cancelled", "cancelled"] == states(store)
