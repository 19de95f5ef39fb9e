"""Hosts that write to their rows directly: how the next tick handles the change."""

from datetime import timedelta

from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, HOUR, MINUTE, START, engine_of, row, states, ticks


async def test_hosts_insert_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """The next tick plans a row that a host inserted, and never counts it as late."""
    await store.host.insert("k", severity="critical", first_seen=START - HOUR)
    report = await engine_of(store).tick()
    assert (1, None) == (report.escalated, report.latest)


async def test_hosts_row_without_a_severity_is_a_warning(store: MemoryStore) -> None:
    """A severity of NULL is unconfigured, and the row waits the default window."""
    await store.host.insert("k")
    await engine_of(store).tick()
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_update_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """After a host changes a severity, the next tick moves the due instant, in both directions."""
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
    """A change of a column that no rule reads does not make the row need a replan."""
    engine = engine_of(store)
    await engine.open("k")
    await store.host.update("k", summary="new", labels={"a": "b"})
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_acknowledgement_ends_paging(store: MemoryStore, clock: ManualClock) -> None:
    """An incident that a host acknowledges does not escalate again; the claim cancels its page."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    await store.host.update("k", acknowledged_at=clock())
    assert [0] == await ticks(engine, clock, DAY)
    assert ([], ["cancelled"]) == (notifier.pages, states(store))


async def test_hosts_reopened_row_is_a_new_episode(store: MemoryStore, clock: ManualClock) -> None:
    """A host that sets resolved_at back to NULL starts a new episode, and level 1 is paged again."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.update("k", resolved_at=clock())
    clock.advance(HOUR)
    await store.host.update("k", resolved_at=None)
    assert [0, 1] == await ticks(engine, clock, timedelta(), 5 * MINUTE)
    assert [(1, 1), (2, 1)] == [(page.episode, page.level) for page in notifier.pages]


async def test_hosts_lowered_level_is_a_drain(store: MemoryStore, clock: ManualClock) -> None:
    """A host that lowers the level, as the runbook does, gets the same level recorded and paged once more."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.update("k", level=0)
    assert [0, 1] == await ticks(engine, clock, timedelta(), 30 * MINUTE)
    assert [(1, 1), (2, 1)] == [(page.episode, page.level) for page in notifier.pages]


async def test_deleted_row_that_comes_again_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A row inserted again under a key that escalated before gets an episode of its own, and escalates."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.delete("k")
    assert [0] == await ticks(engine, clock, HOUR)
    await store.host.insert("k", severity="critical", first_seen=clock() - HOUR)
    assert [1] == await ticks(engine, clock, timedelta())
    assert [1, 2] == [escalation.episode for escalation in store.ledger.values()]


async def test_engines_writes_are_no_hosts(store: MemoryStore, clock: ManualClock) -> None:
    """After a tick or a verb no row needs a replan."""
    engine = engine_of(store)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await engine.change_severity("k", "warning")
    await engine.drain("k")
    await engine.unacknowledge("k")
    assert NEEDS_REPLAN != row(store)["next_due_at"]
