"""Checks of the port ``Incidents``."""

import itertools
from datetime import UTC, datetime, timedelta

import attrs

from ...model import (
    MAX_LABELS_BYTES,
    MAX_NAME_CHARS,
    MAX_SUMMARY_CHARS,
    NEEDS_REPLAN,
    Canary,
    Candidate,
    Incident,
    canary_bucket,
)
from ...ports import Transaction
from ...rules.plan import defer
from ..clock import ManualClock
from .harness import START, StoreHarness, claimed_keys, incident, put, same

MINUTE = timedelta(minutes=1)


async def every_field_comes_back(harness: StoreHarness) -> None:
    """``load`` returns an inserted or saved row unchanged, including microseconds, other scripts and labels."""
    clock = ManualClock(datetime(2025, 6, 1, 12, 30, 15, 123456, tzinfo=UTC))
    store, now = await harness.open(clock), clock()
    one = Incident(
        incident_key="db-7/ディスク|1",
        severity=" Critical ",
        first_seen=now - MINUTE,
        level=3,
        episode=4,
        last_escalated_at=now - timedelta(microseconds=1),
        acknowledged_at=now,
        acknowledged_by="Ådne",
        resolved_at=now + timedelta(microseconds=1),
        snoozed_until=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        next_due_at=now + MINUTE,
        summary="quotes ' \" and \\ and {braces} and %s",
        labels={"team": "ops", "ключ": "значение", "": ""},
    )
    await put(store, one)
    same(one, await store.read(lambda tx: tx.incidents.load(one.incident_key, lock=False)), "inserted")
    bare = Incident(incident_key=one.incident_key, first_seen=now, next_due_at=None)
    await store.transact(lambda tx: tx.incidents.save(bare))
    same(bare, await store.transact(lambda tx: tx.incidents.load(bare.incident_key)), "saved")
    same(None, await store.transact(lambda tx: tx.incidents.load("unknown")), "an unknown key")


async def an_insert_loses_against_a_row_that_is_there(harness: StoreHarness) -> None:
    """``insert`` of an existing key returns False and changes nothing."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    first = incident("a", clock, summary="first")
    await put(store, first)
    second = attrs.evolve(first, summary="second")
    same(False, await store.transact(lambda tx: tx.incidents.insert(second)), "the second insert")
    same(first, await store.transact(lambda tx: tx.incidents.load("a")), "the row")


async def a_claim_finds_what_is_due_oldest_first(harness: StoreHarness) -> None:
    """A claim returns at most ``limit`` rows due at or before the instant, oldest first. NULL is never due."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(
        store,
        incident("now", clock),
        incident("old", clock, next_due_at=now - MINUTE),
        incident("later", clock, next_due_at=now + timedelta(microseconds=1)),
        incident("never", clock, next_due_at=None),
        incident("replan", clock, next_due_at=NEEDS_REPLAN),
    )
    same(["replan", "old", "now"], await claimed_keys(store, now), "due")
    same(["replan", "old"], await claimed_keys(store, now, limit=2), "limited")
    same(["replan"], await claimed_keys(store, NEEDS_REPLAN), "only rows that need a replan")
    same(NEEDS_REPLAN, (await store.next_due(canary=Canary())).due_at, "the earliest")


async def outsiders_of_the_canary_are_no_candidates(harness: StoreHarness) -> None:
    """``claim``, ``peek`` and ``next_due`` leave out rows outside the canary, by the buckets of ``canary_bucket``."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    keys = [f"canary/{number}/ü" for number in range(300)]
    await put(store, *(incident(key, clock) for key in keys))
    for percent in (0, 1, 10, 50, 99, 100):
        inside = sorted(key for key in keys if canary_bucket(key) < percent)
        found = await claimed_keys(store, now, limit=1000, canary=Canary(percent))
        same(inside, sorted(found), f"claimed at {percent} percent")

        async def peek(tx: Transaction, percent: int = percent) -> list[str]:
            rows = await tx.incidents.peek(until=now, after=None, limit=1000, canary=Canary(percent))
            return [row.incident_key for row in rows]

        same(inside, sorted(await store.read(peek)), f"peeked at {percent} percent")

        same(
            now if inside else None,
            (await store.next_due(canary=Canary(percent))).due_at,
            f"the earliest at {percent} percent",
        )
    few = await claimed_keys(store, now, limit=7, canary=Canary(50))
    same(7, len(few), "a limited claim within the canary")


async def a_look_goes_page_by_page(harness: StoreHarness) -> None:
    """``peek`` returns due rows page by page, sorted by (instant, key), each once, and changes nothing."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    rows = [incident(f"k{n:02}", clock, next_due_at=now - (n % 3) * MINUTE) for n in range(20)]
    await put(store, *rows)
    expected = sorted((row.next_due_at or now, row.incident_key) for row in rows)

    async def look(tx: Transaction) -> list[tuple[datetime, str]]:
        found: list[tuple[datetime, str]] = []
        while True:
            after = found[-1] if found else None
            page = await tx.incidents.peek(until=now, after=after, limit=6, canary=Canary())
            found += [(row.due_at or now, row.incident_key) for row in page]
            if len(page) < 6:
                return found

    same(expected, await store.read(look), "the rows")
    same(20, len(await claimed_keys(store, now)), "still due")


async def advancing_writes_level_and_instants_alone(harness: StoreHarness) -> None:
    """``advance`` writes level, last_escalated_at and next_due_at of many rows, and no other column."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    rows = [incident(f"k{n}", clock, summary=f"s{n}", labels={"n": str(n)}) for n in range(5)]
    await put(store, *rows, incident("other", clock))
    risen = [attrs.evolve(row, level=1, last_escalated_at=now, next_due_at=now + MINUTE) for row in rows[:4]]
    risen.append(attrs.evolve(rows[4], level=7, last_escalated_at=now, next_due_at=None))
    await store.transact(lambda tx: tx.incidents.advance([attrs.evolve(row, summary="ignored") for row in risen]))
    for row in risen:
        stored = await store.transact(lambda tx, key=row.incident_key: tx.incidents.load(key))  # type: ignore[misc]
        same(row, stored, "an advanced row")
    same(["other"], await claimed_keys(store, now), "what is still due")


async def rows_that_cannot_be_read_are_deferred(harness: StoreHarness) -> None:
    """A claim returns an unreadable row with its fault. Deferrals last 1, 2, 4 … 60 minutes, until it is repaired."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    host = harness.host(store)
    await put(store, incident("good", clock, next_due_at=now))
    await host.insert("bad", severity="critical", level=-1, first_seen=now)
    rows = await store.transact(lambda tx: tx.incidents.claim(until=now, limit=10, canary=Canary()))
    found = {row.incident_key: row for row in rows}
    same({"good", "bad"}, set(found), "claimed")
    assert found["bad"].incident is None, "an unreadable row has no incident"
    assert "level" in (found["bad"].fault or ""), "the fault names the column"
    assert found["good"].incident is not None, "the other row is readable"
    for wait in (1, 2, 4, 8, 16, 32, 60, 60):

        async def defer_it(tx: Transaction) -> None:
            rows = await tx.incidents.claim(until=now + 60 * MINUTE, limit=10, canary=Canary())
            (row,) = (row for row in rows if row.incident_key == "bad")
            await tx.incidents.defer_unreadable([defer(row, "fault", now)], now)

        await store.transact(defer_it)
        same(now + wait * MINUTE, (await host.rows())["bad"]["next_due_at"], "deferred until")
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same((1, [("bad", "fault")]), (stats.unreadable, list(stats.unreadable_examples)), "listed")
    late = now + 60 * MINUTE
    stats = await store.read(lambda tx: tx.journal.stats(now=late, canary=Canary()))
    same((1, now), (stats.overdue, stats.oldest_due), "a deferred row is not overdue")
    await host.update("bad", resolved_at=now)
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same((0, []), (stats.unreadable, list(stats.unreadable_examples)), "an ended row does not count")
    await host.update("bad", resolved_at=None, episode=1, first_seen=now)
    await host.update("bad", level=0)
    rows = await store.transact(lambda tx: tx.incidents.claim(until=NEEDS_REPLAN, limit=10, canary=Canary()))
    same([("bad", 8)], [(row.incident_key, row.attempts) for row in rows], "the attempts are saved")
    healed = rows[0].incident
    assert healed is not None, "the row is readable again"

    async def claim_and_advance(tx: Transaction) -> None:
        await tx.incidents.claim(until=NEEDS_REPLAN, limit=10, canary=Canary())
        await tx.incidents.advance([attrs.evolve(healed, next_due_at=now + MINUTE)])

    await store.transact(claim_and_advance)
    stats = await store.read(lambda tx: tx.journal.stats(now=now, canary=Canary()))
    same(0, stats.unreadable, "no deferral is left")


async def a_walk_visits_every_unresolved_row_once(harness: StoreHarness) -> None:
    """``scan_unresolved`` returns each row that is not resolved once, and its labels if they are asked for."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    opened = [incident(f"k{n:02}", clock, next_due_at=None if n % 2 else now, labels={"n": "1"}) for n in range(10)]
    opened.append(incident("acked", clock, acknowledged_at=now, labels={"n": "1"}))
    await put(store, *opened, incident("done", clock, resolved_at=now))
    for wait, labels in itertools.product((True, False), repeat=2):
        visited: list[Candidate] = []
        last: str | None = None
        while True:
            walked = await store.transact(
                lambda tx, after=last, wait=wait, labels=labels: tx.incidents.scan_unresolved(  # type: ignore[misc]
                    after, 4, wait=wait, labels=labels
                )
            )
            visited += walked.rows
            last = walked.last
            if last is None:
                break
        expected = sorted((row.incident_key, row.labels if labels else {}) for row in opened)
        found = [(row.incident_key, None if row.incident is None else row.incident.labels) for row in visited]
        same(expected, sorted(found), "visited, each once")


async def many_rows_come_with_what_a_page_carries(harness: StoreHarness) -> None:
    """A claim cuts long texts and leaves out long labels. ``load`` returns the whole row, and ``advance`` keeps it."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    fits = incident(
        "fits", clock, severity="s" * MAX_NAME_CHARS, summary="ü" * MAX_SUMMARY_CHARS, labels={"team": "x" * 60_000}
    )
    long = incident(
        "long",
        clock,
        severity="s" * 2 * MAX_NAME_CHARS,
        summary="ü" * 2 * MAX_SUMMARY_CHARS,
        labels={"team": "ü" * (MAX_LABELS_BYTES // 2), "other": ""},
    )
    await put(store, fits, long)
    cut = attrs.evolve(long, severity="s" * MAX_NAME_CHARS, summary="ü" * MAX_SUMMARY_CHARS, labels={})

    async def claim(tx: Transaction) -> list[tuple[Incident | None, bool]]:
        rows = await tx.incidents.claim(until=now, limit=10, canary=Canary())
        return sorted(((row.incident, row.labels_left_out) for row in rows), key=lambda found: found[1])

    same([(fits, False), (cut, True)], await store.transact(claim), "claimed")
    same(long, await store.read(lambda tx: tx.incidents.load("long", lock=False)), "loaded")
    risen = cut.moved(level=1, last_escalated_at=now, next_due_at=now + MINUTE)
    await store.transact(lambda tx: tx.incidents.advance([risen]))
    whole = long.moved(level=1, last_escalated_at=now, next_due_at=now + MINUTE)
    same(whole, await store.read(lambda tx: tx.incidents.load("long", lock=False)), "after it was advanced")


async def instants_are_read_as_they_stand(harness: StoreHarness) -> None:
    """``dues`` returns next_due_at as the transaction sees it, and leaves out unknown keys."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    first, second = incident("a", clock), incident("b", clock)
    await put(store, first, second)

    async def work(tx: Transaction) -> dict[str, datetime | None]:
        await tx.incidents.advance(
            [attrs.evolve(first, next_due_at=None), attrs.evolve(second, next_due_at=now + MINUTE)]
        )
        return dict(await tx.incidents.dues(["a", "b", "c"]))

    same({"a": None, "b": now + MINUTE}, await store.transact(work), "the instants")


CHECKS = (
    every_field_comes_back,
    an_insert_loses_against_a_row_that_is_there,
    a_claim_finds_what_is_due_oldest_first,
    outsiders_of_the_canary_are_no_candidates,
    a_look_goes_page_by_page,
    advancing_writes_level_and_instants_alone,
    rows_that_cannot_be_read_are_deferred,
    a_walk_visits_every_unresolved_row_once,
    many_rows_come_with_what_a_page_carries,
    instants_are_read_as_they_stand,
)
