"""After a clock steps back under a store, incidents and pauses count from the tick that notices the step."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_core import Retry, Store
from escalation_core.model import Deferral
from escalation_core.rules.gate import Mode
from escalation_core.rules.plan import MAX_DEFERRAL
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import StoreHarness

from ...stepping import (
    DAY,
    HOUR,
    LATE,
    MINUTE,
    SETTINGS,
    Receiver,
    assert_well,
    due,
    engine_of,
    incident,
    leave_behind,
    open_incidents,
    pages,
    steps,
)
from .steps import DEFAULT, MOMENT, START, STEPS, TICK, _hold, two_ticks

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")


@STEPS
async def test_row_that_a_host_wrote_ahead_is_paged_in_time(
    step: timedelta, harness: StoreHarness, store: Store, clock: ManualClock
) -> None:
    """A host inserts a row while the clock is ahead, and no tick plans it. The row's window begins after the step."""
    receiver = Receiver()
    engine = engine_of(store, receiver, "w")
    await engine.tick()
    await harness.host(store).insert("new-1", severity="critical", first_seen=clock())
    clock.advance(-step)
    await two_ticks(engine, clock)
    clock.advance(SETTINGS.critical_window)
    await engine.tick()
    assert ["new-1"] == [page.incident.incident_key for page in receiver.pages]
    assert 0 == (await engine.health()).stats.unreadable


@STEPS
@pytest.mark.parametrize("asked", ["never", "before the step", "after it"])
async def test_incident_opened_ahead_is_paged_in_time(
    asked: str, step: timedelta, store: Store, clock: ManualClock
) -> None:
    """An incident opened before the step counts from the tick that notices the step, with or without recalculation."""
    receiver = Receiver()
    engine = engine_of(store, receiver, "w")
    await engine.tick()
    await engine.open("new-1", severity="critical")
    announced = clock() + HOUR
    await engine.open("new-2", severity="critical", first_seen=announced)
    if asked == "before the step":
        await engine.request_recalc(by="operator")
    clock.advance(-step)
    if asked == "after it":
        await engine.request_recalc(by="operator")
    await two_ticks(engine, clock)
    assert await due(engine, "new-1") <= clock() + SETTINGS.snooze
    clock.advance(SETTINGS.critical_window)
    await engine.tick()
    assert ["new-1"] == [page.incident.incident_key for page in receiver.pages]
    # The engine leaves alone a first_seen that is later than any tick of a worker.
    assert announced == (await incident(engine, "new-2")).first_seen


@STEPS
async def test_incidents_count_on_from_now(step: timedelta, store: Store, clock: ManualClock) -> None:
    """An incident that escalated before the step escalates again exactly one snooze after the tick that notices it."""
    await leave_behind(store)
    clock.advance(-step)
    receiver = Receiver()
    late = engine_of(store, receiver, "late")
    noticed = clock()
    await late.tick()
    for key in ("sent", *LATE):
        assert noticed + SETTINGS.snooze == await due(late, key)
        assert noticed == (await incident(late, key)).last_escalated_at
    clock.set(noticed + SETTINGS.snooze - MOMENT)
    assert 0 == (await late.tick()).escalated
    clock.set(noticed + SETTINGS.snooze)
    assert 5 == (await late.tick()).escalated
    assert sorted((key, 1, level) for key in ("sent", *LATE) for level in (1, 2)) == await steps(store)


async def test_snoozes_are_left_alone(store: Store, clock: ManualClock) -> None:
    """A step back leaves snoozes alone, even a snooze until next year or until the year 9999."""
    engine = engine_of(store, Receiver(), "w")
    until = {"snoozed-1": START + 365 * DAY, "snoozed-2": datetime(9999, 12, 1, tzinfo=UTC)}
    await open_incidents(engine, *until)
    for key, instant in until.items():
        await engine.snooze(key, instant)
    await engine.tick()
    clock.advance(-2 * DAY)
    await two_ticks(engine, clock)
    for key, instant in until.items():
        assert instant == await due(engine, key)
        assert instant == (await incident(engine, key)).snoozed_until


async def test_what_has_no_instant_is_left_alone(store: Store, clock: ManualClock) -> None:
    """The recalculation after a step leaves alone held and exhausted incidents, which have no next_due_at."""
    await leave_behind(store, attrs.evolve(SETTINGS, max_level=1))
    engine = engine_of(store, Receiver(), "w")
    await open_incidents(engine, "held-1")
    await _hold(store, "held-1")
    clock.advance(-2 * DAY)
    await two_ticks(engine, clock)
    assert (await engine.health()).ok
    for key in ("held-1", "sent", *LATE):
        assert (await incident(engine, key)).next_due_at is None
    assert sorted((key, 1, 1) for key in ("sent", *LATE)) == await steps(store)


@pytest.mark.parametrize("asked", ["before the step", "after it"])
async def test_operators_recalculation_is_taken_up(asked: str, store: Store, clock: ManualClock) -> None:
    """A recalculation that an operator requests before or after a step visits every open row, also held rows."""
    receiver = Receiver()
    engine = engine_of(store, receiver, "w")
    await engine.tick()
    await open_incidents(engine, "held-1")
    await _hold(store, "held-1")
    if asked == "before the step":
        await engine.request_recalc(by="operator")
    clock.advance(-2 * DAY)
    if asked == "after it":
        await engine.request_recalc(by="operator")
    await two_ticks(engine, clock)
    assert Counter(["held"]) == receiver.count()
    recalc = (await engine.health()).recalc
    assert recalc.requested_at is None
    assert recalc.finished_at is not None
    assert recalc.finished_at <= clock()


async def test_level_that_was_recorded_ahead_is_caught_up_with(store: Store, clock: ManualClock) -> None:
    """A row has lost a level that is recorded at a later instant. The incident escalates one snooze from now."""
    engine = engine_of(store, Receiver(), "w")
    await open_incidents(engine, "sent")
    born = await incident(engine, "sent")
    await engine.tick()
    clock.advance(-2 * DAY)
    await two_ticks(engine, clock)
    began = clock()
    lost = attrs.evolve(born, next_due_at=began)
    await store.transact(lambda tx: tx.incidents.save(lost))
    assert 1 == (await engine.tick()).skipped_idempotent
    assert began + SETTINGS.snooze == await due(engine, "sent")
    clock.set(began + SETTINGS.snooze)
    assert 1 == (await engine.tick()).escalated
    assert [("sent", 1, 1), ("sent", 1, 2)] == await steps(store)


async def test_workers_that_notice_it_at_once_mend_it_once(
    harness: StoreHarness, store: Store, clock: ManualClock
) -> None:
    """Six workers tick at once after a step, and one corrects the waits: none shrinks twice, and one recalc starts."""
    receiver = Receiver({"busy": Retry("busy", after=30 * MINUTE, throttled=True), "down": Retry("down", 30 * MINUTE)})
    team = [engine_of(await harness.again(store), receiver, f"w{number}", settings=DEFAULT) for number in range(6)]
    await open_incidents(team[0], "busy", "down")
    for engine in team:
        await engine.tick()
    clock.advance(-10 * MINUTE)
    await asyncio.gather(*(engine.tick() for engine in team))
    await assert_well(team[0])
    assert {"busy": clock() + 30 * MINUTE, "down": clock() + 30 * MINUTE} == {
        page.target: page.due_at for page in await pages(store)
    }
    asked = [entry for entry in await team[0].audit(clock() - DAY) if entry.action == "recalc"]
    assert 1 == len(asked)
    clock.advance(30 * MINUTE - MOMENT)
    await asyncio.gather(*(engine.tick() for engine in team))
    assert Counter(["busy", "down"]) == receiver.count()


async def test_recalculation_of_a_step_goes_on_batch_by_batch(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recalculation after a step may take many batches. Each incident counts from now; held ones stay as they are."""
    monkeypatch.setattr("escalation_core.engine.recalc.BATCH", 2)
    engine = engine_of(store, Receiver(), "w")
    keys = [f"sent-{number}" for number in range(7)]
    await open_incidents(engine, *keys, "held-1", "held-2", "held-3")
    await _hold(store, "held-1", "held-2", "held-3")
    await engine.tick()
    clock.advance(-2 * DAY)
    began = clock()
    await two_ticks(engine, clock)
    for key in keys:
        assert began <= await due(engine, key) <= began + TICK + SETTINGS.snooze
    for number in range(1, 4):
        assert (await incident(engine, f"held-{number}")).next_due_at is None


@STEPS
async def test_row_that_was_refused_ahead_is_tried_again(step: timedelta, store: Store, clock: ManualClock) -> None:
    """After a step the engine tries a row again that it had passed over while the clock was ahead."""
    receiver = Receiver()
    engine = engine_of(store, receiver, "w")
    await open_incidents(engine, "sent")
    row = Deferral(incident_key="sent", fault="refused", attempts=1, until=START + MAX_DEFERRAL)
    await store.transact(lambda tx: tx.incidents.pass_over([row], START))
    await engine.tick()
    assert not receiver.pages
    clock.advance(-step)
    await two_ticks(engine, clock)
    assert Counter(["sent"]) == receiver.count()
    assert 0 == (await engine.health()).stats.unreadable


@STEPS
async def test_pause_that_was_set_ahead_lasts_as_long_as_it_was_meant(
    step: timedelta, store: Store, clock: ManualClock
) -> None:
    """A pause from before the step lasts its remaining time from the tick that notices the step. It never recurs."""
    receiver = Receiver()
    engine = engine_of(store, receiver, "w")
    await engine.tick()
    await engine.pause(HOUR, by="operator")
    clock.advance(-step)
    await engine.tick()
    noticed, health = clock(), await engine.health()
    assert (Mode.PAUSED, "operator") == (health.mode, health.paused_by)
    assert health.paused_until == noticed + HOUR
    await open_incidents(engine, "sent")
    await engine.tick()
    assert not receiver.pages
    clock.set(noticed + HOUR)
    await engine.tick()
    assert Counter(["sent"]) == receiver.count()
    for later in (step, step + HOUR / 2, step + HOUR):
        clock.set(noticed + max(later, HOUR))
        assert Mode.OPEN is (await engine.health()).mode
