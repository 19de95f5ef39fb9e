"""Timeouts for calls to PostgreSQL. Without them a vanished server or network would block a worker for ever.

A call that takes too long is given up, and every connection that was open then is closed. The server itself ends a
transaction whose client does not go on, and releases its locks.
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
"""Seconds that a call may take. A batch takes a second at most; somebody's lock may take longer, and is asked again."""
SCAN_TIMEOUT = 600.0
"""The same for what reads a whole table, such as a dry run."""
GRACE = 2.0
"""Seconds that a call has to end by itself after it was cancelled."""
IDLE = 30.0
"""Seconds after which the server ends a transaction whose client is gone, or stands still."""


@asynccontextmanager
async def limited(
    connection: AsyncConnection[Any], seconds: float, given_up: Callable[[], None]
) -> AsyncIterator[Callable[[], bool]]:
    """Give up what is under way on the connection when it takes longer; ``given_up`` is called when that happens.

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
    """Ask the server to cancel; if that is of no use, end the connection. Either way, whoever waits gets an error."""
    log.warning("PostgreSQL has not answered for %.0f s; the call is given up", seconds)
    with suppress(psycopg.Error, OSError):
        await connection.cancel_safe(timeout=GRACE)
    await asyncio.sleep(GRACE)
    if not connection.closed:
        # Not closed, but at its end: who waits for the socket wakes up, and finds nothing more to read.
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as end, suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
