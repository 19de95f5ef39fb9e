"""One run: a database, a receiver, workers behind proxies, hosts and faults, and at the end the judge."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from time import time
from typing import Any

import attrs
import psycopg
from psycopg.conninfo import make_conninfo

from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Policies
from escalation_core.testing.invariants import check
from escalation_core.testing.invariants.history import KILL, Fault, History, NewFile, OverrideSpan, PauseSpan, Violation
from escalation_core.testing.invariants.ladders import Ladder, Roster, ladders_of

from ...pooler import Pgbouncer
from ..defects import plants
from ..record import build_history, ending
from ..record.watcher import Watcher
from . import schedules
from .hook import Interrupt
from .hosts import Hosts
from .pager import TARGET, Pager
from .policies import SEVERITIES, short_times, write
from .proxy import Proxy
from .receiver import TOKEN, Receiver
from .rules import ENDS, Rules
from .servers import PASSWORD, WORKER, Servers
from .worker import CALL_TIMEOUT, Spec, settings_of
from .workers import Program, Worker

SECRETS = (PASSWORD, TOKEN)
IDLE_TIMEOUT = 12.0
"""Seconds after the last fault within which all windows, retries and leases have ended and nothing is left to do."""


WITH_FILE = "SELECT count(*) FROM escalation_workers WHERE worker = ANY(%s) AND policies = %s"


@attrs.define
class Run:
    """Everything that a scenario uses. A scenario causes its faults itself, and records each of them here."""

    servers: Servers
    database: str
    folder: Path
    random: Random
    rules: Rules
    receiver: Receiver
    hosts: Hosts
    watcher: Watcher
    pager: Pager = attrs.field(factory=Pager)
    """The receiver of the target ``pager``, if the run has it."""
    targets: Sequence[str] = ("ops", "boss")
    faults: list[Fault] = attrs.field(factory=list)
    pauses: list[PauseSpan] = attrs.field(factory=list)
    overrides: list[OverrideSpan] = attrs.field(factory=list)
    unplannable: set[str] = attrs.field(factory=set)
    workers: list[Worker] = attrs.field(factory=list)
    proxies: dict[str, Proxy] = attrs.field(factory=dict)
    defect: plants.Name | None = None
    policies: Mapping[str, Any] | None = None
    """The content of the policies file at the beginning, if the run has one."""
    ladders: Mapping[str, Ladder] = attrs.field(factory=dict)
    rosters: Mapping[str, Roster] = attrs.field(factory=dict)
    """Who is on call, by schedule; set by ``put_on_call``."""
    files: list[NewFile] = attrs.field(factory=list)
    """The policies files that came later."""
    pooler: Pgbouncer | None = None
    """The pooler that workers connect through, if the run has one. Hosts and the watcher connect directly."""
    server_proxy: Proxy | None = None
    """The proxy between the pooler and the server."""
    began: float = attrs.field(factory=time)
    _incidents: "list[asyncio.Task[None]]" = attrs.field(factory=list)
    measured: dict[str, int] = attrs.field(factory=dict)
    """Further figures for the report, by name."""
    result: tuple[History, list[Violation]] | None = None
    """The history and the violations, set by ``judge``."""

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
        policies: Mapping[str, Any] | None = None,
        pooler: Pgbouncer | None = None,
    ) -> "AsyncIterator[Run]":
        """Open a run. At the end stop everything that still runs.

        Args:
            servers: the servers.
            folder: the folder of the run's files.
            seed: the start of the random choices.
            rules: the settings of all workers.
            defect: the defect that is planted.
            policies: the content of the policies file of all workers and of the host.
            pooler: the pooler that workers connect through.
        """
        rules = rules or Rules()
        async with AsyncExitStack() as stack:
            stack.enter_context(short_times())
            stack.enter_context(plants.planted_in_host(defect))
            file = None if policies is None else Policies.from_mapping(policies)
            database = stack.enter_context(servers.database())
            dsn = servers.dsn(database)
            store = await PostgresStore.connect(dsn)
            settings = settings_of(rules, {})
            # The host's engine does not tick, so it never loads this source: with it, a file may name any schedule.
            sources = [schedules.FailingSource(folder / f"{database}-schedules.json")]
            host = Engine(store, settings=settings, policies=file, schedules=sources)
            engine = await stack.enter_async_context(host)
            receiver = Receiver()
            await receiver.start()
            stack.push_async_callback(receiver.stop)
            watcher = await stack.enter_async_context(Watcher.watching(engine))
            hosts = Hosts(dsn, engine, Random(seed))
            run = cls(servers, database, folder, Random(seed + 1), rules, receiver, hosts, watcher, defect=defect)
            run.pooler = pooler
            await run.pager.accept()
            stack.push_async_callback(run.pager.aclose)
            if policies is not None and file is not None:
                run.policies, run.ladders, hosts.severities = policies, ladders_of(file), SEVERITIES
                write(run.policies_path, policies)
            if defect is not None and defect in plants.IN_DATABASE:
                await run.execute(plants.IN_DATABASE[defect])
            stack.push_async_callback(run._end)
            yield run

    @property
    def dsn(self) -> str:
        """The DSN of the run's database, without a proxy or a pooler."""
        return self.servers.dsn(self.database)

    @property
    def policies_path(self) -> Path:
        """The path of the policies file."""
        return self.folder / f"{self.database}-policies.json"

    @property
    def schedules_path(self) -> Path:
        """The path of the file that the workers' sources of schedules read."""
        return self.folder / f"{self.database}-schedules.json"

    def put_on_call(self, rosters: Mapping[str, Roster], *, answers: bool = True) -> None:
        """Give the workers that start later a source of schedules.

        Without ``answers`` its loads hang until this is called again.
        """
        self.rosters = schedules.write(self.schedules_path, rosters) if answers else rosters

    async def override(
        self, schedule: str, person: str, seconds: float, *, start: datetime | None = None
    ) -> OverrideSpan:
        """Put a person on call as an operator does, from ``start`` (default: now) for so many seconds."""
        began, until = time(), timedelta(seconds=seconds)
        made = await self.hosts.engine.override(schedule, person, until=until, start=start, by="faults")
        span = OverrideSpan(
            schedule=schedule,
            person=person,
            start=made.starts_at.timestamp(),
            end=made.ends_at.timestamp(),
            began=began,
            ended=time(),
        )
        self.overrides.append(span)
        return span

    async def change_file(self, policies: Mapping[str, Any]) -> None:
        """Change the policies file, and wait until the host and all workers use it. Meanwhile open no incident."""
        began, file = time(), Policies.from_mapping(policies)
        write(self.policies_path, policies)
        for worker in self.workers:
            worker.signal(signal.SIGHUP)
        self.hosts.engine.use_policies(file)

        async def in_use() -> bool:
            names = [worker.name for worker in self.workers if worker.alive]
            [[count]] = await self.execute(WITH_FILE, names, file.digest)
            return bool(count == len(names))

        assert await self.until(in_use), "a worker does not use the changed file"
        self.files.append(NewFile(began=began, ended=time(), ladders=ladders_of(file)))

    # --- workers

    async def start_worker(
        self,
        slot: str,
        *,
        interrupt: Interrupt | None = None,
        proxied: bool = True,
        ready: bool = True,
        environment: Mapping[str, str] | None = None,
        **values: Any,
    ) -> Worker:
        """Start a worker in a slot. The next worker of the slot has a new name and the same proxy.

        A worker with its own ``environment`` starts as a program, which takes longer.

        Args:
            slot: the name of the slot, for example ``w1``. Its workers are ``w1-1``, ``w1-2`` and so on.
            interrupt: where the worker stops or dies.
            proxied: whether the worker connects through a proxy.
            ready: whether to wait until the worker runs.
            environment: environment variables to add.
            values: further fields of ``Spec``.
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
            targets={target: self._url(name, target) for target in (*self.targets, *self.rules.reserves)},
            log=str(self.folder / f"{self.database}-{name}.log"),
            rules=values.pop("rules", self.rules),
            defect=self.defect,
            policies=None if self.policies is None else str(self.policies_path),
            schedules=str(self.schedules_path) if self.rosters else None,
            interrupt=interrupt,
            **values,
        )
        if environment is None:
            worker = await asyncio.to_thread(Worker.start, spec, self.servers.forks)
        else:
            worker = Worker(spec, await asyncio.to_thread(Program.start, spec, environment))
        self.workers.append(worker)
        if ready:
            await worker.until_ready()
        return worker

    def _url(self, worker: str, target: str) -> str:
        return self.pager.url_of(worker) if target == TARGET else self.receiver.url(worker, target)

    async def _through(self, slot: str, ports: Sequence[int]) -> Sequence[int]:
        """Return the ports of a slot's proxies, one before each server. Start the proxies if necessary."""
        names = [f"{slot}.{number}" if number else slot for number in range(len(ports))]
        for name, port in zip(names, ports, strict=True):
            if name not in self.proxies:
                self.proxies[name] = Proxy(port)
                await self.proxies[name].start()
        return [self.proxies[name].port for name in names]

    async def start_workers(self, count: int = 3) -> list[Worker]:
        """Start this many workers at the same time."""
        return list(await asyncio.gather(*(self.start_worker(f"w{number + 1}") for number in range(count))))

    async def until_ready(self, workers: Sequence[Worker], *, but: int | None = None) -> None:
        """Wait until the workers run, but for one. If that one ends, the others claim its pages in time."""
        await asyncio.gather(*(worker.until_ready() for slot, worker in enumerate(workers) if slot != but))

    def note(self, kind: str, start: float, *workers: Worker, **flags: Any) -> Fault:
        """Record a fault that ends now."""
        fault = Fault(kind=kind, start=start, end=time(), workers=_names(workers), **flags)
        self.faults.append(fault)
        return fault

    def fault(self, kind: str, *workers: Worker, **flags: Any) -> AbstractContextManager[None]:
        """Record a fault that lasts as long as this context. It may interrupt these workers; without any, all."""
        return self._during(kind, _names(workers), flags)

    def disturbance(self, kind: str, **flags: Any) -> AbstractContextManager[None]:
        """Record a fault that lasts as long as this context and interrupts no worker, so it excuses no copy."""
        return self._during(kind, frozenset(), flags)

    @contextmanager
    def _during(self, kind: str, workers: frozenset[str] | None, flags: Mapping[str, Any]) -> Iterator[None]:
        start = time()
        try:
            yield
        finally:
            self.faults.append(Fault(kind=kind, start=start, end=time(), workers=workers, **flags))

    def note_locks(self) -> None:
        """Record that a worker stops now: its rows stay locked until the server ends its transaction."""
        end = time() + CALL_TIMEOUT[-1]
        self.faults.append(
            Fault(kind="locks of a stopped worker", start=time(), end=end, workers=frozenset(), stops=True)
        )

    async def kill(self, worker: Worker) -> None:
        """Kill a worker with SIGKILL. It is an error if the worker has already ended."""
        start = time()
        worker.kill()
        assert -signal.SIGKILL == await worker.until_ended(), (
            f"{worker.name} had ended by itself:\n{worker.text[-3000:]}"
        )
        self.note(KILL, start, worker)

    async def kill_and_replace(self, workers: list[Worker], slot: int) -> None:
        """Kill the worker of a slot once the other workers are ready, and start the slot's next worker."""
        await self.until_ready(workers, but=slot)
        await self.kill(workers[slot])
        workers[slot] = await self.start_worker(f"w{slot + 1}", ready=False)

    # --- hosts

    def start_incidents(self, count: int, *, over: float = 0.0, prefix: str = "inc", **how: Any) -> None:
        """Open this many incidents over so many seconds, and let hosts change each of them at random."""

        async def one(number: int) -> None:
            await asyncio.sleep(over * number / max(count, 1))
            await self.hosts.life_cycle(f"{prefix}-{number}", **how)

        self._incidents += [asyncio.create_task(one(number)) for number in range(count)]

    def start_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Let an operator or a host work beside the scenario, until ``judge``."""
        self._incidents.append(asyncio.create_task(work))

    async def finish_incidents(self) -> None:
        """Wait until the hosts have made all changes of the started incidents."""
        await asyncio.gather(*self._incidents)

    async def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement as a superuser, and return its rows."""

        def query() -> list[Any]:
            with psycopg.connect(self.dsn, autocommit=True) as connection:
                cursor = connection.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description else []

        return await asyncio.to_thread(query)

    async def until(self, condition: Callable[[], Awaitable[bool]], within: float = IDLE_TIMEOUT) -> bool:
        """Poll a condition for at most ``within`` seconds. Return whether it became true."""
        end = time() + within
        while not await condition():
            if time() > end:
                return False
            await asyncio.sleep(0.05)
        return True

    async def until_requests(self, count: int) -> None:
        """Wait until the receiver has received this many requests."""

        async def enough() -> bool:
            return len(self.receiver.requests) >= count

        assert await self.until(enough), f"the receiver received {len(self.receiver.requests)} requests, not {count}"

    # --- the end

    async def until_idle(self, within: float = IDLE_TIMEOUT) -> bool:
        """Wait until nothing is left to do, and return whether that happened. ``judge`` finds what is missing."""
        return await self.until(lambda: ending.idle(self), within)

    async def judge(self, within: float = IDLE_TIMEOUT) -> list[Violation]:
        """Wait until nothing is left to do, stop the workers, and return every violation of an invariant."""
        await self.finish_incidents()
        await self.until_idle(within)
        health, last = await ending.last_sample(self)
        for worker in self.workers:
            worker.signal(signal.SIGTERM)
        codes = {worker.name: await worker.until_ended() for worker in self.workers}
        killed = {name for fault in self.faults if fault.kind in ENDS for name in fault.workers or ()}
        bad = [worker for worker in self.workers if codes[worker.name] and worker.name not in killed]
        history, texts = await asyncio.to_thread(build_history.history, self, last, health.stats.dead)
        texts["health"] = str(health.as_dict())
        violations = list(check(history, texts, (*SECRETS, *self.pager.secrets)))
        violations += [
            Violation("I7", worker.name, None, f"ended with code {codes[worker.name]}: {_last_line(worker.text)}")
            for worker in bad
        ]
        self.result = history, violations
        return violations

    async def _end(self) -> None:
        for task in self._incidents:
            task.cancel()
        await asyncio.gather(*self._incidents, return_exceptions=True)
        for worker in self.workers:
            if worker.alive:
                worker.kill()
            await worker.until_ended()
        for proxy in self.proxies.values():
            await proxy.stop()


def _names(workers: Sequence[Worker]) -> frozenset[str] | None:
    return frozenset(worker.name for worker in workers) or None


def _last_line(text: str) -> str:
    return next(iter(text.splitlines()[-1:]), "")[:300]
