"""Helpers for tests of clock steps: step sizes, the ticks after a step, receivers that wait, and held rows."""

import asyncio
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_core import Engine, Outcome, Page, Retry, RetryPolicy, Store
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock

from ...stepping import DAY, HOUR, MINUTE, SECOND, SETTINGS, Receiver

START = datetime(2025, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
TICK = SETTINGS.tick_interval
STEPS = pytest.mark.parametrize("step", [2 * DAY, 5 * MINUTE], ids=["two days", "five minutes"])
FRESH = pytest.mark.parametrize(
    "step", [2 * DAY, HOUR, 5 * MINUTE, 10 * SECOND], ids=["two days", "an hour", "five minutes", "ten seconds"]
)
DEFAULT = attrs.evolve(SETTINGS, retry=RetryPolicy())


async def two_ticks(engine: Engine, clock: ManualClock) -> None:
    """Tick, and tick again one interval later."""
    await engine.tick()
    clock.advance(TICK)
    await engine.tick()


class Held(Receiver):
    """A receiver that answers once ``door`` is set, or the target's own event in ``doors``."""

    def __init__(self, answers: dict[str, Retry] | None = None) -> None:
        super().__init__(answers)
        self.begun, self.door = asyncio.Event(), asyncio.Event()
        self.doors: dict[str, asyncio.Event] = {}

    async def send(self, page: Page) -> Outcome:
        self.begun.set()
        await self.doors.get(page.target, self.door).wait()
        return await super().send(page)


async def _hold(store: Store, *keys: str) -> None:
    """Clear next_due_at of open incidents and record that, as ``--existing skip`` does."""

    async def work(tx: Transaction) -> None:
        for key in keys:
            found = await tx.incidents.load(key)
            assert found is not None
            await tx.incidents.save(attrs.evolve(found, next_due_at=None))
        held_before = await tx.now() + MOMENT
        await tx.journal.save_recalc(attrs.evolve(await tx.journal.recalc(), held_before=held_before))

    await store.transact(work)
