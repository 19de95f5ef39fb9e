"""Batches with policies: targets that no notifier serves, and rows that the store refuses to move."""

from typing import Any

import attrs
import pytest

from escalation_core import Engine, Policies, StoreRefused
from escalation_core.model import NEEDS_REPLAN
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.memory.walks import Walks

from ..kit import START, Named, row
from ..walking import FILE, LASTING, Night, policies


@pytest.mark.parametrize(
    ("to", "default", "expected", "counted"),
    [
        (["gone", "first"], "router", [("first", None), ("router", "gone")], 1),
        (["gone", "lost"], "router", [("router", "gone, lost")], 1),
        (["gone", "router"], "router", [("router", "gone")], 1),
        (["gone"], None, [("second", "gone")], 1),
        (["gone"], "nowhere", [("second", "gone")], 1),
    ],
)
async def test_a_target_that_no_notifier_serves(
    to: list[str], default: str | None, expected: list[Any], counted: int, store: MemoryStore, clock: ManualClock
) -> None:
    """The default target, or else the router, is paged in its place, which is counted and logged."""
    night = Night(clock, store, None)
    await night.at(0).open("k", severity="critical")
    file = policies(ops={"levels": [{"after": "0m", "to": to}]})
    night.engine = Engine(
        store,
        settings=attrs.evolve(night.engine.settings, default_target=default),
        notifiers=[night.notifier],
        router=Named("second"),
    )
    night.engine._versions.policies = file
    await night.engine.recalc()
    report = await night.tick(0)
    assert sorted(target for target, _ in expected) == sorted(target for _, target in night.paged)
    assert (counted, 0) == (report.in_place, report.dead_pages)


async def test_a_page_is_dead_if_nothing_serves_its_place(store: MemoryStore, clock: ManualClock) -> None:
    """If the router has no answer either, the page is dead at birth, beside those that can be sent."""
    night = Night(clock, store, None)
    night.engine = Engine(store, notifiers=[RecordingNotifier("first", "second")])
    night.engine._versions.policies = policies(ops={"levels": [{"after": "0m", "to": ["gone", "first"]}]})
    await night.at(0).open("k", severity="critical")
    report = await night.tick(0)
    assert (["pending", "dead"], 1) == (night.states, report.dead_pages)
    assert [(1, "first"), (1, "")] == night.paged


# --- rows that the store refuses


class RefusingWalks(Walks):
    """A port that refuses to move one key."""

    async def move(self, incidents: Any) -> None:
        await Walks.move(self, incidents)
        if any(one.incident_key == "bad" for one in incidents):
            raise StoreRefused("move refuses bad")


async def test_a_moved_row_that_the_store_refuses(clock: ManualClock) -> None:
    """The refused row is deferred, and leaves nothing; the others are moved, with their notes and texts."""

    class Refusing(MemoryStore):
        async def transact(self, work: Any) -> Any:
            async def refusing(tx: Any) -> Any:
                tx.walks = RefusingWalks(tx.walks.store, tx.walks.undo)
                return await work(tx)

            return await super().transact(refusing)

    store = Refusing(clock)
    night = Night(clock, store, LASTING)
    for key in ("a", "bad", "c"):
        await night.at(0).open(key, severity="critical")
        await night.engine.acknowledge(key)
    report = await night.tick(30)
    assert (2, {"unreadable": 1}) == (report.escalated, dict(report.skipped))
    assert [(1, "first")] * 2 == night.paged
    assert ["ack_expired"] * 2 == [note for note in night.notes if note == "ack_expired"]
    assert START == row(store, "bad")["acknowledged_at"]
    assert {"a", "c"} == {one.incident_key for one in store.ledger.values()}
    assert ["bad"] == list(store.unreadable)


async def test_a_recorded_level_is_not_a_level_of_another_policy(store: MemoryStore, clock: ManualClock) -> None:
    """A host restores its row, and its severity then asks for another policy: that one begins at its first level."""
    night = Night(clock, store, Policies.from_mapping(FILE))
    await night.at(0).open("k", severity="critical")
    await night.tick(0)
    night.at(1)
    await store.host.past_triggers("k", level=0, last_escalated_at=None, next_due_at=NEEDS_REPLAN, severity="low")
    await night.ticks(1, 25)
    assert [(1, "ops", 1), (1, "calm", 1), (1, "calm", 2)] == night.places
