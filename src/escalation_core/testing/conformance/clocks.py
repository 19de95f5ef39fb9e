"""Checks with a clock that stepped back: heartbeats, pages, throttles and pauses whose instants are ahead of it."""

from datetime import datetime, timedelta

import attrs

from ...model import Canary, NewPage, PageRecord, Pause
from ...ports import Store
from ...rules.pace import may_send_at
from ...rules.retry import RetryPolicy, cancel, lease
from ..clock import ManualClock
from .harness import START, StoreHarness, beat, incident, put, same

MINUTE = timedelta(minutes=1)
RETRIES = RetryPolicy()


async def heartbeats_ahead_of_the_clock_are_written_anew(harness: StoreHarness) -> None:
    """The next heartbeat of any worker returns a heartbeat that is too far ahead of the clock, and deletes it."""
    clock = ManualClock(START)
    store, start = await harness.open(clock), clock()
    await beat(store, clock, "one", start + timedelta(days=2))
    await beat(store, clock, "two", start + timedelta(days=2), tolerance=timedelta(days=3))
    same(start + timedelta(days=2), await beat(store, clock, "two", start), "the heartbeat before")
    last = await store.read(lambda tx: tx.journal.last_heartbeat(clock()))
    same((start, 1), (last.last, last.workers), "the worker that has ticked since")
    same(start, await beat(store, clock, "one", start + timedelta(seconds=2)), "the heartbeat before that")
    last = await store.read(lambda tx: tx.journal.last_heartbeat(clock()))
    same((start + timedelta(seconds=2), 2), (last.last, last.workers), "both")


async def pages_from_ahead_of_the_clock_are_brought_forward(harness: StoreHarness) -> None:
    """Pages and throttles beyond the furthest valid instant become due now; after a step, all that are ahead move."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    hour, day = now + timedelta(hours=1), now + timedelta(days=1)
    ends = now + RETRIES.lease
    names = ("new", "tried", "leased", "settled", "soon", "not served")
    await put(store, incident("a", clock))
    await store.transact(lambda tx: tx.outbox.enqueue([_page(name) for name in names], now))
    pages = {page.target: page for page in await _pages(store)}

    async def set_due(at: datetime, soon: datetime) -> None:
        tried = attrs.evolve(pages["tried"], attempts=1, reason="down")
        written = [
            attrs.evolve(pages["new"], due_at=at),
            attrs.evolve(tried, due_at=at),
            lease(pages["leased"], RETRIES, at),
            cancel(pages["settled"], "ended", at),
            attrs.evolve(tried, id=pages["soon"].id, target="soon", due_at=soon),
            attrs.evolve(pages["not served"], due_at=at),
        ]
        await store.transact(lambda tx: tx.outbox.write(written))
        fences = await store.read(lambda tx: tx.outbox.fences([*(page.id for page in written), 10**9]))
        same({page.id: page.fence for page in written}, dict(fences), "the fences")

    async def forward(step: timedelta) -> tuple[int, dict[str, datetime]]:
        count = await store.transact(
            lambda tx: tx.outbox.bring_forward(names[:5], now=now, step=step, beyond=hour, lease_ends=ends)
        )
        return count, {page.target: page.due_at for page in await _pages(store)}

    await set_due(day, hour)
    for target, until in (("tried", day), ("soon", hour)):
        await store.transact(lambda tx, name=target, until=until: tx.outbox.throttle_target(name, until))  # type: ignore[misc]
    due = {"new": now, "tried": now, "leased": ends, "settled": day, "soon": hour, "not served": day}
    same((3, due), await forward(timedelta()), "at any heartbeat")
    for target, until in (("tried", now), ("soon", hour)):
        seen = await store.next_due(canary=Canary(), pages=True)
        same(until, may_send_at(None, seen.targets[target], now), f"the throttle of {target}")
    five = now + 5 * MINUTE
    await set_due(five, hour)
    due = {"new": now, "tried": now + MINUTE, "leased": ends, "settled": five, "soon": hour - 4 * MINUTE}
    same((4, due | {"not served": five}), await forward(4 * MINUTE), "after a step")
    seen = await store.next_due(canary=Canary(), pages=True)
    same(hour - 4 * MINUTE, may_send_at(None, seen.targets["soon"], now), "the throttle after a step")


async def pauses_from_ahead_of_the_clock_are_shifted(harness: StoreHarness) -> None:
    """Pauses that begin after now move back by the step, and begin now at the latest; other pauses stay."""
    clock = ManualClock(START)
    store, now = await harness.open(clock), clock()
    spans = [(now - MINUTE, now + MINUTE), (now + 5 * MINUTE, now + 9 * MINUTE), (now + 3 * MINUTE, now + 6 * MINUTE)]
    for start, end in spans:
        one = Pause(starts_at=start, ends_at=end)
        await store.transact(lambda tx, one=one: tx.operations.add_pause(one))  # type: ignore[misc]
    await store.transact(lambda tx: tx.operations.shift_pauses(now, 4 * MINUTE))
    shifted = await store.read(lambda tx: tx.operations.pauses(now - MINUTE))
    expected = [spans[0], (now, now + 5 * MINUTE), (now - MINUTE, now + 2 * MINUTE)]
    same(expected, [(pause.starts_at, pause.ends_at) for pause in shifted], "the pauses")


async def _pages(store: Store) -> list[PageRecord]:
    return list(await store.read(lambda tx: tx.outbox.pages(limit=99)))


def _page(target: str) -> NewPage:
    return NewPage(incident_key="a", episode=1, level=1, target=target, dedup_key="d")


CHECKS = (
    heartbeats_ahead_of_the_clock_are_written_anew,
    pages_from_ahead_of_the_clock_are_brought_forward,
)
OPERATE_CHECKS = (pauses_from_ahead_of_the_clock_are_shifted,)
