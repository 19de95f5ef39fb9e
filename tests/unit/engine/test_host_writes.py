"""Hosts that write to their rows by themselves: what the next tick makes of it."""

from datetime import timedelta

from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import DAY, HOUR, MINUTE, START, engine_of, row, states, ticks


async def test_hosts_insert_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A row that a host inserts is planned by the next tick, and is never late."""
    await store.host.insert("k", severity="critical", first_seen=START - HOUR)
    report = await engine_of(store).tick()
    assert (1, None) == (report.escalated, report.latest)


async def test_hosts_row_without_a_severity_is_a_warning(store: MemoryStore) -> None:
    """NULL is unconfigured and waits the default window."""
    await store.host.insert("k")
    await engine_of(store).tick()
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_update_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A severity that a host changes moves the instant at the next tick, in both directions."""
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
    """After a change of a column that no rule reads the row needs no replan."""
    engine = engine_of(store)
    await engine.open("k")
    await store.host.update("k", summary="new", labels={"a": "b"})
    assert START + 15 * MINUTE == row(store)["next_due_at"]


async def test_hosts_acknowledgement_ends_paging(store: MemoryStore, clock: ManualClock) -> None:
    """What a host acknowledges rises no more, and its page is cancelled when it is claimed."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    await store.host.update("k", acknowledged_at=clock())
    assert [0] == await ticks(engine, clock, DAY)
    assert ([], ["cancelled"]) == (notifier.pages, states(store))


async def test_hosts_reopened_row_is_a_new_episode(store: MemoryStore, clock: ManualClock) -> None:
    """Setting resolved_at back to NULL begins the ladder anew, and level 1 is paged again."""
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
    """The runbook's UPDATE of the level lets the same level be recorded and paged once more."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    await ticks(engine, clock, 5 * MINUTE)
    await store.host.update("k", level=0)
    assert [0, 1] == await ticks(engine, clock, timedelta(), 30 * MINUTE)
    assert [(1, 1), (2, 1)] == [(page.episode, page.level) for page in notifier.pages]


async def test_deleted_row_that_comes_again_is_heard(store: MemoryStore, clock: ManualClock) -> None:
    """A row inserted again under a key that escalated before is in an episode of its own."""
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
