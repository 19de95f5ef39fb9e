"""Checks of what delivery in a storm asks of a store: the order of a claim, bundles, late pages, unheard incidents."""

from datetime import datetime, timedelta

import attrs

from ...engine.tasks import within
from ...model import AuditEntry, Canary, NewPage, PageRecord, PageState
from ...ports import Transaction
from ...rules.priority import STARVED_AFTER
from ..clock import ManualClock
from .claimants import AT_ONCE, MINUTE
from .harness import START, StoreHarness, incident, put, same


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
            ("h", 1, "t", "x"),
            ("h", 2, "t", None),
            ("g", 2, "t", "x"),
        )
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, now))
    await store.transact(lambda tx: tx.outbox.cancel("h", "acknowledged", now))

    async def found(since: datetime = now) -> list[str]:
        return [key for key, _, _ in await store.read(lambda tx: tx.outbox.find_unheard(since))]

    async def unheard() -> int:
        return (await store.read(lambda tx: tx.journal.stats(now=clock(), canary=Canary()))).unheard

    same(["a", "e"], await found(), "unheard")
    same([], await found(now + timedelta(microseconds=1)), "since then")
    same(0, await unheard(), "none is noted")
    by_id = {page.id: page for page in await store.read(lambda tx: tx.outbox.pages(limit=20))}
    [waiting] = [page for page in by_id.values() if (page.incident_key, page.target) == ("b", "u")]
    later = now + timedelta(hours=1)
    over = attrs.evolve(waiting, state=PageState.HANDED_OVER, due_at=later)
    await store.transact(lambda tx: tx.outbox.write([over]))
    same(["b"], await found(later), "handed over to a target whose page had died")
    [alone] = [page for page in by_id.values() if page.incident_key == "f"]
    over_alone = attrs.evolve(alone, state=PageState.HANDED_OVER, due_at=later)
    await store.transact(lambda tx: tx.outbox.write([over_alone]))
    same(["b"], await found(later), "handed over, and no page is dead")
    await store.transact(lambda tx: tx.outbox.write([waiting, alone]))
    note = AuditEntry(at=now, action="unheard", incident_key="a", episode=1, level=2)
    for _ in range(2):
        await store.transact(lambda tx: tx.journal.note([note]))
    same(["e"], await found(), "not noted yet")
    same(1, await unheard(), "an incident counts once")
    same({"a"}, set(await store.read(lambda tx: tx.journal.unheard())), "its key")
    same({"a"}, set(await store.read(lambda tx: tx.journal.unheard(["a", "b"]))), "among some keys")
    same(set(), set(await store.read(lambda tx: tx.journal.unheard(["b"]))), "among other keys")
    first, second = (await store.read(lambda tx: tx.outbox.pages(limit=2)))[:2]
    for page, expected in ((first, 1), (second, 0)):
        delivered = attrs.evolve(page, state=PageState.DELIVERED)
        await store.transact(lambda tx, page=delivered: tx.outbox.write([page]))  # type: ignore[misc]
        same(expected, await unheard(), f"a page of level {page.level} has arrived")


async def a_bundle_is_found_by_its_key(harness: StoreHarness) -> None:
    """``lock_bundle`` returns its unsettled pages, worst first, and ``count_waiting`` counts those that are in none.

    ``pages_of_bundle`` takes the key or its beginning.
    """
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock, level=5))
    pages = [
        NewPage(incident_key="a", episode=1, level=level, target="t", dedup_key="d", priority=9 - level)
        for level in (1, 2, 3, 4, 5)
    ]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, clock()))

    async def waiting(most: int = 9) -> dict[str, int]:
        return dict(await store.read(lambda tx: tx.outbox.count_waiting({"t": most, "u": 1}, until=clock())))

    same({"t": 5, "u": 0}, await waiting(), "all wait")
    same({"t": 3, "u": 0}, await waiting(3), "counted up to a limit")
    one, two, three, four, five = await store.read(lambda tx: tx.outbox.pages(limit=9))
    key = "aa" * 32
    changed = [
        attrs.evolve(one, bundle=key),
        attrs.evolve(two, bundle=key, state=PageState.LEASED, due_at=clock() + MINUTE),
        attrs.evolve(three, bundle=key, state=PageState.DELIVERED),
        attrs.evolve(four, attempts=1),
    ]
    await store.transact(lambda tx: tx.outbox.write(changed))
    same({"t": 1, "u": 0}, await waiting(), "one waits")
    found, all_of_it = await store.transact(lambda tx: tx.outbox.lock_bundle(key))
    same([changed[1], changed[0]], [one.page for one in found], "unsettled pages of the bundle")
    assert all(one.incident is not None for one in found), "with their incidents"
    assert all_of_it, "these are all"

    async def of_bundle(prefix: str) -> list[PageRecord]:
        return list(await store.read(lambda tx: tx.outbox.pages_of_bundle(prefix)))

    same(changed[:3], await of_bundle(key), "all pages of the bundle")
    other_key = attrs.evolve(five, bundle="aab" + key[3:])
    await store.transact(lambda tx: tx.outbox.write([other_key]))
    # In a Danish collation aa comes after z, so a store must not compare by the language of its database.
    for prefix, expected in (
        (key[:3], changed[:3]),
        ("aa", [*changed[:3], other_key]),
        ("aab", [other_key]),
        ("ab", []),
        ("a9", []),
        (key[:63] + "b", []),
    ):
        same(expected, await of_bundle(prefix), f"the bundles of {prefix}")
    nothing, _ = await store.transact(lambda tx: tx.outbox.lock_bundle("c"))
    same([], list(nothing), "an unknown bundle")
    if harness.capabilities.concurrent:
        other = await harness.again(store)

        async def work(tx: Transaction) -> None:
            await tx.outbox.lock([one.id])
            rest, whole = await within(AT_ONCE, other.transact(lambda tx: tx.outbox.lock_bundle(key)))
            same(([2], False), ([page.page.level for page in rest], whole), "while another has locked a page")

        await store.transact(work)


CHECKS = (
    the_worst_pages_are_claimed_first,
    a_claim_tells_of_newer_pages,
    late_pages_are_found,
    unheard_incidents_are_found,
    a_bundle_is_found_by_its_key,
)
