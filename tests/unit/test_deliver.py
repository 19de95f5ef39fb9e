"""Delivery through the engine: claim, send, settle, and what happens when something goes wrong in between."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from escalation_core import (
    Delivered,
    DeliveryReport,
    Engine,
    Incident,
    InvalidValue,
    Notifier,
    Outcome,
    Page,
    Rejected,
    Retry,
    RetryPolicy,
    Route,
    Settings,
    StoreUnavailable,
)
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .kit import HOUR, MINUTE, SECOND, START, GatedNotifier, actions, picture, row, states

Result = TypeVar("Result")


class Named:
    """Routes every escalation to the same targets."""

    def __init__(self, *targets: str) -> None:
        self.targets = targets

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        return self.targets


class FakeTime:
    """The loop's clock, for the courier alone."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """A monotonic clock that stands still."""
    fake = FakeTime()
    monkeypatch.setattr("escalation_core.engine.deliver.monotonic", fake)
    return fake


async def escalated(store: MemoryStore, clock: ManualClock, *targets: str, keys: Sequence[str] = ("k",)) -> None:
    """Record one escalation of each key, with pending pages to each target, at START + 5 minutes."""
    targets = targets or ("test",)
    engine = Engine(store, router=Named(*targets), notifiers=[RecordingNotifier(*targets)])
    for key in keys:
        await engine.open(key, severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert (len(keys), len(keys) * len(targets)) == (report.escalated, report.pages)


def engine_of(store: MemoryStore, *notifiers: Notifier, **fields: Any) -> Engine:
    """Return an engine with retry times, and other settings, given as fields."""
    names = {"lease", "send_timeout", "per_target", "first", "longest", "horizon", "throttle"}
    retry = {name: value for name, value in fields.items() if name in names}
    rest = {name: value for name, value in fields.items() if name not in names}
    return Engine(store, notifiers=notifiers, settings=Settings(retry=RetryPolicy(**retry), **rest))


# --- many at once


async def test_slow_target_does_not_delay_another(store: MemoryStore, clock: ManualClock) -> None:
    """While one target keeps its page waiting, another gets all of its pages, one after the other."""
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


@pytest.mark.parametrize("most", [1, 3, 10, 11])
async def test_no_more_pages_are_in_flight_than_may_be(most: int, store: MemoryStore, clock: ManualClock) -> None:
    """A claim takes no more pages for a target than can start at once; the others stay free for other workers."""
    await escalated(store, clock, keys=[f"k{number}" for number in range(10)])
    notifier = GatedNotifier()
    engine = engine_of(store, notifier, per_target=most)
    passing = asyncio.create_task(engine.deliver())
    while len(notifier.pages) < min(most, 10):  # noqa: ASYNC110 - a page that comes sets no event
        await asyncio.sleep(0)
    assert min(most, 10) == states(store).count("leased")
    assert 10 - min(most, 10) == states(store).count("pending")
    notifier.gate.set()
    assert DeliveryReport(sent=10, delivered=10) == await passing
    assert min(most, 10) == notifier.most


async def test_second_call_joins_the_pass_in_flight(store: MemoryStore, clock: ManualClock) -> None:
    """Two calls of deliver are one pass, with one report."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    one, other = asyncio.create_task(engine.deliver()), asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    notifier.gate.set()
    assert await one is await other
    assert 1 == len(notifier.pages)


async def test_oldest_pages_go_first(store: MemoryStore, clock: ManualClock) -> None:
    """Pages are claimed in the order in which they became due."""
    await escalated(store, clock, keys=["b"])
    await escalated(store, clock, keys=["a"])
    notifier = RecordingNotifier()
    await engine_of(store, notifier, per_target=1).deliver()
    assert ["b", "a"] == [page.incident.incident_key for page in notifier.pages]


async def test_pass_claims_for_one_tick_interval_at_most(
    store: MemoryStore, clock: ManualClock, time: FakeTime
) -> None:
    """What could not be claimed within a tick interval is left for the next pass."""
    await escalated(store, clock, keys=["a", "b", "c"])

    def answer(page: Page) -> Outcome:
        time.now += 61
        return Delivered()

    engine = engine_of(store, RecordingNotifier(answer=answer), per_target=1)
    assert [1, 1, 1, 0] == [(await engine.deliver()).sent for _ in range(4)]


async def test_pass_tries_each_page_once(store: MemoryStore, clock: ManualClock) -> None:
    """A page that fails is left for another pass, even if it is due again before this one ends."""
    await escalated(store, clock, keys=["a", "b", "c"])

    def answer(page: Page) -> Outcome:
        clock.advance(2 * SECOND)
        return Retry("down")

    engine = engine_of(store, RecordingNotifier(answer=answer), per_target=1)
    assert DeliveryReport(sent=3, retried=3) == await engine.deliver()
    clock.advance(SECOND)
    assert DeliveryReport(sent=3, retried=3) == await engine.deliver()


# --- what a notifier is given, and what its answers do


async def test_notifier_gets_the_page_as_it_stands(store: MemoryStore, clock: ManualClock) -> None:
    """A page holds the incident as it is when it is sent, its own level and episode, and the escalation's key."""
    await escalated(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", summary="newer")
    await engine.deliver()
    [page] = notifier.pages
    assert ("newer", 1, 1, "test", 1) == (page.incident.summary, page.episode, page.level, page.target, page.attempt)
    assert store.ledger[1].unique_hash == page.dedup_key


async def test_attempts_are_numbered_and_keep_their_key(store: MemoryStore, clock: ManualClock) -> None:
    """Each attempt has the next number and the same dedup key; one that was throttled does not count."""
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


async def test_report_counts_what_became_of_each_page(store: MemoryStore, clock: ManualClock) -> None:
    """Delivered, retried, dead and cancelled pages are counted apart; the next report begins at zero."""
    await escalated(store, clock, keys=["ok", "ok2", "down", "gone", "ended"])
    await store.host.past_triggers("ended", resolved_at=clock())
    answers: dict[str, Outcome] = {"down": Retry("down"), "gone": Rejected("gone")}
    notifier = RecordingNotifier(answer=lambda page: answers.get(page.incident.incident_key, Delivered()))
    engine = engine_of(store, notifier)
    assert DeliveryReport(sent=4, delivered=2, retried=1, dead=1, cancelled=1) == await engine.deliver()
    assert DeliveryReport() == await engine.deliver()


async def test_throttling_holds_the_whole_target(store: MemoryStore, clock: ManualClock) -> None:
    """A 429 keeps every page of the target, of every worker, until the receiver's time is over; others go."""
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
    assert 2 == (await worker.deliver()).delivered


async def test_retry_after_alone_holds_no_target(store: MemoryStore, clock: ManualClock) -> None:
    """A receiver that is down and says for how long keeps its own page waiting and no other."""
    await escalated(store, clock, keys=["a", "b"])
    notifier = RecordingNotifier(answer=lambda page: Retry("down", 20 * SECOND))
    assert 2 == (await engine_of(store, notifier, per_target=1).deliver()).sent
    assert {} == store.holds


async def test_notifier_that_raises_is_a_retry(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A notifier's own fault is tried again, stops no other page, and nothing it said is shown or stored."""
    await escalated(store, clock, keys=["a", "b"])
    caplog.set_level(logging.DEBUG)

    def answer(page: Page) -> Outcome:
        if page.incident.incident_key == "a":
            raise RuntimeError("https://hooks.example/T0K3N")
        return Delivered()

    report = await engine_of(store, RecordingNotifier(answer=answer)).deliver()
    assert DeliveryReport(sent=2, delivered=1, retried=1) == report
    assert ["the notifier raised RuntimeError", None] == [page.reason for page in store.pages.values()]
    assert "RuntimeError" in caplog.text
    assert "T0K3N" not in caplog.text + repr(picture(store))
    assert [] == [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "the notifier answered with NoneType, which is not an outcome"),
        (True, "the notifier answered with bool, which is not an outcome"),
        (Delivered, "the notifier answered with type, which is not an outcome"),
        (Retry("busy", 3.0), "busy"),  # type: ignore[arg-type]
        (Retry("a\0b"), "a\N{REPLACEMENT CHARACTER}b"),
        (Rejected("x\udc80y"), "x?y"),
        (Rejected("x" * 5000), "x" * 1000),
        (Rejected(7), "no reason, but int"),  # type: ignore[arg-type]
    ],
)
async def test_answer_that_is_no_outcome_stops_nobody(
    answer: Any, reason: str, store: MemoryStore, clock: ManualClock
) -> None:
    """Whatever a notifier answers with or puts into its answer, the store gets it in a form that it can hold."""
    await escalated(store, clock, keys=["a", "b"])
    notifier = RecordingNotifier(answer=lambda page: answer if page.incident.incident_key == "a" else Delivered())
    engine = engine_of(store, notifier)
    assert (2, 1) == ((report := await engine.deliver()).sent, report.delivered)
    assert [reason, None] == [page.reason for page in store.pages.values()]
    await engine.aclose()


async def test_send_that_takes_too_long_is_a_retry(store: MemoryStore, clock: ManualClock) -> None:
    """An attempt ends after the send timeout, and the page is tried again."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    report = await engine_of(store, notifier, send_timeout=timedelta(milliseconds=1)).deliver()
    assert DeliveryReport(sent=1, retried=1) == report
    assert ("pending", "timed out", 1) == (states(store)[0], store.pages[1].reason, store.pages[1].attempts)


async def test_page_is_given_up_after_the_horizon(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that was tried for the whole horizon is dead, listed and logged."""
    await escalated(store, clock)
    engine = engine_of(store, RecordingNotifier(answer=lambda page: Retry("down", MINUTE)), horizon=3 * MINUTE)
    for _ in range(3):
        report = await engine.deliver()
        clock.advance(MINUTE)
    assert DeliveryReport(sent=1, dead=1) == report
    assert ["gave up after 3 attempts: down"] == [page.reason for page in await engine.dead()]
    assert "page 1 is dead: incident 'k' level 1 to test: gave up after 3 attempts: down" in caplog.text


# --- incidents that end while their pages are under way


async def test_acknowledged_page_in_flight_may_finish(store: MemoryStore, clock: ManualClock) -> None:
    """A page that was leased when its incident was acknowledged is delivered if it arrives."""
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
    """A page that fails after its incident ended is cancelled, never tried again and never dead."""
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
    """An acknowledgement that was taken back while the page was under way brings no retry back."""
    await escalated(store, clock)
    notifier = GatedNotifier(outcome=Retry("down"))
    engine = engine_of(store, notifier)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    await engine.acknowledge("k")
    await engine.unacknowledge("k")
    notifier.gate.set()
    assert DeliveryReport(sent=1, cancelled=1) == await passing


async def test_cancelling_page_of_a_lost_sender_is_cancelled_by_the_next_claim(
    store: MemoryStore, clock: ManualClock
) -> None:
    """When the sender of a cancelling page is gone, whoever claims it next cancels it and sends nothing."""
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
    """Pages of what a host ended past the triggers are cancelled when they are claimed, not sent."""
    await escalated(store, clock)
    await store.host.past_triggers("k", **columns)
    notifier = RecordingNotifier()
    assert DeliveryReport(cancelled=1) == await engine_of(store, notifier).deliver()
    assert ([], ["cancelled"], reason) == (notifier.pages, states(store), store.pages[1].reason)


async def test_claim_cancels_pages_of_deleted_rows(store: MemoryStore, clock: ManualClock) -> None:
    """A page without its incident is cancelled."""
    await escalated(store, clock)
    await store.host.delete("k")
    assert DeliveryReport(cancelled=1) == await engine_of(store, RecordingNotifier()).deliver()
    assert "deleted" == store.pages[1].reason


async def test_page_of_a_row_that_cannot_be_read_is_dead(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that cannot be rendered is dead with the fault, counted and logged; other pages go."""
    await escalated(store, clock, keys=["k", "sound"])
    await store.host.update("k", level=None)
    notifier = RecordingNotifier()
    assert DeliveryReport(sent=1, delivered=1, dead=1) == await engine_of(store, notifier).deliver()
    assert (store.pages[1].reason or "").startswith("unrenderable: level")
    assert "page 1 is dead" in caplog.text


async def test_settling_survives_a_row_that_became_unreadable(store: MemoryStore, clock: ManualClock) -> None:
    """A page in flight whose row a host spoiled is settled by its outcome."""
    await escalated(store, clock)
    notifier = GatedNotifier(outcome=Retry("down"))
    passing = asyncio.create_task(engine_of(store, notifier).deliver())
    await notifier.begun.wait()
    await store.host.update("k", level=None)
    notifier.gate.set()
    assert DeliveryReport(sent=1, retried=1) == await passing


# --- leases and the store


class StallingStore(MemoryStore):
    """A store whose next answer takes long, by the courier's clock."""

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
    """A sender that has less than the send timeout left of the lease drops the page, and counts it as stale."""
    store = StallingStore(clock, time)
    await escalated(store, clock)
    store.stall = stall
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, tick_interval=10 * MINUTE)
    assert DeliveryReport(sent=sent, delivered=sent, stale=stale) == await engine.deliver()
    assert (sent, ["delivered"] if sent else ["leased"]) == (len(notifier.pages), states(store))
    assert not engine._delivery.busy


async def test_dropped_page_goes_when_its_lease_is_over(clock: ManualClock, time: FakeTime) -> None:
    """A page that its sender dropped is sent by whoever claims it after the lease."""
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


async def test_late_settlement_of_a_lost_lease_is_stale(store: MemoryStore, clock: ManualClock) -> None:
    """When a page went to another sender, the outcome of the first is dropped and counted as stale."""
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


class FailingStore(MemoryStore):
    """A store that is out of reach while ``down``."""

    down = False

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.down:
            raise StoreUnavailable("it is down")
        return await super().transact(work)


async def test_outcome_is_kept_while_the_store_is_down(clock: ManualClock) -> None:
    """What cannot be settled is settled by a later pass, without a second send."""
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
    assert (1, ["delivered"], False) == (len(notifier.pages), states(store), engine._delivery.busy)


async def test_page_that_lands_while_the_last_are_settled_is_in_the_report(clock: ManualClock) -> None:
    """A pass ends when everything is settled, what lands during its last transaction as well."""
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


async def test_abandoned_pages_go_again_when_their_leases_end(store: MemoryStore, clock: ManualClock) -> None:
    """What a process drops at its end is sent by another, under the same dedup key."""
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
    """Remembers that it was closed."""

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
    """What cannot be settled at the end goes again after its lease; the notifiers are closed all the same."""
    store = FailingStore(clock)
    await escalated(store, clock)
    notifier = ClosingNotifier()
    engine = engine_of(store, notifier, send_timeout=timedelta(milliseconds=20))
    await engine._delivery.start_due()
    store.down = True
    notifier.gate.set()
    await engine.aclose()
    assert "1 pages that were sent could not be settled" in caplog.text
    assert (["leased"], True) == (states(store), notifier.closed)


# --- switches

HELD: list[dict[str, Any]] = [
    {"worker_enabled": False},
    {"v1": False},
    {"pause_cron": "0 0 * * *", "pause_length": HOUR},
    {"dry_run": True},
]
HELD_IDS = ["disabled", "v1-off", "paused", "dry-run"]


@pytest.mark.parametrize("held", HELD, ids=HELD_IDS)
async def test_no_page_is_claimed_while_the_engine_is_held(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Disabled, with V1 off, paused or in dry run the engine claims no page at all."""
    await escalated(store, clock)
    before = picture(store)
    notifier = RecordingNotifier()
    assert DeliveryReport() == await engine_of(store, notifier, **held).deliver()
    assert ([], before) == (notifier.pages, picture(store))


async def test_pages_go_when_the_pause_is_over(store: MemoryStore, clock: ManualClock) -> None:
    """At the end of the pause, which is no part of it, what waited goes, with its whole horizon."""
    await escalated(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, pause_cron="0 0 * * *", pause_length=HOUR, horizon=MINUTE)
    clock.set(START + HOUR - timedelta(microseconds=1))
    assert DeliveryReport() == await engine.deliver()
    clock.set(START + HOUR)
    assert DeliveryReport(sent=1, delivered=1) == await engine.deliver()


async def test_pages_in_flight_finish_in_a_pause(store: MemoryStore, clock: ManualClock) -> None:
    """What was claimed before the pause began is sent and settled."""
    await escalated(store, clock)
    notifier = GatedNotifier()
    engine = engine_of(store, notifier, pause_cron="6 0 * * *", pause_length=HOUR)
    passing = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    clock.advance(MINUTE)
    notifier.gate.set()
    assert DeliveryReport(sent=1, delivered=1) == await passing


@pytest.mark.parametrize("held", HELD[:3], ids=HELD_IDS[:3])
async def test_acknowledge_cancels_while_the_engine_is_held(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Switches and pauses keep nobody from ending an incident and its pages."""
    await escalated(store, clock, keys=["a", "b"])
    engine = engine_of(store, RecordingNotifier(), **held)
    await engine.acknowledge("a")
    await engine.resolve("b")
    assert ["cancelled", "cancelled"] == states(store)


# --- pages that nobody can be sent


class BrokenRouter:
    """A host's router that fails."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        raise RuntimeError("https://hooks.example/T0K3N")


UNROUTABLE: list[tuple[dict[str, Any], str, str]] = [
    ({"router": BrokenRouter()}, "", "unroutable: the router raised RuntimeError"),
    ({"router": Named()}, "", "unroutable: no route matches and there is no default target"),
    ({"router": Named("nowhere")}, "nowhere", "unroutable: no notifier serves this target"),
]


@pytest.mark.parametrize(("given", "target", "reason"), UNROUTABLE)
async def test_unroutable_page_is_born_dead_and_the_ladder_goes_on(
    given: dict[str, Any],
    target: str,
    reason: str,
    store: MemoryStore,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The escalation is recorded, its page is dead with the reason, counted and logged, and the next level comes."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier], **given)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert (1, 1, 1) == (report.escalated, report.pages, report.dead_pages)
    clock.advance(30 * MINUTE)
    assert 1 == (await engine.tick()).escalated
    assert [(1, target, "dead", reason), (2, target, "dead", reason)] == [
        (page.level, page.target, page.state.value, page.reason) for page in store.pages.values()
    ]
    assert f"page is dead: incident 'k' level 1: {reason}" in caplog.text
    assert ("T0K3N" in caplog.text, []) == (False, notifier.pages)
    assert 2 == (await engine.health()).stats.dead


async def test_one_dead_target_does_not_hold_the_others(store: MemoryStore, clock: ManualClock) -> None:
    """Of two targets one of which nobody serves, the other is paged."""
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier], router=Named("nowhere", "test", "test"))
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert (2, 1, 1) == (report.pages, report.dead_pages, len(notifier.pages))


async def test_single_target_is_the_default(store: MemoryStore, clock: ManualClock) -> None:
    """An engine with one target and no routes pages that target; with two, somebody must choose."""
    for number, targets in enumerate([("one",), ("one", "two")]):
        notifier = RecordingNotifier(*targets)
        engine = Engine(store, notifiers=[notifier])
        await engine.open(f"k{number}", severity="critical")
        clock.advance(5 * MINUTE)
        report = await engine.tick()
        assert (1, number, 1 - number) == (report.escalated, report.dead_pages, len(notifier.pages))


def test_two_notifiers_of_one_target_are_refused(store: MemoryStore) -> None:
    """Nobody could say which of the two is to send a page."""
    with pytest.raises(InvalidValue, match="two of them serve 'test'") as caught:
        Engine(store, notifiers=[RecordingNotifier(), RecordingNotifier("other", "test")])
    assert "notifiers" == caught.value.field


# --- dead pages come back


async def test_dead_page_is_queued_again_under_its_key(store: MemoryStore, clock: ManualClock) -> None:
    """A page that was given up is sent again under the same dedup key, and the audit says who asked."""
    await escalated(store, clock)
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    result = await engine.retry_dead(by="op")
    assert (1, 0) == (result.queued, result.left)
    assert ["pending"] == states(store)
    await engine.deliver()
    assert [store.ledger[1].unique_hash] == [page.dedup_key for page in notifier.pages]
    note = list(store.notes.values())[-1]
    assert ("dead retry", "op", "1 pages queued, 0 cancelled") == (note.action, note.actor, note.reason)


async def test_only_named_pages_are_queued_again(store: MemoryStore, clock: ManualClock) -> None:
    """With ids those pages alone come back; ids twice, unknown, or of pages that are not dead are passed over."""
    await escalated(store, clock, keys=["a", "b", "c"])
    gone = RecordingNotifier(answer=lambda page: Rejected("x") if page.incident.incident_key != "c" else Delivered())
    await engine_of(store, gone).deliver()
    result = await engine_of(store, RecordingNotifier()).retry_dead([2, 2, 3, 99])
    assert (1, 0) == (result.queued, result.left)
    assert ["dead", "pending", "delivered"] == states(store)


async def test_unroutable_page_is_routed_anew(store: MemoryStore, clock: ManualClock) -> None:
    """A page that nobody was named for goes to whoever is named now; the old one is cancelled and says so."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await Engine(store, router=Named()).tick()
    notifier = RecordingNotifier("a", "b")
    engine = Engine(store, notifiers=[notifier], router=Named("a", "b"))
    result = await engine.retry_dead()
    assert (1, 0) == (result.queued, result.left)
    assert ["cancelled", "pending", "pending"] == states(store)
    assert "routed again" == store.pages[1].reason
    await engine.deliver()
    assert [("a", 1), ("b", 1)] == sorted((page.target, page.level) for page in notifier.pages)
    assert {store.ledger[1].unique_hash} == {page.dedup_key for page in notifier.pages}


async def test_routing_anew_is_for_the_level_of_the_page(store: MemoryStore, clock: ManualClock) -> None:
    """A page is routed by the level it was recorded for, though its incident has climbed since."""
    await Engine(store).open("k", severity="critical")
    silent = Engine(store, router=Named())
    for _ in range(2):
        clock.advance(30 * MINUTE)
        await silent.tick()
    routes = [Route(targets=["low"]), Route(min_level=2, targets=["high"])]
    engine = Engine(store, notifiers=[RecordingNotifier("low", "high")], settings=Settings(routes=routes))
    await engine.retry_dead()
    pending = [page for page in store.pages.values() if page.state == "pending"]
    assert [("low", 1), ("high", 2)] == [(page.target, page.level) for page in pending]


@pytest.mark.parametrize("router", [Named(), Named("nowhere"), BrokenRouter()])
async def test_page_that_is_still_unroutable_stays_dead(router: Any, store: MemoryStore, clock: ManualClock) -> None:
    """While nobody is named, or nobody serves the target, a dead page stays, and nothing is written."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    engine = Engine(store, router=router)
    await engine.tick()
    before = picture(store)
    result = await engine.retry_dead(by="op")
    assert (0, 1) == (result.queued, result.left)
    assert before == picture(store)


async def test_dead_pages_of_ended_incidents_are_cancelled(store: MemoryStore, clock: ManualClock) -> None:
    """Nobody needs the dead page of an incident that is resolved or gone; a retry clears it, be it routable or not."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await Engine(store, router=Named()).tick()
    await store.host.delete("k")
    result = await Engine(store, notifiers=[RecordingNotifier()]).retry_dead(reason="cleaning up")
    assert (0, 1, 0) == (result.queued, result.cancelled, result.left)
    assert [("cancelled", "deleted")] == [(page.state, page.reason) for page in store.pages.values()]
    assert "0 pages queued, 1 cancelled: cleaning up" == list(store.notes.values())[-1].reason


async def test_more_dead_pages_than_one_batch(store: MemoryStore, clock: ManualClock) -> None:
    """All dead pages come back, in transactions of bounded size."""
    await escalated(store, clock, keys=[f"k{number}" for number in range(501)])
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    engine = engine_of(store, RecordingNotifier())
    assert 501 == (await engine.retry_dead()).queued
    assert 2 == actions(store).count("dead retry")
    assert 501 == (await engine.deliver()).delivered


async def test_retried_page_of_an_ended_incident_is_cancelled(store: MemoryStore, clock: ManualClock) -> None:
    """A dead page that is queued again after its incident ended is not sent."""
    await escalated(store, clock)
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.resolve("k")
    await engine.retry_dead()
    await engine.deliver()
    assert ([], ["cancelled"]) == (notifier.pages, states(store))
    assert START == row(store)["first_seen"]
