"""The next escalation in an incident's history: its instant if it will happen, and what holds it."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Engine, Settings, in_canary
from escalation_core.rules.upcoming import HeldBy, Upcoming
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.conformance.harness import START

MINUTE = timedelta(minutes=1)
WINDOW = Settings().critical_window
OUTSIDE = next(f"k{number}" for number in range(1000) if not in_canary(f"k{number}", 50))
Step = Callable[[Engine], Awaitable[object]]


@attrs.frozen
class Case:
    """The steps done to an incident, and the expected answer."""

    held_by: HeldBy | None
    detail: str | None
    after: timedelta | None = None
    """The time from the opening to the escalation, or None for no escalation."""
    settings: dict[str, Any] = attrs.field(factory=dict)
    steps: tuple[Step, ...] = ()
    waited: timedelta = timedelta()


def pause(engine: Engine) -> Awaitable[object]:
    return engine.pause(timedelta(hours=1), by="Ada", reason="deploying")


CASES = {
    "open": Case(None, None, WINDOW),
    "due": Case(None, None, 6 * MINUTE, waited=6 * MINUTE),
    "acknowledged": Case(
        HeldBy.ACKNOWLEDGED, "by Ada at ", steps=(lambda engine: engine.acknowledge(OUTSIDE, by="Ada"),)
    ),
    "resolved": Case(HeldBy.RESOLVED, "at ", steps=(lambda engine: engine.resolve(OUTSIDE, by="Ada"),)),
    "paused": Case(HeldBy.PAUSED, "by Ada until ", timedelta(hours=1), steps=(pause,)),
    "paused before it is due": Case(HeldBy.PAUSED, ": deploying", timedelta(hours=1), steps=(pause,), waited=MINUTE),
    "snoozed": Case(HeldBy.SNOOZED, "until ", 30 * MINUTE, steps=(lambda engine: engine.snooze(OUTSIDE, 30 * MINUTE),)),
    "snoozed for less": Case(None, None, WINDOW, steps=(lambda engine: engine.snooze(OUTSIDE, MINUTE),)),
    "disabled": Case(
        HeldBy.DISABLED, "ESCALATION_WORKER_ENABLED is false", settings={"worker_enabled": False}, waited=6 * MINUTE
    ),
    "v1 off": Case(HeldBy.V1_OFF, "ESCALATION_V1 is false", settings={"v1": False}, waited=6 * MINUTE),
    "dry run": Case(HeldBy.DRY_RUN, "ESC_DRY_RUN is true", settings={"dry_run": True}),
    "outside the canary": Case(HeldBy.CANARY, "ESC_CANARY_PCT is 50", settings={"canary_pct": 50}, waited=6 * MINUTE),
    "exhausted": Case(
        HeldBy.EXHAUSTED,
        "the maximum level is 1",
        settings={"max_level": 1},
        steps=(lambda engine: engine.tick(),),
        waited=6 * MINUTE,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_comes_next(name: str) -> None:
    """The history gives an instant only if the escalation will happen, never in the past, and names what holds it."""
    case = CASES[name]
    clock = ManualClock(START)
    opened = clock()
    async with Engine(
        MemoryStore(clock), settings=Settings(**case.settings), notifiers=[RecordingNotifier()]
    ) as engine:
        await engine.open(OUTSIDE, severity="critical")
        clock.advance(case.waited)
        for step in case.steps:
            await step(engine)
        coming = (await engine.history(OUTSIDE)).upcoming
    expected = None if case.after is None else opened + case.after
    if case.steps == (pause,):
        expected = opened + case.waited + timedelta(hours=1)
    assert (expected, case.held_by) == (coming.at, coming.held_by)
    assert (case.detail or "") in (coming.detail or "")


async def test_a_row_that_was_put_back() -> None:
    """The history gives the fault of an unreadable row, and when a worker plans the row again."""
    clock = ManualClock(START)
    store = MemoryStore(clock)
    async with Engine(store) as engine:
        await store.host.insert("k", severity="critical", first_seen=clock() - timedelta(days=1000))
        before = (await engine.history("k")).upcoming
        await engine.tick()
        coming = (await engine.history("k")).upcoming
    assert (None, HeldBy.UNREADABLE) == (before.at, before.held_by)
    assert "a worker plans it again by the next tick" in (before.detail or "")
    assert (None, HeldBy.UNREADABLE) == (coming.at, coming.held_by)
    assert coming.detail is not None
    assert "first_seen: is " in coming.detail
    assert f"a worker plans it again {(clock() + MINUTE):%Y-%m-%d %H:%M:%S}Z" in coming.detail


async def test_a_row_that_is_gone() -> None:
    """A deleted row has no next escalation."""
    store = MemoryStore(ManualClock(START))
    async with Engine(store) as engine:
        await engine.open("k")
        await store.host.delete("k")
        assert Upcoming(None, HeldBy.GONE, "there is no row that can be read") == (await engine.history("k")).upcoming


async def test_the_instant_that_the_row_holds_counts() -> None:
    """A worker with shorter windows finds a row only at the instant written with the longer windows."""
    clock = ManualClock(START)
    store = MemoryStore(clock)

    def engine_of(window: timedelta) -> Engine:
        return Engine(store, settings=Settings(critical_window=window))

    async with engine_of(timedelta(hours=2)) as engine:
        held: datetime | None = (await engine.open("k", severity="critical")).next_due_at
    async with engine_of(MINUTE) as engine:
        assert Upcoming(held) == (await engine.history("k")).upcoming
