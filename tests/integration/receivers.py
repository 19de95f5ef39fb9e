"""Receivers on the loopback interface that answer well, badly, or not at all. Their replies contain a secret."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SECRET = "T0HUSH/B0HUSH/xHUSHx"
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handler: Handler) -> AsyncIterator[str]:
    """Serve every path with ``handler`` on a free port; yield the server's address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_receiver(reply: Raw, *, scheme: str = "http") -> AsyncIterator[str]:
    """Answer each connection with ``reply``, after its request was read; yield the server's address."""
    tasks: set[asyncio.Task[Any] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            if scheme == "http":
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            await reply(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)


async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a line that is not HTTP."""
    writer.write(f"HTTP/1.1 {SECRET}\r\n\r\n".encode())


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection without an answer."""
    writer.close()


async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection in the middle of the body."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")


async def endless_header(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a header that is longer than the client takes."""
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\nok")


async def bad_chunk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a chunk whose length is not a number."""
    writer.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n".encode())


async def no_answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer nothing."""
    await asyncio.Event().wait()


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer half of the body, and then nothing."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    await writer.drain()
    await asyncio.Event().wait()


async def no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer plain HTTP where TLS is spoken."""
    writer.write(f"HTTP/1.1 400 Bad Request\r\n\r\n{SECRET}".encode())
