"""The primary dies, is cut off, or hands over, under load: three nodes under Patroni, as the how-to page has them.

They take minutes and programs of the system: they are for ``--full``. What an asynchronous failover loses is measured.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from psycopg import AsyncConnection

from escalation_adapters.postgres import timeouts

from .arena import Arena
from .cluster import Cluster, options
from .conftest import note
from .ground import Ground, forkserver
from .history import Violation
from .hosts import DONE
from .node import Node
from .report import figures
from .worker import CALL_TIMEOUT, PATIENCE

pytestmark = [pytest.mark.timeout(1800), pytest.mark.failover]
WRITE = "INSERT INTO faults.asked VALUES ('harness')"
SURE = ("I7", "I8")
"""What holds whatever an asynchronous failover loses; I4 for what is recorded, too."""
BEFORE, AFTER = 5.0, 8.0
"""Seconds of load before the fault and after the failover."""
BACKLOG = PATIENCE + 2.0
"""Seconds until a connection is there again and what has piled up, with the hosts that waited, is worked off."""
Fail = Callable[["Run"], Awaitable[None]]


class Run:
    """A run on a cluster, and what befalls the node that leads."""

    def __init__(self, arena: Arena, cluster: Cluster, old: Node) -> None:
        self.arena, self.cluster, self.old = arena, cluster, old
        self.sure: list[Violation] = []
        """What is broken, apart from what lost commits break."""

    async def succeeded(self) -> None:
        """Wait until another node takes writes, which ends the fault."""
        await self.cluster.succeeded(self.old, WRITE, self.arena.database)

    async def killed(self) -> None:
        """Kill the leader; bring it back when another one leads."""
        with self.arena.fault("primary killed", stops=True, shows=True, patience=BACKLOG):
            await asyncio.to_thread(self.old.kill)
            await self.succeeded()
        self.old.start()

    async def cut_off(self) -> None:
        """Cut the leader off from its peers and from etcd, while workers and hosts still reach it."""
        with self.arena.fault("primary cut off", stops=True, patience=BACKLOG):
            cut = time()
            self.cluster.gates.stall(self.old.gates)
            await self.cluster.demoted(self.old)
            self.arena.also["demoted after ms"] = _ms(time() - cut)
            await self.succeeded()
            self.arena.also["succeeded after ms"] = _ms(time() - cut)
        self.cluster.gates.flow(self.old.gates)

    async def handed_over(self) -> None:
        """Hand over to another node, as for maintenance."""
        with self.arena.fault("switchover", stops=True, patience=BACKLOG):
            await self.cluster.switch_over(self.old)
            await self.succeeded()

    async def measure(self) -> None:
        """Count what hosts were told and what was heard that is gone now, and how long nothing was written."""
        arena = self.arena
        assert arena.told is not None
        history, _ = arena.told
        # To set a severity that is there already leaves no trace.
        told = zip(arena.hosts.names, arena.hosts.ops, strict=True)
        done = [name for name, op in told if op.verb != "change_severity"]
        lost = [name for name in done if not (await arena.execute(DONE.replace("%(op)s", "%s"), name, name))[0][0]]
        recorded = {event.unique_hash for event in history.events}
        heard = {post.dedup_key for post in history.posts if post.accepted}
        began = min(fault.start for fault in arena.faults) - 1
        at = sorted(written for written in (*(e.at for e in history.events), *(s.at for s in history.steps)))
        arena.also["lost writes of hosts"] = len(lost)
        arena.also["heard and not recorded"] = len(heard - recorded)
        arena.also["longest silence ms"] = _ms(
            max((after - before for before, after in pairwise(at) if after > began), default=0.0)
        )


def _lost(arena: Arena) -> bool:
    return any(arena.also[lost] for lost in ("lost writes of hosts", "heard and not recorded"))


def _sure(violation: Violation) -> bool:
    return violation.invariant in SURE or (violation.invariant == "I4" and violation.incident != "?")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts give up as soon as workers do: on a primary that is cut off all commits wait."""
    for name, seconds in zip(("CALL_TIMEOUT", "GRACE", "IDLE"), CALL_TIMEOUT, strict=True):
        monkeypatch.setattr(timeouts, name, seconds)


@asynccontextmanager
async def failing_over(
    fail: Fail, request: pytest.FixtureRequest, folder: Path, *, synchronous: bool, seed: int, loses: bool = False
) -> AsyncIterator[Run]:
    """Let workers and hosts work on a cluster, let its leader fail, and let it become whole; then judge and measure."""
    began = monotonic()
    async with Cluster.started(synchronous=synchronous) as cluster:
        ground = Ground(cluster.ports, forkserver(), options=options())
        await asyncio.to_thread(ground.prepare)
        async with Arena.open(ground, folder, seed=seed) as arena:
            run = Run(arena, cluster, await cluster.leader())
            await arena.team()
            arena.hosts.forgotten = loses
            arena.live(120, over=40)
            await asyncio.sleep(BEFORE)
            await fail(run)
            await asyncio.sleep(AFTER)
            await cluster.whole()
            await arena.judge()
            await run.measure()
            assert arena.told is not None
            history, violations = arena.told
            whole = synchronous or not _lost(arena)
            run.sure = [violation for violation in violations if whole or _sure(violation)]
            arena.also["broken by lost commits"] = len(violations) - len(run.sure)
            seconds, server = monotonic() - began, arena.ground.version
            note(request, figures(request.node.name, seconds, server, history, run.sure, arena.also))
            yield run


FAILURES: dict[str, Fail] = {"killed": Run.killed, "cut off": Run.cut_off, "handed over": Run.handed_over}


@pytest.mark.parametrize("failure", list(FAILURES))
async def test_synchronous(request: pytest.FixtureRequest, tmp_path: Path, failure: str) -> None:
    """With strictly synchronous replication nothing that anybody was told is lost, and every invariant holds."""
    async with failing_over(FAILURES[failure], request, tmp_path, synchronous=True, seed=31) as run:
        assert [] == run.sure
        assert 0 == run.arena.also["lost writes of hosts"]
        assert 0 == run.arena.also["heard and not recorded"]


@pytest.mark.parametrize("defect", ["cancelled commit is trusted-planted"])
async def test_defect_is_caught(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    """If a commit that was cancelled while it waited for a standby counted as done, hosts would lose what they did."""
    limited = timeouts.limited

    @asynccontextmanager
    async def trusting(
        connection: AsyncConnection[Any], seconds: float, given_up: Callable[[], None]
    ) -> AsyncIterator[Callable[[], bool]]:
        async with limited(connection, seconds, given_up):
            yield lambda: False

    monkeypatch.setattr(timeouts, "limited", trusting)
    async with failing_over(Run.cut_off, request, tmp_path, synchronous=True, seed=33, loses=True) as run:
        assert 0 < run.arena.also["lost writes of hosts"]


@pytest.mark.parametrize("failure", ["killed", "cut off"])
async def test_asynchronous(request: pytest.FixtureRequest, tmp_path: Path, failure: str) -> None:
    """With asynchronous replication commits may be lost, which is counted; what is left goes on by the rules."""
    async with failing_over(FAILURES[failure], request, tmp_path, synchronous=False, seed=32, loses=True) as run:
        assert [] == run.sure
        assert await run.arena.hosts.do("open", "after", severity="critical")
