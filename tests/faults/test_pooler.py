"""Workers behind pgbouncer in transaction mode: they, it or the server beneath it end, are silent, or are full."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
"""Sessions at the server that the connections of all workers share."""
WAIT = 1
"""Seconds that pgbouncer lets a client wait for one of them."""
SESSIONS = f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = '{WORKER}'"
ROUNDS = {False: 1, True: 20}
LOGIN = 1.0
"""Seconds after which pgbouncer asks a server again that was down, as documented."""
CONNECT = 2.0
"""Seconds after which pgbouncer gives up a session that the server does not begin, as documented."""
BACK = RECONNECT_TIME + LOGIN + RUNNER_WAITS[1]
"""Seconds within which a worker is connected again once the server is back."""
CALM = CONNECT + BACK + 3.0
"""Seconds after a fault in which nothing excuses what is late: all workers have to be back, and two ticks over."""


@pytest.fixture
async def server_proxy(servers: Servers) -> AsyncIterator[Proxy]:
    """The wire between pooler and server."""
    proxy = Proxy(servers.server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def pooler(servers: Servers, server_proxy: Proxy) -> AsyncIterator[Pgbouncer]:
    """A pooler whose sessions are few, so that each is used by all workers in turn."""
    server = make_conninfo(servers.server.dsn(), port=server_proxy.port)
    made = Pgbouncer.start(server, default_pool_size=str(POOL), query_wait_timeout=str(WAIT))
    try:
        yield made
    finally:
        made.stop()


async def worker_killed(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """One of the workers is killed, in whatever it has begun, and another one follows."""
    victim = random.choice([worker for worker in run.workers if worker.alive])
    await run.kill(victim)
    await run.start_worker(victim.name.partition("-")[0])


async def worker_stopped(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """One of the workers stands still beyond its lease; the sessions that it has are wanted by the others."""
    stalled = random.choice([worker for worker in run.workers if worker.alive])
    with run.fault("stall", stalled):
        stalled.signal(signal.SIGSTOP)
        run.note_locks()
        await asyncio.sleep(run.rules.lease + random.random())
        stalled.resume()


async def pooler_killed(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The pooler is killed, and with it everybody's connections."""
    with run.fault("pooler killed", stops=True, recovery=BACK):
        await asyncio.to_thread(pooler.kill)
        await asyncio.sleep(random.random() * 2)
        await asyncio.to_thread(pooler.restart)


async def pooler_stopped(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The pooler stands still, longer than workers wait for an answer, and goes on with all that it was sent."""
    with run.fault("pooler stopped", stops=True, unhealthy=True, recovery=BACK):
        pooler.stall()
        await asyncio.sleep(LONG_OUTAGE)
        pooler.flow()


async def server_silent(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The server falls silent beneath the pooler, longer than workers wait for an answer, until TCP ends the sessions.

    Nothing else does that: pgbouncer waits without a limit, for answers as for requests to cancel to end.
    """
    assert run.server_proxy is not None
    with run.fault("server silent beneath the pooler", stops=True, unhealthy=True, recovery=CONNECT + BACK):
        run.server_proxy.stall()
        await asyncio.sleep(LONG_OUTAGE)
        run.server_proxy.cut()
        run.server_proxy.flow()


async def server_restarted(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The server crashes beneath the pooler, whose clients stay connected."""
    with run.fault("restart", stops=True, recovery=BACK):
        await asyncio.to_thread(run.servers.server.crash)
        await asyncio.sleep(random.random())
        await asyncio.to_thread(run.servers.server.restart)


async def no_room_for_clients(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The pooler takes no more clients, and those that there were are cut off."""
    with run.fault("pooler: max_client_conn", stops=True, unhealthy=True, recovery=BACK):
        await asyncio.to_thread(pooler.tell, "SET max_client_conn = 0")
        for proxy in run.proxies.values():
            proxy.cut()
        await asyncio.sleep(LONG_OUTAGE)
        await asyncio.to_thread(pooler.tell, "SET max_client_conn = 500")


async def no_session_left(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """Somebody has all sessions of the pool, and those who wait for one are turned away."""
    dsn = pooler.dsn(run.servers.dsn(run.database, name="greedy", user=WORKER))
    with run.fault("pooler: sessions taken", stops=True, recovery=BACK):
        async with AsyncExitStack() as stack:
            for _ in range(POOL):
                await stack.enter_async_context(_greedy(dsn))
            # Until now workers may have had one, and have done their ticks.
            with run.fault("pooler: query_wait_timeout", stops=True, unhealthy=True, recovery=BACK):
                await asyncio.sleep(LONG_OUTAGE)


async def no_session_left_for_long(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The same, and nobody is turned away: those who wait are called off by their own limit."""
    await asyncio.to_thread(pooler.tell, "SET query_wait_timeout = 120")
    await no_session_left(run, pooler, random)
    await asyncio.to_thread(pooler.tell, f"SET query_wait_timeout = {WAIT}")


@asynccontextmanager
async def _greedy(dsn: str) -> AsyncIterator[None]:
    """Hold a transaction open; who comes late is turned away like anybody else, and comes again."""
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
    """The wire between a worker and the pooler is cut at some message, before or after it."""
    actions: Sequence[Action] = ("cut", "cut after")
    name, action = random.choice(list(CUTS)), random.choice(actions)
    victim = random.choice([worker for worker in run.workers if worker.alive])
    await cut(run, victim, name, action, 1 if name in NEW else random.randint(1, 3))


async def wire_silent(run: Run, pooler: Pgbouncer, random: Random) -> None:
    """The connections of a worker never answer again, and the pooler takes it for busy in the middle of things."""
    victim = random.choice([worker for worker in run.workers if worker.alive])
    with run.fault("half-open", victim, recovery=RECONNECT_TIME):
        proxy = run.proxies[victim.name.partition("-")[0]]
        proxy.half_open()
        run.note_locks()
        connects = proxy.connects

        async def again() -> bool:
            return proxy.connects > connects

        assert await run.until(again), "it waits for ever"


@asynccontextmanager
async def kept_alive(run: Run, pooler: Pgbouncer) -> AsyncIterator[None]:
    """Start the pooler again whenever it ends by itself, as its service manager is told to.

    1.18 does: when a client that asked it to cancel something is gone before the server has heard of it.
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


DO = Callable[[Run, Pgbouncer, Random], Awaitable[None]]
FAULTS: dict[str, Sequence[DO]] = {
    "ends": (worker_killed, pooler_killed, server_restarted, wire_cut),
    "is silent": (worker_stopped, pooler_stopped, server_silent, wire_silent, no_session_left_for_long),
    "is full": (no_room_for_clients, no_session_left),
}
"""What befalls them, in each round everything of one kind."""
TOLD = {
    "ends": ("server closed the connection",),
    "is silent": ("has not answered for",),
    "is full": ("no more connections allowed", "query_wait_timeout"),
}
"""What workers have to have met."""


async def test_no_fault_behind_a_pooler(new_run: NewRun, pooler: Pgbouncer) -> None:
    """Three workers share few sessions, and keep every invariant: what is found below is the faults' doing."""
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
    """Whatever befalls workers, pooler or server: nothing is lost or there twice, and all goes on by itself."""
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
        assert [] == [told for told in TOLD[kind] if not any(told in worker.text for worker in run.workers)]
