"""Health: the conditions of ok, the counts, and the names that it lists."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Engine, Incident, Retry
from escalation_core.model import Stats
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.incidents import Incidents
from escalation_core.testing.memory.journal import Journal

from ..kit import DAY, HOUR, MINUTE, START, engine_of, incident, put
from .helpers import HELD, TICK

# --- when health is ok


async def test_health_is_ok_while_a_worker_ticks(store: MemoryStore, clock: ManualClock) -> None:
    """Health is ok up to two intervals after the last tick of any worker, and not after that."""
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
async def test_health_is_ok_while_the_engine_is_off(
    held: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Health is ok while the engine is disabled or paused, since no worker is expected to tick."""
    clock.advance(HOUR)
    engine = engine_of(store, **held)
    health = await engine.health()
    assert True is health.ok
    assert HOUR == health.tick_lag
    assert True is await engine.is_healthy()


async def test_health_is_ok_while_an_operator_pauses(store: MemoryStore, clock: ManualClock) -> None:
    """Health is ok during an operator's pause, as during a scheduled one, until the pause ends."""
    engine = engine_of(store)
    clock.advance(HOUR)
    await engine.pause(HOUR)
    for wait, green in ((HOUR - TICK, True), (TICK, False)):
        clock.advance(wait)
        assert (green, green) == ((await engine.health()).ok, await engine.is_healthy())


async def test_health_is_not_ok_when_no_worker_ticks_with_v1_off(store: MemoryStore, clock: ManualClock) -> None:
    """With V1 off health still requires ticks, since only ticks plan the rows that need a replan."""
    clock.advance(HOUR)
    engine = engine_of(store, v1=False)
    assert (False, False) == ((await engine.health()).ok, await engine.is_healthy())


async def test_health_tells_when_a_tick_was_complete(store: MemoryStore, clock: ManualClock) -> None:
    """A tick that took longer than two intervals counts from its end: health is ok right after it."""

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


async def test_whether_health_is_ok_is_told_without_counts(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``is_healthy`` takes no counts, which cost more the more rows are overdue."""

    async def count(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was counted")

    monkeypatch.setattr(Journal, "stats", count)
    monkeypatch.setattr(Incidents, "unseen", count)
    engine = engine_of(store)
    assert await engine.is_healthy()
    with pytest.raises(AssertionError, match="was counted"):
        await engine.health()


# --- what health reports


@pytest.mark.parametrize(("percent", "detail"), [(100, False), (99, True), (0, True)])
async def test_health_counts_outside_the_canary_only_if_there_is_an_outside(
    percent: int, detail: bool, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health counts due rows outside the canary only below 100 percent, since the count scans every due row."""
    asked, stats = [], Journal.stats

    async def noted(self: Journal, **how: Any) -> Stats:
        asked.append(how["detail"])
        return await stats(self, **how)

    monkeypatch.setattr(Journal, "stats", noted)
    await engine_of(store, canary_pct=percent).health()
    assert [detail] == asked


async def test_health_as_json(store: MemoryStore, clock: ManualClock) -> None:
    """The JSON has the replaced worker's names, spans in milliseconds, and all other names in camel case."""
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


async def test_behind(store: MemoryStore, clock: ManualClock) -> None:
    """Health reports ``behind`` if a row is overdue for more than one interval and no switch holds the engine."""
    await put(store, incident("k", next_due_at=START))
    seen = []
    for fields in ({}, {"dry_run": True}, {"worker_enabled": False}):
        clock.set(START + MINUTE)
        on_time = (await engine_of(store, **fields).health()).behind
        clock.advance(timedelta(seconds=1))
        seen.append((on_time, (await engine_of(store, **fields).health()).behind))
    assert [(False, True), (False, False), (False, False)] == seen


async def test_health_names_targets_that_no_notifier_here_serves(store: MemoryStore, clock: ManualClock) -> None:
    """Health lists the targets of waiting pages that no notifier of this engine serves."""
    engine = engine_of(store, RecordingNotifier("a"))
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    assert [["a"], []] == [list((await one.health()).unserved) for one in (engine_of(store), engine)]
    observed = engine.observed_stats()
    assert observed is not None
    assert {"a": 1} == observed.stats.backlog


async def test_unreadable_rows_are_listed_in_health(store: MemoryStore) -> None:
    """Health counts unreadable rows, lists key and fault, and leaves the rows out of the overdue count."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    report = await engine.tick()
    stats = (await engine.health()).stats
    assert (1, 0) == (stats.unreadable, stats.overdue)
    [(key, fault)] = stats.unreadable_examples
    assert ("k", report.examples[0].detail) == (key, fault)
    assert fault.startswith("level: is NoneType")


@pytest.mark.parametrize("end", [{"acknowledged_at": START}, {"resolved_at": START}, None])
async def test_unreadable_rows_that_ended_are_no_worry(end: dict[str, Any] | None, store: MemoryStore) -> None:
    """Health no longer counts an unreadable row after its host has ended or deleted it."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    await engine.tick()
    await (store.host.delete("k") if end is None else store.host.update("k", **end))
    stats = (await engine.health()).stats
    assert (0, []) == (stats.unreadable, list(stats.unreadable_examples))


async def test_nothing_is_late_while_people_hold_it_back(store: MemoryStore, clock: ManualClock) -> None:
    """During a pause the gauge of the oldest overdue row is zero, so that a pause raises no alert."""
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
