"""One run: a database, a receiver, workers behind proxies, hosts, faults; and in the end the judgement."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from time import time
from typing import Any

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine
from escalation_core.testing.invariants import check
from escalation_core.testing.invariants.history import KILL, Fault, History, PauseSpan, Violation

from ...pooler import Pgbouncer
from ..defects import plants
from ..record import build_history, ending
from ..record.watcher import Watcher
from .hook import Act
from .hosts import Hosts
from .proxy import Proxy
from .receiver import TOKEN, Receiver
from .rules import ENDS, Rules
from .servers import PASSWORD, WORKER, Servers
from .worker import CALL_TIMEOUT, Spec, settings_of
from .workers import Program, Worker

SECRETS = (PASSWORD, TOKEN)
QUIET = 12.0
"""Seconds within which everything that is due has been done after the last fault: windows, retries, leases."""


@attrs.define
class Run:
    """What a scenario works with. Faults are logged by those who do them."""

    servers: Servers
    database: str
    folder: Path
    random: Random
    rules: Rules
    receiver: Receiver
    hosts: Hosts
    watcher: Watcher
    targets: Sequence[str] = ("ops", "boss")
    faults: list[Fault] = attrs.field(factory=list)
    pauses: list[PauseSpan] = attrs.field(factory=list)
    unplannable: set[str] = attrs.field(factory=set)
    workers: list[Worker] = attrs.field(factory=list)
    proxies: dict[str, Proxy] = attrs.field(factory=dict)
    defect: plants.Name | None = None
    pooler: Pgbouncer | None = None
    """What workers connect through, if to nothing else; hosts and the watcher connect directly."""
    beneath: Proxy | None = None
    """The wire between the pooler and the server."""
    began: float = attrs.field(factory=time)
    _lives: "list[asyncio.Task[None]]" = attrs.field(factory=list)
    also: dict[str, int] = attrs.field(factory=dict)
    """Further figures for the report."""
    told: tuple[History, list[Violation]] | None = None
    """What the run has come to, once it is judged."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        servers: Servers,
        folder: Path,
        *,
        seed: int = 0,
        rules: Rules | None = None,
        defect: plants.Name | None = None,
        pooler: Pgbouncer | None = None,
    ) -> "AsyncIterator[Run]":
        """Lay a run out; whatever is left of it in the end is ended."""
        rules = rules or Rules()
        async with AsyncExitStack() as stack:
            database = stack.enter_context(servers.database())
            dsn = servers.dsn(database)
            store = await PostgresStore.connect(dsn)
            engine = await stack.enter_async_context(Engine(store, settings=settings_of(rules, {})))
            receiver = Receiver()
            await receiver.start()
            stack.push_async_callback(receiver.stop)
            watcher = await stack.enter_async_context(Watcher.watching(engine))
            hosts = Hosts(dsn, engine, Random(seed))
            run = cls(servers, database, folder, Random(seed + 1), rules, receiver, hosts, watcher, defect=defect)
            run.pooler = pooler
            if defect is not None and defect in plants.LAID:
                await run.execute(plants.LAID[defect])
            stack.push_async_callback(run._end)
            yield run

    @property
    def dsn(self) -> str:
        """The DSN of the run's database, past all proxies."""
        return self.servers.dsn(self.database)

    # --- workers

    async def work(
        self,
        slot: str,
        *,
        act: Act | None = None,
        proxied: bool = True,
        ready: bool = True,
        environment: Mapping[str, str] | None = None,
        **how: Any,
    ) -> Worker:
        """Start a worker in a slot; each one that follows another there has a name of its own, and the same proxy.

        One with an ``environment`` of its own is started as a program, which takes longer.
        """
        name = f"{slot}-{1 + sum(worker.name.startswith(slot + '-') for worker in self.workers)}"
        dsn, ports = self.servers.dsn(self.database, name=name, user=WORKER), self.servers.ports
        if self.pooler is not None:
            dsn, ports = await asyncio.to_thread(self.pooler.dsn, dsn), [self.pooler.port]
        if proxied:
            ports = await self._through(slot, ports)
        spec = Spec(
            name=name,
            dsn=make_conninfo(dsn, port=",".join(map(str, ports))),
            pooler=None if self.pooler is None else "transaction",
            targets={target: self.receiver.url(name, target) for target in self.targets},
            log=str(self.folder / f"{self.database}-{name}.log"),
            rules=how.pop("rules", self.rules),
            defect=self.defect,
            act=act,
            **how,
        )
        if environment is None:
            worker = await asyncio.to_thread(Worker.start, spec, self.servers.forks)
        else:
            worker = Worker(spec, await asyncio.to_thread(Program.start, spec, environment))
        self.workers.append(worker)
        if ready:
            await worker.until_ready()
        return worker

    async def _through(self, slot: str, ports: Sequence[int]) -> Sequence[int]:
        """Return the ports of a slot's proxies, one before each server, the first of them by the slot's name."""
        names = [f"{slot}.{number}" if number else slot for number in range(len(ports))]
        for name, port in zip(names, ports, strict=True):
            if name not in self.proxies:
                self.proxies[name] = Proxy(port)
                await self.proxies[name].start()
        return [self.proxies[name].port for name in names]

    async def team(self, count: int = 3) -> list[Worker]:
        """Start so many workers at once."""
        return list(await asyncio.gather(*(self.work(f"w{number + 1}") for number in range(count))))

    def note(self, kind: str, start: float, *workers: Worker, **flags: Any) -> Fault:
        """Write down a fault that ends now."""
        fault = Fault(kind=kind, start=start, end=time(), workers=_names(workers), **flags)
        self.faults.append(fault)
        return fault

    def fault(self, kind: str, *workers: Worker, **flags: Any) -> AbstractContextManager[None]:
        """Write down a fault that lasts as long as this context."""
        return self._during(kind, _names(workers), flags)

    def trial(self, kind: str, **flags: Any) -> AbstractContextManager[None]:
        """Write down something that has to be borne: it interrupts no worker, and so excuses no copy."""
        return self._during(kind, frozenset(), flags)

    @contextmanager
    def _during(self, kind: str, workers: frozenset[str] | None, flags: Mapping[str, Any]) -> Iterator[None]:
        start = time()
        try:
            yield
        finally:
            self.faults.append(Fault(kind=kind, start=start, end=time(), workers=workers, **flags))

    def lock(self) -> None:
        """Write down that a worker stands still from now on: what it has locked is held until the server ends that."""
        end = time() + CALL_TIMEOUT[-1]
        self.faults.append(Fault(kind="locks held", start=time(), end=end, workers=frozenset(), stops=True))

    async def kill(self, worker: Worker) -> None:
        """Kill a worker, as nothing can be answered to. One that has ended by itself is no worker to be killed."""
        start = time()
        worker.kill()
        assert -signal.SIGKILL == await worker.gone(), f"{worker.name} had ended by itself:\n{worker.text[-3000:]}"
        self.note(KILL, start, worker)

    # --- hosts

    def live(self, count: int, *, over: float = 0.0, prefix: str = "inc", **how: Any) -> None:
        """Let so many incidents live, opened one after the other within so many seconds."""

        async def one(number: int) -> None:
            await asyncio.sleep(over * number / max(count, 1))
            await self.hosts.live(f"{prefix}-{number}", **how)

        self._lives += [asyncio.create_task(one(number)) for number in range(count)]

    async def lived(self) -> None:
        """Wait until all of them have lived."""
        await asyncio.gather(*self._lives)

    async def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement, as a person would."""

        def query() -> list[Any]:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                cursor = connection.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description else []

        return await asyncio.to_thread(query)

    async def until(self, condition: Callable[[], Awaitable[bool]], within: float = QUIET) -> bool:
        """Look again and again until it is so, that long at most; return whether it came about."""
        end = time() + within
        while not await condition():
            if time() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    async def heard(self, count: int) -> None:
        """Wait until the receiver was asked so many times."""

        async def heard() -> bool:
            return len(self.receiver.requests) >= count

        assert await self.until(heard), f"the receiver was asked {len(self.receiver.requests)} times"

    # --- the end

    async def settle(self, within: float = QUIET) -> bool:
        """Wait until nothing is left to do; return whether that came about. If not, the judges tell what is missing."""
        return await self.until(lambda: ending.settled(self), within)

    async def judge(self, within: float = QUIET) -> list[Violation]:
        """Let it come to rest, end the workers, and return every breach of an invariant."""
        await self.lived()
        await self.settle(within)
        health, last = await ending.last_look(self)
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        codes = {worker.name: await worker.gone() for worker in self.workers}
        killed = {name for fault in self.faults if fault.kind in ENDS for name in fault.workers or ()}
        bad = [worker for worker in self.workers if codes[worker.name] and worker.name not in killed]
        history, texts = await asyncio.to_thread(build_history.history, self, last, health.stats.dead)
        texts["health"] = str(health.as_dict())
        violations = list(check(history, texts, SECRETS))
        violations += [
            Violation("I7", worker.name, None, f"ended with code {codes[worker.name]}: {_last_line(worker.text)}")
            for worker in bad
        ]
        self.told = history, violations
        return violations

    async def _end(self) -> None:
        for task in self._lives:
            task.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        for worker in self.workers:
            if worker.alive:
                worker.kill()
            await worker.gone()
        for proxy in self.proxies.values():
            await proxy.stop()


def _names(workers: Sequence[Worker]) -> frozenset[str] | None:
    return frozenset(worker.name for worker in workers) or None


def _last_line(text: str) -> str:
    return next(iter(text.splitlines()[-1:]), "")[:300]
