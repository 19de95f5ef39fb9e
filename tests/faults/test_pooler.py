"""Workers behind pgbouncer in transaction mode: they die, it dies, the server beneath it dies, it has no room, wires end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest
from psycopg import AsyncConnection

from ..pooler import Pgbouncer
from .arena import Arena
from .conftest import Stage
from .ground import WORKER, Ground
from .proxy import CUTS
from .test_cuts import NEW, cut
from .worker import PATIENCE, RUNNER_WAITS

pytestmark = [pytest.mark.system("pgbouncer"), pytest.mark.timeout(1800)]
POOL = 3
"""Sessions at the server that the connections of all workers share."""
WAIT = 1
"""Seconds that pgbouncer lets a client wait for one of them."""
ROUNDS = {False: 1, True: 25}
LOGIN = 1.0
"""Seconds after which pgbouncer asks a server again that was down, as documented."""
BACK = PATIENCE + LOGIN + RUNNER_WAITS[1]
"""Seconds within which a worker is connected again once the server is back."""


@pytest.fixture
def pooler(ground: Ground) -> Iterator[Pgbouncer]:
    """A pooler whose sessions are few, so that each is used by all workers in turn."""
    made = Pgbouncer.start(ground.server.dsn(), default_pool_size=str(POOL), query_wait_timeout=str(WAIT))
    try:
        yield made
    finally:
        made.stop()


async def worker_killed(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """One of the workers is killed, in whatever it has begun, and another one follows."""
    victim = random.choice([worker for worker in arena.workers if worker.alive])
    await arena.kill(victim)
    await arena.work(victim.name.partition("-")[0])


async def pooler_killed(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """The pooler is killed, and with it everybody's connections."""
    with arena.fault("pooler killed", stops=True, patience=BACK):
        await asyncio.to_thread(pooler.kill)
        await asyncio.sleep(random.random() * 2)
        await asyncio.to_thread(pooler.restart)


async def server_restarted(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """The server crashes beneath the pooler, whose clients stay connected."""
    with arena.fault("restart", stops=True, patience=BACK):
        await asyncio.to_thread(arena.ground.server.crash)
        await asyncio.sleep(random.random())
        await asyncio.to_thread(arena.ground.server.restart)


async def no_room_for_clients(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """The pooler takes no more clients, and those that there were are cut off."""
    with arena.fault("pooler: max_client_conn", stops=True, shows=True, patience=BACK):
        await asyncio.to_thread(pooler.tell, "SET max_client_conn = 0")
        for proxy in arena.proxies.values():
            proxy.cut()
        await asyncio.sleep(4)
        await asyncio.to_thread(pooler.tell, "SET max_client_conn = 500")


async def no_session_left(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """Somebody has all sessions of the pool, and those who wait for one are turned away."""
    dsn = pooler.dsn(arena.ground.dsn(arena.database, name="greedy", user=WORKER))
    with arena.fault("pooler: query_wait_timeout", stops=True, shows=True, patience=BACK):
        async with AsyncExitStack() as stack:
            for _ in range(POOL):
                await stack.enter_async_context(_greedy(dsn))
            await asyncio.sleep(4)


@asynccontextmanager
async def _greedy(dsn: str) -> AsyncIterator[None]:
    """Hold a transaction open; who comes late is turned away like anybody else, and comes again."""
    while True:
        try:
            connection = await AsyncConnection.connect(dsn, prepare_threshold=None)
            await connection.execute("SELECT 1")
            break
        except OSError:
            continue
    try:
        yield
    finally:
        await connection.close()


async def wires_cut(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """The wire between a worker and the pooler is cut at some message, before or after it."""
    name, fate = random.choice(list(CUTS)), random.choice(("cut", "cut after"))
    victim = random.choice([worker for worker in arena.workers if worker.alive])
    with arena.fault(f"cut at {name}", victim):
        proxy = arena.proxies[victim.name.partition("-")[0]]
        assert await cut(arena, proxy, name, fate, 1 if name in NEW else random.randint(1, 3)), name


async def wire_silent(arena: Arena, pooler: Pgbouncer, random: Random) -> None:
    """The connections of a worker to the pooler never answer again: the pooler's clients are in the middle of things."""
    victim = random.choice([worker for worker in arena.workers if worker.alive])
    with arena.fault("half-open", victim, patience=PATIENCE):
        proxy = arena.proxies[victim.name.partition("-")[0]]
        proxy.orphan()
        arena.lock()
        connects = proxy.connects

        async def again() -> bool:
            return proxy.connects > connects

        assert await arena.until(again), "it waits for ever"


FAULTS: dict[str, Callable[[Arena, Pgbouncer, Random], Awaitable[None]]] = {
    fault.__name__: fault
    for fault in (
        worker_killed, pooler_killed, server_restarted, no_room_for_clients, no_session_left, wires_cut, wire_silent,
    )
}  # fmt: skip


async def test_nothing_befalls_them_behind_a_pooler(stage: Stage, pooler: Pgbouncer) -> None:
    """Three workers share few sessions, and keep every invariant: what is found below is the faults' doing."""
    async with stage(seed=30, pooler=pooler) as arena:
        await arena.team()
        arena.live(40, over=3)
        assert [] == await arena.judge()


@pytest.mark.parametrize("fault", list(FAULTS))
async def test_behind_a_pooler(stage: Stage, full: bool, pooler: Pgbouncer, fault: str) -> None:
    """Whatever befalls workers, pooler or server: nothing is lost, nothing is there twice, and all goes on by itself."""
    random = Random(fault)
    async with stage(seed=31, pooler=pooler) as arena:
        await arena.team()
        arena.live(12 * ROUNDS[full], over=3 * ROUNDS[full])
        await asyncio.sleep(0.5)
        for _ in range(ROUNDS[full]):
            await FAULTS[fault](arena, pooler, random)
            await asyncio.sleep(random.random())
        assert [] == await arena.judge()
