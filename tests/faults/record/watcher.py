"""Watch a run from outside: take samples of health, and notice when the machine itself stands still."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic, time

import attrs

from escalation_core import Engine, Health, StoreError
from escalation_core.testing.invariants.history import Fault, HealthSample

SAMPLE_INTERVAL = 0.2
"""Seconds between two samples of health."""
ANSWER_TIMEOUT = 0.5
"""Seconds after which health that does not answer counts as unhealthy."""
STEP, UNSEEN, DRIFT = "a clock that stepped back", "rows that no trigger saw", "changes of the attached table"
"""Findings that health may list, beside unreadable rows."""
TIMER = 0.02
"""Seconds of the timer that shows whether the machine stands still."""
MAX_TIMER_DELAY = 0.15
"""Seconds by which the timer may be late before the machine counts as standing still."""


def sample(health: Health) -> HealthSample:
    """Return a sample from an answer of health."""
    # Unheard incidents make health unhealthy as well. Their number is judged by itself.
    other = attrs.evolve(health, stats=attrs.evolve(health.stats, unheard=0)).fault
    return HealthSample(at=time(), unhealthy=other is not None, findings=findings(health), unheard=health.stats.unheard)


def findings(health: Health) -> frozenset[str]:
    """Return the findings that health lists: unreadable rows, a clock step, unseen rows, drift."""
    found = {f"unreadable {key}" for key, _ in health.stats.unreadable_examples}
    if health.clock_step and not health.ok:
        found.add(STEP)
    if health.stats.unseen:
        found.add(UNSEEN)
    if health.stats.faults:
        found.add(DRIFT)
    return frozenset(found)


@attrs.define
class Machine:
    """Records the times in which the machine stood still: a timer in this process was late."""

    stalls: list[tuple[float, float]] = attrs.field(factory=list)

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            began, at = monotonic(), time()
            await asyncio.sleep(TIMER)
            if monotonic() - began > TIMER + MAX_TIMER_DELAY:
                self.stalls.append((at, time()))

    def faults(self) -> list[Fault]:
        """Return the times as faults."""
        return [Fault(kind="machine", start=start, end=end, stops=True) for start, end in self.stalls]


@attrs.define
class Watcher:
    """Takes samples of health, as an operator's probe does."""

    engine: Engine
    machine: Machine = attrs.field(factory=Machine)
    samples: list[HealthSample] = attrs.field(factory=list)
    errors: list[str] = attrs.field(factory=list)
    """The error of each call of health that failed."""
    enabled: bool = True
    """Whether it takes samples. Health counts rows, and with a million overdue rows that is too much load."""

    @classmethod
    @asynccontextmanager
    async def watching(cls, engine: Engine) -> "AsyncIterator[Watcher]":
        """Watch as long as this context lasts."""
        watcher = cls(engine)
        tasks = [asyncio.create_task(watcher.machine.watch()), asyncio.create_task(watcher._take_samples())]
        try:
            yield watcher
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take_samples(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL)
            if not self.enabled:
                continue
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    health = await self.engine.health()
                self.samples.append(sample(health))
            except (StoreError, TimeoutError) as error:
                self.errors.append(str(error))
                self.samples.append(
                    HealthSample(at=time(), unhealthy=True, answered=not isinstance(error, TimeoutError))
                )
