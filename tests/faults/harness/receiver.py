"""A receiver of pages that records every request, and answers as the test wants: late, with an error, or not at all.

Each worker has its own URL path, so a request shows which worker sent it. The path contains a secret.
"""

import asyncio
import json
import re
import socket
import struct
from collections.abc import Callable, Sequence
from time import time

import attrs

from escalation_core.testing.invariants.history import Request

TOKEN = "T0KEN-which-is-secret"
"""A secret that is part of every URL."""


@attrs.frozen(kw_only=True)
class Answer:
    """What the receiver does with one request."""

    status: int = 200
    headers: str = ""
    delay: float = 0.0
    """Seconds until it answers. It accepts the page before the delay."""
    accepts: bool = True
    cut: int | None = None
    """The number of bytes of the answer after which it resets the connection; None to send the whole answer."""
    unread: bool = False
    """Whether it resets the connection before it has read the request."""
    accepts_half: bool = False
    """Whether it accepts the first half of the pages that a bundle names. ``accepts`` says whether it accepts all."""


OK = Answer()
BROKEN = Answer(status=503, accepts=False)
GONE = Answer(status=404, accepts=False)
HANGS = Answer(delay=30, accepts=False)
HALF = Answer(status=503, accepts=False, accepts_half=True)
HALF_CUT = Answer(cut=12, accepts=False, accepts_half=True)
HALF_GONE = Answer(status=404, accepts=False, accepts_half=True)
"""It accepts half of a bundle. Then it answers with an error, cuts the answer off, or refuses the bundle for good."""
BUNDLE = re.compile(r"[0-9]+ incidents: .*\n((?:.*\n)*?)(?:and [0-9]+ more\n)?All of them: .*")
"""The text of a bundle, which names its pages by a line each."""
CLOSED_PORT = 1
"""A port on which nothing listens."""


@attrs.define
class Receiver:
    """The server. ``answers`` returns the answer to a request, by the number of earlier requests."""

    answers: Callable[[int], Answer] = lambda number: OK
    by_target: dict[str, Callable[[int], Answer]] = attrs.field(factory=dict)
    """The same for a single target, by the number of earlier requests for this target."""
    refusing: set[str] = attrs.field(factory=set)
    """The targets whose connections are refused. It counts for workers that start later."""
    requests: list[Request] = attrs.field(factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = attrs.field(factory=set)
    _tasks: "set[asyncio.Task[None]]" = attrs.field(factory=set)

    async def start(self) -> None:
        """Start listening, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Reset every connection, and stop listening."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._open):
            _reset(writer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, worker: str, target: str) -> str:
        """Return the URL to which a worker sends the pages of a target."""
        port = CLOSED_PORT if target in self.refusing else self.port
        return f"http://127.0.0.1:{port}/{TOKEN}/{worker}/{target}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            while await self._serve(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the sender has closed the connection, or the receiver stops
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        if lines[0].startswith("GET "):
            writer.write(b"HTTP/1.1 204 X\r\n\r\n")  # a call of the dead man's switch
            return True
        _, _, worker, target = lines[0].split(" ")[1].split("/")
        answer = self._answer(target)
        if answer.unread:
            _reset(writer)
            self.requests.append(
                Request(dedup_key=headers["x-dedup-key"], target=target, worker=worker, at=time(), accepted=False)
            )
            return False
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        number = len(self.requests)
        half = _first_half(body["text"]) if answer.accepts_half else ()
        post = Request(
            dedup_key=body["dedup_key"],
            target=target,
            worker=worker,
            at=time(),
            accepted=answer.accepts,
            half_accepted=frozenset(half),
        )
        self.requests.append(post)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        text = b"ok" if answer.status == 200 else b"no"
        reply = f"HTTP/1.1 {answer.status} X\r\nContent-Length: {len(text)}\r\n{answer.headers}\r\n".encode() + text
        if answer.cut is not None:
            writer.write(reply[: answer.cut])
            await writer.drain()
            _reset(writer)
            return False
        writer.write(reply)
        await writer.drain()
        if answer.status == 200:
            self.requests[number] = attrs.evolve(post, answered_at=time())
        return True

    def _answer(self, target: str) -> Answer:
        own = self.by_target.get(target)
        if own is None:
            return self.answers(len(self.requests))
        return own(sum(request.target == target for request in self.requests))


def _first_half(text: str) -> Sequence[str]:
    """Return the keys of the incidents in the first half of the pages that a bundle names; none of a page alone."""
    found = BUNDLE.fullmatch(text)
    named = [line.partition(": ")[0] for line in found[1].splitlines()] if found else []
    return named[: len(named) // 2]


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of FIN."""
    found: socket.socket | None = writer.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport = writer.transport
    transport.abort()
