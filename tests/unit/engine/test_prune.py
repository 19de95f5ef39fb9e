"""Prune: the rows that it deletes and the rows that it keeps."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Engine, InvalidValue, Pruned
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, MINUTE


async def test_prune(store: MemoryStore, clock: ManualClock) -> None:
    """Prune deletes rows older than the span and notes the actor; afterwards ``prove`` still holds."""
    engine = Engine(store, notifiers=[RecordingNotifier()])
    for _ in range(3):
        await engine.open("k", severity="critical")
        clock.advance(5 * MINUTE)
        await engine.tick()
        await engine.resolve("k")
        clock.advance(MINUTE)
    await engine.open("live", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick()
    told: list[int] = []
    assert Pruned() == await engine.prune(400 * DAY)
    clock.advance(500 * DAY)
    assert Pruned(escalations=2, pages=2, audit=4 + 1) == await engine.prune(400 * DAY, by="ada", progress=told.append)
    assert [("k", 3), ("live", 1)] == [(e.incident_key, e.episode) for e in store.ledger.values()]
    assert 2 + 2 + 5 == told[-1]
    kept = [entry.action for entry in (await engine.history("k")).audit]
    assert ["escalate", "open", "page delivered", "resolve"] == sorted(kept)
    last = (await engine.audit(clock()))[0]
    assert "prune" == last.action
    assert "ada" == last.actor
    assert "older than 400 days: 9 rows" == last.reason
    await engine.open("k")
    assert 4 == store.rows["k"]["episode"]
    assert (await engine.prove()).holds


@pytest.mark.parametrize("span", [timedelta(), timedelta(hours=23), -DAY, 400, None])
async def test_span_must_be_a_day_or_more(span: Any, store: MemoryStore) -> None:
    """Prune refuses a span of less than a day, since young rows may still be needed."""
    with pytest.raises(InvalidValue, match="older_than: "):
        await Engine(store).prune(span)


async def test_prune_with_an_endless_span(store: MemoryStore) -> None:
    """A span that reaches beyond the calendar deletes nothing."""
    assert Pruned() == await Engine(store).prune(timedelta.max)
