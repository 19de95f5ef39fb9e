"""Versions of policies: their texts in the store, who plans by them, and what happens if one is lost."""

import logging
from typing import Any

import attrs
import pytest

from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, START, actions, put, row
from ..walking import CALM, LASTING, OPS, Night, policies


async def test_a_new_file_ends_no_old_acknowledgement(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledgement that is older than the policy's text counts from the storing of the text."""
    night = Night(clock, store, None)
    await night.at(0).open("k", severity="critical")
    await night.at(1).acknowledge("k")
    night.restart(LASTING)
    await night.at(100).recalc()
    assert (130, "ops@now@critical") == (night.due, night.pin)
    await night.ticks(101, 129)
    assert [] == night.rises
    await night.tick(130)
    assert [(130, 1)] == night.rises


async def test_the_first_row_of_a_new_policy(store: MemoryStore, clock: ManualClock) -> None:
    """An old acknowledgement counts from now if the text is kept in the same transaction."""
    night = Night(clock, store, LASTING)
    night.at(100)
    await store.host.insert("k", severity="critical", first_seen=START, acknowledged_at=START)
    report = await night.tick(100)
    assert ({}, 130) == (dict(report.happened), night.due)


async def test_a_text_is_kept_once(night: Night) -> None:
    """The transaction that pins a version keeps its text; one that is kept stays as it is."""
    await night.at(1).open("k", severity="critical")
    await night.at(2).open("k2", severity="critical")
    ops = night.engine.policies.policies["ops"] if night.engine.policies else None
    assert ops is not None
    assert {ops.digest: (ops.text(), START + MINUTE)} == {
        digest: (kept.text, kept.kept_at) for digest, kept in night.store.versions.items()
    }


async def test_old_incidents_keep_their_version(night: Night) -> None:
    """A changed file changes no incident that walks by the old text; new ones get the new one."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    night.restart(policies(ops={"levels": [{"after": "1m", "to": ["second"]}]}))
    await night.engine.recalc()
    await night.ticks(1, 25)
    assert [(0, 1), (5, 2), (20, 3)] == night.rises
    await night.at(26).open("k2", severity="critical")
    await night.ticks(26, 27)
    assert [(0, 1), (5, 2), (20, 3), (27, 1)] == night.rises


async def test_an_engine_without_a_file_goes_on(night: Night) -> None:
    """An engine without a file plans a pinned row by the text in the store."""
    await night.at(0).open("k", severity="critical")
    night.restart(None)
    await night.ticks(0, 80)
    assert [(0, 1), (5, 2), (20, 3), (50, 4), (55, 5), (70, 6)] == night.rises
    assert 8 == len(night.paged)


async def test_a_severity_that_a_worker_without_a_file_cannot_assign(night: Night) -> None:
    """It escalates by the pin's text when due, and leaves the row to a worker with the file."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    file = night.file
    night.restart(None)
    night.at(1)
    await night.store.host.update("k", severity="low")
    await night.ticks(1, 5)
    assert [(0, 1), (5, 2)] == night.rises
    assert 6 == night.due
    night.restart(file)
    await night.tick(6)
    assert ("calm@now@low", (2, 5), 15) == (night.pin, night.walk, night.due)
    assert "unknown_policy" not in night.notes


# --- lost versions


async def test_a_lost_version(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    """A row whose text is lost goes on in the file's version, which is noted, logged, and in health."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    night.store.versions.clear()
    night.restart(policies(ops={"levels": [{"after": "0m"}, {"after": "1m"}, {"after": "8m", "to": ["second"]}]}))
    caplog.set_level(logging.WARNING)
    # The row is looked at at its own instant; the gap of eight minutes in the file's version is over by then.
    await night.ticks(20, 30)
    assert [(0, 1), (5, 2), (20, 3)] == night.rises
    assert (1, "lost_version") == (night.notes.count("lost_version"), night.notes[1])
    assert "incident 'k': lost_version: ops " in caplog.text
    health = await night.engine.health()
    assert {"lost_version": 1} == dict(health.policies.stats.lately)
    assert any("the store has lost" in warning for warning in health.warnings)


async def test_a_lost_version_without_a_file_is_noted_once(night: Night) -> None:
    """A worker without a file that plans the row again each minute notes the lost version once for each write."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    night.store.versions.clear()
    night.restart(None)
    night.at(1)
    await night.store.host.update("k", snoozed_until=START + 60 * MINUTE)
    await night.ticks(1, 20)
    assert 1 == night.notes.count("lost_version")


async def test_a_text_that_cannot_be_read_here(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    """A version that this engine cannot read is not lost: the built-in policy pages, and the pin stays for others."""
    await night.at(0).open("k", severity="critical")
    (digest,) = night.store.versions
    pin = night.store.rows["k"]["policy_pin"]
    night.store.versions[digest] = attrs.evolve(night.store.versions[digest], text='{"policy": 5}')
    night.restart(policies(ops=CALM))
    await night.ticks(0, 12)
    assert (pin, [(5, 1)]) == (night.store.rows["k"]["policy_pin"], night.rises)
    assert "cannot be read here" in caplog.text
    assert "lost_version" not in night.notes


async def test_a_running_worker_keeps_a_lost_text_again(night: Night) -> None:
    """The heartbeat finds that the store has lost a text, and the next write of an incident keeps it again."""
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    night.store.versions.clear()
    await night.tick(1)
    await night.tick(5)
    assert [(0, 1), (5, 2)] == night.rises
    assert 1 == len(night.store.versions)
    assert "lost_version" not in actions(night.store)


async def test_a_file_that_is_replaced_before_the_write(night: Night) -> None:
    """The text of a pin is kept although another file came into force between the planning and the write."""
    versions, replaced = night.engine._versions, policies(ops=CALM)
    planner = versions.planner

    async def planner_before_a_reload(*given: Any, **named: Any) -> Any:
        made = await planner(*given, **named)
        night.engine.use_policies(replaced)
        return made

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            type(versions), "planner", lambda self, *given, **named: planner_before_a_reload(*given, **named)
        )
        await night.at(0).open("k", severity="critical")
    pin = (await night.load()).policy_pin
    assert pin is not None
    assert [pin.split("@")[1]] == list(night.store.versions)


async def test_a_worker_that_cannot_read_a_text_leaves_the_mark(night: Night) -> None:
    """What SQL did to an acknowledgement is decided by a worker that has the policy."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 70)
    await night.engine.acknowledge("k")
    await night.store.host.update("k", acknowledged_at=None)
    kept = dict(night.store.versions)
    night.store.versions.clear()
    night.restart(None)
    await night.tick(71)
    assert str(row(night.store)["policy_pin"]).startswith("!ops@")
    night.store.versions.update(kept)
    night.restart(policies(ops=OPS))
    await night.tick(72)
    assert [(72, 7)] == night.rises[6:]


async def test_a_row_that_is_acknowledged_before_its_first_tick(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledgement through an engine without a file leaves a new row to a worker that has one."""
    night = Night(clock, store, None)
    night.at(0)
    await store.host.insert("k", severity="critical", first_seen=START)
    await night.engine.acknowledge("k")
    night.restart(LASTING)
    await night.tick(1)
    assert (31, "ops@now@critical") == (night.due, night.pin)
    await night.ticks(2, 31)
    assert [(31, 1)] == night.rises


async def test_a_pin_with_an_odd_name(night: Night) -> None:
    """A pin that was written by hand does not keep others from the version that it names."""
    await night.at(0).open("k", severity="critical")
    pin = str((await night.load()).policy_pin)
    await put(night.store, attrs.evolve(await night.load(), policy_pin=pin.replace("ops@", "odd name@")))
    await night.at(0).open("k2", severity="critical")
    night.restart(policies(other=CALM))
    await night.ticks(0, 5)
    assert [1, 2] == [one.level for one in night.store.ledger.values() if one.incident_key == "k2"]


async def test_a_long_word_is_cut_in_notes(night: Night) -> None:
    """A host may write megabytes into the column; the audit keeps its beginning."""
    await night.at(0).open("k", severity="critical")
    await night.store.host.update("k", policy="x" * 10_000)
    await night.engine.change_severity("k", "low")
    reasons = [note.reason or "" for note in night.store.notes.values() if note.action == "unknown_policy"]
    assert [1000] == [len(reason) for reason in reasons]


async def test_a_heartbeat_while_a_planner_is_made(night: Night) -> None:
    """A heartbeat that forgets a lost version takes it from no planner that another transaction makes meanwhile."""
    await night.at(0).open("k", severity="critical")
    versions, loaded = night.engine._versions, await night.load()
    own = str(loaded.policy_pin).split("@")[1]
    await night.store.read(lambda tx: versions.planner(tx, [loaded]))
    night.engine.use_policies(policies(ops=CALM))  # its version is missing, so the planner asks the store

    class Waiting:
        """The port of a transaction during whose query a heartbeat forgets everything."""

        def __init__(self, tx: Any) -> None:
            self.tx = self.walks = tx

        async def versions(self, digests: Any) -> Any:
            versions._kept.clear()
            return await self.tx.walks.versions(digests)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.tx, name)

    async def work(tx: Any) -> Any:
        waiting = Waiting(tx)
        waiting.walks = waiting
        return await versions.planner(waiting, [loaded])

    planner = await night.store.read(work)
    assert own in planner.versions
    assert [] == [note for note, _ in planner.settle(loaded, START).notes]


async def test_an_old_copy_from_before_a_walk_began_again(store: MemoryStore, clock: ManualClock) -> None:
    """The ledger wins over an old copy of the row that a host writes back, also for the place in the walk."""
    file = policies(
        ops={**CALM, "levels": [*CALM["levels"], *CALM["levels"]], "ack_timeout": "30m", "on_ack_expiry": "restart"}
    )
    night = Night(clock, store, file)
    await night.at(0).open("k", severity="critical")
    await night.tick(10)
    await night.engine.acknowledge("k")
    old = await night.load()
    await night.ticks(11, 61)
    assert [(10, 1), (50, 2), (60, 3)] == night.rises
    await put(store, old)
    await night.ticks(62, 130)
    assert [("ops", 3), ("ops", 4)] == [(policy, position) for _, policy, position in night.places[3:]]
