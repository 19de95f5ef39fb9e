"""The next escalation in an incident's history, compared with what later ticks do, on each of the library's stores."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import attrs
import pytest

from escalation_core import Engine, Settings, in_canary
from escalation_core.model import Deferral
from escalation_core.ports import Store, Transaction
from escalation_core.rules.upcoming import HeldBy
from escalation_core.testing import HostTable, ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness

MINUTE = timedelta(minutes=1)
START = datetime(2025, 1, 1, tzinfo=UTC)
TICKS = (0, 0, 4, 5, 22, 23, 29, 30, 59, 60, 90)
"""Minutes after START at which the test ticks: before and at each instant that a case names, and later.

A recalculation, or a search for rows without an instant, comes after a tick. The next tick plans the rows that it
finds.
"""
KEY = next(f"k{number}" for number in range(1000) if not in_canary(f"k{number}", 50))
DEFAULTS: Mapping[str, Any] = MappingProxyType({})


@attrs.define
class Scene:
    """An incident in a store, with an engine whose clock stands at START."""

    store: Store
    host: HostTable
    clock: ManualClock
    engine: Engine

    async def open(self, age: int = 0) -> None:
        """Open the incident with a first_seen this many minutes ago."""
        await self.engine.open(KEY, severity="critical", first_seen=self.clock() - age * MINUTE)

    async def insert(self, age: int = 0, **columns: Any) -> None:
        """Let the host insert the incident."""
        await self.host.insert(KEY, severity="critical", first_seen=self.clock() - age * MINUTE, **columns)

    async def pass_over(self) -> None:
        """Note for an hour that the store refuses to write the incident."""
        row = Deferral(incident_key=KEY, fault="refused", attempts=1, until=self.clock() + 60 * MINUTE)
        await self.store.transact(lambda tx: tx.incidents.pass_over([row], self.clock()))

    async def exhaust(self) -> None:
        """Bring the incident to a maximum level of 1, with an engine of these settings."""
        await self.open(age=10)
        await engine_of(self.store, Settings(max_level=1)).tick()

    async def hold(self) -> None:
        """Set the incident's instant to NULL and note that, as ``--existing skip`` does."""
        await self.open(age=10)

        async def work(tx: Transaction) -> None:
            found = await tx.incidents.load(KEY)
            assert found is not None
            await tx.incidents.save(attrs.evolve(found, next_due_at=None))
            await tx.journal.save_recalc(attrs.evolve(await tx.journal.recalc(), held_before=self.clock()))

        await self.store.transact(work)


def engine_of(store: Store, settings: Settings) -> Engine:
    return Engine(store, settings=settings, notifiers=[RecordingNotifier()])


Step = Callable[[Scene], Awaitable[object]]


@attrs.frozen
class Case:
    """The steps done to an incident, and the expected answer."""

    steps: tuple[Step, ...]
    held_by: HeldBy | None = None
    detail: str | None = None
    minutes: int | None = None
    """The minutes after START at which the incident escalates; None if it never does."""
    settings: Mapping[str, Any] = DEFAULTS


async def due(scene: Scene) -> None:
    await scene.open(age=10)


async def pause(scene: Scene) -> None:
    await scene.engine.pause(timedelta(hours=1), by="Ada", reason="deploying")


async def shorter_pause(scene: Scene) -> None:
    await scene.engine.pause(2 * MINUTE, by="Ada")


async def deferred(scene: Scene) -> None:
    """Make the row unreadable with a negative level."""
    await scene.insert(level=-1)
    await scene.engine.tick()


CASES: Mapping[str, Case] = {
    "open": Case((Scene.open,), minutes=5),
    "due": Case((due,), minutes=0),
    "inserted by the host": Case((Scene.insert,), minutes=5),
    "inserted by the host, and due": Case((lambda scene: scene.insert(age=10),), minutes=0),
    "inserted too long ago": Case(
        (lambda scene: scene.insert(age=600_000),), HeldBy.UNREADABLE, "first_seen: is 2023-11-11T08:00:00+00:00"
    ),
    "deferred": Case((deferred,), HeldBy.UNREADABLE, "level: is -1"),
    "deferred, and mended by the host": Case((deferred, lambda scene: scene.host.update(KEY, level=0)), minutes=5),
    "passed over": Case(
        (due, Scene.pass_over), HeldBy.UNREADABLE, "refused; a worker plans it again 2025-01-01 01:00:00Z", minutes=60
    ),
    "passed over, and touched by the host": Case(
        (due, Scene.pass_over, lambda scene: scene.host.update(KEY, level=1)), minutes=0
    ),
    "written past the triggers": Case(
        (lambda scene: scene.host.past_triggers(KEY, severity="critical", first_seen=START),), minutes=5
    ),
    "acknowledged": Case(
        (due, lambda scene: scene.engine.acknowledge(KEY, by="Ada")),
        HeldBy.ACKNOWLEDGED,
        "by Ada at 2025-01-01 00:00:00Z",
    ),
    "resolved": Case((due, lambda scene: scene.engine.resolve(KEY)), HeldBy.RESOLVED, "at 2025-01-01 00:00:00Z"),
    "snoozed": Case(
        (due, lambda scene: scene.engine.snooze(KEY, 30 * MINUTE)),
        HeldBy.SNOOZED,
        "until 2025-01-01 00:30:00Z",
        minutes=30,
    ),
    "snoozed for less": Case((Scene.open, lambda scene: scene.engine.snooze(KEY, MINUTE)), minutes=5),
    "paused": Case((due, pause), HeldBy.PAUSED, "by Ada until 2025-01-01 01:00:00Z: deploying", minutes=60),
    "paused, and over before it is due": Case((Scene.open, shorter_pause), minutes=5),
    "a scheduled pause comes first": Case(
        (Scene.open,),
        HeldBy.PAUSED,
        "by schedule until 2025-01-01 00:23:00Z",
        minutes=23,
        settings={"pause_cron": "3 0 * * *", "pause_length": 20 * MINUTE},
    ),
    "snoozed into a pause": Case(
        (due, pause, lambda scene: scene.engine.snooze(KEY, 30 * MINUTE)), HeldBy.PAUSED, "by Ada until ", minutes=60
    ),
    "disabled": Case((due,), HeldBy.DISABLED, "ESCALATION_WORKER_ENABLED is false", settings={"worker_enabled": False}),
    "v1 off": Case((due,), HeldBy.V1_OFF, "ESCALATION_V1 is false", settings={"v1": False}),
    "dry run": Case((due,), HeldBy.DRY_RUN, "ESC_DRY_RUN is true", settings={"dry_run": True}),
    "outside the canary": Case(
        (due,), HeldBy.CANARY, "ESC_CANARY_PCT is 50, and the incident is outside", settings={"canary_pct": 50}
    ),
    "exhausted": Case((Scene.exhaust,), HeldBy.EXHAUSTED, "the maximum level is 1", settings={"max_level": 1}),
    "exhausted, and the maximum is raised": Case((Scene.exhaust,), HeldBy.UNPLANNED, "escalation recalc"),
    "the maximum is raised, and a recalculation asked for": Case(
        (Scene.exhaust, lambda scene: scene.engine.request_recalc()), minutes=30
    ),
    "held since the table was attached": Case((Scene.hold,), HeldBy.UNPLANNED, "escalation recalc"),
    "held, and a recalculation asked for": Case((Scene.hold, lambda scene: scene.engine.request_recalc()), minutes=0),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_is_told_is_what_comes(name: str, harness: StoreHarness) -> None:
    """The incident escalates at the instant in its history, which the list of open incidents has, too.

    Without an instant it does not escalate, and the history names what holds it.
    """
    case, clock = CASES[name], ManualClock(START)
    store = await harness.open(clock)
    scene = Scene(store, harness.host(store), clock, engine_of(store, Settings(**case.settings)))
    for step in case.steps:
        await step(scene)
    coming = (await scene.engine.history(KEY)).upcoming
    ended = coming.held_by in (HeldBy.ACKNOWLEDGED, HeldBy.RESOLVED)
    listed = (await scene.engine.open_incidents()).incidents
    assert ([] if ended else [coming]) == [one.upcoming for one in listed], "the list of open incidents says the same"
    assert (case.held_by, True) == (coming.held_by, (case.detail or "") in (coming.detail or ""))
    told = None if case.held_by is HeldBy.UNREADABLE or case.minutes is None else START + case.minutes * MINUTE
    assert told == coming.at
    assert (None if case.minutes is None else START + case.minutes * MINUTE) == await escalates(scene)


async def escalates(scene: Scene) -> datetime | None:
    """Return the instant of the first tick that escalates the incident; None if no tick does."""
    before = len((await scene.engine.history(KEY)).escalations)
    for minute in TICKS:
        scene.clock.set(START + minute * MINUTE)
        await scene.engine.tick()
        if len((await scene.engine.history(KEY)).escalations) > before:
            return scene.clock()
    return None
