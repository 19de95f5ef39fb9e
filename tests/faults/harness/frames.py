"""Split a stream of PostgreSQL's protocol 3.0 into messages, as far as a proxy must distinguish them."""

import struct
from collections.abc import Iterator

import attrs

PARSE, BIND, QUERY, EXECUTE, SYNC, DESCRIBE = b"P", b"B", b"Q", b"E", b"S", b"D"
"""Types of messages that a client sends."""
AUTHENTICATION, PARSED, BOUND, DESCRIBED, ROW, COMPLETE, READY = b"R", b"1", b"2", b"T", b"D", b"C", b"Z"
"""Types of messages that a server sends."""
STARTUP = b""
"""The type that the proxy gives a client's first message, which has none."""
UNTYPED = (80877103, 80877104, 80877102)
"""Codes of requests for SSL, GSS and a cancellation. They come before the first message, and have no type either."""


@attrs.frozen
class Frame:
    """One complete message."""

    kind: bytes
    raw: bytes

    @property
    def commits(self) -> bool:
        """Whether the message requests a commit, or reports one."""
        return b"COMMIT" in self.raw and self.kind in (PARSE, QUERY, COMPLETE)


@attrs.define
class Splitter:
    """Splits a stream of bytes into messages. A client's stream begins with messages that have no type."""

    client: bool
    _started: bool = False
    _rest: bytes = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add bytes, and yield each message that is now complete."""
        self._rest += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        untyped = self.client and not self._started
        head = 4 if untyped else 5
        if len(self._rest) < head:
            return None
        (length,) = struct.unpack(">I", self._rest[head - 4 : head])
        size = length + head - 4
        if len(self._rest) < size:
            return None
        raw, self._rest = self._rest[:size], self._rest[size:]
        if untyped:
            (code,) = struct.unpack(">I", raw[4:8])
            self._started = code not in UNTYPED
            return Frame(STARTUP, raw)
        return Frame(raw[:1], raw)
