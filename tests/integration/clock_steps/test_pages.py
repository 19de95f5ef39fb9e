"""After a clock steps under a store, pages, leases and throttled targets do not wait longer. Each page goes once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import attrs
import pytest

from escalation_core import Engine, Incident, Retry, RetryPolicy, Store
from escalation_core.model import PageRecord, PageState
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import StoreHarness

from ...stepping import (
    DAY,
    HOUR,
    LATE,
    MINUTE,
    RETRY,
    SECOND,
    SETTINGS,
    ByKey,
    Receiver,
    assert_well,
    due,
    engine_of,
    leave_behind,
    open_incidents,
    pages,
)
from .steps import DEFAULT, FRESH, MOMENT, START, STEPS, TICK, Held, two_ticks

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")


@STEPS
async def test_pages_left_ahead_go_out(step: timedelta, store: Store, clock: ManualClock) -> None:
    """Within two ticks a new worker sends pages that were pending or waited for a retry or a target. Each goes once."""
    before = await leave_behind(store)
    clock.advance(-step)
    receiver = Receiver()
    await two_ticks(engine_of(store, receiver, "late"), clock)
    assert Counter(["busy", "down", "waiting"]) == receiver.count() - Counter(["gone"])
    assert Counter(["sent", "busy", "down", "gone"]) == before.count()


@STEPS
async def test_lease_of_a_sender_that_is_gone_ends_one_lease_later(
    step: timedelta, store: Store, clock: ManualClock
) -> None:
    """Another worker waits for one lease from the tick that noticed the step, then sends the page."""
    await leave_behind(store)
    clock.advance(-step)
    noticed = clock()
    receiver = Receiver()
    late = engine_of(store, receiver, "late")
    await late.tick()
    clock.set(noticed + RETRY.lease - MOMENT)
    await late.tick()
    assert 0 == receiver.count()["gone"]
    clock.set(noticed + RETRY.lease)
    await late.tick()
    assert Counter([*LATE]) == receiver.count()
    assert {PageState.DELIVERED} == {page.state for page in await pages(store)}


@STEPS
async def test_page_under_way_is_sent_once(
    step: timedelta, harness: StoreHarness, store: Store, clock: ManualClock
) -> None:
    """If the sender of a page keeps running during a step, no other worker sends a copy of the page."""
    slow, other = Held(), Receiver()
    sender = engine_of(store, slow, "sender")
    late = engine_of(await harness.again(store), other, "late")
    await open_incidents(sender, "sent")
    passing = asyncio.create_task(sender.tick())
    await slow.begun.wait()
    await asyncio.sleep(0)
    clock.advance(-step)
    await late.tick()
    clock.advance(RETRY.lease - MOMENT)
    await late.tick()
    slow.door.set()
    await passing
    await late.tick()
    assert [1, 0] == [len(slow.pages), len(other.pages)]
    [page] = await pages(store)
    assert PageState.DELIVERED is page.state


@STEPS
async def test_pass_that_the_clock_steps_back_in_tries_each_page_once(
    step: timedelta, store: Store, clock: ManualClock
) -> None:
    """A delivery pass takes pages that are due by the current clock, not by the clock when the pass began."""
    slow = Held({"down": Retry("down")})
    slow.doors["sent"] = asyncio.Event()
    engine = engine_of(store, slow, "w")
    await open_incidents(engine, "down", "sent")
    passing = asyncio.create_task(engine.tick())
    await slow.begun.wait()
    clock.advance(-step)
    slow.door.set()
    for _ in range(1000):
        if (await _page(store, "down")).attempts:
            break
        await asyncio.sleep(0.001)
    slow.doors["sent"].set()
    await passing
    assert Counter(["down", "sent"]) == slow.count()
    page = await _page(store, "down")
    assert (PageState.PENDING, 1) == (page.state, page.attempts)


async def _page(store: Store, target: str) -> PageRecord:
    """Return the one page to a target."""
    [found] = [page for page in await pages(store) if page.target == target]
    return found


@STEPS
async def test_step_forward_kills_no_page_under_way(step: timedelta, store: Store, clock: ManualClock) -> None:
    """A step forward during an attempt counts for at most one lease, so the page is tried again."""
    slow = Held({"down": Retry("down")})
    settings = attrs.evolve(SETTINGS, retry=RetryPolicy(horizon=3 * MINUTE))
    engine = engine_of(store, slow, "w", settings=settings)
    await open_incidents(engine, "down")
    passing = asyncio.create_task(engine.tick())
    await slow.begun.wait()
    clock.advance(step)
    slow.door.set()
    await passing
    [page] = await pages(store)
    assert (PageState.PENDING, 1) == (page.state, page.attempts)
    assert page.tried_for <= settings.retry.lease + settings.retry.first
    slow.answers = {}
    clock.advance(settings.retry.first)
    await engine.deliver()
    assert [PageState.DELIVERED] == [page.state for page in await pages(store)]


@pytest.mark.parametrize(
    "retry",
    [attrs.evolve(RETRY, lease=HOUR), attrs.evolve(RETRY, most_after=HOUR), attrs.evolve(RETRY, longest=HOUR)],
    ids=["lease", "Retry-After", "back-off"],
)
async def test_wait_that_no_setting_allows_ends_with_a_heartbeat(
    retry: RetryPolicy, store: Store, clock: ManualClock
) -> None:
    """Even without a step, a wait longer than lease, Retry-After and back-off allow ends now. A shorter wait stays."""
    settings = attrs.evolve(SETTINGS, retry=retry, snooze=DAY)
    await leave_behind(store, settings)
    waiting = {page.target: page for page in await pages(store)}
    due_at = {"waiting": START + HOUR, "down": START + HOUR + MOMENT, "busy": START}

    async def move(tx: Transaction) -> None:
        await tx.outbox.lock([page.id for page in waiting.values()])
        await tx.outbox.write([attrs.evolve(waiting[target], due_at=instant) for target, instant in due_at.items()])
        await tx.outbox.throttle_target("busy", START + HOUR + MOMENT)
        await tx.outbox.throttle_target("waiting", START + HOUR)

    await store.transact(move)
    receiver = Receiver()
    late = engine_of(store, receiver, "late", settings=settings)
    await late.tick()
    clock.advance(RETRY.most_after)
    await late.tick()
    assert [0, 1, 1] == [receiver.count()[target] for target in ("waiting", "down", "busy")]
    clock.set(due_at["waiting"])
    await late.tick()
    assert [1, 1, 1] == [receiver.count()[target] for target in ("waiting", "down", "busy")]


@FRESH
async def test_page_that_was_never_tried_goes_at_once(step: timedelta, store: Store, clock: ManualClock) -> None:
    """A page that was never tried is due since it was recorded, whichever waits the settings allow."""
    engine = engine_of(store, Receiver(), "w", settings=DEFAULT)
    await open_incidents(engine, "waiting")
    await engine.tick(deliver=False)
    clock.advance(-step)
    receiver = Receiver()
    await two_ticks(engine_of(store, receiver, "late", settings=DEFAULT), clock)
    assert Counter(["waiting"]) == receiver.count()


@FRESH
async def test_retries_and_holds_wait_no_longer_for_a_step(step: timedelta, store: Store, clock: ManualClock) -> None:
    """With default settings too, a retry and a throttled target wait as long as they had to before the step."""
    slow = Receiver({"busy": Retry("busy", after=2 * MINUTE, throttled=True), "down": Retry("down", after=MINUTE)})
    engine = engine_of(store, slow, "w", settings=DEFAULT)
    await open_incidents(engine, "busy", "down")
    await engine.tick()
    clock.advance(-step)
    receiver = Receiver()
    late = engine_of(store, receiver, "late", settings=DEFAULT)
    await two_ticks(late, clock)
    clock.set(START - step + MINUTE)
    await late.tick()
    assert 1 == receiver.count()["down"]
    clock.set(START - step + 2 * MINUTE)
    await late.tick()
    assert Counter(["busy", "down"]) == receiver.count()


@FRESH
async def test_lease_is_no_longer_for_a_step(step: timedelta, store: Store, clock: ManualClock) -> None:
    """With default settings too, a page whose sender is gone goes one lease after the tick that notices the step."""
    engine = engine_of(store, Receiver(stuck=["gone"]), "gone", settings=DEFAULT)
    await open_incidents(engine, "gone")
    await engine.tick(deliver=False)
    await engine._delivery.start_due()
    await engine._delivery.abandon()
    clock.advance(-step)
    receiver = Receiver()
    late = engine_of(store, receiver, "late", settings=DEFAULT)
    await late.tick()
    clock.set(START - step + DEFAULT.retry.lease)
    await late.tick()
    assert Counter(["gone"]) == receiver.count()


async def test_dry_run_uses_up_no_step(store: Store, clock: ManualClock) -> None:
    """If the first tick after a step back is a dry run, the next real tick corrects all waits."""
    engine = engine_of(store, Receiver(), "w", settings=DEFAULT)
    await open_incidents(engine, "waiting")
    await engine.tick(deliver=False)
    clock.advance(-5 * MINUTE)
    await engine_of(store, Receiver(), "dry", settings=DEFAULT).tick(dry_run=True)
    receiver = Receiver()
    late = engine_of(store, receiver, "late", settings=DEFAULT)
    await two_ticks(late, clock)
    assert Counter(["waiting"]) == receiver.count()
    assert await due(late, "waiting") <= clock() + SETTINGS.snooze
    await assert_well(late)


async def test_step_is_mended_for_targets_of_other_workers(
    harness: StoreHarness, store: Store, clock: ManualClock
) -> None:
    """The worker that notices the step brings forward every page, also pages to targets of other workers."""
    await leave_behind(store, DEFAULT)
    clock.advance(-5 * MINUTE)
    first, second = Receiver(), Receiver()
    first.targets, second.targets = ["busy"], ["down", "waiting", "gone"]
    team = [
        engine_of(await harness.again(store), receiver, name, settings=DEFAULT)
        for name, receiver in {"first": first, "second": second}.items()
    ]
    for engine in team:
        await engine.tick()
    clock.advance(DEFAULT.retry.throttle)
    for engine in team:
        await engine.tick()
    assert {"waiting", "down"} <= second.count().keys()
    clock.advance(DEFAULT.retry.lease)
    for engine in team:
        await engine.tick()
    assert 1 == second.count()["gone"]


# --- no heartbeat ahead of the clock


async def test_step_back_within_a_tick(store: Store, clock: ManualClock) -> None:
    """A tick takes its instant at its start. If the clock steps back before the tick ends, its pages still go out."""
    receiver = Receiver()
    engine = Engine(store, settings=SETTINGS, router=SteppingRouter(clock), notifiers=[receiver], worker="w")
    await open_incidents(engine, "sent")
    clock.advance(2 * DAY)
    await engine.tick(deliver=False)
    assert START == clock()
    began = clock()
    await two_ticks(engine, clock)
    assert Counter(["sent"]) == receiver.count()
    assert await due(engine, "sent") <= began + TICK + SETTINGS.snooze
    await assert_well(engine)


class SteppingRouter(ByKey):
    """A router like ByKey, which sets the clock to START while it routes."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        self.clock.set(START)
        return super().route(incident, level)


async def test_step_back_between_two_heartbeats(store: Store, clock: ManualClock) -> None:
    """A page whose attempt failed while the clock was ahead, for less than a tick interval, is tried again."""
    slow = Held({"down": Retry("down")})
    engine = engine_of(store, slow, "w")
    await open_incidents(engine, "down")
    passing = asyncio.create_task(engine.tick())
    await slow.begun.wait()
    clock.advance(2 * DAY)
    slow.door.set()
    await passing
    clock.set(START + SECOND)
    slow.answers = {}
    await two_ticks(engine, clock)
    assert 2 == slow.count()["down"]
    assert [PageState.DELIVERED] == [page.state for page in await pages(store)]
