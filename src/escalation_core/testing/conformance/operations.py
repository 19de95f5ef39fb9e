"""Checks of the ports ``Operations`` and ``SeenRequests``, and of host writes in the audit."""

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import attrs

from ...engine.audit import read_audit
from ...engine.health import MIN_INSTANT
from ...engine.prune import prune_batch
from ...model import AuditEntry, AuditSource, Escalation, Integrity, NewPage, Pause
from ...ports import Transaction
from ...rules.retry import RetryPolicy, cancel, lease
from ..clock import ManualClock
from .harness import START, StoreHarness, incident, put, same

MINUTE = timedelta(minutes=1)


async def pauses_are_seen_by_all_until_they_end(harness: StoreHarness) -> None:
    """Every handle sees a pause until it ends or an operator ends it. A row that lifts the schedule stays."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    other = await harness.again(store)
    short = Pause(starts_at=start, ends_at=start + MINUTE, actor="ada", reason="ключ")
    long = Pause(starts_at=start, ends_at=start + 9 * MINUTE)
    lift = Pause(starts_at=start, ends_at=start + 5 * MINUTE, lifts_schedule=True)
    same([], await store.read(lambda tx: tx.operations.pauses(start)), "at first")
    for pause in (short, long, lift):
        await store.transact(lambda tx, pause=pause: tx.operations.add_pause(pause))  # type: ignore[misc]
    same([short, long, lift], await other.read(lambda tx: tx.operations.pauses(start)), "seen by the other handle")
    same([long, lift], await store.read(lambda tx: tx.operations.pauses(start + MINUTE)), "a minute later")
    now = start + 2 * MINUTE
    same(1, await other.transact(lambda tx: tx.operations.end_pauses(now)), "ended")
    same([lift], await store.read(lambda tx: tx.operations.pauses(now)), "what is left")
    same(0, await store.transact(lambda tx: tx.operations.end_pauses(now)), "ended again")
    earlier = await store.read(lambda tx: tx.operations.pauses(start + MINUTE))
    same([attrs.evolve(long, ends_at=now), lift], earlier, "the row has its new end")
    # The process that resumes may see an earlier instant than the process that paused.
    ahead = Pause(starts_at=now + MINUTE, ends_at=now + 9 * MINUTE)
    await store.transact(lambda tx: tx.operations.add_pause(ahead))
    same(1, await other.transact(lambda tx: tx.operations.end_pauses(now)), "ended before its start")
    covering = [
        each for each in await store.read(lambda tx: tx.operations.pauses(now)) if each.covers(now + 5 * MINUTE)
    ]
    same([], covering, "pauses in force")


async def a_request_is_taken_once(harness: StoreHarness) -> None:
    """A request's id is new once, across handles, until it expires. After a rollback it is new again."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    other = await harness.again(store)

    async def take(tx: Transaction) -> bool:
        return await tx.requests.claim_request_id("msg_1", now=now, expires=now + MINUTE)

    async def fail(tx: Transaction) -> None:
        assert await tx.requests.claim_request_id("msg_2", now=now, expires=now + MINUTE), "new"
        raise LookupError

    same([True, False], [await store.transact(take), await other.transact(take)], "twice")
    with suppress(LookupError):
        await store.transact(fail)
    for name, at, expected in (("msg_2", now, True), ("msg_1", now + MINUTE, True), ("MSG_1", now, True)):
        seen = await store.transact(
            lambda tx, name=name, at=at: tx.requests.claim_request_id(name, now=at, expires=at + MINUTE)  # type: ignore[misc]
        )
        same(expected, seen, f"{name} at {at}")


async def what_a_host_does_is_in_the_audit(harness: StoreHarness) -> None:
    """The audit has an entry for each action by a host's own SQL, as it has for the engine's actions."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    host = harness.host(store)
    await host.insert("k", severity="critical", first_seen=start)
    for columns in (
        {"acknowledged_at": start, "acknowledged_by": "ada"},
        {"summary": "no news"},
        {"acknowledged_at": None},
        {"severity": "warning"},
        {"level": 3},
        {"level": 2},
        {"snoozed_until": start + MINUTE},
        {"severity": "critical", "snoozed_until": None},
        {"snoozed_until": start + MINUTE / 120},
        {"resolved_at": start},
        {"resolved_at": None},
    ):
        await host.update("k", **columns)
    # Read from the first instant on: the trigger uses the database's clock, which is not the test's clock.
    entries = await store.read(lambda tx: read_audit(tx, since=MIN_INSTANT, limit=99, incident_key="k"))
    told = sorted((entry.action, entry.episode, entry.level, entry.actor) for entry in entries)
    expected = [
        ("acknowledge", 1, 0, "ada"),
        ("change_severity", 1, 0, None),
        ("change_severity", 2, 2, None),
        ("drain", 2, 2, None),
        ("open", 3, 0, None),
        ("resolve", 2, 2, None),
        *[("snooze", 2, 2, None)] * 3,
        ("unacknowledge", 1, 0, None),
    ]
    same(expected, told, "the audit")
    same({True}, {str(entry.reason).startswith("by SQL") for entry in entries}, "the reason")
    values = {
        str(entry.reason).partition(": ")[2] for entry in entries if entry.action in ("change_severity", "snooze")
    }
    ends = {f"until {(start + span).isoformat()}" for span in (MINUTE, MINUTE / 120)}
    same({"warning", "critical", "ended", *ends}, values, "the new values")


async def what_is_still_needed_is_not_pruned(harness: StoreHarness) -> None:
    """A prune deletes old rows in batches, but no row of an open incident or of a key's highest episode."""
    clock = ManualClock(START)
    store, old = await harness.open(clock), clock()
    await put(
        store,
        incident("open", clock, episode=2, level=1, next_due_at=old),
        incident("done", clock, episode=2, level=1, next_due_at=None, resolved_at=old),
        # A host that never resolves ends incidents by acknowledging. Two episodes began since the last escalation.
        incident("had", clock, episode=4, next_due_at=None, acknowledged_at=old),
    )
    steps = [(key, episode) for key in ("open", "done", "had", "gone") for episode in (1, 2)]
    for key, episode in steps:
        escalation = Escalation(incident_key=key, episode=episode, level=1, created_at=clock())
        page = NewPage(
            incident_key=key,
            episode=episode,
            level=1,
            target="t",
            dedup_key="d",
            undeliverable_reason=None if episode == 2 else "x",
        )
        note = AuditEntry(at=clock(), action="acknowledge", incident_key=key, episode=episode)

        async def write(tx: Transaction, e: Escalation = escalation, p: NewPage = page, n: AuditEntry = note) -> None:
            await tx.ledger.record([e])
            await tx.outbox.enqueue([p], clock())
            await tx.journal.note([n])

        await store.transact(write)
    later = [AuditEntry(at=clock(), action="open", incident_key="had", episode=episode) for episode in (3, 4)]
    await store.transact(lambda tx: tx.journal.note([*later, AuditEntry(at=clock(), action="pause")]))
    before = clock() + MINUTE

    async def prune(source: AuditSource, limit: int) -> tuple[int, int]:
        after: int | None = 0
        gone = of_them = 0
        while after is not None:
            batch = partial(prune_batch, source=source, before=before, after=after, limit=limit)
            after, count, pages = await store.transact(batch)
            gone, of_them = gone + count, of_them + pages
        return gone, of_them

    counted = Integrity(
        escalations=8, duplicates=0, without_page=0, without_escalation=0, pages={"dead": 4, "pending": 4}
    )
    same(counted, await store.read(lambda tx: tx.operations.integrity()), "the integrity")
    young = await store.transact(lambda tx: prune_batch(tx, source=AuditSource.NOTE, before=old, after=0, limit=99))
    same((None, 0, 0), young, "young rows")
    same((3, 3), await prune(AuditSource.ESCALATION, 4), "escalations and their pages")
    same((6, 0), await prune(AuditSource.NOTE, 1), "notes")
    noted = await store.read(lambda tx: read_audit(tx, since=MIN_INSTANT, limit=99))
    stay = [("done", 2), ("gone", 2), ("had", 4), ("open", 1), ("open", 2)]
    same(
        stay,
        sorted((e.incident_key, e.episode) for e in noted if e.action in ("acknowledge", "open")),
        "notes that stay",
    )
    left = [(e.incident_key, e.episode) for _, e in await store.read(lambda tx: tx.ledger.escalations(limit=99))]
    same([("open", 1), ("open", 2), ("done", 2), ("had", 2), ("gone", 2)], left, "escalations that stay")
    same(2, await store.read(lambda tx: tx.ledger.highest_episode("gone")), "the highest episode")
    after = await store.read(lambda tx: tx.operations.integrity())
    same((5, True), (after.escalations, after.holds), "the integrity afterwards")
    await store.transact(lambda tx: tx.journal.note([AuditEntry(at=clock(), action="resume")]))
    again = await store.read(lambda tx: read_audit(tx, since=MIN_INSTANT, limit=99))
    same(len(noted) + 1, len(again), "a later entry replaces none")
    ends = (old + MINUTE, old + 9 * MINUTE)
    for end in ends:
        await store.transact(lambda tx, end=end: tx.operations.add_pause(Pause(starts_at=old, ends_at=end)))  # type: ignore[misc]
    await store.transact(lambda tx: tx.requests.claim_request_id("m", now=old, expires=old + MINUTE))
    late = old + 2 * MINUTE
    same(1, await store.transact(lambda tx: tx.operations.delete_pauses(before=late)), "pauses deleted")
    same(1, await store.transact(lambda tx: tx.requests.delete_expired(now=late)), "ids deleted")
    await store.transact(lambda tx: tx.operations.add_pause(Pause(starts_at=late, ends_at=ends[1])))
    same(2, len(await store.read(lambda tx: tx.operations.pauses(late))), "pauses that stay")


async def an_escalation_goes_with_its_pages_or_stays(harness: StoreHarness) -> None:
    """An escalation with an unsettled or recently settled page stays. It is deleted together with its pages."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    for level in (1, 2, 3):
        await store.transact(lambda tx, level=level: _step(tx, clock, episode=1, level=level))  # type: ignore[misc]
    await store.transact(lambda tx: _step(tx, clock, episode=2, level=1))
    pages = await store.read(lambda tx: tx.outbox.pages(limit=9))
    early, late = start + MINUTE, start + 3 * MINUTE
    policy = RetryPolicy()
    settled = [
        cancel(lease(pages[0], policy, early), "ended", early),
        cancel(lease(pages[1], policy, late), "ended", late),
    ]
    await store.transact(lambda tx: tx.outbox.write(settled))
    for before, expected in ((start + 2 * MINUTE, (1, 1)), (start + 2 * MINUTE, (0, 0)), (start + 4 * MINUTE, (1, 1))):

        async def prune(tx: Transaction, before: datetime = before) -> tuple[int | None, int, int]:
            return await prune_batch(tx, source=AuditSource.ESCALATION, before=before, after=0, limit=99)

        same(expected, (await store.transact(prune))[1:], "deleted")
        same(True, (await store.read(lambda tx: tx.operations.integrity())).holds, "the integrity")
    left = [(e.episode, e.level) for _, e in await store.read(lambda tx: tx.ledger.escalations(limit=99))]
    same([(1, 3), (2, 1)], left, "what is left")
    recorded = await store.read(lambda tx: tx.ledger.highest([("k", 1)]))
    same(3, recorded["k", 1].level, "the highest level of an episode that is partly deleted")


async def _step(tx: Transaction, clock: ManualClock, *, episode: int, level: int) -> None:
    await tx.ledger.record([Escalation(incident_key="k", episode=episode, level=level, created_at=clock())])
    page = NewPage(incident_key="k", episode=episode, level=level, target="t", dedup_key=f"{episode}.{level}")
    await tx.outbox.enqueue([page], clock())


OPERATE_CHECKS = (
    an_escalation_goes_with_its_pages_or_stays,
    what_is_still_needed_is_not_pruned,
    what_a_host_does_is_in_the_audit,
    pauses_are_seen_by_all_until_they_end,
    a_request_is_taken_once,
)
