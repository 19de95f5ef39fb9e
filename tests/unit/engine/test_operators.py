"""Operators' commands for the whole engine: pause and resume."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from escalation_core import Engine, InvalidValue, Settings
from escalation_core.rules.gate import Mode
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, HOUR, MINUTE, START, incident, put


def engine_of(store: MemoryStore, **fields: Any) -> Engine:
    return Engine(store, settings=Settings(**fields), notifiers=[RecordingNotifier()])


async def test_every_worker_obeys(store: MemoryStore, clock: ManualClock) -> None:
    """A pause or resume by one engine holds for all: a paused engine escalates and sends nothing, and loses nothing."""
    one, other = engine_of(store), engine_of(store)
    await put(store, incident("k", next_due_at=START + MINUTE), incident("l", next_due_at=START + MINUTE))
    set_ = await one.pause(HOUR, reason="deploying", by="ada")
    assert (START, START + HOUR) == (set_.starts_at, set_.ends_at)
    clock.advance(6 * MINUTE)
    report = await other.tick()
    assert 0 == report.escalated
    assert Mode.PAUSED == report.mode
    assert START + HOUR == report.paused_until
    await other.acknowledge("l")
    health = await other.health()
    assert True is health.ok
    assert "ada" == health.paused_by
    assert "deploying" == health.pause_reason
    resumed = await other.resume(by="bob", reason="done")
    assert (1, None) == (resumed.ended, resumed.schedule_lifted_until)
    assert 1 == (await one.tick()).escalated
    audit = [(entry.action, entry.actor, entry.reason) for entry in await one.audit(START)]
    assert ("pause", "ada", "until 2025-01-01T01:00:00+00:00: deploying") in audit
    assert ("resume", "bob", "done") in audit


async def test_resume_overrides_the_schedule_once(store: MemoryStore, clock: ManualClock) -> None:
    """With override_schedule, resume ends the running scheduled pause; the next one begins as planned."""
    engine = engine_of(store, pause_cron="0 0 * * *", pause_length=HOUR)
    await put(store, incident("k", next_due_at=START + MINUTE))
    clock.advance(10 * MINUTE)
    await engine.resume()
    assert Mode.PAUSED is (await engine.tick()).mode
    resumed = await engine.resume(override_schedule=True, by="ada")
    assert START + HOUR == resumed.schedule_lifted_until
    assert 1 == (await engine.tick()).escalated
    clock.advance(DAY - 5 * MINUTE)
    assert (Mode.PAUSED, START + DAY + HOUR) == ((report := await engine.tick()).mode, report.paused_until)
    assert None is (await engine.resume(override_schedule=False)).schedule_lifted_until


async def test_switches_win(store: MemoryStore) -> None:
    """Resume does not enable an engine that the settings disable; health still shows the pause beside the mode."""
    engine = engine_of(store, worker_enabled=False)
    await engine.pause(HOUR, by="ada")
    assert Mode.DISABLED is (await engine.tick()).mode
    health = await engine.health()
    assert Mode.DISABLED == health.mode
    assert True is health.ok
    assert START + HOUR == health.paused_until
    assert "ada" == health.paused_by
    await engine.resume(override_schedule=True)
    assert Mode.DISABLED is (await engine.tick()).mode


@pytest.mark.parametrize(
    "given",
    [
        {"until": START.replace(tzinfo=None)},
        {"until": "1h"},
        {"until": HOUR, "reason": 7},
        {"until": HOUR, "by": "\ud800"},
    ],
)
async def test_bad_pause_is_refused(given: dict[str, Any], store: MemoryStore) -> None:
    """A wrong value is refused by its field's name, and nothing is paused."""
    with pytest.raises(InvalidValue):
        await engine_of(store).pause(**given)
    assert Mode.OPEN is (await engine_of(store).tick()).mode


async def test_actors_of_recalc_and_retry_are_text(store: MemoryStore) -> None:
    """recalc, request_recalc and retry_dead refuse an actor that is not text a store can hold."""
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
