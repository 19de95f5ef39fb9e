"""A connection pool that detects dead idle connections before it lends them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Self
from weakref import WeakSet

import psycopg
from psycopg import AsyncConnection, IsolationLevel
from psycopg.pq import PipelineStatus
from psycopg_pool import AsyncConnectionPool

from ..process_guard import ProcessGuard
from . import timeouts
from .dsn import CONNECT_TIMEOUT

GIVEN_UP = "the call was given up before the server answered; a commit that it reports may be lost in a failover"
"""PostgreSQL reports a commit as done that was cancelled while it waited for a standby: only that server has it."""


class Pool:
    """A pool of connections that survives restarts of the server."""

    def __init__(self, dsn: str, kwargs: dict[str, Any], *, max_connections: int) -> None:
        self._connections: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            dsn,
            connection_class=self._connection_class(),
            min_size=1,
            max_size=max_connections,
            kwargs=kwargs,
            configure=self._track,
            open=False,
            timeout=CONNECT_TIMEOUT,
            name="escalation",
            # The pause between attempts doubles. Start again before the pause exceeds the time that callers wait.
            reconnect_timeout=CONNECT_TIMEOUT,
            reconnect_failed=AsyncConnectionPool.check,
        )
        self._guard = ProcessGuard("PostgresStore")
        self._coming_back: set[asyncio.Task[None]] = set()
        self._known: WeakSet[AsyncConnection[Any]] = WeakSet()
        self._suspect: WeakSet[AsyncConnection[Any]] = WeakSet()
        self._distrusts = 0

    async def open(self) -> None:
        """Start to connect."""
        self._guard.check()
        await self._connections.open()

    async def aclose(self) -> None:
        """Close the connections. In a forked process do nothing: the connections belong to the parent."""
        if self._guard.elsewhere:
            return
        await self._connections.close()

    @asynccontextmanager
    async def connection(self, longest: float | None = None) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a live connection for ``longest`` seconds at most, and always take it back.

        After a restart of the server, all idle connections are dead. The pool's own check pauses between two dead
        connections, longer each time, until callers time out. This method returns each dead connection at once, and the
        pool replaces it. After a failover, old connections may lead to a server that refuses writes: the first refused
        write makes all of them suspect, and the pool closes them.
        """
        self._guard.check()
        for _ in range(self._connections.max_size + 1):
            connection = await self._connections.getconn()
            try:
                if connection in self._suspect:
                    # While this connection was open, another one got no answer, or its write was refused. This one
                    # would probably fail in the same manner.
                    await connection.close()
                    continue
                async with timeouts.limited(connection, longest or timeouts.CALL_TIMEOUT, self._distrust) as given_up:
                    if await _alive(connection):
                        yield connection
                        if given_up():
                            raise psycopg.OperationalError(GIVEN_UP)
                        return
            except psycopg.errors.ReadOnlySqlTransaction:
                # All connections that are open now may lead to an old primary. A new one finds the server to write to.
                self._distrust()
                await connection.close()
                raise
            finally:
                await self._take_back(connection)
        raise psycopg.OperationalError("the server closed every connection of the pool")

    async def _track(self, connection: AsyncConnection[Any]) -> None:
        """Track every connection, used or not: after a failover it may point to the old primary.

        Claims rely on READ COMMITTED, whatever the role's default is. From now on each BEGIN here names that level.
        """
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        self._known.add(connection)

    def _distrust(self) -> None:
        self._distrusts += 1
        self._suspect |= self._known

    def _connection_class(self) -> type[AsyncConnection[Any]]:
        """Return a class whose connections are suspect if the others became suspect while they were being made."""
        pool = self

        class Connection(AsyncConnection[Any]):
            @classmethod
            async def connect(cls, *args: Any, **kwargs: Any) -> Self:
                before = pool._distrusts
                connection = await super().connect(*args, **kwargs)
                if before != pool._distrusts:
                    pool._suspect.add(connection)
                return connection

        return Connection

    async def _take_back(self, connection: AsyncConnection[Any]) -> None:
        """Return a connection to the pool, even if this task is cancelled: a cancelled ``putconn`` would lose it.

        A task that is cancelled while it enters a pipeline can leave the connection in pipeline mode, which no later
        caller expects. Such a connection is closed, and the pool makes another.
        """
        if connection.pgconn.pipeline_status != PipelineStatus.OFF:
            connection.pgconn.finish()
        back = asyncio.create_task(self._connections.putconn(connection))
        self._coming_back.add(back)
        back.add_done_callback(self._coming_back.discard)
        await asyncio.shield(back)


async def _alive(connection: AsyncConnection[Any]) -> bool:
    """Ping only if unread bytes are waiting, which usually means that the server closed the connection.

    To ping each time would double the cost of a check that finds no due row.
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
