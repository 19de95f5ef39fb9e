"""Acknowledgements that end: by a tick, by a person, by SQL; and what a switch holds back."""

from typing import Any

import attrs
import pytest

from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, MINUTE, START, put, row
from ..walking import LASTING, OPS, Night, minutes, policies


async def test_an_acknowledgement_ends_in_the_tick(store: MemoryStore, clock: ManualClock) -> None:
    """In one transaction the tick ends the acknowledgement, notes it, and escalates if the row is due."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.at(2).acknowledge("k", by="ann")
    assert (32, ["cancelled"]) == (night.due, night.states)
    report = await night.tick(31)
    assert {} == dict(report.happened)
    report = await night.tick(32)
    assert ({"ack_expired": 1}, 1) == (dict(report.happened), report.escalated)
    assert [(0, 1), (32, 2)] == night.rises
    assert ["open", "acknowledge", "ack_expired"] == night.notes
    assert (None, None) == (row(store)["acknowledged_at"], row(store)["acknowledged_by"])
    assert ["cancelled", "pending", "pending"] == night.states
    await night.ticks(33, 47)
    assert [(0, 1), (32, 2), (47, 3)] == night.rises


async def test_an_acknowledgement_that_ends_before_the_next_level(store: MemoryStore, clock: ManualClock) -> None:
    """If the next level is not due at the expiry, the row gets its instant."""
    night = Night(clock, store, policies(ops={"levels": [{"after": "0m"}, {"after": "50m"}], "ack_timeout": "30m"}))
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.at(2).acknowledge("k")
    report = await night.tick(32)
    assert ({"ack_expired": 1}, {"not_due": 1}, 50) == (dict(report.happened), dict(report.rescheduled), night.due)
    await night.ticks(33, 50)
    assert [(0, 1), (50, 2)] == night.rises


async def test_acknowledging_again(store: MemoryStore, clock: ManualClock) -> None:
    """Acknowledging again begins the timeout again, keeps the first actor, and is noted; it pages no target."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.at(2).acknowledge("k", by="ann")
    await night.at(20).acknowledge("k", by="bob")
    assert (50, 20, "ann") == (night.due, minutes(row(store)["acknowledged_at"]), row(store)["acknowledged_by"])
    assert [("open", None), ("acknowledge", "ann"), ("acknowledge", "bob")] == [
        (note.action, note.actor) for note in store.notes.values()
    ]
    await night.ticks(21, 49)
    assert [] == night.rises
    await night.tick(50)
    assert [(50, 1)] == night.rises


async def test_acknowledging_again_without_a_timeout(night: Night) -> None:
    """Without ack_timeout a second acknowledgement changes nothing."""
    await night.at(0).open("k", severity="critical")
    await night.at(2).acknowledge("k", by="ann")
    before = row(night.store)
    await night.at(20).acknowledge("k", by="bob")
    assert (before, ["open", "acknowledge"]) == (row(night.store), night.notes)


async def test_an_exhausted_walk_begins_again_at_the_expiry(store: MemoryStore, clock: ManualClock) -> None:
    """An exhausted walk begins again in a new episode, at the same level, at the instant of the expiry."""
    night = Night(clock, store, policies(ops={"levels": [{"after": "5m", "to": ["first"]}], "ack_timeout": "30m"}))
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 6)
    await night.at(7).acknowledge("k")
    assert 37 == night.due
    # The tick comes three minutes late, and the walk counts from the expiry.
    report = await night.tick(40)
    assert {"ack_expired": 1, "restart": 1} == dict(report.happened)
    assert ((1, 37), 42, 2) == (night.walk, night.due, row(store)["episode"])
    await night.ticks(41, 60)
    assert [(5, 1), (42, 2)] == night.rises
    assert [(1, "ops", 1), (2, "ops", 1)] == night.places
    assert ["open", "exhausted", "acknowledge", "ack_expired", "restart", "exhausted"] == night.notes
    assert (START, START + 42 * MINUTE) == (row(store)["first_seen"], row(store)["last_escalated_at"])


async def test_a_restart_of_a_late_tick_escalates_at_once(store: MemoryStore, clock: ManualClock) -> None:
    """A walk that begins again may be due in the same tick; unsent pages are cancelled, the new ones are not."""
    night = Night(clock, store, policies(ops={**OPS, "ack_timeout": "30m", "on_ack_expiry": "restart"}))
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    await night.at(6).acknowledge("k")
    await store.host.update("k", acknowledged_at=START + 5 * MINUTE)
    await night.tick(35)
    assert [(0, 1), (5, 2), (35, 3)] == night.rises
    assert [(1, "ops", 1), (1, "ops", 2), (2, "ops", 1)] == night.places
    assert ["cancelled", "cancelled", "cancelled", "pending"] == night.states


async def test_a_duplicate_of_a_restarted_episode(store: MemoryStore, clock: ManualClock) -> None:
    """If the ledger has the escalation of the new episode, the row gets its level, and no target is paged again."""
    night = Night(clock, store, policies(ops={**OPS, "ack_timeout": "30m", "on_ack_expiry": "restart"}))
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    await night.at(2).acknowledge("k")
    copy = await store.read(lambda tx: tx.incidents.load("k"))
    assert copy is not None
    await night.tick(32)
    pages = night.states
    await put(store, copy)
    night.clock.advance(MINUTE)
    report = await night.engine.tick(deliver=False)
    assert (0, {"already_recorded": 1}) == (report.escalated, dict(report.skipped))
    assert [(1, "ops", 1), (2, "ops", 1)] == night.places
    assert (2, 2, 32) == (row(store)["level"], row(store)["episode"], minutes(row(store)["last_escalated_at"]))
    # The expiry cancels pages of the copy's episode, and the page of minute 32 has the same key.
    assert (["cancelled", "pending"], ["cancelled", "cancelled"]) == (pages, night.states)


async def test_a_person_takes_an_acknowledgement_back(night: Night) -> None:
    """An un-acknowledgement goes on with the walk; it cancels unsent pages, also by SQL."""
    for by_sql in (False, True):
        key = f"k{by_sql}"
        await night.at(0).open(key, severity="critical")
        await night.engine.tick(deliver=False)
        await night.engine.acknowledge(key)
        night.clock.advance(2 * MINUTE)
        if by_sql:
            await night.store.host.update(key, acknowledged_at=None)
            assert str(row(night.store, key)["policy_pin"]).startswith("!ops@")
            await night.engine.tick(deliver=False)
        else:
            await night.engine.unacknowledge(key)
        assert START + 5 * MINUTE == row(night.store, key)["next_due_at"]
        assert not str(row(night.store, key)["policy_pin"]).startswith("!")
        assert 1 == row(night.store, key)["episode"]


@pytest.mark.parametrize("by_sql", [False, True])
async def test_a_person_takes_back_what_is_exhausted(by_sql: bool, store: MemoryStore, clock: ManualClock) -> None:
    """An exhausted walk begins again now, in a new episode."""
    night = Night(clock, store, policies(ops={"levels": [{"after": "5m", "to": ["first"]}]}))
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 6)
    await night.at(7).acknowledge("k")
    engine = night.at(20)
    if by_sql:
        await store.host.update("k", acknowledged_at=None)
        assert (NEEDS_REPLAN, 1) == (row(store)["next_due_at"], row(store)["episode"])
        await night.tick(20)
    else:
        await engine.unacknowledge("k", by="ann")
    assert ((1, 20), 25, 2) == (night.walk, night.due, row(store)["episode"])
    assert "restart" in night.notes
    assert ["cancelled"] == night.states
    await night.ticks(21, 40)
    assert [(5, 1), (25, 2)] == night.rises


async def test_nothing_ends_while_a_switch_holds(store: MemoryStore, clock: ManualClock) -> None:
    """No acknowledgement ends while the engine is disabled, V1 off, paused, in a dry run, or outside the canary."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.at(0).acknowledge("k")
    pause: dict[str, Any] = {"pause_cron": "0 0 * * *", "pause_length": DAY / 2}
    held_by: list[dict[str, Any]] = [
        {"worker_enabled": False},
        {"v1": False},
        pause,
        {"dry_run": True},
        {"canary_pct": 0},
    ]
    for number, held in enumerate(held_by):
        night.restart(LASTING, **held)
        first = 30 + 10 * number
        await night.ticks(first, first + 5)
        assert ([], 30, ["open", "acknowledge"]) == (night.rises, night.due, night.notes), held
        before = await night.load()
        await store.host.update("k", summary="new", snoozed_until=START + number * MINUTE)
        await night.tick(first + 6)
        assert START == row(store)["acknowledged_at"], held
        assert ["open", "acknowledge", "snooze"] == night.notes, held
        store.notes.popitem()
        await put(store, before)
    night.restart(LASTING)
    await night.tick(90)
    assert [(90, 1)] == night.rises


async def test_a_dry_run_reports_an_expiry(store: MemoryStore, clock: ManualClock) -> None:
    """A dry run reports what a tick would have done."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    report = await night.at(30).tick(dry_run=True)
    assert ({"ack_expired": 1}, 1) == (dict(report.happened), report.escalated)
    assert START == row(store)["acknowledged_at"]


async def test_an_acknowledgement_within_the_tick(store: MemoryStore, clock: ManualClock) -> None:
    """A row that is acknowledged after the tick's instant gets its expiry, and does not escalate."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.at(3).acknowledge("k")
    await put(store, attrs.evolve(await night.load(), next_due_at=START))
    _, batch = await night.engine._ticker._batches.run(START + 2 * MINUTE)
    assert (1, 33) == (len(batch.claimed), night.due)
    assert [] == night.rises
