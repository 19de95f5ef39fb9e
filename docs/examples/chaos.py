"""A chaotic run on one store: workers lose connections or stall, a receiver fails, and a host writes at random.

``violations`` returns every violation of the invariants I1 to I8. Give it your own store on an empty database. The run
moves the store's clock, so it does not wait for real time.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from random import Random
from typing import TypeVar

from escalation_core import Delivered, Engine, Outcome, Page, Retry, Settings, Store, StoreUnavailable
from escalation_core.model import Canary, NextDue
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.invariants import Recorder, RunSettings, Verb, Violation, check

Result = TypeVar("Result")
SETTINGS = Settings(
    max_level=4,
    critical_window=timedelta(minutes=2),
    warning_window=timedelta(minutes=4),
    snooze=timedelta(),
    default_target="ops",
)
TICK = SETTINGS.tick_interval
STEPS = 200
"""The number of steps. In each step a host may write, a worker may lose its connection, and both workers tick."""
QUIET_TICKS = 60
"""Ticks without faults at the end: enough for all levels of the last incident, and for all retries."""
NEXT: Mapping[str, Sequence[Verb]] = {
    "new": ["open"],
    "open": ["acknowledge", "acknowledge", "resolve", "change_severity"],
    "acknowledged": ["unacknowledge", "unacknowledge", "unacknowledge", "resolve"],
    "resolved": ["open"],
}
"""The verbs that a host may call, by the state of the incident."""
AFTER: Mapping[Verb, str] = {
    "open": "open",
    "acknowledge": "acknowledged",
    "unacknowledge": "open",
    "resolve": "resolved",
}


class Connection:
    """A worker's handle on the store. The run can cut it before a call, at its commit, or before its answer."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls = float("inf")
        """The number of calls until the cut."""
        self.cut = "before the call"

    async def check(self) -> None:
        await self.inner.check()

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        last = self._last_call()

        async def until_commit(tx: Transaction) -> Result:
            result = await work(tx)
            if last and self.cut == "at the commit":
                raise StoreUnavailable("the connection was cut at the commit")
            return result

        result = await self.inner.transact(until_commit)
        if last:
            raise StoreUnavailable("the connection was cut before the answer came")
        return result

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        self._last_call()
        return await self.inner.read(work)

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        self._last_call()
        return await self.inner.next_due(canary=canary, pages=pages)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def _last_call(self) -> bool:
        self.calls -= 1
        if self.calls < 0 or (self.calls == 0 and self.cut == "before the call"):
            raise StoreUnavailable("the connection was cut")
        return self.calls == 0


class Receiver:
    """A notifier whose receiver sometimes fails. Sometimes the worker also stalls while it sends."""

    channel = "chaos"
    targets = ("ops",)

    def __init__(self, run: "Run", worker: str) -> None:
        self.run = run
        self.worker = worker

    async def send(self, page: Page) -> Outcome:
        if self.run.calm:
            return Delivered()
        if self.run.stalled is None and self.run.random.random() < 0.2:
            await self.run.stall(self.worker)
        return Delivered() if self.run.random.random() < 0.5 else Retry("HTTP 503")

    async def aclose(self) -> None:
        """Do nothing."""


class Run:
    """One run with one seed."""

    def __init__(self, store: Store, clock: ManualClock, seed: int) -> None:
        self.clock, self.store = clock, store
        self.random = Random(seed)
        self.recorder = Recorder(
            store,
            settings=RunSettings.from_settings(SETTINGS),
            targets=["ops"],
            clock=clock,
        )
        self.host = Engine(self.recorder.store("host", store), settings=SETTINGS)
        self.states = {f"incident-{number}": "new" for number in range(20)}
        self.engines: dict[str, Engine] = {}
        self.connections: dict[str, Connection] = {}
        self.stalled: str | None = None
        self.started = 0
        self.calm = False

    async def start(self) -> None:
        """Start a worker."""
        self.started += 1
        name = f"worker-{self.started}"
        self.connections[name] = Connection(self.store)
        engine = Engine(
            self.recorder.store(name, self.connections[name]),
            settings=SETTINGS,
            notifiers=[self.recorder.notifier(name, Receiver(self, name))],
            worker=name,
        )
        self.engines[name] = await engine.__aenter__()

    async def cut_off(self, name: str) -> None:
        """Cut a worker's connection during a tick, and replace the worker."""
        connection = self.connections[name]
        connection.calls = self.random.randint(1, 6)
        connection.cut = self.random.choice(["before the call", "at the commit", "before the answer"])
        with self.recorder.fault("kill", name), contextlib.suppress(StoreUnavailable):
            await self.engines[name].tick()
        del self.engines[name]
        await self.start()

    async def stall(self, name: str) -> None:
        """Stop a worker until its lease has ended, while the others continue."""
        with self.recorder.fault("stall", name):
            self.stalled = name
            for _ in range(2):
                self.clock.advance(SETTINGS.retry.lease)
                await self.write()
                await self.tick_all()
            self.stalled = None

    async def write(self) -> None:
        """Let a host call one to three verbs on one incident."""
        key = self.random.choice(list(self.states))
        for _ in range(self.random.randint(1, 3)):
            verb = self.random.choice(NEXT[self.states[key]])
            severity = self.random.choice(["critical", "warning"])
            self.states[key] = AFTER.get(verb, self.states[key])
            if verb == "open":
                at = self.clock()
                async with self.recorder.writing(verb, key, severity=severity, first_seen=at.timestamp()):
                    await self.host.open(key, severity=severity, first_seen=at)
            elif verb == "change_severity":
                async with self.recorder.writing(verb, key, severity=severity):
                    await self.host.change_severity(key, severity, by="host")
            else:
                async with self.recorder.writing(verb, key):
                    await getattr(self.host, verb)(key, by="host")

    async def tick_all(self) -> None:
        """Let each worker tick that is not stalled."""
        for name, engine in list(self.engines.items()):
            if name != self.stalled:
                await engine.tick()

    async def violations(self) -> Sequence[Violation]:
        """Run all steps, and return the violations."""
        async with self.host:
            await self.start()
            await self.start()
            for _ in range(STEPS):
                self.clock.advance(TICK * self.random.random() / 2)
                if self.random.random() < 0.5:
                    await self.write()
                if self.random.random() < 0.2:
                    await self.cut_off(self.random.choice(list(self.engines)))
                await self.tick_all()
            self.calm = True
            for _ in range(QUIET_TICKS):
                self.clock.advance(TICK)
                await self.tick_all()
            health = await self.host.health()
        return check(await self.recorder.history(counted_dead=health.stats.dead))


async def violations(store: Store, clock: ManualClock, seed: int) -> Sequence[Violation]:
    """Return the violations of one run on a store whose clock is ``clock``."""
    return await Run(store, clock, seed).violations()


async def main() -> None:
    """Run on the memory store with five seeds."""
    logging.getLogger("escalation_core").setLevel(logging.CRITICAL)  # the workers log each cut connection
    for seed in range(5):
        clock = ManualClock()
        found = await violations(MemoryStore(clock), clock, seed)
        print(f"seed {seed}: {len(found)} violations", *found, sep="\n  ")


if __name__ == "__main__":
    asyncio.run(main())
