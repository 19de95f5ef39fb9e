"""Checks of the list of open incidents: the ports' ``list_open``, ``left_alone`` and ``pages_of``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from ...model import NEEDS_REPLAN, Candidate, Deferral, NewPage
from ...ports import Transaction
from ..clock import ManualClock
from .harness import START, StoreHarness, incident, put, same

MINUTE = timedelta(minutes=1)


async def open_rows_are_listed_in_order(harness: StoreHarness) -> None:
    """``list_open`` returns open rows by (next_due_at, key), then those without it by key, in parts of any size."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(
        store,
        *(incident(key, clock) for key in ("Ж", "b", "a")),
        incident("later", clock, next_due_at=now + timedelta(microseconds=1)),
        incident("replan", clock, next_due_at=NEEDS_REPLAN),
        incident("last", clock, next_due_at=None),
        incident("exhausted", clock, next_due_at=None, level=7),
        incident("acknowledged", clock, next_due_at=None, acknowledged_at=now),
        incident("resolved", clock, next_due_at=None, resolved_at=now),
    )
    ordered = ["replan", "a", "b", "Ж", "later", "exhausted", "last"]

    async def listed(limit: int, until: datetime | None = None) -> list[str]:
        keys: list[str] = []
        after: tuple[datetime | None, str] | None = None
        while True:
            part = await store.read(partial(_listed, after=after, limit=limit, until=until))
            keys += [row.incident_key for row in part]
            if len(part) < limit:
                return keys
            after = part[-1].due_at, part[-1].incident_key

    for limit in (1, 2, 3, 5, 9):
        same(ordered, await listed(limit), f"in parts of {limit}")
        same(ordered[:4], await listed(limit, now), f"due by now, in parts of {limit}")
    await harness.host(store).insert("bad", first_seen=now, level=-1, next_due_at=now)
    rows = await store.read(lambda tx: tx.incidents.list_open(after=None, limit=9))
    [bad] = [row for row in rows if row.incident_key == "bad"]
    assert bad.incident is None, "a row that cannot be read is listed"
    assert "level" in (bad.fault or ""), "its fault is listed"


async def deferrals_and_pages_are_read_for_many(harness: StoreHarness) -> None:
    """``left_alone`` and ``pages_of`` answer for many rows at once, and leave out what was not asked for."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    await put(store, *(incident(key, clock) for key in "abc"))

    async def write(tx: Transaction) -> None:
        await tx.incidents.defer_unreadable([_deferral("a", now)], now)
        await tx.incidents.pass_over([_deferral("b", now)], now)
        asked = [("a", 1), ("a", 2), ("b", 1), ("c", 1)]
        pages = [
            NewPage(incident_key=key, episode=episode, level=level, target=target, dedup_key=f"{key}{episode}{level}")
            for key, episode in asked
            for level in (1, 2)
            for target in ("t", "u")
        ]
        await tx.outbox.enqueue(pages, now)

    await store.transact(write)
    found = await store.read(lambda tx: tx.incidents.left_alone(["a", "b", "c", "unknown"]))
    same({"a": _deferral("a", now), "b": _deferral("b", now)}, dict(found), "the deferrals")
    same({}, dict(await store.read(lambda tx: tx.incidents.left_alone([]))), "nothing was asked for")
    pages = await store.read(lambda tx: tx.outbox.pages_of([("a", 2), ("b", 1), ("unknown", 1)]))
    steps = [(page.incident_key, page.episode, page.level, page.target) for page in pages]
    wanted = [
        (key, episode, level, target) for key, episode in (("a", 2), ("b", 1)) for level in (1, 2) for target in "tu"
    ]
    same(wanted, steps, "the pages, by id")
    same([], list(await store.read(lambda tx: tx.outbox.pages_of([]))), "nothing was asked for")


def _deferral(key: str, now: datetime) -> Deferral:
    return Deferral(incident_key=key, fault="wrong", attempts=2, until=now + 5 * MINUTE)


async def _listed(
    tx: Transaction, *, after: tuple[datetime | None, str] | None, limit: int, until: datetime | None
) -> Sequence[Candidate]:
    return await tx.incidents.list_open(after=after, limit=limit, until=until)


OPERATE_CHECKS = (open_rows_are_listed_in_order, deferrals_and_pages_are_read_for_many)
