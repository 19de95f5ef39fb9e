"""A recalculation: what it writes, which worker runs it, and how it resumes after an interruption."""

import attrs
import pytest

from escalation_core import StoreUnavailable
from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, HOUR, MINUTE, START, engine_of, incident, picture, put, row
from .helpers import FailingStore


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recalculations visit two rows at a time."""
    monkeypatch.setattr("escalation_core.engine.recalc.BATCH", 2)


async def test_recalc_writes_the_instant_alone(store: MemoryStore, small_batches: None) -> None:
    """Recalc gives each unresolved row its true next_due_at, also where it was NULL, and writes nothing else."""
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
    assert 6 == await engine_of(store).recalc(progress=told.append)
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
    assert [2, 4, 6, 6] == told


async def test_recalc_leaves_rows_that_need_a_replan_and_unreadable_ones(store: MemoryStore) -> None:
    """A row that needs a replan is left to the next tick, and an unreadable row keeps its instant."""
    await store.host.insert("new", severity="critical", first_seen=START)
    await store.host.insert("poison", level=None)
    engine = engine_of(store)
    assert 2 == await engine.recalc()
    assert [NEEDS_REPLAN] * 2 == [row(store, key)["next_due_at"] for key in ("new", "poison")]


async def test_recalc_that_was_interrupted_is_resumed_by_a_worker(clock: ManualClock, small_batches: None) -> None:
    """The next tick of any engine resumes an interrupted recalculation from where it stopped."""
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
    assert 5 == done.visited
    assert None is done.requested_at
    assert START == done.finished_at


async def test_request_is_worked_off_between_ticks(store: MemoryStore, small_batches: None) -> None:
    """A worker's tick runs a requested recalc with the worker's settings, and notes the actor of the request."""
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abc"))
    asking = engine_of(store)
    await asking.request_recalc(by="op")
    assert {START + DAY} == {row(store, key)["next_due_at"] for key in "abc"}
    await engine_of(store, critical_window=7 * MINUTE).tick()
    assert {START + 7 * MINUTE} == {row(store, key)["next_due_at"] for key in "abc"}
    assert [("recalc", "op")] == [(note.action, note.actor) for note in store.notes.values()]


async def test_dry_run_works_off_no_recalc(store: MemoryStore) -> None:
    """A dry tick does not run a requested recalc."""
    await put(store, incident(next_due_at=START + DAY))
    engine = engine_of(store, dry_run=True)
    await engine.request_recalc()
    report = await engine.tick()
    assert (False, START + DAY) == (report.recalculating, row(store)["next_due_at"])


async def test_long_recalc_does_not_keep_the_next_tick_waiting(
    store: MemoryStore, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick spends one second on a recalc; the following ticks, which come at once, do the rest."""
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
    """A second request starts the recalculation from the first row, since the settings may have changed again."""
    await put(store, *(incident(key, next_due_at=START + DAY) for key in "abc"))
    engine = engine_of(store)
    await engine.request_recalc()
    state = store.state["recalc"]
    store.state["recalc"] = attrs.evolve(state, cursor="b", visited=2)
    await engine.request_recalc()
    assert (None, 0) == (store.state["recalc"].cursor, store.state["recalc"].visited)


async def test_changed_settings_are_warned_of_until_recalc(store: MemoryStore) -> None:
    """Health warns while the policy differs from that of the last recalc, or of the first tick."""
    await engine_of(store).tick()
    changed = engine_of(store, critical_window=MINUTE)
    expected = "windows, snooze, tick, maximum level or policies changed since the last recalc: run escalation recalc"
    assert [expected] == list((await changed.health()).warnings)
    await changed.tick()
    assert [expected] == list((await changed.health()).warnings)
    await changed.recalc()
    assert [[], [expected]] == [list((await one.health()).warnings) for one in (changed, engine_of(store))]
