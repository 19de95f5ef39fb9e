"""Workers share rate limiters whose storage is PostgreSQL or a real redis-server."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from limits.aio.storage import MemoryStorage, RedisStorage

from escalation_adapters.auth.library_limiter import LibraryLimiter
from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter, RateLimiter
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_core import Engine, InvalidValue, StoreUnavailable

TWO = Limit(2, timedelta(seconds=1))


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a redis-server for these tests, and yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    program = shutil.which("redis-server")
    assert program is not None
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([*command, "--dir", str(tmp_path_factory.mktemp("redis"))], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@asynccontextmanager
async def limiter_of(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[RateLimiter, RateLimiter]]:
    """Yield a limiter for each of two workers, on the same storage."""
    if kind == "memory":
        one = MemoryLimiter()
        yield one, one
    elif kind == "postgres":
        dsn = request.getfixturevalue("migrated_dsn")
        stores = [await PostgresStore.connect(dsn) for _ in range(2)]
        yield PostgresLimiter(stores[0]), PostgresLimiter(stores[1])
        for store in stores:
            await store.aclose()
    else:
        url = f"async+redis://127.0.0.1:{request.getfixturevalue('redis_port')}/0"
        storages = [RedisStorage(url, implementation="redispy") for _ in range(2)]
        await storages[0].reset()
        yield LibraryLimiter(storages[0]), LibraryLimiter(storages[1])
        for storage in storages:
            bridge: Any = storage.bridge  # it holds redis-py's own client
            await bridge.storage.aclose()


KINDS = ["memory", "postgres", pytest.param("redis", marks=pytest.mark.system("redis-server"))]


@pytest.mark.parametrize("kind", KINDS)
async def test_limit_is_shared(kind: str, request: pytest.FixtureRequest) -> None:
    """Two workers share one count. A refused request does not count; after ``retry_after`` the next one is allowed."""
    async with limiter_of(kind, request) as (one, other):
        first, second, third = (await one.hit("k", TWO), await other.hit("k", TWO), await one.hit("k", TWO))
        assert [(True, 1), (True, 0), (False, 0)] == [(d.allowed, d.remaining) for d in (first, second, third)]
        assert (await other.hit("another", TWO)).allowed
        assert timedelta() < third.retry_after <= timedelta(seconds=1)
        await asyncio.sleep(third.retry_after.total_seconds() + 0.05)
        assert (await other.hit("k", TWO)).allowed


@pytest.mark.parametrize("kind", KINDS)
async def test_never_more_at_once(kind: str, request: pytest.FixtureRequest) -> None:
    """Two workers get thirty requests at the same time and allow exactly ten, the limit. A limit of 0 allows none."""
    limit = Limit(10)
    async with limiter_of(kind, request) as (one, other):
        decisions = await asyncio.gather(*((one, other)[n % 2].hit("k", limit) for n in range(30)))
        assert 10 == sum(decision.allowed for decision in decisions)
        assert not (await one.hit("closed", Limit(0))).allowed


async def test_quiet_keys_are_forgotten(migrated_dsn: str) -> None:
    """Requests delete the expired rows of other keys, and ``prune`` deletes the rest, so the table stays small."""
    store = await PostgresStore.connect(migrated_dsn)
    limiter = PostgresLimiter(store)
    for number in range(30):
        await limiter.hit(f"old{number}", Limit(1, timedelta(microseconds=1)))
    for _ in range(5):
        await limiter.hit("k", TWO)
    assert [("k", 2)] == await limits_in(store)
    # A prune deletes an expired row that no later request has deleted.
    await limiter.hit("quiet", Limit(1, timedelta(microseconds=1)))
    async with Engine(store) as engine:
        await engine.prune(timedelta(days=400))
        assert [("k", 2)] == await limits_in(store)


async def limits_in(store: PostgresStore) -> list[Any]:
    async with store._pool.connection() as connection:
        found = await connection.execute("SELECT key, cardinality(hits) FROM escalation_rate_limits ORDER BY key")
        return await found.fetchall()


async def test_storage_that_is_down_raises(migrated_dsn: str) -> None:
    """A limiter that cannot count raises, and its caller treats the error as a refusal."""
    store = await PostgresStore.connect(migrated_dsn)
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        await PostgresLimiter(store).hit("k", TWO)
    gone = LibraryLimiter(RedisStorage("async+redis://127.0.0.1:1/0", implementation="redispy"))
    with pytest.raises(Exception, match="onnect"):
        await gone.hit("k", TWO)


async def test_storage_needs_a_moving_window(tmp_path: Path) -> None:
    """LibraryLimiter refuses a storage without a moving window at once."""
    assert (await LibraryLimiter(MemoryStorage()).hit("k", TWO)).allowed
    with pytest.raises(InvalidValue, match="storage: object has no moving window"):
        LibraryLimiter(object())  # type: ignore[arg-type]
