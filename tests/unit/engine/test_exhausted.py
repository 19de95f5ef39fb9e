"""Exhausted incidents: the engine notes them once; a higher maximum and a recalculation revive them."""

from datetime import timedelta

from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, HOUR, MINUTE, START, actions, engine_of, incident, put, row, ticks


async def test_exhausted_is_noted_once_and_then_nothing(store: MemoryStore, clock: ManualClock) -> None:
    """At the maximum level the engine writes one audit note, and the incident is never due again."""
    engine = engine_of(store, max_level=1)
    await engine.open("k", severity="critical")
    assert [1, 0, 0] == await ticks(engine, clock, 5 * MINUTE, DAY, DAY)
    await store.host.update("k", severity="warning")
    report = await engine.tick()
    assert {"exhausted": 1} == dict(report.skipped)
    assert (["open", "exhausted", "change_severity"], None) == (actions(store), row(store)["next_due_at"])
    note = store.notes[2]
    assert "k" == note.incident_key
    assert 1 == note.episode
    assert 1 == note.level
    assert START + 5 * MINUTE == note.at


async def test_lower_maximum_exhausts_when_the_row_is_claimed(store: MemoryStore, clock: ManualClock) -> None:
    """With a lowered maximum, the engine plans the row anew, notes it as exhausted, and sends no page."""
    await put(store, incident(level=5, last_escalated_at=START, next_due_at=START + 30 * MINUTE))
    engine = engine_of(store, max_level=3)
    assert [0, 0] == await ticks(engine, clock, HOUR, HOUR)
    assert ["exhausted"] == actions(store)
    assert 5 == row(store)["level"]
    assert None is row(store)["next_due_at"]


async def test_higher_maximum_and_recalc_revive(store: MemoryStore, clock: ManualClock) -> None:
    """Health warns of a raised maximum until a recalc gives exhausted incidents their next instant."""
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
