"""Checks of claims of pages by target, and of what all workers keep of each target."""

from datetime import datetime, timedelta

import attrs

from ...engine.tasks import within
from ...model import AuditEntry, Canary, DueTarget, NewPage, Pace, PageState
from ...ports import Transaction
from ...rules.priority import STARVED_AFTER
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


async def the_worst_pages_are_claimed_first(harness: StoreHarness) -> None:
    """By priority, then the oldest; a page that has been due for ten minutes goes before all others."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))

    async def add(level: int, priority: int) -> None:
        page = NewPage(incident_key="a", episode=1, level=level, target="t", dedup_key="d", priority=priority)
        await store.transact(lambda tx: tx.outbox.enqueue([page], clock()))
        clock.advance(MINUTE)

    for level, priority in ((1, 3), (2, 3), (3, 0), (4, 1)):
        await add(level, priority)

    async def claim(most: int) -> list[int]:
        found = await store.transact(lambda tx: tx.outbox.claim({"t": most}, now=clock(), until=clock()))
        return [one.page.level for one in found]

    same([3, 4, 1, 2], await claim(9), "worst first")
    same([3, 4], await claim(2), "the worst two")
    clock.set(START + STARVED_AFTER)
    same([1, 3, 4, 2], await claim(9), "starved first")
    same([1], await claim(1), "the starved one")


async def a_claim_tells_of_newer_pages(harness: StoreHarness) -> None:
    """``newer`` is the highest level whose page to the same target can take the place of an older one."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock, level=5))
    pages = [
        NewPage(incident_key="a", episode=episode, level=level, target=target, dedup_key="d")
        for episode, level, target in ((1, 1, "t"), (1, 2, "t"), (1, 3, "t"), (1, 4, "u"), (2, 5, "t"))
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, clock()))

    async def newer() -> dict[int, int | None]:
        found = await store.transact(lambda tx: tx.outbox.claim({"t": 9}, now=clock(), until=clock()))
        return {one.page.level: one.newer for one in found}

    same({1: 3, 2: 3, 3: None, 5: None}, await newer(), "pending pages")
    [page] = [one for one in await store.read(lambda tx: tx.outbox.pages(limit=9)) if one.level == 3]
    for state, expected in (("leased", 3), ("delivered", 3), ("dead", 2), ("cancelled", 2), ("superseded", 2)):
        changed = attrs.evolve(page, state=PageState(state), due_at=clock() + MINUTE)
        await store.transact(lambda tx, changed=changed: tx.outbox.write([changed]))  # type: ignore[misc]
        same(expected, (await newer())[1], state)


async def late_pages_are_found(harness: StoreHarness) -> None:
    """``claim_late`` returns pending pages to be handed over, and ``due_targets`` tells of the first of each target."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, incident("a", clock))
    pages = [
        NewPage(incident_key="a", episode=1, level=level, target=target, dedup_key="d", hand_over_after=after)
        for level, target, after in (
            (1, "t", 2 * MINUTE),
            (2, "t", MINUTE),
            (3, "t", None),
            (4, "t", 3 * MINUTE),
            (5, "u", MINUTE),
            (6, "v", None),
        )
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, now))
    await store.transact(lambda tx: tx.outbox.throttle_target("t", now + timedelta(hours=1)))

    async def late(limit: int = 9) -> list[tuple[int, bool]]:
        found = await store.transact(lambda tx: tx.outbox.claim_late(["t", "v"], now=clock(), limit=limit))
        return [(one.page.level, one.incident is not None) for one in found]

    async def first() -> dict[str, datetime | None]:
        return {name: one.hand_over_at for name, one in (await store.read(lambda tx: tx.outbox.due_targets())).items()}

    same([], await late(), "none is late")
    same({"t": now + MINUTE, "u": now + MINUTE, "v": None}, await first(), "the first of each target")
    clock.advance(2 * MINUTE)
    same([(2, True), (1, True)], await late(), "late pages")
    same([(2, True)], await late(1), "with a limit")
    page = next(one for one in await store.read(lambda tx: tx.outbox.pages(limit=9)) if one.level == 2)
    later = attrs.evolve(page, hand_over_at=now + 9 * MINUTE)
    await store.transact(lambda tx: tx.outbox.write([later]))
    same([(1, True)], await late(), "one of them is late later")
    [written] = [one for one in await store.read(lambda tx: tx.outbox.pages(limit=9)) if one.level == 2]
    same(later, written, "written")
    leased = attrs.evolve(later, state=PageState.LEASED, hand_over_at=now)
    await store.transact(lambda tx: tx.outbox.write([leased]))
    same([(1, True)], await late(), "a leased page is not late")
    await store.transact(
        lambda tx: tx.outbox.bring_forward(
            None, now=clock(), step=MINUTE, beyond=clock() + MINUTE, lease_ends=clock() + MINUTE
        )
    )
    same(now + MINUTE, (await first())["t"], "after a step back of the clock")


async def unheard_incidents_are_found(harness: StoreHarness) -> None:
    """``find_unheard`` and the count of health follow the rules of ``rules.unheard``."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    for key in "abcdefgh":
        known = {"acknowledged_at": now, "acknowledged_by": "me"} if key == "d" else {}
        await put(store, incident(key, clock, level=2, **known))
    other = {"g": 2}  # the episode of the row is 1
    pages = [
        NewPage(
            incident_key=key,
            episode=other.get(key, 1),
            level=level,
            target=target,
            dedup_key="d",
            undeliverable_reason=reason,
        )
        for key, level, target, reason in (
            ("a", 1, "t", None),
            ("a", 2, "t", "x"),
            ("a", 2, "u", "x"),
            ("b", 2, "t", "x"),
            ("b", 2, "u", None),
            ("c", 1, "t", "x"),
            ("c", 2, "t", None),
            ("d", 2, "t", "x"),
            ("e", 2, "t", "x"),
            ("f", 2, "t", None),
            ("g", 2, "t", "x"),
        )
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, now))

    async def found(since: datetime = now) -> list[str]:
        return [key for key, _, _ in await store.read(lambda tx: tx.outbox.find_unheard(since))]

    async def unheard() -> int:
        return (await store.read(lambda tx: tx.journal.stats(now=clock(), canary=Canary()))).unheard

    same(["a", "e"], await found(), "unheard")
    same([], await found(now + timedelta(microseconds=1)), "since then")
    same(0, await unheard(), "none is noted")
    note = AuditEntry(at=now, action="unheard", incident_key="a", episode=1, level=2)
    for _ in range(2):
        await store.transact(lambda tx: tx.journal.note([note]))
    same(["e"], await found(), "not noted yet")
    same(1, await unheard(), "an incident counts once")
    first, second = (await store.read(lambda tx: tx.outbox.pages(limit=2)))[:2]
    for page, expected in ((first, 1), (second, 0)):
        delivered = attrs.evolve(page, state=PageState.DELIVERED)
        await store.transact(lambda tx, page=delivered: tx.outbox.write([page]))  # type: ignore[misc]
        same(expected, await unheard(), f"a page of level {page.level} has arrived")


CHECKS = (
    a_claim_of_pages_takes_what_there_is_room_for,
    the_worst_pages_are_claimed_first,
    a_claim_tells_of_newer_pages,
    late_pages_are_found,
    unheard_incidents_are_found,
    a_pace_is_written_as_it_is_told,
    targets_that_others_lock_are_left_out,
)
