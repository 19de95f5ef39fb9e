"""Checks of claims of pages by target, and of what all workers keep of each target."""

import attrs

from ...engine.tasks import within
from ...model import DueTarget, NewPage, Pace
from ...ports import Transaction
from ..clock import ManualClock
from .claimants import AT_ONCE, MINUTE
from .harness import START, StoreHarness, incident, put, same


async def a_claim_of_pages_takes_what_there_is_room_for(harness: StoreHarness) -> None:
    """A claim returns due pages up to each target's capacity, oldest first, with the current incident."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, incident("a", clock))
    for level in (1, 2, 3):
        pages = [
            NewPage(incident_key="a", episode=1, level=level, target=target, dedup_key=f"d{level}")
            for target in ("t1", "t2", "t3")
        ]
        await store.transact(lambda tx, pages=pages: tx.outbox.enqueue(pages, clock()))  # type: ignore[misc]
        clock.advance(MINUTE)

    async def claim(tx: Transaction) -> list[tuple[str, int]]:
        found = await tx.outbox.claim({"t1": 2, "t2": 5, "t4": 5}, now=clock(), until=now + MINUTE)
        assert all(one.incident and one.incident.incident_key == "a" for one in found), "with its incident"
        return [(one.page.target, one.page.level) for one in found]

    expected = [("t1", 1), ("t1", 2), ("t2", 1), ("t2", 2)]
    same(expected, sorted(await store.transact(claim)), "claimed")
    await store.transact(lambda tx: tx.outbox.throttle_target("t1", clock() + MINUTE))
    await store.transact(lambda tx: tx.outbox.throttle_target("t1", clock()))
    same([("t2", 1), ("t2", 2)], await store.transact(claim), "without the throttled target")
    held = Pace(target="t1", held_until=clock() + MINUTE, refused=True)
    due = {name: DueTarget(due_at=now, pace=held if name == "t1" else None) for name in ("t1", "t2", "t3")}
    same(due, dict((await store.next_due(canary=None, pages=True)).targets), "the targets that have pages")
    same(due, dict(await store.read(lambda tx: tx.outbox.due_targets())), "and in a transaction")
    unasked = await store.next_due(canary=None)
    same((None, {}), (unasked.due_at, dict(unasked.targets)), "without a canary and pages")
    await harness.host(store).delete("a")
    gone = await store.transact(lambda tx: tx.outbox.claim({"t2": 1}, now=clock(), until=clock()))
    same([None], [one.incident for one in gone], "the incident of a deleted row")


async def a_claim_passes_by_what_others_lock(harness: StoreHarness) -> None:
    """Pages that another transaction has locked keep none of the others from a claim of few pages."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    await put(store, incident("a", clock))
    pages = [NewPage(incident_key="a", episode=1, level=n, target="t", dedup_key="d") for n in range(1, 9)]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, clock()))

    async def work(tx: Transaction) -> None:
        held = await tx.outbox.claim({"t": 6}, now=clock(), until=clock())
        claim = other.transact(lambda tx: tx.outbox.claim({"t": 1}, now=clock(), until=clock()))
        [found] = await within(AT_ONCE, claim)
        assert found.page.id not in {one.page.id for one in held}, "a page that no one has locked"

    await store.transact(work)


async def a_pace_is_written_as_it_is_told(harness: StoreHarness) -> None:
    """``lock_targets`` makes missing rows, and ``write_paces`` saves the slots, and not the throttle."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    same(
        {name: Pace(target=name) for name in ("a", "b")},
        dict(await store.transact(lambda tx: tx.outbox.lock_targets(["a", "b"]))),
        "new rows",
    )
    await store.transact(lambda tx: tx.outbox.throttle_target("b", now))
    taken = Pace(target="a", held_until=now, free_at=now + MINUTE, rate=0.25)
    free = Pace(target="b", free_at=now)

    async def write(tx: Transaction) -> None:
        await tx.outbox.lock_targets(["a", "b"])
        await tx.outbox.write_paces([taken, free])

    await store.transact(write)
    same(
        {"a": attrs.evolve(taken, held_until=None), "b": attrs.evolve(free, held_until=now)},
        dict(await store.transact(lambda tx: tx.outbox.lock_targets(["a", "b"]))),
        "written",
    )
    await store.transact(lambda tx: tx.outbox.throttle_target("a", now + MINUTE))
    told = await store.transact(lambda tx: tx.outbox.lock_targets(["a"]))
    same(taken.throttled(now + MINUTE), told["a"], "a throttle leaves the slots and the rate")


async def targets_that_others_lock_are_left_out(harness: StoreHarness) -> None:
    """A lock of targets leaves out those that another transaction has locked, without waiting."""
    if not harness.capabilities.concurrent:
        return
    store = await harness.open(ManualClock(START))
    other = await harness.again(store)
    await store.transact(lambda tx: tx.outbox.lock_targets(["a", "b"]))

    async def work(tx: Transaction) -> None:
        await tx.outbox.lock_targets(["a"])
        found = await within(AT_ONCE, other.transact(lambda tx: tx.outbox.lock_targets(["a", "b"])))
        same(["b"], sorted(found), "the lock of another")

    await store.transact(work)


CHECKS = (
    a_claim_of_pages_takes_what_there_is_room_for,
    a_claim_passes_by_what_others_lock,
    a_pace_is_written_as_it_is_told,
    targets_that_others_lock_are_left_out,
)
