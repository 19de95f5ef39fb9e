"""A tick: one instant, one level, the end of a tick, and the switches that hold it."""

import asyncio
import itertools
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from escalation_core import Engine, Incident, Pause, Settings, StoreUnavailable
from escalation_core.model import Canary, Candidate, NextDue
from escalation_core.rules.gate import Mode
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.incidents import Incidents

from ..kit import DAY, HOUR, MINUTE, SECOND, START, engine_of, incident, picture, put, row, states, ticks
from .helpers import HELD, HELD_IDS, PAUSE, TICK, FailingStore, populate

# --- one instant, one level


class RunningClock:
    """A clock that moves on by a minute at each call."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        self.now += MINUTE
        return self.now


async def test_tick_takes_its_instant_once() -> None:
    """All batches of a tick use one instant; a row that becomes due during the tick is left for the next tick."""
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
    """A tick goes on after a claim that returns fewer rows than its limit, for example beside a concurrent claim."""
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
    """If another worker escalates after a tick's instant, the tick does not bring the next escalation forward."""
    long, other = engine_of(store, snooze=5 * MINUTE), engine_of(store, snooze=5 * MINUTE)
    await store.host.insert("k", severity="critical", first_seen=START)
    await store.host.insert("k2", severity="critical", first_seen=START)
    look = store.next_due

    async def looked(**how: Any) -> NextDue:
        """Look; before the claim that follows, another worker ticks and a host writes."""
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
    """After a day's outage an incident escalates by one level, and again one snooze or one tick later."""
    engine = engine_of(store, snooze=snooze)
    await engine.open("k", severity="critical")
    step = max(snooze, MINUTE)
    assert [1, 0, 0, 1, 0] == await ticks(engine, clock, DAY, timedelta(), step - TICK, TICK, timedelta())
    assert 2 == row(store)["level"]


async def test_one_level_per_tick_whatever_the_batch_size(store: MemoryStore, clock: ManualClock) -> None:
    """Batches of one row never claim the same row twice, also with snooze 0 after an outage."""
    engine = Engine(store, settings=Settings(snooze=timedelta()), batch_size=1)
    for key in "abc":
        await engine.open(key, severity="critical")
    clock.advance(DAY)
    report = await engine.tick()
    assert ([1, 1, 1], 3) == ([row(store, key)["level"] for key in "abc"], report.escalated)


async def test_ladder_of_an_incident(store: MemoryStore, clock: ManualClock) -> None:
    """An unacknowledged critical incident pages after 5 minutes and then after each snooze, up to the maximum level."""
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


async def test_tick_ends_though_more_is_due(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After one interval a tick stops claiming, sends its pages and reports ``behind``; the next tick goes on."""
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


async def test_batches_that_were_committed_stand(clock: ManualClock) -> None:
    """If the store fails during a tick, its committed batches stay, and the next tick does the rest once."""
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


async def test_pause_in_the_middle_of_a_tick_stops_its_other_batches(store: MemoryStore, clock: ManualClock) -> None:
    """A pause during a tick stops its later batches, since each batch checks the pauses again."""

    class Router:
        routed = 0

        def route(self, incident: Incident, level: int) -> list[str]:
            self.routed += 1
            if self.routed == 2:
                now = clock.advance(SECOND)
                store.pauses[1] = Pause(starts_at=now, ends_at=now + HOUR)
            return ["test"]

    engine = Engine(store, notifiers=[RecordingNotifier("test")], router=Router(), batch_size=2)
    for number in range(10):
        await engine.open(f"k{number}", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert (2, Mode.PAUSED) == (report.escalated, report.mode)


# --- switches, pauses and the canary


async def test_v1_off_reschedules_rows_that_need_a_replan_alone(store: MemoryStore, clock: ManualClock) -> None:
    """With V1 off, rows that need a replan get their instant; due rows stay unchanged, and nothing escalates."""
    await populate(store, clock)
    before = picture(store)
    report = await engine_of(store, v1=False, windows={"low": 2 * HOUR}).tick()
    assert Mode.V1_OFF == report.mode
    assert 0 == report.escalated
    assert 0 == report.pages
    assert {"v1_off": 1, "not_due": 1} == dict(report.rescheduled)
    assert {"acknowledged": 1, "unreadable": 2} == dict(report.skipped)
    touched = {key for key, columns in store.rows.items() if columns != before["rows"][key]}
    assert {"new", "new-young", "new-ended", "poison", "ancient"} == touched
    assert START + 5 * MINUTE == row(store, "new")["next_due_at"]
    assert [before["ledger"], before["pages"]] == [store.ledger, store.pages]
    after = await engine_of(store, windows={"low": 2 * HOUR}).tick()
    assert 4 == after.escalated


@pytest.mark.parametrize("held", [HELD[0], {"pause_cron": "0 1 * * *", "pause_length": HOUR}])
async def test_disabled_and_paused_engines_claim_nothing(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """The tick of a disabled or paused engine changes no row, due or in need of a replan."""
    await populate(store, clock)
    engine = engine_of(store, **held)
    await engine.tick(dry_run=True)
    before = picture(store)
    report = await engine.tick()
    assert before == picture(store)
    assert 0 == report.escalated
    assert {} == dict(report.rescheduled)
    assert {} == dict(report.skipped)
    assert False is report.changed


async def test_reports_say_what_held_the_engine(store: MemoryStore) -> None:
    """Report and health name the same mode and the same end of the pause."""
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
    """While the engine is held, verbs still open, acknowledge and resolve incidents, and cancel their pages."""
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
    """When the pause ends, an incident that became due during the pause escalates by one level."""
    engine = engine_of(store, **PAUSE)
    await engine.open("k", severity="critical")
    assert [0, 0, 1, 0] == await ticks(engine, clock, 5 * MINUTE, 55 * MINUTE - TICK, TICK, timedelta())


async def test_canary_outsiders_are_untouched(store: MemoryStore, clock: ManualClock) -> None:
    """The engine claims no row outside the canary, due or not, and health counts the due ones among them."""
    for key in ("k0", "k2"):
        await put(store, incident(key, next_due_at=START + 5 * MINUTE))
    await store.host.insert("k3", severity="critical", first_seen=START)
    outside = [row(store, key) for key in ("k2", "k3")]
    clock.advance(HOUR)
    engine = engine_of(store, canary_pct=10)
    report = await engine.tick()
    assert (1, outside) == (report.escalated, [row(store, key) for key in ("k2", "k3")])
    health = await engine.health()
    assert 1 == health.as_dict()["canaryHeld"]
    assert 0 == health.stats.overdue
    assert 1 == health.stats.marked
    risen = await engine_of(store, canary_pct=100).tick()
    assert (2, {"k2", "k3"}) == (risen.escalated, {example.incident_key for example in risen.examples})


async def test_canary_of_0_escalates_nothing(store: MemoryStore, clock: ManualClock) -> None:
    """With a canary of 0 percent nothing escalates, and health counts every due row."""
    await put(store, *(incident(f"k{number}", next_due_at=START) for number in range(30)))
    engine = engine_of(store, canary_pct=0)
    assert [0] == await ticks(engine, clock, HOUR)
    health = await engine.health()
    assert (30, 1) == (health.stats.outside_canary, len(health.warnings))


# --- log lines and counts


async def test_tick_writes_one_line(store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """The log line of a tick has the replaced worker's metric names."""
    caplog.set_level(logging.INFO)
    await populate(store, clock)
    await engine_of(store, windows={"low": 2 * HOUR}).tick(deliver=False)
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("tick ")]
    assert line.startswith("tick escalations_count=4 skipped_idempotent=1 escalation_tick_ms=")
    assert line.endswith(" rescheduled=2 unreadable=2 pages=4 dead_pages=0 behind=False mode=open dry_run=False")


async def test_severities_without_a_window_are_counted_and_told_once(
    store: MemoryStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine warns once of each severity without a window, NULL included, and counts it in report and health."""
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
    """The engine counts severities beyond the first hundred together."""
    engine = engine_of(store)
    await put(store, *(incident(f"k{n}", severity=f"s{n}", next_due_at=START) for n in range(150)))
    clock.advance(DAY)
    report = await engine.tick()
    assert 101 == len(report.unconfigured)
    assert 50 == report.unconfigured["(others)"]
    assert 150 == report.unconfigured.total()
    assert 101 == len((await engine.health()).unconfigured)


async def test_a_long_severity_is_cut_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A log line has a bounded length, even with very long severities."""
    caplog.set_level(logging.WARNING)
    async with Engine(MemoryStore()) as engine:
        await engine.open("k", severity="s" * 10_000, first_seen=await engine.now() - timedelta(hours=1))
        report = await engine.tick()
    assert ["s" * 99 + "…"] == list(report.unconfigured)
    assert max(len(record.getMessage()) for record in caplog.records) < 1000
