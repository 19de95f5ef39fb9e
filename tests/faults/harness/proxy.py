"""A TCP proxy before PostgreSQL that knows its messages: it cuts, stalls, delays, and loses replies."""

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

Way = Literal["in", "out"]
"""To the server, or back."""
Fate = Literal["pass", "cut", "cut after", "lose"]
"""What becomes of a message: it passes, the connection ends before or after it, or neither it nor anything after it
ever arrives, and the connection stays open."""
Judge = Callable[[Way, Frame], Fate]
STATEMENTS = (QUERY, EXECUTE)
CUTS: dict[str, tuple[Way, Callable[[Frame], bool]]] = {
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
    """Stands before one worker. What is asked of it holds for its connections, old and new."""

    to_port: int
    port: int = 0
    judge: Judge = lambda way, frame: "pass"
    delay: float = 0.0
    """Seconds by which every message is late."""
    asked: list[float] = attrs.field(factory=list)
    """When a statement went to the server, or a connection began."""
    connects: int = 0
    _flowing: asyncio.Event = attrs.field(factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _pairs: "dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]]" = attrs.field(factory=dict)
    _dead: "set[asyncio.Task[None]]" = attrs.field(factory=set)

    async def start(self) -> None:
        """Listen."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End everything."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._pairs):
            task.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection that there is."""
        for writers in list(self._pairs.values()):
            for writer in writers:
                writer.transport.abort()

    def stall(self) -> None:
        """Let nothing through any more, on any connection, without a word: until ``flow``."""
        self._flowing.clear()

    def flow(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def orphan(self) -> None:
        """Let nothing through any more, for ever, on the connections that there are; new ones are as ever."""
        self._dead.update(self._pairs)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connects += 1
        self.asked.append(time())
        self._pairs[task] = (writer,)
        try:
            await self._flowing.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
            self._pairs[task] = (writer, server_writer)
            ways = [
                asyncio.create_task(self._pump("in", reader, server_writer, task)),
                asyncio.create_task(self._pump("out", server_reader, writer, task)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the server is down, or the run is over
        finally:
            for end in self._pairs.pop(task):
                end.transport.abort()
            self._dead.discard(task)

    async def _pump(
        self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pair: "asyncio.Task[None]"
    ) -> None:
        splitter = Splitter(client=way == "in")
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                passing, fate = self._judged(way, splitter.feed(data))
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                if pair in self._dead:
                    await asyncio.Event().wait()
                if passing:
                    writer.write(passing)
                    await writer.drain()
                if fate == "lose":
                    self._dead.add(pair)
                elif fate != "pass":
                    return

    def _judged(self, way: Way, frames: Iterable[Frame]) -> tuple[bytes, Fate]:
        """Return what passes of these messages, up to the first that does not pass like any other, and its fate."""
        passing = bytearray()
        for frame in frames:
            if way == "in" and frame.kind in STATEMENTS:
                self.asked.append(time())
            fate = self.judge(way, frame)
            if fate in ("pass", "cut after"):
                passing += frame.raw
            if fate != "pass":
                return bytes(passing), fate
        return bytes(passing), "pass"
