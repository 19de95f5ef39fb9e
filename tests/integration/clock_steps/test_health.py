"""After a clock steps back under a store, health reports the step until one tick of a worker corrects it."""

import logging
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_core import Settings, Store
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import StoreHarness

from ...stepping import (
    DAY,
    HOUR,
    LATE,
    MINUTE,
    SECOND,
    SETTINGS,
    Receiver,
    assert_not_well,
    assert_well,
    due,
    engine_of,
    leave_behind,
    names_a_clock,
    open_incidents,
)
from .steps import MOMENT, START, STEPS, TICK, two_ticks

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")


@STEPS
async def test_health_says_it_until_a_worker_ticks(step: timedelta, store: Store, clock: ManualClock) -> None:
    """After the step health is not ok and names the step, until a worker ticks."""
    engine = engine_of(store, Receiver(), "w")
    await engine.tick()
    await assert_well(engine)
    clock.advance(-step)
    await assert_not_well(engine, step)
    for later in (TICK, 2 * TICK + MOMENT, MINUTE, step - 2 * SECOND - MOMENT):
        clock.set(START - step + later)
        await assert_not_well(engine, step - later)


async def test_clock_that_is_two_seconds_back_has_not_stepped(store: Store, clock: ManualClock) -> None:
    """A clock that is up to two seconds back has not stepped: corrections of a clock and late commits explain it."""
    engine = engine_of(store, Receiver(), "w")
    await engine.tick()
    clock.set(START - 2 * SECOND)
    await assert_well(engine)
    clock.set(START - 2 * SECOND - MOMENT)
    await assert_not_well(engine, 2 * SECOND + MOMENT)


async def test_worker_says_what_it_has_found(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker whose tick notices the step warns of it once, and says by how much."""
    engine = engine_of(store, Receiver(), "w")
    await engine.tick()
    assert not _warnings(caplog)
    clock.advance(-2 * DAY)
    await two_ticks(engine, clock)
    [warning] = _warnings(caplog)
    assert f"{(2 * DAY).total_seconds():.0f} s" in warning


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and names_a_clock([record.getMessage()])
    ]


@STEPS
async def test_one_tick_of_any_worker_heals_health(step: timedelta, store: Store, clock: ManualClock) -> None:
    """One tick of a new worker makes health ok, despite heartbeats that stopped workers wrote before the step."""
    for name in ("a", "b"):
        await engine_of(store, Receiver(), name).tick()
    clock.advance(-step)
    late = engine_of(store, Receiver(), "c")
    await late.tick()
    await assert_well(late)
    assert 1 == (await late.health()).workers
    # From now on health shows it if this worker stops ticking.
    clock.advance(2 * TICK + MOMENT)
    assert not (await late.health()).ok
    assert 2 * TICK + MOMENT == (await late.health()).tick_lag


@STEPS
async def test_worker_that_lives_through_it_writes_a_heartbeat_again(
    step: timedelta, store: Store, clock: ManualClock
) -> None:
    """A worker that wrote a heartbeat before the step writes one again with its first tick after the step."""
    engine = engine_of(store, Receiver(), "w")
    await engine.tick()
    clock.advance(-step)
    await engine.tick()
    await assert_well(engine)
    clock.advance(2 * TICK + MOMENT)
    assert not (await engine.health()).ok
    assert 2 * TICK + MOMENT == (await engine.health()).tick_lag


@pytest.mark.parametrize(
    ("settings", "pause"),
    [
        (SETTINGS, True),
        (attrs.evolve(SETTINGS, worker_enabled=False), False),
        (attrs.evolve(SETTINGS, v1=False), False),
    ],
    ids=["paused", "disabled", "v1 off"],
)
async def test_worker_that_is_held_back_heals_it_too(
    settings: Settings, pause: bool, store: Store, clock: ManualClock
) -> None:
    """A tick of a paused or disabled worker writes a heartbeat too, so health is ok after a step back."""
    await leave_behind(store)
    clock.advance(-2 * DAY)
    receiver = Receiver()
    late = engine_of(store, receiver, "late", settings=settings)
    if pause:
        await late.pause(HOUR)
    await two_ticks(late, clock)
    health = await late.health()
    assert (True, timedelta()) == (health.ok, health.clock_step)
    for key in LATE:
        assert await due(late, key) <= clock() + SETTINGS.snooze
    assert not receiver.pages
    if pause:
        await late.resume()
    free = engine_of(store, receiver, "free")
    await two_ticks(free, clock)
    assert {"busy", "down", "waiting"} <= receiver.count().keys()


async def test_store_that_was_made_ahead_is_not_well_without_a_worker(harness: StoreHarness) -> None:
    """A store was created while the clock was ahead, and no worker has ticked. After the step back health is not ok."""
    clock = ManualClock(datetime.now(UTC) + 2 * DAY)
    store = await harness.open(clock)
    engine = engine_of(store, Receiver(), "w")
    await open_incidents(engine, "sent")
    clock.advance(-4 * DAY)
    for _ in range(3):
        clock.advance(HOUR)
        assert not (await engine.health()).ok
        assert not await engine.is_healthy()
    await engine.tick()
    await assert_well(engine)
