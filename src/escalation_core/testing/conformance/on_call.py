"""Checks of the port ``Walks`` for who is on call: overrides, and what escalations and pages keep."""

from datetime import timedelta
from functools import partial

from ...model import Escalation, LevelOutcome, NewPage, ShiftOverride, WalkStats
from ...ports import Store, Transaction
from ..clock import ManualClock
from .harness import START, StoreHarness, incident, put, same, walks

MINUTE = timedelta(minutes=1)


async def who_is_on_call_comes_back(harness: StoreHarness) -> None:
    """Overrides come back in the order in which they were made, until they end. Pages keep their schedules.

    The escalations of the last day that paged the default target are counted.
    """
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()

    def override(person: str, start: int, end: int, actor: str | None = None) -> ShiftOverride:
        return ShiftOverride(
            schedule="prímary",
            person=person,
            starts_at=now + start * MINUTE,
            ends_at=now + end * MINUTE,
            made_at=now,
            actor=actor,
            reason=actor and "swap",
        )

    made = [override("cid", 5, 9, "ann"), override("bob", 0, 5), override("ann", -9, -5)]
    for one in made:
        await store.transact(partial(_add_override, one))
    same(made[:2], list(await store.read(lambda tx: walks(tx).overrides(now))), "overrides that have not ended")
    same(made[:1], list(await store.read(lambda tx: walks(tx).overrides(now + 5 * MINUTE))), "the end is excluded")
    same(0, await store.transact(lambda tx: walks(tx).delete_overrides(before=now - 5 * MINUTE)), "none is older")
    same(1, await store.transact(lambda tx: walks(tx).delete_overrides(before=now)), "one has ended")
    same(made, [*await store.read(lambda tx: walks(tx).overrides(now - 9 * MINUTE)), made[2]], "the others stay")

    await put(store, incident("a", clock))
    page = NewPage(
        incident_key="a", episode=1, level=1, target="x", dedup_key="d", via="oncall:prímary", schedule_digest="5f"
    )
    await store.transact(lambda tx: tx.outbox.enqueue([page], now))
    for records in (
        await store.read(lambda tx: tx.outbox.pages(limit=9)),
        await store.read(lambda tx: tx.outbox.pages_of([("a", 1)])),
        [one.page for one in await store.transact(lambda tx: tx.outbox.claim({"x": 1}, now=now, until=now))],
    ):
        same([("oncall:prímary", "5f")], [(one.via, one.schedule_digest) for one in records], "the page")

    ages = {1: timedelta(hours=23), 2: timedelta(hours=25), 3: timedelta()}
    outcomes = {1: LevelOutcome.DEFAULT, 2: LevelOutcome.DEFAULT, 3: LevelOutcome.NOBODY}
    await store.transact(
        lambda tx: tx.ledger.record(
            [
                Escalation(incident_key="a", episode=1, level=n, created_at=now - age, outcome=outcomes[n])
                for n, age in ages.items()
            ]
        )
    )
    same(1, (await _stats(store)).nobody_on_call, "one escalation of the last day paged the default target")


async def _add_override(override: ShiftOverride, tx: Transaction) -> None:
    await walks(tx).add_override(override)


async def _stats(store: Store) -> WalkStats:
    async def count(tx: Transaction) -> WalkStats:
        return await walks(tx).stats(await tx.now())

    return await store.read(count)


CHECKS = (who_is_on_call_comes_back,)
