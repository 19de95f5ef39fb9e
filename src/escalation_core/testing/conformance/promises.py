"""Checks of transactions, and of the engine's promises with this store."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import attrs

from ...engine.audit import read_audit
from ...engine.engine import Engine
from ...engine.tasks import gather
from ...model import AuditEntry, Delivered, Outcome, Page, PageState, Retry
from ...ports import Store, Transaction
from ...settings import Settings
from ..clock import ManualClock
from ..notifier import RecordingNotifier
from .harness import POLICY, START, StoreHarness, by_key, claimed_keys, incident, put, same

MINUTE = timedelta(minutes=1)


class _Fault(Exception):
    """Raised by the checks inside a transaction."""


async def a_transaction_that_fails_leaves_nothing(harness: StoreHarness) -> None:
    """``transact`` raises the exception of its work, and keeps none of its writes."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))

    async def work(tx: Transaction) -> None:
        one = await tx.incidents.load("a")
        assert one is not None, "the row is there"
        await tx.incidents.save(attrs.evolve(one, level=5))
        await tx.incidents.insert(incident("b", clock))
        raise _Fault

    try:
        await store.transact(work)
    except _Fault:
        pass
    else:
        raise AssertionError("transact should raise")
    same(["a"], await claimed_keys(store, clock()), "the rows")
    same(0, (await _rows(harness, store))["a"]["level"], "the level")


async def a_failed_transaction_leaves_no_note(harness: StoreHarness) -> None:
    """The audit has no entry of a transaction that failed."""
    clock = ManualClock(START)
    store = await harness.open(clock)

    async def work(tx: Transaction) -> None:
        await tx.journal.note([AuditEntry(at=clock(), action="open")])
        raise _Fault

    with suppress(_Fault):
        await store.transact(work)
    same([], list(await store.read(lambda tx: read_audit(tx, since=clock(), limit=9))), "the audit")


async def an_attempt_that_fails_is_undone(harness: StoreHarness) -> None:
    """``savepoint`` undoes the writes of work that raises. The transaction continues and keeps its other writes."""
    clock = ManualClock(START)
    store = await harness.open(clock)

    async def fail(tx: Transaction) -> None:
        await tx.incidents.insert(incident("inside", clock))
        raise _Fault

    async def work(tx: Transaction) -> None:
        await tx.incidents.insert(incident("before", clock))
        try:
            await tx.savepoint(lambda: fail(tx))
        except _Fault:
            pass
        else:
            raise AssertionError("savepoint should raise")
        assert await tx.savepoint(lambda: tx.incidents.insert(incident("after", clock))), "a second savepoint"

    await store.transact(work)
    same(["after", "before"], sorted(await claimed_keys(store, clock())), "the rows")


async def two_claimants_share_the_rows(harness: StoreHarness) -> None:
    """Two engines that tick at once record each level once."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, *(incident(f"k{n}", clock) for n in range(60)))
    engines = [Engine(each, batch_size=7, notifiers=[RecordingNotifier("t")]) for each in (store, other)]
    reports = await gather(*(engine.tick(deliver=False) for engine in engines))
    reports += [await engine.tick(deliver=False) for engine in engines]
    same(60, sum(report.escalated for report in reports), "escalated")
    found = await store.read(lambda tx: tx.ledger.escalations(limit=1000))
    same(60, len({(e.incident_key, e.episode, e.level) for _, e in found}), "recorded")
    same(60, len(await store.read(lambda tx: tx.outbox.pages(limit=1000))), "pages")


async def a_duplicate_catches_up_with_the_ledger(harness: StoreHarness) -> None:
    """The engine does not record or page a recorded level again. The incident gets the recorded level."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    notifier = RecordingNotifier("t")
    engine = Engine(store, notifiers=[notifier])
    await put(store, incident("a", clock))
    await engine.tick()
    await harness.host(store).update("a", level=0, episode=1, last_escalated_at=None)
    row = (await _rows(harness, store))["a"]
    # A lower level begins an episode. Set the old episode again, as a host could that writes this column.
    await harness.host(store).update("a", level=0, episode=row["episode"] - (row["episode"] - 1), next_due_at=start)
    report = await engine.tick()
    same((0, 1), (report.escalated, report.skipped_idempotent), "skipped")
    same(1, len(notifier.pages), "pages sent")
    rows = await _rows(harness, store)
    same((1, start, start + POLICY.snooze), by_key(rows, "a", "level", "last_escalated_at", "next_due_at"), "the row")


async def nothing_is_sent_after_an_acknowledgement(harness: StoreHarness) -> None:
    """No page is sent after an acknowledgement by the API or by the host, or after the row was deleted."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier = RecordingNotifier("t")
    engine = Engine(store, notifiers=[notifier])
    await put(store, incident("verb", clock), incident("host", clock), incident("deleted", clock))
    await engine.tick(deliver=False)
    await engine.acknowledge("verb", by="x")
    await harness.host(store).update("host", acknowledged_at=clock())
    await harness.host(store).delete("deleted")
    await engine.deliver()
    same([], notifier.pages, "sent")
    pages = await store.read(lambda tx: tx.outbox.pages(limit=9))
    found = {page.incident_key: (page.state.value, page.reason) for page in pages}
    expected = {
        "verb": ("cancelled", "acknowledged"),
        "host": ("cancelled", "acknowledged"),
        "deleted": ("cancelled", "deleted"),
    }
    same(expected, found, "the pages")


async def a_page_in_flight_may_finish_once(harness: StoreHarness) -> None:
    """A page that is being sent during an acknowledgement becomes delivered if it succeeds, cancelled if it fails."""
    for outcome, expected in ((Delivered(), PageState.DELIVERED), (Retry("busy"), PageState.CANCELLED)):
        clock = ManualClock(START)
        store = await harness.open(clock)

        async def answer(page: Page, store: Store = store, outcome: Outcome = outcome) -> Outcome:
            actor = Engine(store)
            await actor.acknowledge(page.incident.incident_key)
            await actor.unacknowledge(page.incident.incident_key)
            return outcome

        engine = Engine(store, notifiers=[_Answering(answer)])
        await put(store, incident("a", clock))
        await engine.tick()
        pages = await store.read(lambda tx: tx.outbox.pages(limit=9))
        same([expected], [page.state for page in pages], f"after {outcome}")


async def a_drain_begins_an_episode(harness: StoreHarness) -> None:
    """``drain`` lowers the level in a new episode, in which the engine records and pages the level again."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier = RecordingNotifier("t")
    engine = Engine(store, notifiers=[notifier])
    await put(store, incident("a", clock))
    await engine.tick()
    await engine.drain("a")
    clock.advance(POLICY.snooze)
    await engine.tick()
    same([(1, 1), (2, 1)], [(page.episode, page.level) for page in notifier.pages], "pages")
    same(2, len({page.dedup_key for page in notifier.pages}), "dedup keys")


async def what_a_host_writes_is_planned_anew(harness: StoreHarness) -> None:
    """The next tick plans a row that the host inserts, changes, reopens or inserts again, in the right episode."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    host, notifier = harness.host(store), RecordingNotifier("t")
    engine = Engine(store, settings=Settings(tick_interval=MINUTE), notifiers=[notifier])
    await host.insert("new", severity="critical", first_seen=start)
    await host.insert("late", severity="warning", first_seen=start - 10 * MINUTE)
    report = await engine.tick()
    same((0, 2), (report.escalated, report.rescheduled["not_due"]), "nothing is due")
    same(start + 5 * MINUTE, (await host.rows())["new"]["next_due_at"], "its true instant")
    await host.update("late", severity="critical")
    await engine.tick()
    same([("late", 1, 1)], _told(notifier), "paged after a shorter window")
    await host.update("late", level=0)
    same(2, (await host.rows())["late"]["episode"], "a lower level begins an episode")
    await host.update("late", resolved_at=clock())
    same(None, (await host.rows())["late"]["next_due_at"], "resolved: never due")
    clock.advance(MINUTE)
    await host.update("late", resolved_at=None, first_seen=clock() - 5 * MINUTE)
    await engine.tick()
    same([("late", 1, 1), ("late", 3, 1)], _told(notifier), "paged again after reopening")
    await host.delete("late")
    await host.insert("late", severity="critical", first_seen=clock() - 5 * MINUTE)
    await engine.tick()
    same(("late", 4, 1), _told(notifier)[-1], "paged again after a delete and an insert")
    await host.update("new", acknowledged_at=clock())
    clock.advance(timedelta(hours=1))
    await engine.tick()
    same([], [told for told in _told(notifier) if told[0] == "new"], "not paged after an acknowledgement by SQL")


class _Answering:
    """A notifier with an async function that returns the outcome."""

    channel = "answering"
    targets = ("t",)

    def __init__(self, answer: Callable[[Page], Awaitable[Outcome]]) -> None:
        self._answer = answer

    async def send(self, page: Page) -> Outcome:
        return await self._answer(page)

    async def aclose(self) -> None:
        pass


def _told(notifier: RecordingNotifier) -> list[tuple[str, int, int]]:
    return [(page.incident.incident_key, page.episode, page.level) for page in notifier.pages]


async def _rows(harness: StoreHarness, store: Store) -> Mapping[str, Mapping[str, Any]]:
    return await harness.host(store).rows()


CHECKS = (
    a_transaction_that_fails_leaves_nothing,
    an_attempt_that_fails_is_undone,
    two_claimants_share_the_rows,
    a_duplicate_catches_up_with_the_ledger,
    nothing_is_sent_after_an_acknowledgement,
    a_page_in_flight_may_finish_once,
    a_drain_begins_an_episode,
    what_a_host_writes_is_planned_anew,
)
OPERATE_CHECKS = (a_failed_transaction_leaves_no_note,)
