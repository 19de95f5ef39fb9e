"""Batches with levels that are passed over: the escalations of a row are recorded all, or none."""

from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Engine, Policies, Shift, Shifts
from escalation_core.engine.loaded import Loaded
from escalation_core.model import Escalation, LevelOutcome
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, MINUTE, START
from ..walking import Night

FILE = Policies.from_mapping(
    {
        "policies": {
            "ops": {
                "levels": [
                    {"after": "0m", "to": ["oncall:gap"]},
                    {"after": "5m", "to": ["oncall:gap"]},
                    {"after": "5m", "to": ["oncall:ann"]},
                ]
            }
        },
        "people": {"ann": "first"},
        "assign": [{"policy": "ops"}],
    }
)
NOBODY = LevelOutcome.NOBODY


@pytest.fixture
def night(store: MemoryStore, clock: ManualClock) -> Night:
    """Return a night in which no one is on call for ``gap``, and ann for ``ann``."""
    one = Night(clock, store, None)
    on_call(one.engine)
    return one


def loaded(schedule: Shifts) -> Loaded:
    return Loaded(schedule, (0, None), 0.0, schedule.digest, schedule.horizon, {})


def on_call(engine: Engine) -> None:
    """Give the engine the file, and its schedules."""
    ann = Shift(person="ann", start=START - DAY, end=START + DAY)
    schedules = {"gap": Shifts(shifts=[], horizon=START + DAY), "ann": Shifts(shifts=[ann], horizon=START + DAY)}
    engine._versions.schedule_loader.loaded = {
        name: Loaded(one, (0, None), 0.0, one.digest, one.horizon, {}) for name, one in schedules.items()
    }
    engine._versions.policies = FILE


def steps(store: MemoryStore) -> list[tuple[str, int, LevelOutcome | None]]:
    return [(one.incident_key, one.level, one.outcome) for one in store.ledger.values()]


async def test_levels_are_passed_over_in_one_tick(night: Night, store: MemoryStore) -> None:
    """Each level has its event, only the last one pages, and the report counts."""
    await night.at(0).open("k")
    report = await night.tick(0)
    assert [("k", 1, NOBODY), ("k", 2, NOBODY), ("k", 3, None)] == steps(store)
    assert ([(3, "first")], (1, 1)) == (night.paged, (report.escalated, report.pages))
    assert {"passed_over": 2} == report.happened
    assert ((await night.load()).level, None) == (3, night.due)


async def test_a_dry_run_passes_over_as_well(night: Night, store: MemoryStore) -> None:
    """It reports the level that it would reach, and writes nothing."""
    await night.at(0).open("k")
    report = await night.engine.tick(dry_run=True)
    assert ([], {"passed_over": 2}) == (steps(store), report.happened)
    assert [("escalate", 3, ("first",))] == [(one.outcome, one.level, one.targets) for one in report.examples]


@pytest.mark.parametrize("levels", [(1,), (2,), (3,), (1, 2, 3)])
async def test_a_level_that_is_recorded_already(night: Night, store: MemoryStore, levels: tuple[int, ...]) -> None:
    """The row gets the highest level that was recorded before, nothing more is recorded, and no page."""
    await night.at(0).open("k")
    there = [Escalation(incident_key="k", episode=1, level=level, created_at=START) for level in levels]
    await store.transact(lambda tx: tx.ledger.record(there))
    report = await night.tick(1)
    assert [("k", level, None) for level in levels] == steps(store)
    assert ([], 1) == (night.paged, report.skipped_idempotent)
    assert max(levels) == (await night.load()).level


@pytest.mark.parametrize("level", [2, 3])
async def test_a_hash_of_another_incident(night: Night, store: MemoryStore, level: int) -> None:
    """If the ledger has one hash of the row for another incident, none of the row's escalations is recorded."""
    await night.at(0).open("k")
    await night.at(0).open("other")
    own = Escalation(incident_key="k", episode=1, level=level, created_at=START)
    foreign = Escalation(incident_key="x", episode=1, level=9, created_at=START, unique_hash=own.unique_hash)
    await store.transact(lambda tx: tx.ledger.record([foreign]))
    report = await night.tick(0)
    others = [("other", 1, NOBODY), ("other", 2, NOBODY), ("other", 3, None)]
    assert [("x", 9, None), *others] == steps(store)
    assert (1, 0) == (report.skipped["unreadable"], (await night.load()).level)
    assert "k" in store.unreadable


async def test_no_one_at_all(night: Night, store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """The last level pages the default target. The report, the log and health say so."""
    night.engine._versions.schedule_loader.loaded["ann"] = night.engine._versions.schedule_loader.loaded["gap"]
    await night.at(0).open("k")
    report = await night.tick(0)
    assert [("k", 1, NOBODY), ("k", 2, NOBODY), ("k", 3, LevelOutcome.DEFAULT)] == steps(store)
    assert ([(3, "router")], {"passed_over": 2, "nobody_on_call": 1}) == (night.paged, report.happened)
    assert "incident 'k' level 3: no one is on call for oncall:ann" in caplog.text
    assert 1 == (await night.engine.health()).policies.stats.nobody_on_call
    said = [entry.reason for entry in await night.engine.audit(since=START) if entry.action == "escalate"]
    assert [
        "no one is on call: the next level follows at once",
        "no one is on call: the next level follows at once",
        "no one is on call: the default target, or the router's, is paged",
    ] == said


async def test_recalc_records_no_escalation(night: Night, store: MemoryStore) -> None:
    """A recalculation writes when the next level is due, and asks no schedule."""
    await night.at(0).open("k")
    await night.engine.recalc()
    assert ([], 0) == (steps(store), night.due)


async def test_what_comes_next(night: Night) -> None:
    """The view of an incident says whom its next escalation pages."""
    await night.at(0).open("k")
    coming: Any = (await night.engine.history("k")).next_pages
    assert (3, ("first",)) == (coming.level, coming.targets)


async def test_who_is_on_call_changes_until_then(night: Night, clock: ManualClock) -> None:
    """The schedules are asked at the instant of the tick, and not again when the page is sent."""
    until = Shift(person="ann", start=START - DAY, end=START + 2 * MINUTE)
    night.engine._versions.schedule_loader.loaded["ann"] = Loaded(
        Shifts(shifts=[until], horizon=START + DAY), (0, None), 0.0, "5f", START + DAY, {}
    )
    await night.at(0).open("k")
    await night.tick(1)
    clock.advance(timedelta(minutes=5))
    await night.engine.deliver()
    assert [(3, "first")] == [(page.level, page.target) for page in night.notifier.pages]
    [sent] = [entry for entry in await night.engine.audit(since=START) if entry.action == "page delivered"]
    assert "via oncall:ann" == sent.reason
