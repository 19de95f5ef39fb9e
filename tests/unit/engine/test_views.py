"""Views: the history of one incident, and the audit."""

from datetime import datetime

import pytest

from escalation_core import Incident, InvalidValue
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, START, engine_of, ticks


async def test_history_tells_everything_about_one_incident(store: MemoryStore, clock: ManualClock) -> None:
    """History holds the incident's row, escalations, pages and audit, newest first, and no other incident."""
    engine = engine_of(store)
    for key in ("k", "other"):
        await engine.open(key, severity="critical", by="op")
    await ticks(engine, clock, 5 * MINUTE)
    clock.advance(MINUTE)
    await engine.acknowledge("k", by="anna")
    history = await engine.history("k")
    assert isinstance(history.incident, Incident)
    assert "anna" == history.incident.acknowledged_by
    assert [1] == [escalation.level for escalation in history.escalations]
    assert ["delivered"] == [page.state.value for page in history.pages]
    found = [entry.action for entry in history.audit]
    assert "acknowledge" == found[0]
    assert {"escalate", "page delivered"} == set(found[1:3])
    assert "open" == found[3]


async def test_history_of_a_row_that_is_gone(store: MemoryStore, clock: ManualClock) -> None:
    """The recorded escalations stay when the host deletes the row; an unknown key has no history."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.delete("k")
    history, nothing = await engine.history("k"), await engine.history("unknown")
    assert None is history.incident
    assert 1 == len(history.escalations)
    assert None is nothing.incident
    assert 0 == len(nothing.audit)


async def test_audit_is_bounded(store: MemoryStore, clock: ManualClock) -> None:
    """The audit starts at an aware instant and holds the newest entries up to a limit."""
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
