"""Recalculations with policies: what they assign, and what they leave to ticks."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import attrs
import pytest

from escalation_core import Policies, StoreUnavailable
from escalation_core.model import NEEDS_REPLAN
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, START, put, row
from ..walking import CALM, FILE, LASTING, OPS, Night, minutes

Result = TypeVar("Result")


async def test_recalc_assigns_all_unresolved_rows(store: MemoryStore, clock: ManualClock) -> None:
    """Recalc writes pins and instants of open and acknowledged rows, and no event; rows that need a replan stay."""
    night = Night(clock, store, None)
    for key, severity in (("open", "critical"), ("acked", "critical"), ("high", "low"), ("done", "critical")):
        await night.at(0).open(key, severity=severity)
    await night.engine.acknowledge("acked")
    await night.engine.resolve("done")
    await put(store, attrs.evolve(await night.load("high"), level=2, last_escalated_at=START))
    night.restart(LASTING)
    await night.at(3).recalc()
    pins = {key: str(columns["policy_pin"]).partition("@")[0] for key, columns in store.rows.items()}
    assert {"open": "ops", "acked": "ops", "high": "builtin", "done": "None"} == pins
    due = {key: minutes(columns["next_due_at"]) for key, columns in store.rows.items()}
    assert {"open": 0, "acked": 33, "high": 45, "done": None} == due
    assert {} == store.ledger
    assert 1 == len(store.versions)


async def test_recalc_leaves_a_mark(night: Night) -> None:
    """A row with ``!`` before its pin is left to the next tick."""
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    await night.store.host.update("k", acknowledged_at=None)
    before = row(night.store)
    await night.engine.recalc()
    assert before == row(night.store)


async def test_recalc_does_not_end_an_acknowledgement(store: MemoryStore, clock: ManualClock) -> None:
    """An acknowledgement whose time is over is left to a tick."""
    night = Night(clock, store, LASTING)
    await night.at(0).open("k", severity="critical")
    await night.engine.acknowledge("k")
    await night.at(40).recalc()
    assert (30, START) == (night.due, row(store)["acknowledged_at"])


async def test_recalc_of_what_an_engine_cannot_assign(night: Night) -> None:
    """A worker without a file leaves a row that needs another policy to be planned again."""
    await night.at(0).open("k", severity="critical")
    night.restart(None)
    await put(night.store, attrs.evolve(await night.load(), severity="low"))
    await night.engine.recalc()
    assert NEEDS_REPLAN == row(night.store)["next_due_at"]


async def test_a_changed_file_asks_for_a_recalc(store: MemoryStore, clock: ManualClock) -> None:
    """The first heartbeat with another file requests a recalculation, which the next ticks do."""
    night = Night(clock, store, None)
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    night.restart(Policies.from_mapping(FILE))
    await night.tick(1)
    assert ([], "ops@now@critical", 0) == (night.rises, night.pin, night.due)
    await night.tick(2)
    assert [(2, 1)] == night.rises
    assert ["open", "recalc"] == night.notes
    assert "the policies file changed" == next(note.reason for note in store.notes.values() if note.action == "recalc")
    await night.ticks(3, 4)
    assert 1 == night.notes.count("recalc")


class FailingCommit(MemoryStore):
    """A store whose next transaction fails when it commits, if ``fails`` is set."""

    fails = False

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``; undo its writes and raise if ``fails`` is set."""

        async def whole(tx: Transaction) -> Result:
            result = await work(tx)
            if self.fails:
                self.fails = False
                raise StoreUnavailable("the server has gone away")
            return result

        return await super().transact(whole)


async def test_a_heartbeat_that_failed_asks_again(clock: ManualClock) -> None:
    """If the commit of the first heartbeat with another file fails, the next one requests the recalculation."""
    store = FailingCommit(clock)
    night = Night(clock, store, None)
    await night.tick(0)
    night.restart(Policies.from_mapping(FILE))
    store.fails = True
    with pytest.raises(StoreUnavailable):
        await night.tick(1)
    await night.tick(2)
    assert ["recalc"] == night.notes


async def test_a_step_of_the_clock_keeps_labels(night: Night) -> None:
    """An incident that was opened while the clock was ahead keeps its labels and its walk."""
    await night.at(600).open("k", severity="critical", labels={"team": "db"})
    await night.ticks(601, 602)
    await night.tick(0)
    await night.tick(1)
    assert ({"team": "db"}, START, "ops@now@critical") == (
        row(night.store)["labels"],
        row(night.store)["first_seen"],
        night.pin,
    )
    assert [(601, 1)] == night.rises
    assert 5 == night.due


async def test_recalc_gives_policies_by_labels(store: MemoryStore, clock: ManualClock) -> None:
    """A recalculation reads labels if an assignment depends on them."""
    night = Night(clock, store, None)
    await night.at(0).open("k", severity="critical", labels={"team": "db"})
    assign = [{"policy": "ops"}, {"labels": {"team": "db"}, "policy": "calm"}]
    night.restart(Policies.from_mapping({"policies": {"ops": OPS, "calm": CALM}, "assign": assign}))
    await night.engine.recalc()
    assert "calm@now@critical" == night.pin


async def test_recalc_notes_a_lost_version_once(night: Night) -> None:
    """A recalculation that finds a version lost writes the file's version, a note, and cancels what ended."""
    await night.at(0).open("k", severity="critical")
    await night.ticks(0, 5)
    night.store.versions.clear()
    night.restart(Policies.from_mapping({"policies": {"ops": {"levels": [{"after": "0m"}]}}, "assign": []}))
    await night.at(6).recalc()
    await night.engine.recalc()
    assert ["open", "recalc", "lost_version", "restart", "recalc"] == night.notes
    assert ({"cancelled"}, (2, 6), 6) == (set(night.states), night.walk, night.due)


async def test_an_acknowledgement_that_a_host_took_back(night: Night) -> None:
    """A row whose pin says that SQL ended the acknowledgement waits for its tick, also if the host wrote an instant."""
    await night.at(0).open("k", severity="critical")
    await night.tick(1)
    await night.engine.acknowledge("k")
    await night.store.host.update("k", acknowledged_at=None, next_due_at=START + 9000 * MINUTE)
    await night.engine.recalc()
    assert night.store.rows["k"]["policy_pin"].startswith("!")
    assert NEEDS_REPLAN == night.store.rows["k"]["next_due_at"]


async def test_recalc_after_a_step_keeps_the_text(night: Night) -> None:
    """A row that came in while the clock was ahead is pinned after the step, and its text is kept."""
    await night.tick(100)
    await night.store.host.insert("k", severity="critical", first_seen=START + 90 * MINUTE)
    await night.store.host.update("k", acknowledged_at=START + 95 * MINUTE)
    await put(night.store, attrs.evolve(await night.load(), next_due_at=START + 99 * MINUTE))
    await night.tick(0)
    loaded = await night.load()
    assert (START, "ops") == (loaded.first_seen, str(loaded.policy_pin).partition("@")[0])
    assert 1 == len(night.store.versions)
