"""A batch of a tick: unreadable rows, rows that fail in planning, recorded escalations, and failures."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import attrs
import pytest

from escalation_core import Escalation, StoreUnavailable
from escalation_core.rules.plan import Decision, plan
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, MINUTE, START, engine_of, incident, picture, put, row, ticks
from .helpers import Result

# --- rows that cannot be read or planned


async def test_unreadable_rows_are_put_back_longer_and_longer(store: MemoryStore, clock: ManualClock) -> None:
    """The engine defers an unreadable row by 1, 2, 4, up to 60 minutes, and counts it each time."""
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


async def test_unreadable_row_does_not_hold_up_its_batch(store: MemoryStore, clock: ManualClock) -> None:
    """The other rows of the batch escalate, and their pages are sent."""
    await store.host.insert("poison", first_seen=START, level=-1)
    await put(store, *(incident(key, next_due_at=START + 5 * MINUTE) for key in "ab"))
    clock.advance(5 * MINUTE)
    notifier = RecordingNotifier()
    report = await engine_of(store, notifier).tick()
    assert 2 == report.escalated
    assert {"unreadable": 1} == dict(report.skipped)
    assert 2 == len(notifier.pages)


async def test_healed_row_escalates_and_leaves_the_list(store: MemoryStore, clock: ManualClock) -> None:
    """Once the host has corrected a row, the next tick plans it like any other row."""
    await store.host.insert("k", severity="critical", first_seen=START, level=None)
    engine = engine_of(store)
    await engine.tick()
    await store.host.update("k", level=0)
    assert [1] == await ticks(engine, clock, 5 * MINUTE)
    assert 0 == (await engine.health()).stats.unreadable


async def test_row_that_heals_unseen_is_found_at_its_next_turn(store: MemoryStore, clock: ManualClock) -> None:
    """A host's first_seen too far ahead comes within the limits with time; the next attempt plans the row."""
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
    """A value that an incident cannot hold makes the row unreadable, and the fault names the column."""
    await store.host.insert("k", **columns)
    report = await engine_of(store).tick()
    assert ["unreadable"] == [example.outcome for example in report.examples]
    assert (report.examples[0].detail or "").startswith(field)


async def test_row_that_cannot_be_planned_is_put_back(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the planning of one row does not stop the other rows of its batch."""

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


# --- duplicates and failures


async def test_recorded_level_is_neither_recorded_nor_paged_again(store: MemoryStore, clock: ManualClock) -> None:
    """If the ledger holds an escalation already, the tick sets the incident to the recorded level and pages nothing."""
    await put(store, incident(next_due_at=START + 5 * MINUTE))
    known = [Escalation(incident_key="k", episode=1, level=n, created_at=START + n * MINUTE) for n in (1, 2)]
    await store.transact(lambda tx: tx.ledger.record(known))
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert 0 == report.escalated
    assert 1 == report.skipped_idempotent
    assert 0 == report.pages
    assert [] == notifier.pages
    standing = row(store)
    assert 2 == standing["level"]
    assert START + 2 * MINUTE == standing["last_escalated_at"]
    assert START + 32 * MINUTE == standing["next_due_at"]
    assert [1] == await ticks(engine, clock, 27 * MINUTE)
    assert [3] == [page.level for page in notifier.pages]


async def test_hash_of_another_incident_is_unreadable(store: MemoryStore, clock: ManualClock) -> None:
    """If the ledger holds the hash under another key, the engine defers the row and names unique_hash as the fault."""
    await put(store, incident(next_due_at=START + 5 * MINUTE))
    own = Escalation(incident_key="k", episode=1, level=1, created_at=START)
    await store.transact(lambda tx: tx.ledger.record([attrs.evolve(own, incident_key="other")]))
    clock.advance(5 * MINUTE)
    report = await engine_of(store).tick()
    assert (0, {"unreadable": 1}) == (report.escalated, dict(report.skipped))
    assert "unique_hash" in (report.examples[0].detail or "")


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
    """Event, page and level are written in one transaction: after a failure none of them is stored."""
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
