"""Who watches a run from outside: health, again and again, and whether the machine itself stands still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic, time

import attrs

from escalation_core import Engine, Health, StoreError
from escalation_core.testing.invariants.history import Fault, HealthSample

BETWEEN = 0.2
"""Seconds between two looks at health."""
ANSWER_TIMEOUT = 0.5
"""Seconds after which health that does not answer counts as red."""
STEP, UNSEEN, TRIGGERS = "a clock that stepped back", "rows that no trigger saw", "triggers that are off"
"""What health may tell."""
BEAT = 0.02
STILL = 0.15
"""Seconds by which a timer may be late before the machine counts as standing still."""


def look(health: Health) -> HealthSample:
    """Return what one look at health saw."""
    return HealthSample(at=time(), unhealthy=not health.ok, findings=findings(health))


def findings(health: Health) -> frozenset[str]:
    """Return what health tells beside the light: each row that is refused, and what is wrong with clocks and triggers.

    Rows that nobody has seen yet are counted too; how many there are is another matter.
    """
    found = {f"unreadable {key}" for key, _ in health.stats.unreadable_examples}
    if health.clock_step and not health.ok:
        found.add(STEP)
    if health.stats.unseen:
        found.add(UNSEEN)
    if health.stats.faults:
        found.add(TRIGGERS)
    return frozenset(found)


@attrs.define
class Machine:
    """Times in which timers came late: nobody on this machine can have been quick then."""

    stalls: list[tuple[float, float]] = attrs.field(factory=list)

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            began, at = monotonic(), time()
            await asyncio.sleep(BEAT)
            if monotonic() - began > BEAT + STILL:
                self.stalls.append((at, time()))

    def faults(self) -> list[Fault]:
        """Return them as faults."""
        return [Fault(kind="machine", start=start, end=end, stops=True) for start, end in self.stalls]


@attrs.define
class Watcher:
    """Looks at health as an operator's probe does."""

    engine: Engine
    machine: Machine = attrs.field(factory=Machine)
    samples: list[HealthSample] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    """What it was told when there was no health to look at."""
    looking: bool = True
    """Whether it looks at health at all: to count a million overdue rows five times a second is load of its own."""

    @classmethod
    @asynccontextmanager
    async def watching(cls, engine: Engine) -> "AsyncIterator[Watcher]":
        """Watch meanwhile."""
        watcher = cls(engine)
        tasks = [asyncio.create_task(watcher.machine.watch()), asyncio.create_task(watcher._look())]
        try:
            yield watcher
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(BETWEEN)
            if not self.looking:
                continue
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    health = await self.engine.health()
                self.samples.append(look(health))
            except (StoreError, TimeoutError) as error:
                self.errors.append(str(error))
                self.samples.append(
                    HealthSample(at=time(), unhealthy=True, answered=not isinstance(error, TimeoutError))
                )
