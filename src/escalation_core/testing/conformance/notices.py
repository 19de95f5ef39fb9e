"""Checks of a store's port for notices: the outbox of notices."""

from datetime import datetime, timedelta

import attrs

from ...engine.tasks import within
from ...model import DueTarget, NewNotice, NoticeKind, NoticeState, Pace
from ...ports import Transaction
from ..clock import ManualClock
from .changes import add_page, changed, noted, port, ready, records
from .claimants import AT_ONCE, MINUTE
from .harness import START, StoreHarness, incident, put, same

HOUR = timedelta(hours=1)


async def a_notice_is_there_once(harness: StoreHarness) -> None:
    """Once per dedup key and target; of each episode and target there is one open notice ``resolved``."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    early, late = changed("a", minutes=1), changed("a", minutes=2)
    first = [NewNotice(change=early, level=1, target=target) for target in ("t", "t", "u")]
    again = [
        NewNotice(change=late, level=1, target="t"),
        NewNotice(change=attrs.evolve(late, episode=2), level=1, target="t", for_threads=True),
    ]
    for notices in (first, first, again):
        await store.transact(lambda tx, notices=notices: port(tx).enqueue(notices, clock()))  # type: ignore[misc]
    found = await records(store)
    same([("t", 1), ("u", 1), ("t", 2)], [(one.target, one.episode) for one in found], "notices")
    same([False, False, True], [one.for_threads for one in found], "notices for threads")
    one = found[0]
    same(
        (NoticeKind.RESOLVED, "a", 1, early.at, "ann", early.first_seen),
        (one.kind, one.incident_key, one.level, one.at, one.actor, one.first_seen),
        "fields",
    )
    same(
        (NoticeState.PENDING, clock(), clock(), 0, 0, None, None),
        (one.state, one.created_at, one.due_at, one.fence, one.attempts, one.reason, one.bundle),
        "a new row",
    )
    await store.transact(lambda tx: port(tx).write([attrs.evolve(one, state=NoticeState.EXPIRED)]))
    await store.transact(lambda tx: port(tx).enqueue(again[:1], clock()))
    same(4, len(await records(store)), "one more, because the first one expired")
    same(["u"], [each.target for each in await records(store, target="u")], "of a target")
    same([1], [each.episode for each in await records(store, state=NoticeState.EXPIRED)], "in a state")
    same([], await records(store, incident_key="b"), "of a key")
    [last] = await records(store, target="u")
    await store.transact(lambda tx: port(tx).write([attrs.evolve(last, bundle="ab" * 32)]))
    same([last.id], [each.id for each in await records(store, bundle="abab")], "of a message")
    same([], await records(store, bundle="b"), "of another message")


async def notices_are_claimed_and_settled(harness: StoreHarness) -> None:
    """A claim returns due notices up to each target's capacity, by due instant, with their incidents."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))
    for number in range(3):
        new = [NewNotice(change=changed("a", episode=number + 1), level=1, target=target) for target in ("t", "u", "v")]
        await store.transact(lambda tx, new=new: port(tx).enqueue(new, clock()))  # type: ignore[misc]
        clock.advance(MINUTE)

    async def claim(tx: Transaction) -> list[tuple[str, int]]:
        found = await port(tx).claim({"t": 2, "u": 9, "w": 9}, until=START + MINUTE)
        assert all(one.incident and one.incident.incident_key == "a" for one in found), "with its incident"
        return [(one.notice.target, one.notice.episode) for one in found]

    same([("t", 1), ("u", 1), ("t", 2), ("u", 2)], await store.transact(claim), "claimed")
    await store.transact(lambda tx: tx.outbox.throttle_target("t", clock() + HOUR))
    pace = Pace(target="t", held_until=clock() + HOUR, refused=True)
    due = {name: DueTarget(due_at=START, pace=pace if name == "t" else None) for name in ("t", "u", "v")}
    same(due, dict((await store.next_due(canary=None, pages=True)).notices), "the targets that have notices")
    same(due, dict(await store.read(lambda tx: port(tx).due_targets())), "and in a transaction")
    same({}, dict((await store.next_due(canary=None)).notices), "unless asked")
    first = (await records(store))[0]
    leased = attrs.evolve(first, state=NoticeState.LEASED, fence=1, due_at=clock() + HOUR, bundle="b" * 64)
    await store.transact(lambda tx: port(tx).write([leased]))
    same(leased, (await records(store))[0], "written")
    done = attrs.evolve(leased, state=NoticeState.DEAD, fence=2, attempts=1, reason="no")
    same({first.id}, set(await store.transact(lambda tx: port(tx).settle([done]))), "settled")
    same(set(), set(await store.transact(lambda tx: port(tx).settle([done]))), "settled with an old fence")
    same(done, (await records(store))[0], "the settled notice")
    await harness.host(store).delete("a")
    gone = await store.transact(lambda tx: port(tx).claim({"u": 1}, until=clock()))
    same([None], [one.incident for one in gone], "the incident of a deleted row")


async def a_claim_of_notices_passes_by_what_others_lock(harness: StoreHarness) -> None:
    """Notices that another transaction has locked keep none of the others from a claim."""
    if not harness.capabilities.concurrent:
        return
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    new = [NewNotice(change=changed("a", episode=number), level=1, target="t") for number in range(1, 4)]
    await store.transact(lambda tx: port(tx).enqueue(new, clock()))

    async def work(tx: Transaction) -> None:
        same([1, 2], [one.notice.episode for one in await port(tx).claim({"t": 2}, until=clock())], "claimed")
        claim = other.transact(lambda tx: port(tx).claim({"t": 9}, until=clock()))
        same([3], [one.notice.episode for one in await within(AT_ONCE, claim)], "claimed by another")
        late = clock() + HOUR
        expired = other.transact(lambda tx: port(tx).expire(before=late, resolved_before=late, now=clock()))
        same(1, await within(AT_ONCE, expired), "expired by another")

    await store.transact(work)


async def old_notices_end(harness: StoreHarness) -> None:
    """``expire`` ends what is too old for its kind, unless a sender has it; ``shift`` follows a step of the clock."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    for number in range(1, 4):
        new = [NewNotice(change=changed("a", episode=number), level=1, target="t")]
        await store.transact(lambda tx, new=new: port(tx).enqueue(new, clock()))  # type: ignore[misc]
        clock.advance(MINUTE)
    first, second, third = await records(store)
    held = attrs.evolve(second, state=NoticeState.LEASED, due_at=clock() + MINUTE)
    await store.transact(lambda tx: port(tx).write([held]))

    async def expired(before: datetime, resolved_before: datetime) -> int:
        return await store.transact(
            lambda tx: port(tx).expire(before=before, resolved_before=resolved_before, now=clock())
        )

    early, late = START - MINUTE, START + 2 * MINUTE
    same(0, await expired(late, early), "none of another kind")
    same(1, await expired(early, late), "expired")
    same(["expired", "leased", "pending"], [one.state.value for one in await records(store)], "states")
    same(
        (first.fence + 1, clock()), ((await records(store))[0].fence, (await records(store))[0].due_at), "fence and due"
    )
    await store.transact(lambda tx: port(tx).shift(START + MINUTE, 10 * MINUTE))
    moved = (await records(store))[2]
    same((third.created_at - 10 * MINUTE, third.due_at - 10 * MINUTE), (moved.created_at, moved.due_at), "moved back")
    same(held, (await records(store))[1], "made before")
    retried = attrs.evolve(held, state=NoticeState.PENDING)
    await store.transact(lambda tx: port(tx).write([retried]))
    await store.transact(lambda tx: port(tx).shift(held.due_at - MINUTE, MINUTE))
    same(attrs.evolve(retried, due_at=held.due_at - MINUTE), (await records(store))[1], "due before")
    await store.transact(lambda tx: port(tx).write([held]))
    counts = await store.read(lambda tx: port(tx).counts(since=clock()))
    same({"expired": 1, "leased": 1, "pending": 1}, {state.value: count for state, count in counts.items()}, "counts")
    counts = await store.read(lambda tx: port(tx).counts(since=clock() + MINUTE))
    same({"leased": 1, "pending": 1}, {state.value: count for state, count in counts.items()}, "counts since")


async def a_claim_says_what_is_followed(harness: StoreHarness) -> None:
    """A notice is followed by a newer one to its target about its episode. ``delete_notices`` removes them by id."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    acknowledged = NoticeKind.ACKNOWLEDGED
    new = [
        NewNotice(change=changed("a", acknowledged), level=1, target="t"),
        NewNotice(change=changed("a", acknowledged), level=1, target="u"),
        NewNotice(change=changed("a", acknowledged, episode=2), level=1, target="t"),
        NewNotice(change=changed("b", acknowledged), level=1, target="t"),
        NewNotice(change=changed("a"), level=1, target="t"),
    ]
    await store.transact(lambda tx: port(tx).enqueue(new, clock()))
    found = await store.transact(lambda tx: port(tx).claim({"t": 9, "u": 9}, until=clock()))
    same([True, False, False, False, False], [one.followed for one in found], "followed")
    ids = [one.notice.id for one in found]
    await store.transact(lambda tx: port(tx).delete_notices(ids[1:3]))
    await store.transact(lambda tx: port(tx).delete_notices([]))
    same([ids[0], *ids[3:]], [one.id for one in await records(store)], "those that stay")


async def old_notices_are_deleted_with_their_pages(harness: StoreHarness) -> None:
    """``delete`` removes settled notices and old changes, but no notice of an episode that still has a page."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))
    await add_page(store, clock, "a", episode=2, state="delivered")
    new = [NewNotice(change=changed("a", episode=number), level=1, target="t") for number in (1, 2, 3)]
    await store.transact(lambda tx: port(tx).enqueue(new, clock()))
    first, second, _ = await records(store)
    settled = [attrs.evolve(one, state=NoticeState.DELIVERED) for one in (first, second)]
    await store.transact(lambda tx: port(tx).write(settled))
    await noted(store, changed("a", minutes=-9), changed("a", minutes=9))
    same(0, await store.transact(lambda tx: port(tx).delete(before=START - HOUR)), "nothing is old")
    same(2, await store.transact(lambda tx: port(tx).delete(before=START + MINUTE)), "deleted")
    same([2, 3], [one.episode for one in await records(store)], "notices that stay")
    same([("resolved", "a")], await ready(store), "changes that stay")


CHECKS = (
    a_notice_is_there_once,
    notices_are_claimed_and_settled,
    a_claim_of_notices_passes_by_what_others_lock,
    old_notices_end,
    a_claim_says_what_is_followed,
    old_notices_are_deleted_with_their_pages,
)
