"""Timeouts for calls to PostgreSQL. Without them a vanished server or network would block a worker for ever.

The store gives up a call that takes too long, and closes every connection that was open then. The server itself ends a
transaction whose client stops, and releases its locks (ADR 0025).
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection

log = logging.getLogger("escalation_core")

CALL_TIMEOUT = 60.0
"""Seconds that a call may take. A batch takes a second at most. A call that waits longer for a lock is tried again."""
SCAN_TIMEOUT = 600.0
"""Seconds that a call may take if it reads a whole table, for example a dry run."""
GRACE = 2.0
"""Seconds that a cancelled call has to end by itself."""
IDLE = 30.0
"""Seconds after which the server ends a transaction whose client is gone, or has stopped."""


@asynccontextmanager
async def limited(
    connection: AsyncConnection[Any], seconds: float, given_up: Callable[[], None]
) -> AsyncIterator[Callable[[], bool]]:
    """Give up the call on the connection if it takes longer than ``seconds``, and call ``given_up`` then.

    Yields a function that returns True once the call was cancelled; the call may still have succeeded.
    """
    tasks: list[asyncio.Task[None]] = []

    def late() -> None:
        given_up()
        tasks.append(asyncio.create_task(_give_up(connection, seconds)))

    timer = asyncio.get_running_loop().call_later(seconds, late)
    try:
        yield lambda: bool(tasks)
    finally:
        timer.cancel()
        for task in tasks:
            task.cancel()
            await asyncio.wait([task])


async def _give_up(connection: AsyncConnection[Any], seconds: float) -> None:
    """Ask the server to cancel the call; if it goes on, end the connection. In both cases the caller gets an error."""
    log.warning("PostgreSQL has not answered for %.0f s; the call is given up", seconds)
    with suppress(psycopg.Error, OSError):
        await connection.cancel_safe(timeout=GRACE)
    await asyncio.sleep(GRACE)
    if not connection.closed:
        # Shut the socket down, but do not close it: the call that waits for the socket wakes up and reads its end.
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as end, suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
