"""Checks with hosts that refuse writes, change keys, acknowledge by SQL, and turn triggers off."""

from datetime import datetime, timedelta

from ...engine.audit import read_audit
from ...model import NEEDS_REPLAN, AuditEntry, Canary, Deferral, Escalation, NewPage, canary_bucket
from ...ports import Store, Transaction
from ...rules.retry import RetryPolicy, lease
from ..clock import ManualClock
from .harness import START, StoreHarness, by_key, claimed_keys, incident, put, same

MINUTE = timedelta(minutes=1)


async def rows_that_cannot_be_written_are_passed_over(harness: StoreHarness) -> None:
    """Claims, peeks and counts leave out a row that is passed over until its back-off ends, or the host writes it."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("bad", clock, next_due_at=now - MINUTE), incident("good", clock))
    await host.insert("new", severity="critical")
    rows = [Deferral(incident_key=key, fault="refused", attempts=3, until=now + 2 * MINUTE) for key in ("bad", "new")]
    await store.transact(lambda tx: tx.incidents.pass_over(rows, now))
    same(now - MINUTE, (await host.rows())["bad"]["next_due_at"], "the row itself")
    for percent in (100, 99):
        same(["good"] if percent == 100 else _inside(percent, "good"), await _found(store, clock, percent), "found")
    same(now, (await store.next_due(canary=Canary())).due_at, "the earliest")
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same((1, 0, 2), (stats.overdue, stats.marked, stats.unreadable), "overdue, needs replan and unreadable")
    same([("bad", "refused"), ("new", "refused")], list(stats.unreadable_examples), "listed")
    await host.update("new", summary="short")
    same(["new", "good"], await claimed_keys(store, now), "after the host has written one")
    clock.advance(2 * MINUTE)
    same({"new", "bad", "good"}, set(await claimed_keys(store, clock())), "when the back-off has ended")
    found = await store.transact(lambda tx: tx.incidents.claim(until=clock(), limit=9, canary=Canary()))
    same({"new": 3, "bad": 3, "good": 0}, {row.incident_key: row.attempts for row in found}, "how often")
    again = [Deferral(incident_key="bad", fault="refused", attempts=4, until=clock() + MINUTE)]
    await store.transact(lambda tx: tx.incidents.defer_unreadable(again, clock()))
    same(clock() + MINUTE, (await host.rows())["bad"]["next_due_at"], "deferred, not passed over")
    clock.advance(MINUTE)
    same(True, "bad" in await claimed_keys(store, clock()), "and found at its instant")


async def passing_over_can_be_ended(harness: StoreHarness) -> None:
    """A claim returns passed over rows again after ``end_passing``, and ``advance`` makes a row readable again."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    written = incident("written", clock)
    await put(store, incident("far", clock), incident("near", clock), written)
    ends = {"far": now + 60 * MINUTE, "near": now + MINUTE, "written": now + MINUTE}
    rows = [Deferral(incident_key=key, fault="refused", attempts=1, until=until) for key, until in ends.items()]
    await store.transact(lambda tx: tx.incidents.pass_over(rows, now))
    same([], await claimed_keys(store, now), "passed over")
    await store.transact(lambda tx: tx.incidents.end_passing(now + MINUTE))
    same(["far"], await claimed_keys(store, now), "passed over beyond the instant")

    clock.advance(MINUTE)

    async def advance(tx: Transaction) -> None:
        await tx.incidents.claim(until=now, limit=9, canary=Canary())
        await tx.incidents.advance([written])

    await store.transact(advance)
    same({"far", "near", "written"}, set(await claimed_keys(store, now)), "each at its time")
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same(2, stats.unreadable, "unreadable")


async def rows_that_no_trigger_saw_are_found(harness: StoreHarness) -> None:
    """``unseen`` returns open rows without next_due_at in batches, except exhausted and excluded rows."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    tops = [incident(f"top{n}", clock, level=7, first_seen=now, next_due_at=None) for n in range(3)]
    await put(store, *tops, incident("usual", clock), incident("acked", clock, acknowledged_at=now))
    marks = [AuditEntry(at=now, action="exhausted", incident_key=f"top{n}", episode=1, level=7) for n in range(3)]
    await store.transact(lambda tx: tx.journal.note(marks))
    steps = [Escalation(incident_key="again", episode=2, level=n, created_at=now) for n in (1, 2)]
    await store.transact(lambda tx: tx.ledger.record([*steps, *_steps("on", now)]))
    await host.past_triggers("again", first_seen=now)
    await host.past_triggers("on", first_seen=now, level=1)
    await store.transact(lambda tx: tx.ledger.record(_steps("behind", now, levels=3)))
    await host.past_triggers("behind", first_seen=now, level=1)
    await host.past_triggers("new", first_seen=now)
    await host.past_triggers("left", first_seen=now - MINUTE)
    await host.past_triggers("refused", first_seen=now)
    await store.transact(
        lambda tx: tx.journal.note([AuditEntry(at=now, action="resolve", incident_key="top2", episode=1)])
    )
    passed = [Deferral(incident_key="refused", fault="refused", attempts=1, until=now + MINUTE)]
    await store.transact(lambda tx: tx.incidents.pass_over(passed, now))
    unplanned = {"again", "behind", "new", "on", "top2"}
    same(unplanned, set(await _unseen(store, clock, lock=False)), "found")
    same(unplanned, set(await _unseen(store, clock, lock=True)), "found and given NEEDS_REPLAN")
    same([], await _unseen(store, clock, lock=True), "found again")
    rows = await host.rows()
    for key, episode in (("again", 3), ("behind", 2), ("on", 1), ("new", 1)):
        same((NEEDS_REPLAN, episode), by_key(rows, key, "next_due_at", "episode"), f"the row of {key!r}")
    same((NEEDS_REPLAN, 2, 0), by_key(rows, "top2", "next_due_at", "episode", "level"), "the reopened row")
    same(None, rows["left"]["next_due_at"], "the row first seen before held_before")


async def a_changed_key_begins_another_incident(harness: StoreHarness) -> None:
    """A changed key cancels the old key's unsent pages. The row becomes like one inserted with the new key."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("old", clock, level=2, last_escalated_at=now), incident("other", clock))
    await put(store, incident("ended", clock, level=1, acknowledged_at=now, next_due_at=None))
    await store.transact(lambda tx: tx.ledger.record(_steps("new", now)))
    await _enqueue(store, clock, "old", "other")
    await host.update("old", incident_key="new")
    await host.update("ended", incident_key="ended too", next_due_at=now)
    rows = await host.rows()
    same({"new", "other", "ended too"}, set(rows), "the keys")
    expected = (0, 2, None, now - 5 * MINUTE, NEEDS_REPLAN)
    names = ("level", "episode", "last_escalated_at", "first_seen", "next_due_at")
    same(expected, by_key(rows, "new", *names), "the row")
    same(
        (0, 1, NEEDS_REPLAN, now),
        by_key(rows, "ended too", "level", "episode", "next_due_at", "acknowledged_at"),
        "ended",
    )
    same(
        [("old", "cancelling", "key changed"), ("old", "cancelled", "key changed"), ("other", "pending", None)],
        await _states(store),
        "the pages",
    )
    for key, level in (("old", 2), ("new", 0)):
        notes = await store.read(
            lambda tx, key=key: read_audit(tx, since=NEEDS_REPLAN, limit=9, incident_key=key)  # type: ignore[misc]
        )
        same([level], [note.level for note in notes if note.action == "change_key"], f"the note about {key!r}")


async def a_hosts_acknowledgement_cancels_pages(harness: StoreHarness) -> None:
    """A host's statement that ends an incident cancels its unsent pages. They stay cancelled if the host undoes it."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    for key, ends in (
        ("a", {"acknowledged_at": now}),
        ("b", {"resolved_at": now}),
        ("c", {"acknowledged_at": now, "next_due_at": None}),
        ("d", {"severity": "warning"}),
    ):
        await put(store, incident(key, clock))
        await _enqueue(store, clock, key)
        await host.update(key, **ends)
        reason = {"a": "acknowledged", "b": "resolved", "c": "acknowledged"}.get(key)
        states = ("cancelling", "cancelled") if reason else ("leased", "pending")
        same([(key, state, reason) for state in states], (await _states(store))[-2:], f"the pages of {key!r}")
    await host.update("a", acknowledged_at=None)
    same(("a", "cancelled", "acknowledged"), (await _states(store))[1], "the page after the host undoes it")
    same(NEEDS_REPLAN, (await host.rows())["a"]["next_due_at"], "the incident, which needs a replan")


async def a_host_that_begins_anew_cancels_pages(harness: StoreHarness) -> None:
    """A host that takes an acknowledgement back, or lowers a level, cancels the unsent pages that are still there."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    acked = {"acknowledged_at": now, "next_due_at": None}
    for key, fields, columns, reason in (
        ("a", acked, {"acknowledged_at": None}, "unacknowledged"),
        ("b", acked, {"acknowledged_at": None, "next_due_at": now}, "unacknowledged"),
        ("c", acked, {"acknowledged_at": now + MINUTE}, None),
        ("d", {"level": 2}, {"level": 1}, "drained"),
        ("e", {"level": 2}, {"level": 1, "next_due_at": now + MINUTE}, None),
        ("f", {"level": 2}, {"level": 3}, None),
    ):
        await put(store, incident(key, clock, **fields))
        await _enqueue(store, clock, key)
        await host.update(key, **columns)
        states = ("cancelling", "cancelled") if reason else ("leased", "pending")
        same([(key, state, reason) for state in states], (await _states(store))[-2:], f"the pages of {key!r}")


async def _found(store: Store, clock: ManualClock, percent: int) -> list[str]:
    now = clock()
    claimed = await claimed_keys(store, now, canary=Canary(percent))
    rows = await store.read(lambda tx: tx.incidents.peek(until=now, after=None, limit=9, canary=Canary(percent)))
    same(claimed, [row.incident_key for row in rows], "a peek finds what a claim does")
    return claimed


def _inside(percent: int, key: str) -> list[str]:
    return [key] if canary_bucket(key) < percent else []


async def _unseen(store: Store, clock: ManualClock, *, lock: bool) -> list[str]:
    """Return all keys that ``unseen`` returns, in batches of two. With ``lock``, give each row NEEDS_REPLAN."""
    found: list[str] = []

    async def look(tx: Transaction, after: str | None) -> str | None:
        batch = await tx.incidents.unseen(after, limit=2, held_before=clock(), lock=lock)
        found.extend(batch.keys)
        if lock:
            await tx.incidents.mark_unseen(batch.keys)
        return batch.last

    run, last = store.transact if lock else store.read, None
    for _ in range(9):
        last = await run(lambda tx, after=last: look(tx, after))  # type: ignore[misc]
        if last is None:
            return found
    raise AssertionError("unseen does not reach the end")


def _steps(key: str, now: datetime, levels: int = 1) -> list[Escalation]:
    return [Escalation(incident_key=key, episode=1, level=n + 1, created_at=now) for n in range(levels)]


async def _enqueue(store: Store, clock: ManualClock, *keys: str) -> None:
    """Insert two pages of the first key, one of them leased, and one page of each other key."""
    pages = [NewPage(incident_key=keys[0], episode=1, level=n, target="t", dedup_key=f"{keys[0]}{n}") for n in (1, 2)]
    pages += [NewPage(incident_key=key, episode=1, level=1, target="t", dedup_key=key) for key in keys[1:]]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, clock()))
    first, *_ = await store.read(lambda tx: tx.outbox.pages(limit=9, incident_key=keys[0]))
    await store.transact(lambda tx: tx.outbox.write([lease(first, RetryPolicy(), clock())]))


async def _states(store: Store) -> list[tuple[str, str, str | None]]:
    pages = await store.read(lambda tx: tx.outbox.pages(limit=99))
    return [(page.incident_key, page.state.value, page.reason) for page in pages]


CHECKS = (
    rows_that_cannot_be_written_are_passed_over,
    passing_over_can_be_ended,
    rows_that_no_trigger_saw_are_found,
    a_hosts_acknowledgement_cancels_pages,
    a_host_that_begins_anew_cancels_pages,
)
OPERATE_CHECKS = (a_changed_key_begins_another_incident,)
