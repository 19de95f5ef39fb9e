"""Checks with two handles on one database at the same time, like two processes.

With a store that has only one handle, some checks use it twice and others are skipped.
"""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import attrs

from ...engine.engine import Engine
from ...engine.tasks import gather, within
from ...errors import StoreError
from ...model import Canary, Delivered, Escalation, Incident, NewPage, Outcome, Page, PageState
from ...ports import Store, Transaction
from ...rules.retry import RetryPolicy, after_attempt, lease
from ..clock import ManualClock
from ..notifier import RecordingNotifier
from .harness import START, WHOLE, StoreHarness, incident, put, same

MINUTE = timedelta(minutes=1)
AT_ONCE = timedelta(seconds=5)
"""The maximum duration of a statement that must not wait for a lock."""


async def a_claim_passes_over_what_others_hold(harness: StoreHarness) -> None:
    """A claim leaves out rows that another transaction has locked, without waiting, until that transaction ends."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    other = await harness.again(store)
    keys = [f"k{n}" for n in range(10)]
    await put(store, *(incident(key, clock, next_due_at=now - (10 - n) * MINUTE) for n, key in enumerate(keys)))

    async def claim(tx: Transaction, limit: int = 100, canary: Canary = WHOLE) -> list[str]:
        rows = await tx.incidents.claim(until=now, limit=limit, canary=canary)
        return [row.incident_key for row in rows]

    async def both(tx: Transaction) -> None:
        same(keys[:3], await claim(tx, limit=3), "the first claim")
        for percent in (100, 99):
            found = await within(AT_ONCE, other.transact(partial(claim, canary=Canary(percent))))
            same(keys[3:], found, f"the second claim at {percent} percent")
        looked = await within(AT_ONCE, other.read(lambda tx: tx.incidents.load("k0", lock=False)))
        assert looked is not None, "a read waits for no lock"

    await store.transact(both)
    same(keys, await other.transact(claim), "when the first has ended")


async def a_claim_of_pages_passes_over_what_others_hold(harness: StoreHarness) -> None:
    """A claim of pages leaves out pages that another transaction has locked, without waiting."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    other = await harness.again(store)
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(level) for level in range(1, 7)], now))

    async def claim(tx: Transaction, capacity: int) -> list[int]:
        return [found.page.level for found in await tx.outbox.claim({"t": capacity}, now=now, until=now)]

    async def both(tx: Transaction) -> None:
        first = await claim(tx, 2)
        second = await within(AT_ONCE, other.transact(lambda tx: claim(tx, 9)))
        same((2, 4, [1, 2, 3, 4, 5, 6]), (len(first), len(second), sorted(first + second)), "the two shares")

    await store.transact(both)


async def no_update_is_lost(harness: StoreHarness) -> None:
    """No concurrent update is lost: ``load`` and ``scan_unresolved`` wait for a lock, ``lock`` skips locked pages."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, incident("loaded", clock), incident("walked", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(1)], clock()))
    (page,) = await store.read(lambda tx: tx.outbox.pages(limit=9))

    async def load(tx: Transaction) -> None:
        one = await tx.incidents.load("loaded")
        assert one is not None, "the row exists"
        await tx.incidents.save(attrs.evolve(one, level=one.level + 1))

    async def walk(tx: Transaction) -> None:
        found = [
            row.incident for row in (await tx.incidents.scan_unresolved("loaded", 9)).rows if row.incident is not None
        ]
        await tx.incidents.advance([attrs.evolve(one, level=one.level + 1) for one in found])

    async def lock(tx: Transaction) -> bool:
        found = await tx.outbox.lock([page.id])
        await tx.outbox.write([attrs.evolve(one.page, attempts=one.page.attempts + 1) for one in found])
        return bool(found)

    async def lock_once(each: Store) -> None:
        while not await each.transact(lock):
            pass

    for work in (load, walk):
        await gather(*(each.transact(work) for each in (store, other) * 5))
    await gather(*(lock_once(each) for each in (store, other) * 5))
    levels = {key: row["level"] for key, row in (await harness.host(store).rows()).items()}
    same({"loaded": 10, "walked": 10}, levels, "ten steps each")
    same([10], [one.attempts for one in await store.read(lambda tx: tx.outbox.pages(limit=9))], "ten attempts")


async def a_walk_may_leave_out_what_others_hold(harness: StoreHarness) -> None:
    """With ``wait=False``, ``scan_unresolved`` leaves out locked rows, sets ``skipped``, and says where to continue."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, *(incident(key, clock) for key in ("a", "b", "c")))

    async def hold(tx: Transaction) -> None:
        await tx.incidents.load("b")
        await tx.journal.recalc()
        walked = await within(AT_ONCE, other.transact(lambda tx: tx.incidents.scan_unresolved(None, 2, wait=False)))
        same((["a"], "b", True), ([row.incident_key for row in walked.rows], walked.last, walked.skipped), "locked")
        same(None, await within(AT_ONCE, other.transact(lambda tx: tx.journal.recalc_unless_locked())), "its state")

    await store.transact(hold)
    walked = await store.transact(lambda tx: tx.incidents.scan_unresolved(None, 2, wait=False))
    same((2, "b", False), (len(walked.rows), walked.last, walked.skipped), "when it is free")


async def settling_waits_for_nobody(harness: StoreHarness) -> None:
    """``settle`` and ``lock`` leave out a page that another transaction has locked; ``fences`` returns its fence."""
    if not harness.capabilities.concurrent:
        return
    clock, retries = ManualClock(START), RetryPolicy()
    store, now = await harness.open(clock), clock()
    other = await harness.again(store)
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(1), _page(2)], now))
    leased = [lease(page, retries, now) for page in await store.read(lambda tx: tx.outbox.pages(limit=9))]
    await store.transact(lambda tx: tx.outbox.write(leased))
    sent = [after_attempt(page, Delivered(), policy=retries, now=now, jitter=0.0, ended=None) for page in leased]

    async def hold(tx: Transaction) -> None:
        same(1, len(await tx.outbox.lock([leased[0].id])), "locked")
        same({sent[1].id}, set(await within(AT_ONCE, other.transact(lambda tx: tx.outbox.settle(sent)))), "settled")
        same([], list(await within(AT_ONCE, other.transact(lambda tx: tx.outbox.lock([sent[0].id])))), "locked twice")
        fences = await other.read(lambda tx: tx.outbox.fences([page.id for page in sent]))
        same({sent[0].id: leased[0].fence, sent[1].id: sent[1].fence}, dict(fences), "the fences")

    await store.transact(hold)
    same({sent[0].id}, set(await store.transact(lambda tx: tx.outbox.settle(sent))), "settled afterwards")


async def of_two_inserts_one_wins(harness: StoreHarness) -> None:
    """If two transactions insert the same key at once, exactly one ``insert`` returns True."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    for key in (f"k{n}" for n in range(10)):
        born = [incident(key, clock, summary=text) for text in ("one", "two")]
        won = await gather(*(_insert(each, one) for each, one in zip((store, other), born, strict=True)))
        same([False, True], sorted(won), "who won")
        kept = await store.read(lambda tx, key=key: tx.incidents.load(key, lock=False))  # type: ignore[misc]
        same(born[won.index(True)], kept, "the row is the winner's")


async def two_that_record_the_same_record_it_once(harness: StoreHarness) -> None:
    """If two transactions record the same escalations at once, in any order, each is new to exactly one of them."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    for level in range(1, 6):
        steps = [Escalation(incident_key=f"k{n}", episode=1, level=level, created_at=clock()) for n in range(20)]
        first, second = await gather(_record(store, steps), _record(other, steps[::-1]))
        told = [one != two for one, two in zip(first, second[::-1], strict=True)]
        same([True] * 20, told, "each is new to one of the two")
    same(100, len(await store.read(lambda tx: tx.ledger.escalations(limit=1000))), "recorded")


async def a_reader_sees_one_state(harness: StoreHarness) -> None:
    """A read sees one snapshot, even if others commit meanwhile. It does not make other transactions wait."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, incident("a", clock), incident("b", clock))
    if other is store:
        return

    async def change(tx: Transaction) -> None:
        await tx.incidents.advance([incident(key, clock, level=5) for key in ("a", "b")])
        await tx.incidents.insert(incident("c", clock))

    async def look(tx: Transaction) -> list[int | None]:
        levels = []
        for key in ("a", "b", "c"):
            one = await tx.incidents.load(key, lock=False)
            levels.append(None if one is None else one.level)
            if key == "a":
                await within(AT_ONCE, other.transact(change))
        return levels

    same([0, 0, None], await store.read(look), "within the read")


async def a_reader_leaves_no_trace(harness: StoreHarness) -> None:
    """A store refuses or rolls back writes within a read."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))

    async def write(tx: Transaction) -> None:
        await tx.incidents.save(incident("a", clock, level=5))

    with contextlib.suppress(StoreError):
        await store.read(write)
    same(0, (await harness.host(store).rows())["a"]["level"], "the level")
    await store.transact(write)
    same(5, (await harness.host(store).rows())["a"]["level"], "the level after a transaction")


async def a_lease_that_ended_passes_to_another(harness: StoreHarness) -> None:
    """A sender that exceeds its lease loses the page: another worker sends it, and the first outcome is stale."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, incident("a", clock))
    second = RecordingNotifier("t")
    quick = Engine(other, notifiers=[second])

    class Stalling(RecordingNotifier):
        async def send(self, page: Page) -> Outcome:
            clock.advance(timedelta(seconds=29, microseconds=999_999))
            same(0, (await quick.deliver()).sent, "sent while the lease runs")
            clock.advance(timedelta(microseconds=1))
            same(1, (await quick.deliver()).delivered, "delivered by the other")
            return await super().send(page)

    first = Stalling("t", answer=lambda page: Delivered())
    delivery = (await Engine(store, notifiers=[first]).tick()).delivery
    assert delivery is not None, "the tick delivered"
    same((1, 0, 1), (delivery.sent, delivery.delivered, delivery.stale), "the first one's report")
    same(1, len({page.dedup_key for page in [*first.pages, *second.pages]}), "dedup keys")
    pages = await store.read(lambda tx: tx.outbox.pages(limit=9))
    same([(PageState.DELIVERED, 2)], [(page.state, page.attempts) for page in pages], "the page")


def _page(level: int) -> NewPage:
    return NewPage(incident_key="a", episode=1, level=level, target="t", dedup_key=f"d{level}")


async def _insert(store: Store, one: Incident) -> bool:
    return await store.transact(lambda tx: tx.incidents.insert(one))


async def _record(store: Store, steps: Sequence[Escalation]) -> Sequence[bool]:
    return await store.transact(lambda tx: tx.ledger.record(steps))


CHECKS = (
    a_claim_passes_over_what_others_hold,
    a_claim_of_pages_passes_over_what_others_hold,
    no_update_is_lost,
    a_walk_may_leave_out_what_others_hold,
    settling_waits_for_nobody,
    of_two_inserts_one_wins,
    two_that_record_the_same_record_it_once,
    a_reader_sees_one_state,
    a_reader_leaves_no_trace,
    a_lease_that_ended_passes_to_another,
)
