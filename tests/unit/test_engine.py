"""The tick and what surrounds it, through the engine on the store that is the reference."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

import attrs
import pytest

from escalation_core import (
    AuditEntry,
    Engine,
    Escalation,
    EscalationError,
    Incident,
    InvalidValue,
    Notifier,
    Retry,
    Route,
    Settings,
    StoreNotReady,
    StoreUnavailable,
    TickReport,
    TransitionRefused,
)
from escalation_core.engine.heartbeat import HeartbeatKeeper
from escalation_core.model import NEEDS_REPLAN, Canary, Candidate, NextDue, Stats
from escalation_core.ports import Transaction
from escalation_core.rules.gate import Mode
from escalation_core.rules.plan import Decision, plan
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.incidents import Incidents
from escalation_core.testing.memory.journal import Journal

from .kit import DAY, HOUR, MINUTE, SECOND, START, GatedNotifier, actions, incident, picture, put, row, states

Result = TypeVar("Result")
TICK = timedelta(microseconds=1)
PAUSE: dict[str, Any] = {"pause_cron": "0 0 * * *", "pause_length": HOUR}
"""A pause from START for an hour."""
HELD: list[dict[str, Any]] = [{"worker_enabled": False}, {"v1": False}, PAUSE]
HELD_IDS = ["disabled", "v1-off", "paused"]


def engine_of(store: MemoryStore, *notifiers: Notifier, **fields: Any) -> Engine:
    """Return an engine with these settings, and a notifier unless some are given."""
    return Engine(store, settings=Settings(**fields), notifiers=notifiers or [RecordingNotifier()], worker="w")


async def ticks(engine: Engine, clock: ManualClock, *waits: timedelta) -> list[int]:
    """Wait and tick, once for each wait; return how many incidents escalated each time."""
    counts = []
    for wait in waits:
        clock.advance(wait)
        counts.append((await engine.tick()).escalated)
    return counts


class RunningClock:
    """A clock that moves on by a minute each time it is asked."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += MINUTE
        return self.now


# --- one instant, one level, one flight


async def test_tick_takes_its_instant_once() -> None:
    """All batches of a tick have one instant: what becomes due while it runs is left for the next."""
    clock = RunningClock()
    store = MemoryStore(clock)
    clock.now = START
    await put(store, *(incident(f"k{number}", next_due_at=START + 5 * MINUTE) for number in range(5)))
    await put(store, incident("later", severity="warning", next_due_at=START + 15 * MINUTE))
    clock.now = START + 12 * MINUTE
    engine = Engine(store, batch_size=1)
    report = await engine.tick(deliver=False)
    assert (5, START + 13 * MINUTE) == (report.escalated, report.at)
    assert {report.at} == {escalation.created_at for escalation in store.ledger.values()}
    assert 0 == row(store, "later")["level"]


@pytest.mark.parametrize(("claims", "found"), [(1, 1), (2, 0)], ids=["short", "empty, beside another"])
async def test_short_batch_is_no_end(
    claims: int, found: int, store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that comes short, as when the one beside it has just taken what it looked at, leaves nothing behind."""
    await put(store, *(incident(f"k{number}", next_due_at=START + 5 * MINUTE) for number in range(20)))
    clock.advance(5 * MINUTE)
    claim, calls = Incidents.claim, itertools.count()

    async def stalled(self: Incidents, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        third = next(calls) == 2
        for _ in range(4 if third else 1):
            await asyncio.sleep(0)
        return await claim(self, until=until, limit=found if third else limit, canary=canary)

    monkeypatch.setattr(Incidents, "claim", stalled)
    report = await Engine(store, batch_size=3, concurrency=claims).tick(deliver=False)
    assert (20, False) == (report.escalated, report.behind)


async def test_long_tick_brings_no_escalation_forward(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another worker escalated after a tick's instant was not escalated at it: the next one keeps its distance."""
    long, other = engine_of(store, snooze=5 * MINUTE), engine_of(store, snooze=5 * MINUTE)
    await store.host.insert("k", severity="critical", first_seen=START)
    await store.host.insert("k2", severity="critical", first_seen=START)
    look = store.next_due

    async def looked(**how: Any) -> NextDue:
        """Look; and before the claim that follows another worker ticks, and a host writes."""
        monkeypatch.setattr(store, "next_due", look)
        seen = await look(**how)
        clock.advance(4 * MINUTE)
        assert 2 == (await other.tick()).escalated
        await store.host.update("k", severity="Critical")
        return seen

    clock.advance(5 * MINUTE)
    monkeypatch.setattr(store, "next_due", looked)
    assert 0 == (await long.tick()).escalated
    assert row(store, "k2") == row(store, "k") | {"incident_key": "k2", "severity": "critical"}
    assert [0, 2] == await ticks(other, clock, 5 * MINUTE - TICK, TICK)


@pytest.mark.parametrize("snooze", [timedelta(), 30 * MINUTE])
async def test_missed_levels_are_not_replayed(snooze: timedelta, store: MemoryStore, clock: ManualClock) -> None:
    """After an outage of a day an incident rises by one level, and by the next one snooze or one tick later."""
    engine = engine_of(store, snooze=snooze)
    await engine.open("k", severity="critical")
    step = max(snooze, MINUTE)
    assert [1, 0, 0, 1, 0] == await ticks(engine, clock, DAY, timedelta(), step - TICK, TICK, timedelta())
    assert 2 == row(store)["level"]


async def test_one_level_per_tick_whatever_the_batch_size(store: MemoryStore, clock: ManualClock) -> None:
    """Batches of one row never meet the same row twice, also with snooze 0 after an outage."""
    engine = Engine(store, settings=Settings(snooze=timedelta()), batch_size=1)
    for key in "abc":
        await engine.open(key, severity="critical")
    clock.advance(DAY)
    report = await engine.tick()
    assert ([1, 1, 1], 3) == ([row(store, key)["level"] for key in "abc"], report.escalated)


async def test_ladder_of_an_incident(store: MemoryStore, clock: ManualClock) -> None:
    """Unacknowledged, a critical incident pages after 5 minutes and then at each snooze, up to the maximum."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, max_level=3)
    await engine.open("k", severity="critical")
    assert [0, 1, 0, 1, 1, 0, 0] == await ticks(
        engine, clock, 5 * MINUTE - TICK, TICK, 29 * MINUTE, MINUTE, 30 * MINUTE, 30 * MINUTE, DAY
    )
    assert [1, 2, 3] == [page.level for page in notifier.pages]
    assert 3 == len({page.dedup_key for page in notifier.pages})
    assert {escalation.unique_hash for escalation in store.ledger.values()} == {
        page.dedup_key for page in notifier.pages
    }


async def test_second_tick_joins_the_first(store: MemoryStore, clock: ManualClock) -> None:
    """Two ticks of one engine at a time are one, with one report; a dry run joins nothing."""
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    first = asyncio.create_task(engine.tick())
    await notifier.begun.wait()
    second = asyncio.create_task(engine.tick())
    rehearsal = await engine.tick(dry_run=True)
    assert (True, 0, False) == (rehearsal.dry_run, rehearsal.escalated, second.done())
    notifier.gate.set()
    assert await first is await second
    assert (1, 1) == ((await first).escalated, len(notifier.pages))


class HeldStore(MemoryStore):
    """A store that does not let a tick begin before ``gate`` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        await self.gate.wait()
        return await super().next_due(canary=canary, targets=targets)


@pytest.mark.parametrize("leaver", [None, 0, 1])
async def test_tick_that_joins_one_that_only_records_delivers(leaver: int | None, clock: ManualClock) -> None:
    """Whoever asked for delivery gets it, whichever tick came first; who is cancelled spoils nothing for others."""
    store, notifier = HeldStore(clock), RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    ticks = [asyncio.create_task(engine.tick(deliver=deliver)) for deliver in (False, True, True)]
    await asyncio.sleep(0.01)
    if leaver is not None:
        ticks[leaver].cancel()
        await asyncio.sleep(0)
    store.gate.set()
    ends = await asyncio.gather(*ticks, return_exceptions=True)
    told = [None if isinstance(end, BaseException) else (end.escalated, end.delivery is not None) for end in ends]
    expected = [(1, False), (1, True), (1, True)]
    assert told == [None if number == leaver else each for number, each in enumerate(expected)]
    last = ends[2]
    assert isinstance(last, TickReport)
    assert last.delivery is not None
    assert (1, 1) == (last.delivery.delivered, len(notifier.pages))


async def test_tick_delivers_unless_it_is_told_not_to(store: MemoryStore, clock: ManualClock) -> None:
    """A tick records and then sends; with deliver=False it only records."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert (1, None, []) == (report.escalated, report.delivery, notifier.pages)
    report = await engine.tick()
    assert report.delivery is not None
    assert (0, 1) == (report.escalated, report.delivery.delivered)


# --- dry run


async def populate(store: MemoryStore, clock: ManualClock) -> None:
    """Fill a store with a row for every decision there is, and stand at START + 1 hour."""
    host = store.host
    clock.set(START + HOUR)
    await put(
        store,
        incident("due", next_due_at=START + 5 * MINUTE),
        incident("due-at-last", level=6, last_escalated_at=START, next_due_at=START + 35 * MINUTE),
        incident("not-due", next_due_at=START + 5 * MINUTE, severity="low"),
        incident("later", severity="warning", first_seen=START + HOUR, next_due_at=START + 75 * MINUTE),
        incident("above", level=9, next_due_at=START + 5 * MINUTE),
        incident("top", level=7),
        incident("known", next_due_at=START + 5 * MINUTE),
        incident("acked", acknowledged_at=START, next_due_at=START),
        incident("over", resolved_at=START, next_due_at=START),
        incident("odd", severity="odd", next_due_at=START + 15 * MINUTE),
    )
    await host.insert("marked", severity="critical", first_seen=START)
    await host.insert("marked-young", severity="critical", first_seen=START + 59 * MINUTE)
    await host.insert("marked-ended", acknowledged_at=START)
    await host.insert("poison", level=None)
    await host.insert("ancient", first_seen=START - 2 * 365 * DAY)
    known = Escalation(incident_key="known", episode=1, level=1, created_at=START + 50 * MINUTE)
    await store.transact(lambda tx: tx.ledger.record([known]))
    mark = AuditEntry(at=START, action="exhausted", incident_key="top", episode=1, level=7)
    await store.transact(lambda tx: tx.journal.note([mark]))


def counts(report: TickReport) -> dict[str, Any]:
    """Return what a report counts, without what a dry run cannot have."""
    without = {"dry_run", "duration", "batches", "delivery"}
    return {name: value for name, value in attrs.asdict(report).items() if name not in without}


SETTINGS: list[dict[str, Any]] = [
    {"windows": {"low": 2 * HOUR}},
    {"windows": {"low": 2 * HOUR}, "canary_pct": 50},
    {"windows": {"low": 2 * HOUR}, "max_level": 1},
    {"windows": {"low": 2 * HOUR}, "v1": False},
    {"windows": {"low": 2 * HOUR}, "worker_enabled": False},
    {"windows": {"low": 2 * HOUR}, "pause_cron": "0 1 * * *", "pause_length": HOUR},
    {"windows": {"low": 2 * HOUR}, "routes": [Route(severity="odd", targets=["nowhere"])]},
]


@pytest.mark.parametrize("fields", SETTINGS, ids=lambda fields: str(list(fields)[1:]))
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
async def test_dry_run_changes_nothing_and_tells_what_the_tick_will_do(
    fields: dict[str, Any], batch_size: int, store: MemoryStore, clock: ManualClock
) -> None:
    """A dry run writes no row, page, event or note, and reports exactly what the real tick after it does."""
    await populate(store, clock)
    notifier = RecordingNotifier()
    engine = Engine(store, settings=Settings(**fields), notifiers=[notifier], batch_size=batch_size)
    await engine.tick(dry_run=True)  # beats, and pins the policy's fingerprint
    before = picture(store)
    rehearsed = await engine.tick(dry_run=True)
    assert ([], before) == (notifier.pages, picture(store))
    assert (True, False, None) == (rehearsed.dry_run, rehearsed.changed, rehearsed.delivery)
    real = await engine.tick()
    assert counts(real) == counts(rehearsed)


async def test_population_meets_every_decision(store: MemoryStore, clock: ManualClock) -> None:
    """The rows of the dry run's test lead to every outcome there is."""
    await populate(store, clock)
    report = await engine_of(store, windows={"low": 2 * HOUR}).tick()
    assert (4, 1) == (report.escalated, report.exhausted)
    assert {"not_due": 2} == dict(report.rescheduled)
    assert {"exhausted": 1, "already_recorded": 1, "acknowledged": 1, "resolved": 1, "unreadable": 2} == dict(
        report.skipped
    )
    assert ({"odd": 1}, 55 * MINUTE) == (dict(report.unconfigured), report.latest)


async def test_dry_run_as_a_setting(store: MemoryStore, clock: ManualClock) -> None:
    """With ESC_DRY_RUN=true every tick is one, and nothing is ever sent."""
    await populate(store, clock)
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier, dry_run=True, windows={"low": 2 * HOUR})
    first, second = await engine.tick(), await engine.tick()
    assert (True, 4, 4, []) == (first.dry_run, first.escalated, second.escalated, notifier.pages)
    assert (0, {}) == (len(store.ledger) - 1, store.pages)


# --- exhausted


async def test_exhausted_is_marked_once_and_then_nothing(store: MemoryStore, clock: ManualClock) -> None:
    """At the maximum level there is one mark in the audit, and nothing more is due, ever."""
    engine = engine_of(store, max_level=1)
    await engine.open("k", severity="critical")
    assert [1, 0, 0] == await ticks(engine, clock, 5 * MINUTE, DAY, DAY)
    await store.host.update("k", severity="warning")
    report = await engine.tick()
    assert {"exhausted": 1} == dict(report.skipped)
    assert (["open", "exhausted", "change_severity"], None) == (actions(store), row(store)["next_due_at"])
    note = store.notes[2]
    assert ("k", 1, 1, START + 5 * MINUTE) == (note.incident_key, note.episode, note.level, note.at)


async def test_lower_maximum_exhausts_when_the_row_is_claimed(store: MemoryStore, clock: ManualClock) -> None:
    """A lowered maximum heals by itself: the row is planned anew, marked, and pages nobody."""
    await put(store, incident(level=5, last_escalated_at=START, next_due_at=START + 30 * MINUTE))
    engine = engine_of(store, max_level=3)
    assert [0, 0] == await ticks(engine, clock, HOUR, HOUR)
    assert (["exhausted"], 5, None) == (actions(store), row(store)["level"], row(store)["next_due_at"])


async def test_higher_maximum_and_recalc_revive(store: MemoryStore, clock: ManualClock) -> None:
    """A raised maximum is warned of until a recalc gives exhausted incidents their next instant."""
    low = engine_of(store, max_level=1)
    await low.open("k", severity="critical")
    await ticks(low, clock, 5 * MINUTE)
    high = engine_of(store, max_level=2)
    assert [0] == await ticks(high, clock, DAY)
    assert 1 == len((await high.health()).warnings)
    assert 1 == await high.recalc(by="op")
    assert [] == list((await high.health()).warnings)
    assert [1, 0] == await ticks(high, clock, timedelta(), DAY)
    assert ["open", "exhausted", "recalc", "exhausted"] == actions(store)


# --- recalc


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recalculations visit two rows at a time."""
    monkeypatch.setattr("escalation_core.engine.recalc.BATCH", 2)


async def test_recalc_writes_the_instant_alone(store: MemoryStore, small_batches: None) -> None:
    """Each open row gets its true next_due_at, those without one too; nothing else is written."""
    await put(
        store,
        incident("a", next_due_at=START + DAY),
        incident("b", next_due_at=None),
        incident("c", next_due_at=START + 5 * MINUTE),
        incident("d", level=7, next_due_at=START),
        incident("e", acknowledged_at=START),
        incident("f", resolved_at=START),
        incident("g", level=2, last_escalated_at=START, snoozed_until=START + HOUR, next_due_at=START),
    )
    before = picture(store)["rows"]
    told: list[int] = []
    assert 5 == await engine_of(store).recalc(progress=told.append)
    due = {
        "a": START + 5 * MINUTE,
        "b": START + 5 * MINUTE,
        "c": START + 5 * MINUTE,
        "d": None,
        "e": None,
        "f": None,
        "g": START + HOUR,
    }
    assert {key: {**columns, "next_due_at": due[key]} for key, columns in before.items()} == store.rows
    assert [2, 4, 5] == told


async def test_recalc_leaves_marked_and_unreadable_rows(store: MemoryStore) -> None:
    """A marked row is planned anew by the next tick anyway, and an unreadable one keeps its instant."""
    await store.host.insert("marked", severity="critical", first_seen=START)
    await store.host.insert("poison", level=None)
    engine = engine_of(store)
    assert 2 == await engine.recalc()
    assert [NEEDS_REPLAN] * 2 == [row(store, key)["next_due_at"] for key in ("marked", "poison")]


class FailingStore(MemoryStore):
    """A store whose transactions fail from the n-th on, until it is mended."""

    left: float = float("inf")

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.left <= 0:
            raise StoreUnavailable("it is down")
        self.left -= 1
        return await super().transact(work)


async def test_recalc_that_was_interrupted_is_resumed_by_a_worker(clock: ManualClock, small_batches: None) -> None:
    """What an interruption left is visited by the next tick of any engine, from where it stopped."""
    store = FailingStore(clock)
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abcde"))
    store.left = 2
    with pytest.raises(StoreUnavailable):
        await engine_of(store).recalc()
    assert [5 * MINUTE, 5 * MINUTE, DAY, DAY, DAY] == [row(store, key)["next_due_at"] - START for key in "abcde"]
    store.left = float("inf")
    worker = engine_of(store)
    assert (2, True) == ((health := (await worker.health())).recalc.visited, health.recalc.requested_at is not None)
    report = await worker.tick()
    assert not report.recalculating
    assert {START + 5 * MINUTE} == {row(store, key)["next_due_at"] for key in "abcde"}
    done = (await worker.health()).recalc
    assert (5, None, START) == (done.visited, done.requested_at, done.finished_at)


async def test_store_stayed_open_whose_first_check_failed(clock: ManualClock) -> None:
    """An engine whose store is not ready closes it and its notifiers: a pool that stays open keeps a process alive."""
    closed: list[str] = []

    class Unready(MemoryStore):
        async def check(self) -> None:
            raise StoreUnavailable("not now")

        async def aclose(self) -> None:
            closed.append("store")

    class Closing(RecordingNotifier):
        async def aclose(self) -> None:
            closed.append("notifier")

    with pytest.raises(StoreUnavailable, match="not now"):
        async with Engine(Unready(clock), notifiers=[Closing()]):
            pass
    assert ["notifier", "store"] == closed


async def test_request_is_worked_off_between_ticks(store: MemoryStore, small_batches: None) -> None:
    """A recalc that was asked for is done by a worker's tick with the worker's settings, and noted with its actor."""
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abc"))
    asking = engine_of(store)
    await asking.request_recalc(by="op")
    assert {START + DAY} == {row(store, key)["next_due_at"] for key in "abc"}
    await engine_of(store, critical_window=7 * MINUTE).tick()
    assert {START + 7 * MINUTE} == {row(store, key)["next_due_at"] for key in "abc"}
    assert [("recalc", "op")] == [(note.action, note.actor) for note in store.notes.values()]


async def test_dry_run_works_off_no_recalc(store: MemoryStore) -> None:
    """A dry tick leaves a recalc that was asked for to others."""
    await put(store, incident(next_due_at=START + DAY))
    engine = engine_of(store, dry_run=True)
    await engine.request_recalc()
    report = await engine.tick()
    assert (False, START + DAY) == (report.recalculating, row(store)["next_due_at"])


async def test_long_recalc_does_not_keep_the_next_tick_waiting(
    store: MemoryStore, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick gives a recalc one second; what is left is done after the next, which is wanted at once."""
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abcde"))
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.6
        return now[0]

    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", monotonic)
    engine = engine_of(store)
    await engine.request_recalc()
    seen = []
    for _ in range(3):
        report = await engine.tick()
        seen.append((report.recalculating, (await engine.health()).recalc.visited))
    assert [(True, 2), (True, 4), (False, 5)] == seen


async def test_asking_again_starts_over(store: MemoryStore, small_batches: None) -> None:
    """A second request begins at the first row: the settings may have changed again."""
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abc"))
    engine = engine_of(store)
    await engine.request_recalc()
    state = store.state["recalc"]
    store.state["recalc"] = attrs.evolve(state, cursor="b", visited=2)
    await engine.request_recalc()
    assert (None, 0) == (store.state["recalc"].cursor, store.state["recalc"].visited)


async def test_changed_settings_are_warned_of_until_recalc(store: MemoryStore) -> None:
    """Health warns while the policy is another than that of the first tick, or of the last recalc."""
    await engine_of(store).tick()
    changed = engine_of(store, critical_window=MINUTE)
    expected = "windows, snooze, tick or maximum level changed since the last recalc: run escalation recalc"
    assert [expected] == list((await changed.health()).warnings)
    await changed.tick()
    assert [expected] == list((await changed.health()).warnings)
    await changed.recalc()
    assert [[], [expected]] == [list((await one.health()).warnings) for one in (changed, engine_of(store))]


async def test_actors_of_recalc_and_retry_are_text(store: MemoryStore) -> None:
    """Whoever asks is named by text that every store can hold."""
    engine = engine_of(store)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: engine.recalc(by="\0"),
        lambda: engine.request_recalc(by="\0"),
        lambda: engine.retry_dead(by="\0"),
    ]
    for call in calls:
        with pytest.raises(InvalidValue) as caught:
            await call()
        assert "by" == caught.value.field


# --- switches


async def test_v1_off_reschedules_marked_rows_alone(store: MemoryStore, clock: ManualClock) -> None:
    """With V1 off marked rows get their true instant, due or not; due rows stay as they are, and nothing escalates."""
    await populate(store, clock)
    before = picture(store)
    report = await engine_of(store, v1=False, windows={"low": 2 * HOUR}).tick()
    assert (Mode.V1_OFF, 0, 0) == (report.mode, report.escalated, report.pages)
    assert {"v1_off": 1, "not_due": 1} == dict(report.rescheduled)
    assert {"unreadable": 2} == dict(report.skipped)
    touched = {key for key, columns in store.rows.items() if columns != before["rows"][key]}
    assert {"marked", "marked-young", "poison", "ancient"} == touched
    assert START + 5 * MINUTE == row(store, "marked")["next_due_at"]
    assert [before["ledger"], before["pages"]] == [store.ledger, store.pages]
    after = await engine_of(store, windows={"low": 2 * HOUR}).tick()
    assert 4 == after.escalated


@pytest.mark.parametrize("held", [HELD[0], {"pause_cron": "0 1 * * *", "pause_length": HOUR}])
async def test_disabled_and_paused_engines_claim_nothing(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Disabled or paused the tick touches no row, marked or not."""
    await populate(store, clock)
    engine = engine_of(store, **held)
    await engine.tick(dry_run=True)
    before = picture(store)
    report = await engine.tick()
    assert before == picture(store)
    assert (0, {}, {}, False) == (report.escalated, dict(report.rescheduled), dict(report.skipped), report.changed)


async def test_reports_say_what_held_the_engine(store: MemoryStore) -> None:
    """Report and health name the mode, and the pause's end."""
    seen = []
    for held in [*HELD, {}]:
        engine = engine_of(store, **held)
        report, health = await engine.tick(), await engine.health()
        assert (report.mode, report.paused_until) == (health.mode, health.paused_until)
        seen.append((report.mode.value, report.paused_until))
    assert [("disabled", None), ("v1_off", None), ("paused", START + HOUR), ("open", None)] == seen


@pytest.mark.parametrize("held", HELD, ids=HELD_IDS)
async def test_verbs_work_while_the_engine_is_held(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Held or not, incidents are opened, acknowledged and resolved, and their pages cancelled."""
    await put(store, *(incident(key, next_due_at=START) for key in "ab"))
    await engine_of(store, critical_window=MINUTE).recalc()
    clock.advance(MINUTE)
    await engine_of(store, critical_window=MINUTE).tick(deliver=False)
    engine = engine_of(store, **held)
    await engine.acknowledge("a")
    await engine.resolve("b")
    await engine.open("c")
    assert ["cancelled", "cancelled"] == states(store)
    assert 3 == len(store.rows)


async def test_what_a_pause_held_comes_after_it(store: MemoryStore, clock: ManualClock) -> None:
    """When the pause ends, what became due in it escalates by one level."""
    engine = engine_of(store, **PAUSE)
    await engine.open("k", severity="critical")
    assert [0, 0, 1, 0] == await ticks(engine, clock, 5 * MINUTE, 55 * MINUTE - TICK, TICK, timedelta())


async def test_canary_outsiders_are_untouched(store: MemoryStore, clock: ManualClock) -> None:
    """Outside the canary nothing is claimed, marked or due, and health counts what is held."""
    for key in ("k0", "k2"):
        await put(store, incident(key, next_due_at=START + 5 * MINUTE))
    await store.host.insert("k3", severity="critical", first_seen=START)
    outside = [row(store, key) for key in ("k2", "k3")]
    clock.advance(HOUR)
    engine = engine_of(store, canary_pct=10)
    report = await engine.tick()
    assert (1, outside) == (report.escalated, [row(store, key) for key in ("k2", "k3")])
    health = await engine.health()
    assert (1, 0, 1) == (health.as_dict()["canaryHeld"], health.stats.overdue, health.stats.marked)
    risen = await engine_of(store, canary_pct=100).tick()
    assert (2, {"k2", "k3"}) == (risen.escalated, {example.incident_key for example in risen.examples})


async def test_canary_of_0_escalates_nobody(store: MemoryStore, clock: ManualClock) -> None:
    """At 0 percent nothing happens, and health counts everything that is due."""
    await put(store, *(incident(f"k{number}", next_due_at=START) for number in range(30)))
    engine = engine_of(store, canary_pct=0)
    assert [0] == await ticks(engine, clock, HOUR)
    health = await engine.health()
    assert (30, 1) == (health.stats.outside_canary, len(health.warnings))


# --- rows that cannot be read or planned


async def test_unreadable_rows_are_put_back_longer_and_longer(store: MemoryStore, clock: ManualClock) -> None:
    """A row that cannot be read comes again after 1, 2, 4 and so on up to 60 minutes, and is counted each time."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    waits = []
    for _ in range(9):
        report = await engine.tick()
        assert {"unreadable": 1} == dict(report.skipped)
        wait = row(store)["next_due_at"] - clock()
        waits.append(wait // MINUTE)
        assert 0 == (await engine.tick()).skipped.total()
        clock.advance(wait)
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == waits
    assert {} == store.ledger


async def test_unreadable_rows_are_listed_in_health(store: MemoryStore) -> None:
    """Health counts them, tells key and fault, and leaves them out of what is overdue."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    report = await engine.tick()
    stats = (await engine.health()).stats
    assert (1, 0) == (stats.unreadable, stats.overdue)
    [(key, fault)] = stats.unreadable_examples
    assert ("k", report.examples[0].detail) == (key, fault)
    assert fault.startswith("level: is NoneType")


async def test_unreadable_row_does_not_hold_up_its_batch(store: MemoryStore, clock: ManualClock) -> None:
    """The rest of the batch escalates, and its pages go."""
    await store.host.insert("poison", first_seen=START, level=-1)
    await put(store, *(incident(key, next_due_at=START + 5 * MINUTE) for key in "ab"))
    clock.advance(5 * MINUTE)
    notifier = RecordingNotifier()
    report = await engine_of(store, notifier).tick()
    assert (2, {"unreadable": 1}, 2) == (report.escalated, dict(report.skipped), len(notifier.pages))


async def test_healed_row_escalates_and_leaves_the_list(store: MemoryStore, clock: ManualClock) -> None:
    """Once its host has mended it, a row is planned like any other at the next tick."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    await engine.tick()
    await store.host.update("k", level=0)
    assert [1] == await ticks(engine, clock, 5 * MINUTE)
    assert 0 == (await engine.health()).stats.unreadable


async def test_row_that_heals_unseen_is_found_at_its_next_turn(store: MemoryStore, clock: ManualClock) -> None:
    """A host's birth that lies too far ahead comes within the limits by itself."""
    await store.host.insert("k", severity="critical", first_seen=START + DAY + MINUTE)
    engine = engine_of(store)
    assert {"unreadable": 1} == dict((await engine.tick()).skipped)
    clock.advance(MINUTE)
    assert {"not_due": 1} == dict((await engine.tick()).rescheduled)
    assert (0, START + DAY + 6 * MINUTE) == ((await engine.health()).stats.unreadable, row(store)["next_due_at"])


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"level": None}, "level"),
        ({"level": -1}, "level"),
        ({"level": "1"}, "level"),
        ({"first_seen": None}, "first_seen"),
        ({"first_seen": datetime(2025, 1, 1)}, "first_seen"),  # noqa: DTZ001 - naive on purpose
        ({"first_seen": START - 366 * DAY}, "first_seen"),
        ({"first_seen": START + 2 * DAY}, "first_seen"),
        ({"episode": 0, "next_due_at": START}, "episode"),
        ({"severity": 7}, "severity"),
    ],
)
async def test_poison(columns: dict[str, Any], field: str, store: MemoryStore) -> None:
    """What no incident can hold makes a row unreadable, and the fault names the column."""
    await store.host.insert("k", **columns)
    report = await engine_of(store).tick()
    assert ["unreadable"] == [example.outcome for example in report.examples]
    assert (report.examples[0].detail or "").startswith(field)


@pytest.mark.parametrize("end", [{"acknowledged_at": START}, {"resolved_at": START}, None])
async def test_unreadable_rows_that_ended_are_no_worry(end: dict[str, Any] | None, store: MemoryStore) -> None:
    """A row that its host ended or deleted is not counted as unreadable any more."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    await engine.tick()
    await (store.host.delete("k") if end is None else store.host.update("k", **end))
    stats = (await engine.health()).stats
    assert (0, []) == (stats.unreadable, list(stats.unreadable_examples))


async def test_row_that_cannot_be_planned_is_put_back(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the planning itself holds up one row, not its batch."""

    def planning(claimed: Any, **given: Any) -> Decision:
        if claimed.incident_key == "a":
            raise ZeroDivisionError("storm")
        return plan(claimed, **given)

    monkeypatch.setattr("escalation_core.engine.batch.plan", planning)
    await put(store, *(incident(key, next_due_at=START + 5 * MINUTE) for key in "ab"))
    clock.advance(5 * MINUTE)
    report = await engine_of(store).tick()
    assert (1, {"unreadable": 1}) == (report.escalated, dict(report.skipped))
    assert "ZeroDivisionError: storm" == report.examples[0].detail


async def test_verbs_refuse_rows_that_cannot_be_read(store: MemoryStore) -> None:
    """A verb on a poisoned row says which column is wrong, and that it is the row's fault, not the caller's."""
    await store.host.insert("k", level=None)
    with pytest.raises(TransitionRefused, match=r"mend its row: level: is ") as caught:
        await engine_of(store).acknowledge("k")
    assert ("k", "unreadable", "acknowledge") == (caught.value.incident_key, caught.value.state, caught.value.verb)


# --- duplicates and failures


async def test_recorded_level_is_neither_recorded_nor_paged_again(store: MemoryStore, clock: ManualClock) -> None:
    """An escalation that is in the ledger already brings the incident up to the record, and pages nobody."""
    await put(store, incident(next_due_at=START + 5 * MINUTE))
    known = [Escalation(incident_key="k", episode=1, level=n, created_at=START + n * MINUTE) for n in (1, 2)]
    await store.transact(lambda tx: tx.ledger.record(known))
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert (0, 1, 0, []) == (report.escalated, report.skipped_idempotent, report.pages, notifier.pages)
    standing = row(store)
    assert (2, START + 2 * MINUTE, START + 32 * MINUTE) == (
        standing["level"],
        standing["last_escalated_at"],
        standing["next_due_at"],
    )
    assert [1] == await ticks(engine, clock, 27 * MINUTE)
    assert [3] == [page.level for page in notifier.pages]


async def test_hash_of_another_incident_is_unreadable(store: MemoryStore, clock: ManualClock) -> None:
    """When the ledger holds the hash under another key the row is deferred and says so."""
    await put(store, incident(next_due_at=START + 5 * MINUTE))
    own = Escalation(incident_key="k", episode=1, level=1, created_at=START)
    await store.transact(lambda tx: tx.ledger.record([attrs.evolve(own, incident_key="other")]))
    clock.advance(5 * MINUTE)
    report = await engine_of(store).tick()
    assert (0, {"unreadable": 1}) == (report.escalated, dict(report.skipped))
    assert "unique_hash" in (report.examples[0].detail or "")


async def test_batches_that_were_committed_stand(clock: ManualClock) -> None:
    """When the store fails in the middle of a tick, what was recorded stays, and the next tick does the rest once."""
    store = FailingStore(clock)
    await put(store, *(incident(f"k{number}", next_due_at=START + 5 * MINUTE) for number in range(5)))
    clock.advance(5 * MINUTE)
    engine = Engine(store, notifiers=[RecordingNotifier()], batch_size=2)
    store.left = 1
    with pytest.raises(StoreUnavailable):
        await engine.tick()
    assert (2, {}) == (len(store.ledger), store.beats)
    store.left = float("inf")
    assert 3 == (await engine.tick()).escalated
    assert (5, ["delivered"] * 5) == (len(store.ledger), states(store))


class Broken:
    """A store's ledger that fails after it has written."""

    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ledger, name)

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        await self.ledger.record(escalations)
        raise StoreUnavailable("it is down")


async def test_batch_that_fails_leaves_nothing(clock: ManualClock, store: MemoryStore) -> None:
    """Event, page and level are one transaction: none of them is there without the others."""
    await put(store, incident(next_due_at=START + 5 * MINUTE))
    before = picture(store)
    clock.advance(5 * MINUTE)
    transact = store.transact

    async def breaking(work: Callable[[Any], Awaitable[Result]]) -> Result:
        async def broken(tx: Any) -> Result:
            tx.ledger = Broken(tx.ledger)
            return await work(tx)

        return await transact(broken)

    store.transact = breaking  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable):
        await engine_of(store).tick()
    assert before == picture(store)


class UnreadyStore(MemoryStore):
    """A store that is not migrated until somebody does it."""

    ready = False
    checks = 0

    async def check(self) -> None:
        self.checks += 1
        if not self.ready:
            raise StoreNotReady("run escalation migrate up")


CALLS: list[Callable[[Engine], Awaitable[object]]] = [
    lambda engine: engine.tick(),
    lambda engine: engine.tick(dry_run=True),
    lambda engine: engine.deliver(),
    lambda engine: engine.open("k"),
    lambda engine: engine.acknowledge("k"),
    lambda engine: engine.health(),
    lambda engine: engine.history("k"),
    lambda engine: engine.dead(),
    lambda engine: engine.audit(START),
    lambda engine: engine.recalc(),
    lambda engine: engine.request_recalc(),
    lambda engine: engine.retry_dead(),
    lambda engine: engine.__aenter__(),
]


@pytest.mark.parametrize("call", CALLS)
async def test_store_that_is_not_ready_stops_every_call(
    call: Callable[[Engine], Awaitable[object]], clock: ManualClock
) -> None:
    """Every call checks the store first, until it is ready, and then no more."""
    store = UnreadyStore(clock)
    engine = engine_of(store)
    for _ in range(2):
        with pytest.raises(StoreNotReady):
            await call(engine)
    store.ready = True
    await engine.tick()
    await engine.tick()
    assert 3 == store.checks


def test_engines_arguments_are_checked(store: MemoryStore) -> None:
    """A worker's name is text, and a batch has at least one row."""
    for field, given in [("worker", "\0"), ("worker", 7), ("batch_size", 0), ("batch_size", True)]:
        arguments: dict[str, Any] = {field: given}
        with pytest.raises(InvalidValue) as caught:
            Engine(store, **arguments)
        assert field == caught.value.field


# --- health and heartbeats


async def test_health_is_green_while_somebody_ticks(store: MemoryStore, clock: ManualClock) -> None:
    """The light is green up to two intervals after the last tick of any worker, and red after that."""
    engine, other = engine_of(store), Engine(store, worker="other")
    seen = []
    for wait in (timedelta(), 2 * MINUTE, TICK):
        clock.advance(wait)
        seen.append((await engine.health()).ok)
    await other.tick()
    for wait in (timedelta(), 2 * MINUTE, TICK):
        clock.advance(wait)
        health = await engine.health()
        seen.append(health.ok)
        assert health.ok is await engine.is_healthy()
    assert [True, True, False] * 2 == seen
    assert (2 * MINUTE + TICK, 1) == (health.tick_lag, health.workers)


@pytest.mark.parametrize("held", [HELD[0], {"pause_cron": "0 0 * * *", "pause_length": DAY - HOUR}])
async def test_health_is_green_while_the_engine_is_off(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Disabled or paused nobody is expected to tick."""
    clock.advance(HOUR)
    engine = engine_of(store, **held)
    health = await engine.health()
    assert (True, HOUR, True) == (health.ok, health.tick_lag, await engine.is_healthy())


async def test_health_is_green_while_an_operator_pauses(store: MemoryStore, clock: ManualClock) -> None:
    """An operator's pause counts as the schedule does, to its last moment."""
    engine = engine_of(store)
    clock.advance(HOUR)
    await engine.pause(HOUR)
    for wait, green in ((HOUR - TICK, True), (TICK, False)):
        clock.advance(wait)
        assert (green, green) == ((await engine.health()).ok, await engine.is_healthy())


async def test_health_is_red_when_nobody_ticks_with_v1_off(store: MemoryStore, clock: ManualClock) -> None:
    """With V1 off workers tick all the same; nobody else would give marked rows their instant."""
    clock.advance(HOUR)
    engine = engine_of(store, v1=False)
    assert (False, False) == ((await engine.health()).ok, await engine.is_healthy())


async def test_light_alone_counts_nothing(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the light is green is told without the counts of health, which cost more the more is overdue."""

    async def count(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was counted")

    monkeypatch.setattr(Journal, "stats", count)
    monkeypatch.setattr(Incidents, "unseen", count)
    engine = engine_of(store)
    assert await engine.is_healthy()
    with pytest.raises(AssertionError, match="was counted"):
        await engine.health()


@pytest.mark.parametrize(("percent", "detail"), [(100, False), (99, True), (0, True)])
async def test_health_counts_outside_the_canary_only_if_there_is_an_outside(
    percent: int, detail: bool, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count them looks at every due row, which a whole canary does not need."""
    asked, stats = [], Journal.stats

    async def noted(self: Journal, **how: Any) -> Stats:
        asked.append(how["detail"])
        return await stats(self, **how)

    monkeypatch.setattr(Journal, "stats", noted)
    await engine_of(store, canary_pct=percent).health()
    assert [detail] == asked


async def test_health_as_json(store: MemoryStore, clock: ManualClock) -> None:
    """JSON has the seed's names, milliseconds, and everything else under camel case."""
    engine = engine_of(store, RecordingNotifier(answer=lambda page: Retry("down")), canary_pct=90, max_level=1)
    await engine.open("k0", severity="odd")
    clock.advance(15 * MINUTE)
    await engine.tick()
    await engine.open("k1", severity="critical")
    clock.advance(6 * MINUTE)
    await store.host.insert("marked")
    found = (await engine.health()).as_dict()
    assert (True, True, 90, 360_000) == tuple(found[name] for name in ("enabled", "v1", "canaryPct", "tickLagMs"))
    expected = {
        "ok": False,
        "at": "2025-01-01T00:21:00+00:00",
        "mode": "open",
        "pausedUntil": None,
        "dryRun": False,
        "tickMs": 60_000,
        "canaryHeld": 0,
        "overdue": 1,
        "oldestOverdueMs": 60_000,
        "behind": False,
        "marked": 1,
        "exhausted": 1,
        "backlog": {"test": 1},
        "oldestPageMs": 360_000,
        "unserved": [],
        "dead": 0,
        "unreadable": 0,
        "unreadableExamples": [],
        "unconfigured": {"odd": 1},
        "workers": 1,
        "recalc": {"running": False, "visited": 0, "finishedAt": None},
        "warnings": [],
        "schemaVersion": "memory",
    }
    assert expected.items() <= found.items()


async def test_tick_ends_though_more_is_due(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After one tick interval a tick stops to claim, beats, pages, and says that it is behind; the next one goes on."""
    seconds = itertools.count(step=10)
    monkeypatch.setattr("escalation_core.engine.tick.monotonic", lambda: next(seconds))
    await put(store, *(incident(f"k{n:02}", next_due_at=START + n * MINUTE) for n in range(40)))
    clock.advance(60 * MINUTE)
    notifier = RecordingNotifier()
    engine = Engine(store, notifiers=[notifier], batch_size=2)
    reports = [await engine.tick() for _ in range(4)]
    assert [True, True, True, False] == [report.behind for report in reports]
    counts = [report.escalated for report in reports]
    assert all(0 < count < 20 for count in counts)
    assert 40 == sum(counts)
    assert [f"k{n:02}" for n in range(40)] == [page.incident.incident_key for page in notifier.pages]
    for report in reports:
        assert report.delivery is not None
        assert report.escalated == report.delivery.delivered
    assert 3 == caplog.text.count("more workers share the work")


async def test_behind(store: MemoryStore, clock: ManualClock) -> None:
    """Health says that workers do not keep up when something is due for over an interval, and nobody holds it."""
    await put(store, incident("k", next_due_at=START))
    seen = []
    for fields in ({}, {"dry_run": True}, {"worker_enabled": False}):
        clock.set(START + MINUTE)
        on_time = (await engine_of(store, **fields).health()).behind
        clock.advance(timedelta(seconds=1))
        seen.append((on_time, (await engine_of(store, **fields).health()).behind))
    assert [(False, True), (False, False), (False, False)] == seen


async def test_health_names_targets_that_nobody_here_serves(store: MemoryStore, clock: ManualClock) -> None:
    """Pages that wait for a target without a notifier in this engine are told."""
    engine = engine_of(store, RecordingNotifier("a"))
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    assert [["a"], []] == [list((await one.health()).unserved) for one in (engine_of(store), engine)]
    observed = engine.observed_stats()
    assert observed is not None
    assert {"a": 1} == observed.stats.backlog


@pytest.mark.parametrize("fields", [{}, *HELD, {"dry_run": True}], ids=["open", *HELD_IDS, "dry-run"])
async def test_heartbeat_at_most_once_per_quarter_interval(
    fields: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Each tick that ran to its end beats, held back or not, but not twice within a quarter of the interval."""
    engine = engine_of(store, **fields)
    beats = []
    for wait in (timedelta(), SECOND, 14 * SECOND - TICK, TICK, 5 * SECOND, HOUR):
        clock.advance(wait)
        await engine.tick()
        beats.append((store.beats["w"] - START).total_seconds())
    assert [0, 0, 0, 15, 15, 3620] == beats


async def test_rehearsal_beats_too(store: MemoryStore) -> None:
    """A dry run that was asked for once proves as well that somebody ticks."""
    await engine_of(store).tick(dry_run=True)
    assert {"w": START} == store.beats


async def test_workers_have_names_of_their_own(store: MemoryStore) -> None:
    """Engines without a name get one each."""
    engines = [Engine(store) for _ in range(3)]
    for engine in engines:
        await engine.tick()
    assert {engine.worker for engine in engines} == set(store.beats)
    assert 3 == (await engines[0].health()).workers


async def test_lag_for_metrics(store: MemoryStore) -> None:
    """Before its first tick an engine has no lag, afterwards it has the seconds since."""
    engine = engine_of(store)
    assert None is engine.observed_lag()
    await engine.tick()
    assert 0 <= (engine.observed_lag() or 0) < 5


async def test_counts_for_metrics_grow_old(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tick intervals after a beat or health took them, metrics no longer tell the counts; a new look does."""
    engine, time = engine_of(store), [1000.0]
    monkeypatch.setattr("escalation_core.engine.heartbeat.clock", lambda: lambda: time[0])
    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", lambda: time[0])
    for look in (engine.health, engine.tick):
        await look()
        time[0] += 180
        assert engine.observed_stats() is not None
        time[0] += 0.1
        assert engine.observed_stats() is None


async def test_no_heartbeat_waits_for_counts(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Counts that the store gives up, as over very many due rows, cost neither the beat nor the tick."""

    async def given_up(*_: object) -> NoReturn:
        raise StoreUnavailable("given up")

    monkeypatch.setattr("escalation_core.engine.heartbeat.HeartbeatKeeper.count", given_up)
    await engine_of(store).tick()
    assert {"w": START} == store.beats
    assert "the counts for metrics could not be taken: given up" in caplog.messages


async def test_counts_take_a_share_of_the_time(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts that took long rest for ten times as long; beats go on meanwhile."""
    engine, time, counted = engine_of(store), [1000.0], 0
    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", lambda: time[0])

    async def slowly(*_: object) -> None:
        nonlocal counted
        counted += 1
        time[0] += 2

    monkeypatch.setattr("escalation_core.engine.heartbeat.HeartbeatKeeper.count", slowly)
    seen = []
    for wait in (0.0, 19.9, 0.1, 1.0):
        time[0] += wait
        clock.advance(MINUTE)
        await engine.tick()
        seen.append((counted, store.beats["w"] == clock()))
    assert [(1, True), (1, True), (2, True), (2, True)] == seen


async def test_counts_are_told_while_they_rest(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that took longer than a tick are told until they are taken again, however short the ticks are."""
    engine, time = engine_of(store, tick_interval=SECOND), [1000.0]
    monkeypatch.setattr("escalation_core.engine.heartbeat.clock", lambda: lambda: time[0])
    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", lambda: time[0])
    count = HeartbeatKeeper.count

    async def slowly(self: HeartbeatKeeper, tx: Transaction, now: datetime) -> Stats:
        stats = await count(self, tx, now)
        time[0] += 2
        return stats

    monkeypatch.setattr(HeartbeatKeeper, "count", slowly)
    await engine.tick()
    time[0] += 20.9
    assert engine.observed_stats() is not None
    time[0] += 0.2
    assert engine.observed_stats() is None


# --- what is said


async def test_a_heartbeat_url_without_a_heartbeat(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A URL that nobody calls is warned of once, with the remedy and without the URL; not if there is a heartbeat."""

    class Beats:
        async def beat(self) -> None:
            pass

    settings = Settings(heartbeat_url="https://example.org/T0HUSH")
    for heartbeat, warnings in ((None, 1), (Beats(), 0)):
        caplog.clear()
        engine = Engine(store, settings=settings, notifiers=[RecordingNotifier()], heartbeat=heartbeat)
        await engine.tick()
        await engine.tick()
        said = [record.message for record in caplog.records if "ESC_HEARTBEAT_URL" in record.message]
        assert warnings == len(said)
        assert all("heartbeat=HttpHeartbeat" in line and "T0HUSH" not in line for line in said)


async def test_tick_writes_one_line(store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The line of a tick has the seed's metric names."""
    caplog.set_level(logging.INFO)
    await populate(store, clock)
    await engine_of(store, windows={"low": 2 * HOUR}).tick(deliver=False)
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("tick ")]
    assert line.startswith("tick escalations_count=4 skipped_idempotent=1 escalation_tick_ms=")
    assert line.endswith(" rescheduled=2 unreadable=2 pages=4 dead_pages=0 behind=False mode=open dry_run=False")


async def test_severities_without_a_window_are_counted_and_told_once(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each such severity is warned of once, counted in report and health, and NULL is one of them."""
    engine = engine_of(store)
    await put(store, incident("a", severity="odd"), incident("b", severity="odd"), incident("c", severity=None))
    await engine.recalc()
    clock.advance(DAY)
    reports = [await engine.tick(), await engine.tick()]
    clock.advance(DAY)
    reports.append(await engine.tick())
    assert [{"odd": 2, "None": 1}, {}, {"odd": 2, "None": 1}] == [dict(report.unconfigured) for report in reports]
    assert {"odd": 4, "None": 2} == dict((await engine.health()).unconfigured)
    told = [record.getMessage() for record in caplog.records if "no window" in record.getMessage()]
    assert ["'None'", "'odd'"] == sorted(line.split()[1] for line in told)


async def test_invented_severities_fill_no_memory(store: MemoryStore, clock: ManualClock) -> None:
    """Beyond a hundred severities the rest is counted together."""
    engine = engine_of(store)
    await put(store, *(incident(f"k{n}", severity=f"s{n}", next_due_at=START) for n in range(150)))
    clock.advance(DAY)
    report = await engine.tick()
    assert (101, 50, 150) == (len(report.unconfigured), report.unconfigured["(others)"], report.unconfigured.total())
    assert 101 == len((await engine.health()).unconfigured)


async def test_engine_tells_once_what_would_make_pages_dead(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """No notifier, targets that nobody serves, incidents without a route: all of it is told at the first tick."""
    alone = Engine(store)
    routed = engine_of(store, routes=[Route(targets=["test", "nowhere"]), Route(targets=["nowhere"])])
    partial = engine_of(store, RecordingNotifier("a", "b"), routes=[Route(min_level=2, targets=["a"])])
    for _ in range(2):
        await alone.tick()
        await routed.tick()
        await partial.tick()
    assert [
        "this engine has no notifier: escalations are recorded, and their pages are dead",
        "a route names the target 'nowhere', and no notifier serves it",
        "incidents that no route matches page nobody: set ESC_DEFAULT_TARGET",
    ] == [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("test", "unroutable: the router's answer is str"),
        (None, "unroutable: the router's answer is NoneType"),
        ([None], "unroutable: the router's answer is NoneType"),
        (["test", 5], "unroutable: the router's answer is int"),
        (["a\0b"], "unroutable: the router's answer holds a NUL character"),
        (["test", "l\udc80"], "unroutable: the router's answer holds a lone surrogate"),
        ([], "unroutable: no route matches and there is no default target"),
    ],
)
async def test_router_that_answers_nonsense_stops_no_ladder(
    answer: Any, reason: str, store: MemoryStore, clock: ManualClock
) -> None:
    """The escalation is recorded, its one page is born dead and says why, and the ladder goes on."""

    class Nonsense:
        def route(self, incident: Incident, level: int) -> Any:
            return answer

    engine = Engine(store, notifiers=[RecordingNotifier()], router=Nonsense())
    await put(store, incident("k", next_due_at=START), incident("l", next_due_at=START))
    assert [2, 2] == await ticks(engine, clock, 5 * MINUTE, 30 * MINUTE)
    assert {reason} == {page.reason for page in await engine.dead()}


async def test_closing_closes_everything(store: MemoryStore) -> None:
    """A notifier that fails to close keeps neither the others nor the store from it, and its error is told."""
    closed: list[str] = []

    class Closing(RecordingNotifier):
        async def aclose(self) -> None:
            closed.append(self.targets[0])
            if self.targets[0] == "a":
                raise OSError("stuck")

    class Store(MemoryStore):
        async def aclose(self) -> None:
            closed.append("store")

    with pytest.raises(OSError, match="stuck"):
        await Engine(Store(), notifiers=[Closing("a"), Closing("b")]).aclose()
    assert ["a", "b", "store"] == sorted(closed)


def test_second_event_loop_is_refused(store: MemoryStore) -> None:
    """An engine that ticked in one event loop refuses to in another, and says what to do; verbs go on."""
    engine = engine_of(store)
    asyncio.run(engine.tick())
    for call in (engine.tick, engine.deliver):
        with pytest.raises(EscalationError, match=r"another event loop .* async with Engine"):
            asyncio.run(call())
    asyncio.run(engine.open("k"))


# --- hosts that write by themselves


async def test_hosts_insert_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A row that a host inserts is planned by the next tick, and is never late."""
    await store.host.insert("k", severity="critical", first_seen=START - HOUR)
    report = await engine_of(store).tick()
    assert (1, None) == (report.escalated, report.latest)


async def test_hosts_row_without_a_severity_is_a_warning(store: MemoryStore) -> None:
    """NULL is unconfigured and waits the default window."""
    await store.host.insert("k")
    await engine_of(store).tick()
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_update_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A severity that a host changes moves the instant at the next tick, in both directions."""
    engine = engine_of(store)
    await engine.open("k", severity="warning")
    await store.host.update("k", severity="critical")
    assert NEEDS_REPLAN == row(store)["next_due_at"]
    await engine.tick()
    assert START + 5 * MINUTE == row(store)["next_due_at"]
    await store.host.update("k", severity="other")
    await engine.tick()
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_other_columns_are_its_own(store: MemoryStore) -> None:
    """A change of a column that no rule reads marks nothing."""
    engine = engine_of(store)
    await engine.open("k")
    await store.host.update("k", summary="new", labels={"a": "b"})
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_acknowledgement_ends_paging(store: MemoryStore, clock: ManualClock) -> None:
    """What a host acknowledges rises no more, and its page is cancelled when it is claimed."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    await store.host.update("k", acknowledged_at=clock())
    assert [0] == await ticks(engine, clock, DAY)
    assert ([], ["cancelled"]) == (notifier.pages, states(store))


async def test_hosts_reopened_row_is_a_new_episode(store: MemoryStore, clock: ManualClock) -> None:
    """Setting resolved_at back to NULL begins the ladder anew, and level 1 is paged again."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.update("k", resolved_at=clock())
    clock.advance(HOUR)
    await store.host.update("k", resolved_at=None)
    assert [0, 1] == await ticks(engine, clock, timedelta(), 5 * MINUTE)
    assert [(1, 1), (2, 1)] == [(page.episode, page.level) for page in notifier.pages]


async def test_hosts_lowered_level_is_the_seeds_drain(store: MemoryStore, clock: ManualClock) -> None:
    """The runbook's UPDATE of the level lets the same level be recorded and paged once more."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.update("k", level=0)
    assert [0, 1] == await ticks(engine, clock, timedelta(), 30 * MINUTE)
    assert [(1, 1), (2, 1)] == [(page.episode, page.level) for page in notifier.pages]


async def test_deleted_row_that_comes_again_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A row inserted again under a key that escalated before is in an episode of its own."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.delete("k")
    assert [0] == await ticks(engine, clock, HOUR)
    await store.host.insert("k", severity="critical", first_seen=clock() - HOUR)
    assert [1] == await ticks(engine, clock, timedelta())
    assert [1, 2] == [escalation.episode for escalation in store.ledger.values()]


async def test_engines_writes_are_no_hosts(store: MemoryStore, clock: ManualClock) -> None:
    """After a tick or a verb no row is marked."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await engine.change_severity("k", "warning")
    await engine.drain("k")
    await engine.unacknowledge("k")
    assert NEEDS_REPLAN != row(store)["next_due_at"]


# --- views


async def test_history_tells_everything_about_one_incident(store: MemoryStore, clock: ManualClock) -> None:
    """History is the row, its escalations, its pages and its audit, newest first; other incidents are not in it."""
    engine = engine_of(store)
    for key in ("k", "other"):
        await engine.open(key, severity="critical", by="op")
    await ticks(engine, clock, 5 * MINUTE)
    clock.advance(MINUTE)
    await engine.acknowledge("k", by="anna")
    history = await engine.history("k")
    assert isinstance(history.incident, Incident)
    assert ("anna", [1], ["delivered"]) == (
        history.incident.acknowledged_by,
        [escalation.level for escalation in history.escalations],
        [page.state.value for page in history.pages],
    )
    found = [entry.action for entry in history.audit]
    assert ("acknowledge", {"escalate", "page delivered"}, "open") == (found[0], set(found[1:3]), found[3])


async def test_history_of_a_row_that_is_gone(store: MemoryStore, clock: ManualClock) -> None:
    """What was recorded stays when the host deletes the row; an unknown key has nothing."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.delete("k")
    history, nothing = await engine.history("k"), await engine.history("unknown")
    assert (None, 1, None, 0) == (
        history.incident,
        len(history.escalations),
        nothing.incident,
        len(nothing.audit),
    )


async def test_audit_is_bounded(store: MemoryStore, clock: ManualClock) -> None:
    """The audit begins at an aware instant and holds the newest entries up to a limit."""
    engine = engine_of(store)
    for key in "abc":
        await engine.open(key)
        clock.advance(MINUTE)
    entries = await engine.audit(START + MINUTE)
    assert ["c", "b"] == [entry.incident_key for entry in entries]
    assert ["c"] == [entry.incident_key for entry in await engine.audit(START, limit=1)]
    with pytest.raises(InvalidValue, match="since"):
        await engine.audit(datetime(2025, 1, 1))  # noqa: DTZ001 - naive on purpose
    with pytest.raises(InvalidValue, match="limit"):
        await engine.audit(START, limit=0)


async def test_heartbeat_tells_when_a_tick_was_complete(store: MemoryStore, clock: ManualClock) -> None:
    """A tick that took longer than two intervals has completed just now all the same: the light is green."""

    class Slow:
        def route(self, incident: Incident, level: int) -> list[str]:
            clock.advance(5 * MINUTE)
            return ["test"]

    engine = Engine(store, notifiers=[RecordingNotifier("test")], router=Slow())
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    health = await engine.health()
    assert (True, timedelta()) == (health.ok, health.tick_lag)
    clock.advance(DAY)
    assert (1, 0) == (health.workers, (await engine.health()).workers)


async def test_nothing_is_late_while_people_hold_it_back(store: MemoryStore, clock: ManualClock) -> None:
    """The gauge of the oldest overdue stands at zero during a pause, so that no alert undoes it."""
    engine = Engine(store, notifiers=[RecordingNotifier()])
    await engine.open("k", severity="critical")
    clock.advance(10 * MINUTE)
    await engine.pause(HOUR)
    await engine.tick()
    seen = engine.observed_stats()
    assert seen is not None
    assert (1, timedelta()) == (seen.stats.overdue, seen.oldest_overdue)
    await engine.resume()
    clock.advance(MINUTE)
    await engine.health()
    seen = engine.observed_stats()
    assert seen is not None
    assert 6 * MINUTE == seen.oldest_overdue
