"""The operators' endpoints as a plain ASGI app: mount it in Starlette or FastAPI, or serve it alone.

It wraps ``OpsHandler`` and imports no framework.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..auth.client_address import UNIX
from .handler import OpsHandler
from .messages import Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OpsASGI:
    """An ASGI application. The handler's ``login`` gets the connection's scope."""

    def __init__(self, handler: OpsHandler) -> None:
        self.handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Lifespan events are acknowledged and need no work."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})  # closed before it is accepted: servers answer 403
            return
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not served here")
        response = await self.handler.handle(
            Request(
                method=scope["method"],
                # In a mounted app the path includes the mount point.
                path=scope["path"].removeprefix(scope.get("root_path", "")),
                query=scope.get("query_string", b"").decode("latin-1"),
                headers=[(bytes(name), bytes(value)) for name, value in scope["headers"]],
                peer=_peer(scope),
                read=_reader(receive),
                native=scope,
            )
        )
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.all_headers.items()]
        headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})


def _peer(scope: Scope) -> str | None:
    client, server = scope.get("client"), scope.get("server")
    if client:
        return str(client[0])
    # For a server's Unix socket the specification has a path and no port.
    return UNIX if server and server[1] is None else None


def _reader(receive: Receive) -> Callable[[int], Awaitable[bytes | None]]:
    async def read(most: int) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""
            body += message.get("body", b"")
            if len(body) > most:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    return read


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
