"""Workers behind pgbouncer in transaction mode: workers, pooler or server end, do not answer, or are full."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from ..pooler import Pgbouncer
from .conftest import NewRun
from .harness.proxy import CUTS, Action, Proxy
from .harness.run import Run
from .harness.servers import WORKER, Servers
from .harness.worker import LONG_OUTAGE, RECONNECT_TIME, RUNNER_WAITS
from .test_cuts import NEW, cut

pytestmark = [pytest.mark.system("pgbouncer"), pytest.mark.timeout(1800)]
POOL = 3
"""The number of server sessions that the connections of all workers share."""
WAIT = 1
"""Seconds for which pgbouncer lets a client wait for a session."""
SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = '{WORKER}'"
ROUNDS = {False: 1, True: 20}
LOGIN = 1.0
"""Seconds after which pgbouncer tries a failed server again, by the documented configuration."""
CONNECT = 2.0
"""Seconds after which pgbouncer gives up a session that the server does not start, by the documented configuration."""
BACK = RECONNECT_TIME + LOGIN + RUNNER_WAITS[1]
"""Seconds within which a worker reconnects once the server runs again."""
CALM = CONNECT + BACK + 3.0
"""Seconds to wait after a fault: time to reconnect, two ticks, and then a time in which no fault excuses lateness."""


@pytest.fixture
async def server_proxy(servers: Servers) -> AsyncIterator[Proxy]:
    """The proxy between pooler and server."""
    proxy = Proxy(servers.server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def pooler(servers: Servers, server_proxy: Proxy) -> AsyncIterator[Pgbouncer]:
    """A pooler with few sessions, so that all workers use each session in turn."""
    server = make_conninfo(servers.server.dsn(), port=server_proxy.port)
    made = Pgbouncer.start(server, default_pool_size=str(POOL), query_wait_timeout=str(WAIT))
    try:
        yield made
    finally:
        made.stop()


async def worker_killed(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Kill a worker at a random moment, and start the next one."""
    victim = random.choice([worker for worker in run.workers if worker.alive])
    await run.kill(victim)
    await run.start_worker(victim.name.partition("-")[0])


async def worker_stopped(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Stop a worker for longer than its lease, while other workers wait for its sessions."""
    stalled = random.choice([worker for worker in run.workers if worker.alive])
    with run.fault("stall", stalled):
        stalled.signal(signal.SIGSTOP)
        run.note_locks()
        await asyncio.sleep(run.rules.lease + random.random())
        stalled.resume()


async def pooler_killed(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Kill the pooler, which ends all connections, and start it again."""
    with run.fault("pooler killed", stops=True, recovery=BACK):
        await asyncio.to_thread(pooler.kill)
        await asyncio.sleep(random.random() * 2)
        await asyncio.to_thread(pooler.restart)


async def pooler_stopped(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Stop the pooler for longer than workers wait for an answer. Then it handles everything that it has received."""
    with run.fault("pooler stopped", stops=True, unhealthy=True, recovery=BACK):
        pooler.stall()
        await asyncio.sleep(LONG_OUTAGE)
        pooler.flow()


async def server_does_not_answer(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Let the server not answer the pooler for longer than workers wait for an answer. Then reset the connections.

    Without the reset pgbouncer would wait without a limit, for answers and for requests to cancel.
    """
    assert run.server_proxy is not None
    with run.fault("no answer from the server behind the pooler", stops=True, unhealthy=True, recovery=CONNECT + BACK):
        run.server_proxy.stall()
        await asyncio.sleep(LONG_OUTAGE)
        run.server_proxy.cut()
        run.server_proxy.flow()


async def server_restarted(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Crash and restart the server, while the pooler's clients stay connected."""
    with run.fault("restart", stops=True, recovery=BACK):
        await asyncio.to_thread(run.servers.server.crash)
        await asyncio.sleep(random.random())
        await asyncio.to_thread(run.servers.server.restart)


async def tell(run: Run, pooler: Pgbouncer, command: str) -> None:
    """Run a command on the pooler's console, once ``kept_alive`` has restarted a pooler that crashed."""

    async def told() -> bool:
        with suppress(psycopg.OperationalError):
            await asyncio.to_thread(pooler.tell, command)
            return True
        return False

    assert await run.until(told), f"the pooler does not take: {command}"


async def no_more_clients(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Cut the workers' connections, while the pooler accepts no new clients."""
    with run.fault("pooler: max_client_conn", stops=True, unhealthy=True, recovery=BACK):
        await tell(run, pooler, "SET max_client_conn = 0")
        for proxy in run.proxies.values():
            proxy.cut()
        await asyncio.sleep(LONG_OUTAGE)
        await tell(run, pooler, "SET max_client_conn = 500")


async def no_session_left(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Let other clients use all sessions of the pool. The pooler refuses workers that wait for a session."""
    dsn = pooler.dsn(run.servers.dsn(run.database, name="greedy", user=WORKER))
    with run.fault("pooler: sessions taken", stops=True, recovery=BACK):
        async with AsyncExitStack() as stack:
            for _ in range(POOL):
                await stack.enter_async_context(_greedy(dsn))
            # Until now a worker may have had a session, and completed its tick.
            with run.fault("pooler: query_wait_timeout", stops=True, unhealthy=True, recovery=BACK):
                await asyncio.sleep(LONG_OUTAGE)


async def no_session_left_for_long(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Let other clients use all sessions of the pool. The pooler refuses no client, so the workers' calls time out."""
    await tell(run, pooler, "SET query_wait_timeout = 120")
    await no_session_left(run, pooler, random)
    await tell(run, pooler, f"SET query_wait_timeout = {WAIT}")


@asynccontextmanager
async def _greedy(dsn: str) -> AsyncIterator[None]:
    """Hold a transaction open. Connect again if the pooler refuses the connection."""
    while True:
        try:
            connection = await AsyncConnection.connect(dsn, prepare_threshold=None)
            await connection.execute("SELECT 1")
            break
        except psycopg.OperationalError:
            continue
    try:
        yield
    finally:
        await connection.close()


async def wire_cut(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Cut a connection between a worker and the pooler before or after a random message."""
    actions: Sequence[Action] = ("cut", "cut after")
    name, action = random.choice(list(CUTS)), random.choice(actions)
    victim = random.choice([worker for worker in run.workers if worker.alive])
    await cut(run, victim, name, action, 1 if name in NEW else random.randint(1, 3))


async def wire_half_open(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Let a worker's connections never answer again. To the pooler they look busy."""
    victim = random.choice([worker for worker in run.workers if worker.alive])
    with run.fault("half-open", victim, recovery=RECONNECT_TIME):
        proxy = run.proxies[victim.name.partition("-")[0]]
        proxy.half_open()
        run.note_locks()
        connects = proxy.connects

        async def again() -> bool:
            return proxy.connects > connects

        assert await run.until(again), "the worker does not reconnect"


@asynccontextmanager
async def kept_alive(run: Run, pooler: Pgbouncer) -> AsyncIterator[None]:
    """Start the pooler again each time it ends by itself, as a service manager does.

    pgbouncer 1.18 ends if a client that requested a cancellation disconnects before the server has the request.
    """

    async def keep() -> None:
        while True:
            await asyncio.sleep(0.05)
            if pooler.died:
                with run.fault("pooler died by itself", stops=True, recovery=BACK):
                    await asyncio.to_thread(pooler.restart)

    task = asyncio.create_task(keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


Cause = Callable[[Run, Pgbouncer, Random], Awaitable[None]]
FAULTS: dict[str, Sequence[Cause]] = {
    "end": (worker_killed, pooler_killed, server_restarted, wire_cut),
    "no answer": (
        worker_stopped, pooler_stopped, server_does_not_answer, wire_half_open, no_session_left_for_long,
    ),
    "full": (no_more_clients, no_session_left),
}  # fmt: skip
"""The faults of each kind. A round causes each fault of one kind once."""
LOGGED = {
    "end": ("server closed the connection",),
    "no answer": ("has not answered for",),
    "full": ("no more connections allowed", "query_wait_timeout"),
}
"""Texts that at least one worker must log."""


async def test_no_fault_behind_a_pooler(new_run: NewRun, pooler: Pgbouncer) -> None:
    """Three workers that share few sessions keep every invariant, so faults cause the violations in other tests."""
    async with new_run(seed=30, pooler=pooler) as run:
        await run.start_workers()
        run.start_incidents(40, over=3)
        assert [] == await run.judge()
        assert [] == run.hosts.errors
        [[sessions]] = await run.execute(SESSIONS)
        assert 0 < sessions <= POOL


@pytest.mark.parametrize("kind", list(FAULTS))
async def test_faults_behind_a_pooler(
    new_run: NewRun, full: bool, pooler: Pgbouncer, server_proxy: Proxy, kind: str
) -> None:
    """After each fault of workers, pooler or server the workers recover by themselves, and every invariant holds."""
    random, faults = Random(kind), ROUNDS[full] * list(FAULTS[kind])
    random.shuffle(faults)
    async with new_run(seed=31, pooler=pooler) as run, kept_alive(run, pooler):
        run.server_proxy = server_proxy
        await run.start_workers()
        run.start_incidents(8 * len(faults), over=4 * len(faults))
        await asyncio.sleep(0.5)
        for number, fault in enumerate(faults):
            await fault(run, pooler, random)
            await asyncio.sleep(CALM if number % 4 == 3 else random.random())
        assert [] == await run.judge()
        assert [] == [text for text in LOGGED[kind] if not any(text in worker.text for worker in run.workers)]
