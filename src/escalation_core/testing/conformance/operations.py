"""The Operations port: pauses that every worker sees, and requests that are taken once."""

from contextlib import suppress
from datetime import timedelta

import attrs

from ...health import BEGINNING
from ...pausing import Pause
from ...ports import Transaction
from ..clock import ManualClock
from .harness import StoreHarness, same

MINUTE = timedelta(minutes=1)


async def pauses_are_seen_by_all_until_they_end(harness: StoreHarness) -> None:
    """A pause is seen by every handle until it ends or is ended; what lifts the schedule is not ended with it."""
    clock = ManualClock()
    store, start = await harness.open(clock), clock()
    other = await harness.again(store)
    short = Pause(starts_at=start, ends_at=start + MINUTE, actor="ada", reason="ключ")
    long = Pause(starts_at=start, ends_at=start + 9 * MINUTE)
    lift = Pause(starts_at=start, ends_at=start + 5 * MINUTE, lifts_schedule=True)
    same([], await store.read(lambda tx: tx.operations.pauses(start)), "at first")
    for pause in (short, long, lift):
        await store.transact(lambda tx, pause=pause: tx.operations.add_pause(pause))  # type: ignore[misc]
    same([short, long, lift], await other.read(lambda tx: tx.operations.pauses(start)), "elsewhere")
    same([long, lift], await store.read(lambda tx: tx.operations.pauses(start + MINUTE)), "a minute later")
    now = start + 2 * MINUTE
    same(1, await other.transact(lambda tx: tx.operations.end_pauses(now)), "ended")
    same([lift], await store.read(lambda tx: tx.operations.pauses(now)), "what is left")
    same(0, await store.transact(lambda tx: tx.operations.end_pauses(now)), "ended again")
    earlier = await store.read(lambda tx: tx.operations.pauses(start + MINUTE))
    same([attrs.evolve(long, ends_at=now), lift], earlier, "the row tells when it ended")


async def a_request_is_taken_once(harness: StoreHarness) -> None:
    """A request's id is new once, for every handle, until it has expired; one that is taken back is new again."""
    clock = ManualClock()
    store, now = await harness.open(clock), clock()
    other = await harness.again(store)

    async def take(tx: Transaction) -> bool:
        return await tx.operations.remember("msg_1", now=now, expires=now + MINUTE)

    async def fail(tx: Transaction) -> None:
        assert await tx.operations.remember("msg_2", now=now, expires=now + MINUTE), "new"
        raise LookupError

    same([True, False], [await store.transact(take), await other.transact(take)], "twice")
    with suppress(LookupError):
        await store.transact(fail)
    for name, at, expected in (("msg_2", now, True), ("msg_1", now + MINUTE, True), ("MSG_1", now, True)):
        seen = await store.transact(
            lambda tx, name=name, at=at: tx.operations.remember(name, now=at, expires=at + MINUTE)  # type: ignore[misc]
        )
        same(expected, seen, f"{name} at {at}")


async def what_a_host_does_is_in_the_audit(harness: StoreHarness) -> None:
    """An acknowledgement, a resolution and the like by a host's own SQL are told like those by the API."""
    clock = ManualClock()
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
        {"resolved_at": start},
        {"resolved_at": None},
    ):
        await host.update("k", **columns)
    # By its own clock, which on a database is not the test's.
    entries = await store.read(lambda tx: tx.journal.audit(since=BEGINNING, limit=99, incident_key="k"))
    told = sorted((entry.action, entry.episode, entry.level, entry.actor) for entry in entries)
    expected = [
        ("acknowledge", 1, 0, "ada"),
        ("drain", 2, 2, None),
        ("open", 3, 0, None),
        ("resolve", 2, 2, None),
        ("unacknowledge", 1, 0, None),
    ]
    same(expected, told, "the audit")
    same({True}, {str(entry.reason).startswith("by SQL") for entry in entries}, "the reason")


CHECKS = (what_a_host_does_is_in_the_audit, pauses_are_seen_by_all_until_they_end, a_request_is_taken_once)
