"""The connection pool. A connection that died while it was idle is noticed before it is used."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from selectors import EVENT_READ, DefaultSelector
from typing import Any
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool

from ..process_guard import ProcessGuard
from . import timeouts
from .dsn import CONNECT_TIMEOUT

GIVEN_UP = "it answered after the call was given up; what it says of a commit may not outlive a failover"
"""A commit that waits for a standby and is cancelled is reported as done, and is done on that one server alone."""


class Pool:
    """A pool of connections that outlives the server's restarts."""

    def __init__(self, dsn: str, kwargs: dict[str, Any], *, max_connections: int) -> None:
        self._connections: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=max_connections,
            kwargs=kwargs,
            configure=self._track,
            open=False,
            timeout=CONNECT_TIMEOUT,
            name="escalation",
            # The pause between attempts doubles: they begin anew before it outgrows the wait of the callers.
            reconnect_timeout=CONNECT_TIMEOUT,
            reconnect_failed=AsyncConnectionPool.check,
        )
        self._guard = ProcessGuard("PostgresStore")
        self._coming_back: set[asyncio.Task[None]] = set()
        self._known: WeakSet[AsyncConnection[Any]] = WeakSet()
        self._suspect: WeakSet[AsyncConnection[Any]] = WeakSet()

    async def open(self) -> None:
        """Begin to connect."""
        self._guard.check()
        await self._connections.open()

    async def aclose(self) -> None:
        """Close the connections. In a forked process it does nothing: they are its parent's."""
        if self._guard.elsewhere:
            return
        await self._connections.close()

    @asynccontextmanager
    async def connection(self, longest: float | None = None) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection that is alive, for so many seconds at most, and take it back whatever happens.

        After a restart of the server all that were idle are dead. The pool's own check would rest between two of them,
        longer each time, and the last would be found when nobody waits any more; here each is put back at once, and
        the pool makes another. After a failover those that are left lead to a server that takes no writes: the first
        write that is refused ends all of them.
        """
        self._guard.check()
        for _ in range(self._connections.max_size + 1):
            connection = await self._connections.getconn()
            try:
                if connection in self._suspect:
                    # Another one was silent while this one was open: it would be so as well, mostly.
                    await connection.close()
                    continue
                async with timeouts.limited(connection, longest or timeouts.CALL_TIMEOUT, self._distrust) as given_up:
                    if await _alive(connection):
                        yield connection
                        if given_up():
                            raise psycopg.OperationalError(GIVEN_UP)
                        return
            except psycopg.errors.ReadOnlySqlTransaction:
                # It leads to a primary of old, as do all that were open with it: a new one is asked for where to write.
                self._distrust()
                await connection.close()
                raise
            finally:
                await self._take_back(connection)
        raise psycopg.OperationalError("the server ends each connection")

    async def _track(self, connection: AsyncConnection[Any]) -> None:
        """Track every connection, used or not: after a failover it may point to the old primary.

        What a claim relies on is READ COMMITTED, whatever the role's default is: each BEGIN says so from now on.
        """
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        self._known.add(connection)

    def _distrust(self) -> None:
        self._suspect |= self._known

    async def _take_back(self, connection: AsyncConnection[Any]) -> None:
        """Give a connection to the pool, even if this task is cancelled just now: the pool's own way loses it then.

        A cancellation that meets the beginning of a pipeline can leave the connection in it, where no later caller
        expects it: it is closed, and the pool makes another.
        """
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            connection.pgconn.finish()
        back = asyncio.create_task(self._connections.putconn(connection))
        self._coming_back.add(back)
        back.add_done_callback(self._coming_back.discard)
        await asyncio.shield(back)


async def _alive(connection: AsyncConnection[Any]) -> bool:
    """Ping only if unread bytes are waiting, which usually means that the server closed the connection.

    To ask each time would double what it costs to find that nothing is due.
    """
    try:
        with DefaultSelector() as selector:
            selector.register(connection.pgconn.socket, EVENT_READ)
            if not selector.select(0):
                return True
        await AsyncConnectionPool.check_connection(connection)
    except psycopg.Error:
        return False
    return True
