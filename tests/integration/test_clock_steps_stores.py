"""A clock steps back under each store, to the microsecond: what shows, what heals with the next tick, what is left."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from escalation_core import Engine, Incident, Outcome, Page, Retry, RetryPolicy, Settings, Store
from escalation_core.model import Deferral, PageRecord, PageState
from escalation_core.ports import Transaction
from escalation_core.rules.gate import Mode
from escalation_core.rules.plan import MAX_DEFERRAL
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import StoreHarness

from ..conformance.harnesses import opened
from ..stepping import (
    DAY,
    HOUR,
    LATE,
    MINUTE,
    RETRY,
    SECOND,
    SETTINGS,
    ByKey,
    Receiver,
    assert_not_well,
    assert_well,
    due,
    engine_of,
    incident,
    leave_behind,
    names_a_clock,
    open_incidents,
    pages,
    steps,
)

pytestmark = pytest.mark.direct("what it checks lies beneath a pooler")

START = datetime(2025, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
TICK = SETTINGS.tick_interval
STEPS = pytest.mark.parametrize("step", [2 * DAY, 5 * MINUTE], ids=["two days", "five minutes"])


@pytest.fixture
def clock() -> ManualClock:
    """The store's clock."""
    return ManualClock(START)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    """A harness of each store."""
    async with opened(request, tmp_path) as made:
        yield made


@pytest.fixture
async def store(harness: StoreHarness, clock: ManualClock) -> Store:
    """An empty store that tells the time by ``clock``."""
    return await harness.open(clock)


async def two_ticks(engine: Engine, clock: ManualClock) -> None:
    """Tick, and once more an interval later."""
    await engine.tick()
    clock.advance(TICK)
    await engine.tick()


# --- what shows


@STEPS
async def test_health_says_it_until_somebody_ticks(step: timedelta, store: Store, clock: ManualClock) -> None:
    """Health is not ok from the step on, and names it, as long as no worker has ticked since."""
    engine = engine_of(store, Receiver(), "w")
    await engine.tick()
    await assert_well(engine)
    clock.advance(-step)
    await assert_not_well(engine, step)
    for later in (TICK, 2 * TICK + MOMENT, MINUTE, step - 2 * SECOND - MOMENT):
        clock.set(START - step + later)
        await assert_not_well(engine, step - later)


async def test_clock_that_is_two_seconds_back_has_not_stepped(store: Store, clock: ManualClock) -> None:
    """Up to two seconds are none: a clock that is kept right is moved by so much, and commits come late."""
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
    """A tick of one worker is enough, though others that are gone have left heartbeats of the time before."""
    for name in ("a", "b"):
        await engine_of(store, Receiver(), name).tick()
    clock.advance(-step)
    late = engine_of(store, Receiver(), "c")
    await late.tick()
    await assert_well(late)
    assert 1 == (await late.health()).workers
    # And from now on it is a worker like any other, whose silence shows.
    clock.advance(2 * TICK + MOMENT)
    assert not (await late.health()).ok
    assert 2 * TICK + MOMENT == (await late.health()).tick_lag


@STEPS
async def test_worker_that_lives_through_it_beats_again(step: timedelta, store: Store, clock: ManualClock) -> None:
    """The worker that had beaten before the step beats with its first tick after it."""
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
    """A tick that may do nothing else beats, and a step back is healed with it."""
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


# --- pages


@STEPS
async def test_pages_left_ahead_go_out(step: timedelta, store: Store, clock: ManualClock) -> None:
    """Pages that were pending, waited for a retry, or for a held target, are sent within two ticks, each once."""
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
    """A page whose sender lives through the step stays that sender's: no other worker sends a copy."""
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
    """A pass of delivery takes what is due by the clock as it stands, and not by how it stood when the pass began."""
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
    """However far the clock steps during an attempt, that counts for its lease at most: the page is tried again."""
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


class Held(Receiver):
    """A receiver whose answers wait until the door is open, or the target's own."""

    def __init__(self, answers: dict[str, Retry] | None = None) -> None:
        super().__init__(answers)
        self.begun, self.door = asyncio.Event(), asyncio.Event()
        self.doors: dict[str, asyncio.Event] = {}

    async def send(self, page: Page) -> Outcome:
        self.begun.set()
        await self.doors.get(page.target, self.door).wait()
        return await super().send(page)


@pytest.mark.parametrize(
    "retry",
    [attrs.evolve(RETRY, lease=HOUR), attrs.evolve(RETRY, most_after=HOUR), attrs.evolve(RETRY, longest=HOUR)],
    ids=["lease", "Retry-After", "back-off"],
)
async def test_wait_that_no_setting_allows_ends_with_a_heartbeat(
    retry: RetryPolicy, store: Store, clock: ManualClock
) -> None:
    """Without a step too, what is due later than any lease, Retry-After or back-off allows is due now; no more is."""
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


FRESH = pytest.mark.parametrize(
    "step", [2 * DAY, HOUR, 5 * MINUTE, 10 * SECOND], ids=["two days", "an hour", "five minutes", "ten seconds"]
)
DEFAULT = attrs.evolve(SETTINGS, retry=RetryPolicy())


@FRESH
async def test_page_that_was_never_tried_goes_at_once(step: timedelta, store: Store, clock: ManualClock) -> None:
    """A page that nobody has tried to send has been due since it was recorded, whatever waits the settings allow."""
    engine = engine_of(store, Receiver(), "w", settings=DEFAULT)
    await open_incidents(engine, "waiting")
    await engine.tick(deliver=False)
    clock.advance(-step)
    receiver = Receiver()
    await two_ticks(engine_of(store, receiver, "late", settings=DEFAULT), clock)
    assert Counter(["waiting"]) == receiver.count()


@FRESH
async def test_retries_and_holds_wait_no_longer_for_a_step(step: timedelta, store: Store, clock: ManualClock) -> None:
    """By default settings as well, a retry and a held target wait as long as they had to before the step."""
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
    """By default settings as well, a page whose sender is gone goes one lease after the tick that noticed the step."""
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
    """If a dry run is the first to tick after a step back, the next tick that may change something mends it all."""
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
    """The worker that notices the step brings forward every page, also those to targets that only others deliver to."""
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


# --- incidents


@STEPS
async def test_row_that_a_host_wrote_ahead_is_paged_in_time(
    step: timedelta, harness: StoreHarness, store: Store, clock: ManualClock
) -> None:
    """What a host inserted while the clock was ahead, and no tick had planned by then, counts from now on as well."""
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
    """What was opened while the clock was ahead counts from the tick that noticed the step, whoever recalculates."""
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
    # What was announced for later than any worker had been is left alone.
    assert announced == (await incident(engine, "new-2")).first_seen


@STEPS
async def test_incidents_count_on_from_now(step: timedelta, store: Store, clock: ManualClock) -> None:
    """What was escalated ahead rises again one snooze after the tick that noticed the step: not sooner, not later."""
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
    """However far a snooze lies ahead, until next year or the last one there is, it is meant."""
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
    """The recalculation of a step passes over open incidents without an instant: held, or at their maximum level."""
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
    """One that an operator asks for visits every open row, whatever else the step asks for."""
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


async def _hold(store: Store, *keys: str) -> None:
    """Take the instants of open incidents away, and note it, as ``--existing skip`` does."""

    async def work(tx: Transaction) -> None:
        for key in keys:
            found = await tx.incidents.load(key)
            assert found is not None
            await tx.incidents.save(attrs.evolve(found, next_due_at=None))
        held_before = await tx.now() + MOMENT
        await tx.journal.save_recalc(attrs.evolve(await tx.journal.recalc(), held_before=held_before))

    await store.transact(work)


async def test_level_that_was_recorded_ahead_is_caught_up_with(store: Store, clock: ManualClock) -> None:
    """A row that has lost a level which is recorded, at an instant that is still to come, rises one snooze from now."""
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
    """However many workers tick at once after a step, one mends it: no wait is made shorter twice, none asks again."""
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
    """However many batches it takes, every incident counts from now on, and those without an instant stay alone."""
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
    """A row that was passed over while the clock was ahead is tried again once the step was noticed."""
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


# --- pauses


@STEPS
async def test_pause_that_was_set_ahead_lasts_as_long_as_it_was_meant(
    step: timedelta, store: Store, clock: ManualClock
) -> None:
    """It holds from the tick that noticed the step on, for the rest of its time; and never begins by itself later."""
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


# --- where no heartbeat lies ahead


async def test_step_back_within_a_tick(store: Store, clock: ManualClock) -> None:
    """A tick takes its instant at its beginning; if the clock steps back before its end, its pages go all the same."""
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
    """Routes as the others do, and puts a clock to START meanwhile."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        self.clock.set(START)
        return super().route(incident, level)


async def test_step_back_between_two_heartbeats(store: Store, clock: ManualClock) -> None:
    """A page whose attempt failed while the clock was ahead, for less than a tick, is tried again all the same."""
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


async def test_store_that_was_made_ahead_is_not_well_without_a_worker(harness: StoreHarness) -> None:
    """Where nobody has ever ticked, a store that was made by a clock that was ahead does not look well for that."""
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
