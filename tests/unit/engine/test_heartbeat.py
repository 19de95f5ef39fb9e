"""After a tick: its heartbeat, and the counts for metrics."""

from datetime import datetime, timedelta
from typing import Any, NoReturn

import pytest

from escalation_core import StoreUnavailable
from escalation_core.engine.health import Observed
from escalation_core.engine.heartbeat import HeartbeatKeeper
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import HOUR, MINUTE, SECOND, START, engine_of
from .helpers import HELD, HELD_IDS, TICK


@pytest.mark.parametrize("fields", [{}, *HELD, {"dry_run": True}], ids=["open", *HELD_IDS, "dry-run"])
async def test_heartbeat_at_most_once_per_quarter_interval(
    fields: dict[str, Any], store: MemoryStore, clock: ManualClock
) -> None:
    """Each completed tick writes a heartbeat, held or not, but at most one per quarter interval."""
    engine = engine_of(store, **fields)
    heartbeats = []
    for wait in (timedelta(), SECOND, 14 * SECOND - TICK, TICK, 5 * SECOND, HOUR):
        clock.advance(wait)
        await engine.tick()
        heartbeats.append((store.beats["w"] - START).total_seconds())
    assert [0, 0, 0, 15, 15, 3620] == heartbeats


async def test_dry_run_writes_a_heartbeat_too(store: MemoryStore) -> None:
    """A single dry run also writes a heartbeat, since it shows that a worker ticks."""
    await engine_of(store).tick(dry_run=True)
    assert {"w": START} == store.beats


async def test_lag_for_metrics(store: MemoryStore) -> None:
    """An engine has no lag before its first tick; afterwards the lag is the seconds since the tick."""
    engine = engine_of(store)
    assert None is engine.observed_lag()
    await engine.tick()
    assert 0 <= (engine.observed_lag() or 0) < 5


async def test_counts_for_metrics_grow_old(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics report counts for three tick intervals after a tick or health took them, until they are taken again."""
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
    """If the store gives up the counts, the tick still writes its heartbeat, succeeds and logs a warning."""

    async def given_up(*_: object, **__: object) -> NoReturn:
        raise StoreUnavailable("given up")

    monkeypatch.setattr("escalation_core.engine.heartbeat.HeartbeatKeeper.count", given_up)
    await engine_of(store).tick()
    assert {"w": START} == store.beats
    assert "the counts for metrics could not be taken: given up" in caplog.messages


async def test_counts_take_a_share_of_the_time(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After counts that took 2 seconds, the engine counts again only 20 seconds later; heartbeats go on."""
    engine, time, counted = engine_of(store), [1000.0], 0
    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", lambda: time[0])

    async def slowly(*_: object, **__: object) -> None:
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
    """Counts that took longer than a tick interval are reported until they are due again."""
    engine, time = engine_of(store, tick_interval=SECOND), [1000.0]
    monkeypatch.setattr("escalation_core.engine.heartbeat.clock", lambda: lambda: time[0])
    monkeypatch.setattr("escalation_core.engine.heartbeat.monotonic", lambda: time[0])
    count = HeartbeatKeeper.count

    async def slowly(self: HeartbeatKeeper, tx: Transaction, now: datetime, **detail: bool) -> Observed:
        seen = await count(self, tx, now, **detail)
        time[0] += 2
        return seen

    monkeypatch.setattr(HeartbeatKeeper, "count", slowly)
    await engine.tick()
    time[0] += 20.9
    assert engine.observed_stats() is not None
    time[0] += 0.2
    assert engine.observed_stats() is None
