"""Checks of the ports ``Ledger``, ``Outbox`` and ``Journal``."""

from datetime import timedelta
from typing import Any

import attrs

from ...engine.audit import read_audit
from ...model import (
    AuditEntry,
    Canary,
    Escalation,
    LatestEscalation,
    NewPage,
    PageRecord,
    PageState,
    RecalcState,
    canary_bucket,
)
from ...ports import Store
from ...rules.retry import RetryPolicy as Retries
from ...rules.retry import cancel, lease, revive
from ..clock import ManualClock
from .harness import START, StoreHarness, beat, incident, put, same

MINUTE = timedelta(minutes=1)
RETRIES = Retries()


def _escalation(clock: ManualClock, key: str = "a", level: int = 1, episode: int = 1) -> Escalation:
    return Escalation(incident_key=key, episode=episode, level=level, created_at=clock())


def _page(key: str = "a", target: str = "t1", level: int = 1, **fields: Any) -> NewPage:
    return NewPage(incident_key=key, episode=1, level=level, target=target, dedup_key=f"{key}{level}", **fields)


async def _pages(store: Store, state: PageState | None = None) -> list[PageRecord]:
    return list(await store.read(lambda tx: tx.outbox.pages(limit=1000, state=state)))


async def an_escalation_is_recorded_once(harness: StoreHarness) -> None:
    """``record`` returns True once for each (incident_key, episode, level), across calls and handles."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    other = await harness.again(store)
    one, two = _escalation(clock), _escalation(clock, level=2)
    same([True, True, False], list(await store.transact(lambda tx: tx.ledger.record([one, two, one]))), "new")
    third = _escalation(clock, episode=2)
    same([False, True], list(await other.transact(lambda tx: tx.ledger.record([two, third]))), "new to another")
    found = await store.read(lambda tx: tx.ledger.escalations(limit=10))
    same([one, two, third], [escalation for _, escalation in found], "the ledger")
    number = found[0][0]
    rest = await store.read(lambda tx: tx.ledger.escalations(after=number, limit=1))
    same([two], [escalation for _, escalation in rest], "a page of the ledger")
    same([], list(await store.read(lambda tx: tx.ledger.escalations(limit=10, incident_key="b"))), "of another key")


async def the_highest_is_known(harness: StoreHarness) -> None:
    """The ledger returns the highest level of each episode and the highest episode of each key."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await store.transact(lambda tx: tx.ledger.record([_escalation(clock), _escalation(clock, episode=3)]))
    first = clock()
    clock.advance(MINUTE)
    await store.transact(lambda tx: tx.ledger.record([_escalation(clock, level=2)]))
    asked = [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
    highest = await store.transact(lambda tx: tx.ledger.highest(asked))
    same({("a", 1): LatestEscalation(2, clock()), ("a", 3): LatestEscalation(1, first)}, dict(highest), "levels")
    same(3, await store.transact(lambda tx: tx.ledger.highest_episode("a")), "episodes of a")
    same(0, await store.transact(lambda tx: tx.ledger.highest_episode("b")), "episodes of b")


async def a_page_is_queued_once_per_target(harness: StoreHarness) -> None:
    """``enqueue`` inserts a page once per escalation and target. An undeliverable page is dead, with its reason."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(), _page(target="t2"), _page()], clock()))
    await store.transact(
        lambda tx: tx.outbox.enqueue([_page(), _page(target="", undeliverable_reason="unrouted")], clock())
    )
    found = [(page.target, page.state, page.reason, page.due_at) for page in await _pages(store)]
    pending = PageState.PENDING
    expected = [
        ("t1", pending, None, clock()),
        ("t2", pending, None, clock()),
        ("", PageState.DEAD, "unrouted", clock()),
    ]
    same(expected, found, "the pages")
    dead = await _pages(store, PageState.DEAD)
    same([""], [page.target for page in dead], "the dead ones")
    after = dead[0].id
    same([], list(await store.read(lambda tx: tx.outbox.pages(after=after, limit=9))), "beyond the last")
    of_b = await store.read(lambda tx: tx.outbox.pages(limit=9, incident_key="b"))
    same([], list(of_b), "of another key")


async def a_page_is_written_as_it_is_told(harness: StoreHarness) -> None:
    """``write`` saves state, instants, fence, attempts, tried_for and reason of a locked page unchanged."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(), _page(target="t2")], now))
    first, second = await _pages(store)
    leased = lease(first, RETRIES, now)
    done = attrs.evolve(
        second,
        state=PageState.DEAD,
        fence=9,
        attempts=4,
        tried_for=timedelta(hours=1, microseconds=7),
        reason="why",
        due_at=now + MINUTE,
    )
    await store.transact(lambda tx: tx.outbox.write([leased, done]))
    same([leased, done], await _pages(store), "the pages")
    locked = await store.transact(lambda tx: tx.outbox.lock([second.id, first.id, 10**9]))
    same({first.id, second.id}, {one.page.id for one in locked}, "locked")
    back = revive(done, now)
    await store.transact(lambda tx: tx.outbox.write([back, cancel(leased, "ended", now)]))
    same(0, len(await _pages(store, PageState.DEAD)), "dead pages")


async def cancelling_spares_what_is_in_flight(harness: StoreHarness) -> None:
    """``cancel`` sets a key's pending pages to cancelled and leased pages to cancelling; other pages stay."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, incident("a", clock), incident("b", clock))
    pages = [_page(), _page(target="t2"), _page(target="t3", undeliverable_reason="x"), _page("b")]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, now))
    first = (await _pages(store))[0]
    leased = lease(first, RETRIES, now)
    await store.transact(lambda tx: tx.outbox.write([leased]))
    clock.advance(MINUTE)
    same(2, await store.transact(lambda tx: tx.outbox.cancel("a", "acknowledged", clock())), "how many")
    same(0, await store.transact(lambda tx: tx.outbox.cancel("a", "resolved", clock())), "a second time")
    found = [(page.state.value, page.reason, page.due_at, page.fence) for page in await _pages(store)]
    expected = [
        ("cancelling", "acknowledged", leased.due_at, leased.fence),
        ("cancelled", "acknowledged", clock(), 0),
        ("dead", "x", now, 0),
        ("pending", None, now, 0),
    ]
    same(expected, found, "the pages")


async def an_exhausted_note_is_kept_once(harness: StoreHarness) -> None:
    """``note`` inserts an ``exhausted`` entry once per key, episode and level, and other entries every time."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    for action in ("exhausted", "exhausted", "open", "open"):
        note = AuditEntry(at=clock(), action=action, incident_key="a", episode=1, level=7)
        await store.transact(lambda tx, note=note: tx.journal.note([note]))  # type: ignore[misc]
    entries = await store.read(lambda tx: read_audit(tx, since=clock(), limit=9))
    same(["exhausted", "open", "open"], sorted(entry.action for entry in entries), "the notes")


async def the_audit_tells_everything_newest_first(harness: StoreHarness) -> None:
    """The audit merges escalations, settled pages and notes, newest first. An ``exhausted`` entry is there once."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.journal.note([AuditEntry(at=start, action="open", incident_key="a", actor="x")]))
    clock.advance(MINUTE)
    await store.transact(lambda tx: tx.ledger.record([_escalation(clock)]))
    await store.transact(
        lambda tx: tx.outbox.enqueue([_page(), _page(target="", undeliverable_reason="unrouted")], clock())
    )
    clock.advance(MINUTE)
    mark = AuditEntry(at=clock(), action="exhausted", incident_key="a", episode=1, level=7)
    await store.transact(lambda tx: tx.journal.note([mark, mark]))
    await store.transact(lambda tx: tx.journal.note([attrs.evolve(mark, at=clock() + MINUTE)]))

    async def audit(since: timedelta, limit: int = 10, key: str | None = None) -> list[str]:
        entries = await store.read(lambda tx: read_audit(tx, since=start + since, limit=limit, incident_key=key))
        return [entry.action for entry in entries]

    everything = ["exhausted", "escalate", "page dead", "open"]
    same(everything, await audit(timedelta()), "everything")
    same(everything[:3], await audit(MINUTE), "since the escalation")
    same(everything[:2], await audit(timedelta(), limit=2), "limited")
    same(everything, await audit(timedelta(), key="a"), "of the key")
    same([], await audit(timedelta(), key="b"), "of another key")


async def heartbeats_of_all_workers_count(harness: StoreHarness) -> None:
    """The last heartbeat is that of any worker. A worker without a heartbeat for a day does not count."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    last = await store.read(lambda tx: tx.journal.last_heartbeat(clock()))
    same((None, 0), (last.last, last.workers), "before the first")
    made_at = last.since
    same(None, await beat(store, clock, "one", start), "the heartbeat before")
    same(start, await beat(store, clock, "two", start + MINUTE), "the heartbeat before")
    last = await store.read(lambda tx: tx.journal.last_heartbeat(clock()))
    same((start + MINUTE, 2), (last.last, last.workers), "two workers")
    same(made_at, last.since, "when the store was set up")
    late = start + timedelta(days=1, seconds=30)
    await beat(store, clock, "two", late)
    last = await store.read(lambda tx: tx.journal.last_heartbeat(clock()))
    same((late, 1), (last.last, last.workers), "a day later")


async def stats_count(harness: StoreHarness) -> None:
    """``stats`` counts rows that are overdue, outside the canary, exhausted or need a replan, and pages."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    inside, outside = "in/2", "out/0"
    percent = min(canary_bucket(inside), canary_bucket(outside)) + 1
    if canary_bucket(inside) > canary_bucket(outside):
        inside, outside = outside, inside
    await put(
        store,
        incident(inside, clock, next_due_at=now - MINUTE),
        incident(outside, clock, next_due_at=now - 2 * MINUTE),
        incident("top", clock, level=7, next_due_at=None),
        incident("top/acked", clock, level=7, next_due_at=None, acknowledged_at=now),
    )
    await harness.host(store).insert("host", severity="critical", first_seen=now)
    tops = [AuditEntry(at=now, action="exhausted", incident_key=k, episode=1, level=7) for k in ("top", "top/acked")]
    await store.transact(lambda tx: tx.journal.note(tops))
    pages = [_page(inside), _page(inside, "t2"), _page(outside), _page(inside, "", undeliverable_reason="unrouted")]
    await store.transact(lambda tx: tx.outbox.enqueue(pages, now))
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary(percent), detail=True))
    same((1, now - MINUTE), (stats.overdue, stats.oldest_due), "overdue")
    same((1, 1), (stats.marked, stats.exhausted), "needs replan, exhausted")
    same(1, stats.outside_canary, "outside the canary")
    same((now, 1), (stats.oldest_page, stats.dead), "pages")
    same({"t1": 2, "t2": 1}, dict(stats.backlog), "the backlog")
    whole = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary(), detail=True))
    same(2, whole.overdue, "overdue without a canary")
    same(0, whole.outside_canary, "outside a full canary")
    few = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary(percent)))
    same(0, few.outside_canary, "not counted")


async def the_recalculation_keeps_its_place(harness: StoreHarness) -> None:
    """The state of the recalculation is saved and returned unchanged."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    same(RecalcState(), await store.read(lambda tx: tx.journal.recalc(lock=False)), "at first")
    state = RecalcState(
        requested_at=now,
        cursor="ключ",
        visited=7,
        finished_at=now - MINUTE,
        fingerprint="f",
        due_only=True,
        ahead=now + MINUTE,
        skipped=True,
        held_before=now - 2 * MINUTE,
    )
    await store.transact(lambda tx: tx.journal.save_recalc(state))
    same(state, await store.transact(lambda tx: tx.journal.recalc()), "afterwards")
    same(state, await store.transact(lambda tx: tx.journal.recalc_unless_locked()), "while it is not locked")


CHECKS = (
    an_escalation_is_recorded_once,
    the_highest_is_known,
    a_page_is_queued_once_per_target,
    a_page_is_written_as_it_is_told,
    cancelling_spares_what_is_in_flight,
    heartbeats_of_all_workers_count,
    stats_count,
    the_recalculation_keeps_its_place,
)
OPERATE_CHECKS = (an_exhausted_note_is_kept_once, the_audit_tells_everything_newest_first)
