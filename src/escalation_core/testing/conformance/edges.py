"""Checks of edge cases: unreadable rows, unusual keys, expired leases and empty input."""

from datetime import timedelta
from typing import Any

import attrs

from ...engine.engine import Engine
from ...model import Canary, Incident, NewPage, PageState
from ...ports import Store, Transaction
from ...rules.retry import RetryPolicy, cancel, lease
from ..clock import ManualClock
from ..notifier import RecordingNotifier
from .harness import START, StoreHarness, claimed_keys, incident, put, same

MINUTE = timedelta(minutes=1)
ODD: dict[str, dict[str, Any]] = {
    "negative": {"level": -1},
    "no level": {"level": None},
    "no birth": {"first_seen": None},
    "never born": {"first_seen": "infinity"},
    "always there": {"first_seen": "-infinity"},
    "never again": {"snoozed_until": "infinity"},
    "ended before time": {"last_escalated_at": "-infinity"},
}
"""Columns of rows that are not valid incidents. A store's table may refuse them."""
KEYS = ("A", "a", "Z", "b", "ä", "a b", "a-b", "a/b", "~", "Ω", "🔥", "%", "_", "a|1", "'", '"', "\\", "{}")
"""Keys that collations sort differently; by bytes they have one order."""


async def odd_rows_stop_nobody(harness: StoreHarness) -> None:
    """An unreadable row comes with its fault, and stops neither other rows nor the tick. Deleted, it is not listed."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("good", clock))
    odd = []
    for key, columns in ODD.items():
        try:
            await host.insert(key, **{"severity": "critical", "first_seen": now, **columns})
        except Exception:  # noqa: BLE001, S112 - the table may refuse it, with any exception of the driver
            continue
        odd.append(key)
    rows = await store.transact(lambda tx: tx.incidents.claim(until=now, limit=100, canary=Canary()))
    found = {row.incident_key: row for row in rows}
    same({"good", *odd}, set(found), "claimed")
    for key in odd:
        same(None, found[key].incident, f"the incident of {key!r}")
        assert found[key].fault, f"{key!r} has a fault"
    report = await Engine(store, notifiers=[RecordingNotifier("t")]).tick()
    same((1, len(odd)), (report.escalated, report.skipped["unreadable"]), "escalated and unreadable")
    same([], await claimed_keys(store, now), "nothing is due")
    same(sorted(odd), await _unreadable(store, clock), "listed")
    for key in odd:
        await host.delete(key)
    same([], await _unreadable(store, clock), "listed after they were deleted")


async def a_page_of_an_odd_row_says_why(harness: StoreHarness) -> None:
    """A page of an unreadable incident is claimed with the fault and becomes dead, not cancelled as if deleted."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    engine = Engine(store, notifiers=[RecordingNotifier("t")])
    await put(store, incident("a", clock))
    await engine.tick(deliver=False)
    await host.past_triggers("a", level=-1)
    found = await store.transact(lambda tx: tx.outbox.claim({"t": 9}, now=now, until=now))
    same([None], [one.incident for one in found], "the incident")
    assert "level" in (found[0].fault or ""), "the fault names the column"
    await engine.deliver()
    pages = await store.read(lambda tx: tx.outbox.pages(limit=9))
    same([PageState.DEAD], [page.state for page in pages], "the page")


async def keys_are_compared_byte_for_byte(harness: StoreHarness) -> None:
    """Keys that differ in case, accents or symbols are different. ``peek`` and ``scan_unresolved`` return each once."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, *(incident(key, clock, summary=key) for key in KEYS))

    async def look(tx: Transaction) -> list[str]:
        seen: list[str] = []
        while True:
            after = (now, seen[-1]) if seen else None
            rows = await tx.incidents.peek(until=now, after=after, limit=4, canary=Canary())
            seen += [row.incident_key for row in rows]
            if len(rows) < 4:
                return seen

    async def walk(tx: Transaction) -> list[str]:
        seen: list[str] = []
        last: str | None = None
        while True:
            walked = await tx.incidents.scan_unresolved(last, 4)
            seen += [row.incident_key for row in walked.rows]
            if walked.last is None:
                return seen
            last = walked.last

    same(sorted(KEYS), await store.read(look), "peeked, in the order of bytes")
    same(sorted(KEYS), sorted(await store.transact(walk)), "scanned")
    for key in KEYS:
        one = await store.read(lambda tx, key=key: tx.incidents.load(key, lock=False))  # type: ignore[misc]
        assert one is not None, f"{key!r} is found"
        same(key, one.summary, "the row of exactly this key")


async def what_the_engine_saves_is_no_hosts_write(harness: StoreHarness) -> None:
    """``save`` writes exactly the given row. By a host, the same write would set NEEDS_REPLAN or begin an episode."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    first = incident("a", clock, level=3, episode=2, next_due_at=now + MINUTE)
    again = attrs.evolve(first, severity="warning", level=1, last_escalated_at=now)
    ended = attrs.evolve(again, resolved_at=now, acknowledged_at=now, acknowledged_by="x", next_due_at=None)
    opened = attrs.evolve(ended, resolved_at=None)
    await put(store, first)
    for one in (again, ended, opened):

        async def save(tx: Transaction, one: Incident = one) -> None:
            await tx.incidents.load("a")
            await tx.incidents.save(one)

        await store.transact(save)
        same(one, await store.read(lambda tx: tx.incidents.load("a", lock=False)), "the row")


async def pages_come_oldest_first(harness: StoreHarness) -> None:
    """A claim returns pages in the order in which they became due, across all targets."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))
    targets = ("t2", "t1", "t3", "t1", "t2")
    for level, target in enumerate(targets, 1):
        page = NewPage(incident_key="a", episode=1, level=level, target=target, dedup_key=f"d{level}")
        await store.transact(lambda tx, page=page: tx.outbox.enqueue([page], clock()))  # type: ignore[misc]
        clock.advance(MINUTE)
    capacity = {"t1": 9, "t2": 9, "t3": 9}
    found = await store.transact(lambda tx: tx.outbox.claim(capacity, now=clock(), until=clock()))
    same(list(enumerate(targets, 1)), [(one.page.level, one.page.target) for one in found], "the pages")


async def a_lease_ends(harness: StoreHarness) -> None:
    """A leased or cancelling page can be claimed again once its lease has ended; a settled page never."""
    clock, retries = ManualClock(START), RetryPolicy()
    store, now = await harness.open(clock), clock()
    await put(store, incident("a", clock))
    new = [NewPage(incident_key="a", episode=1, level=n, target="t", dedup_key=f"d{n}") for n in (1, 2, 3)]
    await store.transact(lambda tx: tx.outbox.enqueue(new, now))
    one, two, three = await store.read(lambda tx: tx.outbox.pages(limit=9))
    leased = [lease(one, retries, now), lease(two, retries, now + MINUTE), cancel(three, "ended", now)]
    await store.transact(lambda tx: tx.outbox.write(leased))

    async def claim() -> list[tuple[int, str]]:
        found = await store.transact(lambda tx: tx.outbox.claim({"t": 9}, now=clock(), until=clock()))
        return [(each.page.level, each.page.state.value) for each in found]

    end = now + retries.lease
    seen = await store.next_due(canary=Canary(), pages=True)
    same({"t": end}, {name: one.due_at for name, one in seen.targets.items()}, "the earliest is a lease's end")
    clock.set(end - timedelta(microseconds=1))
    same([], await claim(), "while the leases run")
    clock.set(end)
    same([(1, "leased")], await claim(), "when the first has ended")
    await store.transact(lambda tx: tx.outbox.cancel("a", "acknowledged", clock()))
    same([(1, "cancelling")], await claim(), "when it is cancelling")
    clock.set(end + MINUTE)
    same([(1, "cancelling"), (2, "cancelling")], await claim(), "when both have ended")
    await store.transact(lambda tx: tx.outbox.throttle_target("t", clock()))
    same(2, len(await claim()), "a throttle ends at its instant")


async def nothing_is_written_for_nothing(harness: StoreHarness) -> None:
    """Bulk writes accept an empty list, and queries of an empty store return empty results."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()

    async def work(tx: Transaction) -> None:
        await tx.incidents.advance([])
        await tx.incidents.defer_unreadable([], now)
        await tx.incidents.pass_over([], now)
        await tx.incidents.mark_unseen([])
        await tx.incidents.end_passing(now)
        await tx.outbox.enqueue([], now)
        await tx.outbox.write([])
        await tx.journal.note([])
        same([], list(await tx.ledger.record([])), "recorded")
        same({}, dict(await tx.ledger.highest([])), "the highest of an empty list")
        same([], list(await tx.outbox.lock([])), "locked")
        same({}, dict(await tx.outbox.due_targets()), "the targets of an empty store")
        same({}, dict(await tx.outbox.lock_targets([])), "locked targets")
        await tx.outbox.write_paces([])
        same({}, dict(await tx.outbox.fences([])), "the fences of an empty list")
        same(0, await tx.outbox.bring_forward([], now=now, step=MINUTE, beyond=now, lease_ends=now), "brought forward")
        same([], list((await tx.incidents.unseen(None, limit=9, held_before=None)).keys), "unseen")
        same([], list(await tx.outbox.claim({}, now=now, until=now)), "claimed")
        same(0, await tx.outbox.cancel("a", "ended", now), "cancelled")

    await store.transact(work)
    for percent in (0, 50, 100):
        seen = await store.next_due(canary=Canary(percent), pages=True)
        same((now, [], None, {}), (seen.at, list(seen.pauses), seen.due_at, dict(seen.targets)), "an empty store")


async def _unreadable(store: Store, clock: ManualClock) -> list[str]:
    stats = await store.read(lambda tx: tx.journal.stats(now=clock(), canary=Canary()))
    keys = sorted(key for key, _ in stats.unreadable_examples)
    same(len(keys), stats.unreadable, "as many as are listed")
    return keys


CHECKS = (
    odd_rows_stop_nobody,
    a_page_of_an_odd_row_says_why,
    keys_are_compared_byte_for_byte,
    what_the_engine_saves_is_no_hosts_write,
    pages_come_oldest_first,
    a_lease_ends,
    nothing_is_written_for_nothing,
)
