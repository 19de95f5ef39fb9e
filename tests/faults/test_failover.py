"""The primary of three nodes under Patroni is killed, cut off, or switched over, while workers and hosts write.

These tests take minutes and need system packages, so only ``--full`` runs them. They measure the commits that an
asynchronous failover loses.
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
from escalation_core.testing.invariants.history import Violation

from .conftest import note
from .failover.cluster import Cluster, options
from .failover.node import Node
from .harness.hosts import DONE
from .harness.run import Run
from .harness.servers import Servers, forkserver
from .harness.worker import CALL_TIMEOUT, RECONNECT_TIME
from .report.figures import figures

pytestmark = [pytest.mark.timeout(1800), pytest.mark.failover]
WRITE = "INSERT INTO faults.asked VALUES ('harness')"
SURE = ("I7", "I8")
"""The invariants that hold even if a failover loses commits. For recorded escalations I4 holds, too."""
BEFORE, AFTER = 5.0, 8.0
"""Seconds of load before the fault and after the failover."""
BACKLOG = RECONNECT_TIME + 2.0
"""Seconds in which workers reconnect, and record the escalations of the outage."""
Fail = Callable[["Failover"], Awaitable[None]]


class Failover:
    """A run on a cluster, with functions that cause a fault of its leader."""

    def __init__(self, run: Run, cluster: Cluster, old: Node) -> None:
        self.run, self.cluster, self.old = run, cluster, old
        self.sure: list[Violation] = []
        """The violations that lost commits cannot explain."""

    async def succeeded(self) -> None:
        """Wait until another node accepts writes, which ends the fault."""
        await self.cluster.succeeded(self.old, WRITE, self.run.database)

    async def killed(self) -> None:
        """Kill the leader, and start it again when another node leads."""
        with self.run.fault("primary killed", stops=True, unhealthy=True, recovery=BACKLOG):
            await asyncio.to_thread(self.old.kill)
            await self.succeeded()
        self.old.start()

    async def cut_off(self) -> None:
        """Cut the leader off from its peers and from etcd, while workers and hosts still reach it."""
        with self.run.fault("primary cut off", stops=True, recovery=BACKLOG):
            cut = time()
            self.cluster.gates.stall(self.old.gates)
            await self.cluster.demoted(self.old)
            self.run.measured["demoted after ms"] = _ms(time() - cut)
            await self.succeeded()
            self.run.measured["succeeded after ms"] = _ms(time() - cut)
        self.cluster.gates.flow(self.old.gates)

    async def handed_over(self) -> None:
        """Switch over to another node, as for maintenance."""
        with self.run.fault("switchover", stops=True, recovery=BACKLOG):
            await self.cluster.switch_over(self.old)
            await self.succeeded()

    async def measure(self) -> None:
        """Count the lost writes of hosts and the lost escalations, and measure the longest time without a write."""
        run = self.run
        assert run.result is not None
        history, _ = run.result
        # A change_severity may set the same severity, which leaves no trace in the database.
        named = zip(run.hosts.names, run.hosts.writes, strict=True)
        done = [name for name, op in named if op.verb != "change_severity"]
        lost = [name for name in done if not (await run.execute(DONE.replace("%(op)s", "%s"), name, name))[0][0]]
        recorded = {escalation.unique_hash for escalation in history.escalations}
        accepted = {post.dedup_key for post in history.requests if post.accepted}
        began = min(fault.start for fault in run.faults) - 1
        at = sorted(written for written in (*(e.at for e in history.escalations), *(s.at for s in history.changes)))
        run.measured["lost writes of hosts"] = len(lost)
        run.measured["accepted and not recorded"] = len(accepted - recorded)
        run.measured["longest gap between writes ms"] = _ms(
            max((after - before for before, after in pairwise(at) if after > began), default=0.0)
        )


def _lost(run: Run) -> bool:
    return any(run.measured[lost] for lost in ("lost writes of hosts", "accepted and not recorded"))


def _sure(violation: Violation) -> bool:
    return violation.invariant in SURE or (violation.invariant == "I4" and violation.incident != "?")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


@pytest.fixture(autouse=True)
def _short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give hosts the timeouts of workers, because all commits wait on a primary that is cut off."""
    for name, seconds in zip(("CALL_TIMEOUT", "GRACE", "IDLE"), CALL_TIMEOUT, strict=True):
        monkeypatch.setattr(timeouts, name, seconds)


@asynccontextmanager
async def failing_over(
    fail: Fail, request: pytest.FixtureRequest, folder: Path, *, synchronous: bool, seed: int, loses: bool = False
) -> AsyncIterator[Failover]:
    """Run workers and hosts on a cluster, let its leader fail, wait until it is complete, then judge and measure."""
    began = monotonic()
    async with Cluster.started(synchronous=synchronous) as cluster:
        servers = Servers(cluster.ports, forkserver(), options=options())
        await asyncio.to_thread(servers.prepare)
        async with Run.open(servers, folder, seed=seed) as run:
            failing = Failover(run, cluster, await cluster.leader())
            await run.start_workers()
            run.hosts.may_lose_writes = loses
            run.start_incidents(120, over=40)
            await asyncio.sleep(BEFORE)
            await fail(failing)
            await asyncio.sleep(AFTER)
            await cluster.whole()
            await run.judge()
            await failing.measure()
            assert run.result is not None
            history, violations = run.result
            whole = synchronous or not _lost(run)
            failing.sure = [violation for violation in violations if whole or _sure(violation)]
            run.measured["broken by lost commits"] = len(violations) - len(failing.sure)
            seconds, server = monotonic() - began, run.servers.version
            note(request, figures(request.node.name, seconds, server, history, failing.sure, run.measured))
            yield failing


FAILURES: dict[str, Fail] = {
    "killed": Failover.killed,
    "cut off": Failover.cut_off,
    "handed over": Failover.handed_over,
}


@pytest.mark.parametrize("failure", list(FAILURES))
async def test_synchronous(request: pytest.FixtureRequest, tmp_path: Path, failure: str) -> None:
    """With strictly synchronous replication no committed write is lost, and every invariant holds."""
    async with failing_over(FAILURES[failure], request, tmp_path, synchronous=True, seed=31) as failing:
        assert [] == failing.sure
        assert 0 == failing.run.measured["lost writes of hosts"]
        assert 0 == failing.run.measured["accepted and not recorded"]


@pytest.mark.parametrize("defect", ["cancelled commit is trusted-planted"])
async def test_defect_is_caught(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: str
) -> None:
    """With the defect, a commit that was cancelled while it waited for a standby counts as done: hosts lose writes."""
    limited = timeouts.limited

    @asynccontextmanager
    async def trusting(
        connection: AsyncConnection[Any], seconds: float, given_up: Callable[[], None]
    ) -> AsyncIterator[Callable[[], bool]]:
        async with limited(connection, seconds, given_up):
            yield lambda: False

    monkeypatch.setattr(timeouts, "limited", trusting)
    async with failing_over(Failover.cut_off, request, tmp_path, synchronous=True, seed=33, loses=True) as failing:
        assert 0 < failing.run.measured["lost writes of hosts"]


@pytest.mark.parametrize("failure", ["killed", "cut off"])
async def test_asynchronous(request: pytest.FixtureRequest, tmp_path: Path, failure: str) -> None:
    """With asynchronous replication commits may be lost. The test counts them, and the other invariants still hold."""
    async with failing_over(FAILURES[failure], request, tmp_path, synchronous=False, seed=32, loses=True) as failing:
        assert [] == failing.sure
        assert await failing.run.hosts.do("open", "after", severity="critical")
