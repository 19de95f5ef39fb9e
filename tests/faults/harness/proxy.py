"""A TCP proxy before PostgreSQL that parses its messages: it cuts, stalls and delays connections, and loses replies."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from time import time
from typing import Literal

import attrs

from .frames import (
    AUTHENTICATION,
    BIND,
    BOUND,
    COMPLETE,
    DESCRIBE,
    DESCRIBED,
    EXECUTE,
    PARSE,
    PARSED,
    QUERY,
    READY,
    ROW,
    STARTUP,
    SYNC,
    Frame,
    Splitter,
)  # fmt: skip

Direction = Literal["in", "out"]
"""The direction of a message: in to the server, or out to the client."""
Action = Literal["pass", "cut", "cut after", "lose"]
"""What the proxy does with a message.

``cut`` ends the connection before the message, ``cut after`` after it. With ``lose`` the connection stays open, but
neither the message nor a later one arrives.
"""
Decide = Callable[[Direction, Frame], Action]
STATEMENTS = (QUERY, EXECUTE)
CUTS: dict[str, tuple[Direction, Callable[[Frame], bool]]] = {
    "startup": ("in", lambda frame: frame.kind == STARTUP),
    "query": ("in", lambda frame: frame.kind == QUERY),
    "parse": ("in", lambda frame: frame.kind == PARSE),
    "bind": ("in", lambda frame: frame.kind == BIND),
    "describe": ("in", lambda frame: frame.kind == DESCRIBE),
    "execute": ("in", lambda frame: frame.kind == EXECUTE),
    "sync": ("in", lambda frame: frame.kind == SYNC),
    "commit": ("in", lambda frame: frame.commits),
    "authentication": ("out", lambda frame: frame.kind == AUTHENTICATION),
    "parsed": ("out", lambda frame: frame.kind == PARSED),
    "bound": ("out", lambda frame: frame.kind == BOUND),
    "described": ("out", lambda frame: frame.kind == DESCRIBED),
    "row": ("out", lambda frame: frame.kind == ROW),
    "complete": ("out", lambda frame: frame.kind == COMPLETE),
    "committed": ("out", lambda frame: frame.commits),
    "ready": ("out", lambda frame: frame.kind == READY),
}
"""The messages at which a connection can be cut, by name."""


@attrs.define
class Proxy:
    """The proxy of one worker. Its settings apply to the existing connections and to new ones."""

    to_port: int
    port: int = 0
    decide: Decide = lambda direction, frame: "pass"
    delay: float = 0.0
    """Seconds by which the proxy delays every message."""
    statements: list[float] = attrs.field(factory=list)
    """The instants at which a statement went to the server, or a connection began."""
    connects: int = 0
    _flowing: asyncio.Event = attrs.field(factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _pairs: "dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]]" = attrs.field(factory=dict)
    _half_open: "set[asyncio.Task[None]]" = attrs.field(factory=set)

    async def start(self) -> None:
        """Start listening."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and end all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._pairs):
            task.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self) -> None:
        """Reset every existing connection."""
        for writers in list(self._pairs.values()):
            for writer in writers:
                writer.transport.abort()

    def stall(self) -> None:
        """Forward nothing on any connection until ``flow``. The connections stay open."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward everything again."""
        self._flowing.set()

    def half_open(self) -> None:
        """Never again forward anything on the existing connections, which stay open. New connections work."""
        self._half_open.update(self._pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connects += 1
        self.statements.append(time())
        self._pairs[task] = (writer,)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
            self._pairs[task] = (writer, server_writer)
            pumps = [
                asyncio.create_task(self._pump("in", reader, server_writer, task)),
                asyncio.create_task(self._pump("out", server_reader, writer, task)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, or the run is over
        finally:
            for end in self._pairs.pop(task):
                end.transport.abort()
            self._half_open.discard(task)

    async def _pump(
        self,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: "asyncio.Task[None]",
    ) -> None:
        splitter = Splitter(client=direction == "in")
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                passing, action = self._decided(direction, splitter.feed(data))
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if pair in self._half_open:
                    await asyncio.Event().wait()
                if passing:
                    writer.write(passing)
                    await writer.drain()
                if action == "lose":
                    self._half_open.add(pair)
                elif action != "pass":
                    return

    def _decided(self, direction: Direction, frames: Iterable[Frame]) -> tuple[bytes, Action]:
        """Return the bytes of the messages that pass, up to the first other action, and that action."""
        passing = bytearray()
        for frame in frames:
            if direction == "in" and frame.kind in STATEMENTS:
                self.statements.append(time())
            action = self.decide(direction, frame)
            if action in ("pass", "cut after"):
                passing += frame.raw
            if action != "pass":
                return bytes(passing), action
        return bytes(passing), "pass"
