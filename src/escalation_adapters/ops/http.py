"""The operators' endpoints as an aiohttp application: ``app.add_subapp("/ops/escalation", ops_app(handler))``."""

from ..extras import needs

with needs(__name__, "http"):
    from aiohttp import web

from ..auth.client_address import UNIX
from .handler import OpsHandler
from .messages import Request

_CHUNK = 64 * 1024


def ops_app(handler: OpsHandler) -> web.Application:
    """Return the application. The handler's ``login`` gets aiohttp's request."""

    async def answer(request: web.Request) -> web.Response:
        response = await handler.handle(
            Request(
                method=request.method,
                path="/" + request.match_info.get("route", ""),
                query=request.rel_url.raw_query_string,
                headers=request.raw_headers,
                peer=_peer(request),
                read=lambda most: _read(request, most),
                native=request,
            )
        )
        return web.Response(status=response.status, body=response.body, headers=response.all_headers)

    app = web.Application()
    app.router.add_route("*", "", answer)
    app.router.add_route("*", "/{route:(?s:.*)}", answer)
    return app


async def _read(request: web.Request, most: int) -> bytes | None:
    # Not request.read(): it applies the limit of the host's application instead of this one.
    body = bytearray()
    try:
        while chunk := await request.content.read(_CHUNK):
            body += chunk
            if len(body) > most:
                return None
    except (ConnectionError, web.RequestPayloadError):
        return b""  # the client has disconnected, and gets no answer
    if not body:
        # A middleware of the host may have read the body: aiohttp keeps it, and returns it to each later reader.
        body = bytearray(await request.read())
    return bytes(body) if len(body) <= most else None


def _peer(request: web.Request) -> str | None:
    # The connection's other end, which no middleware and no header can change.
    name = None if request.transport is None else request.transport.get_extra_info("peername")
    if isinstance(name, tuple):
        return str(name[0])
    return None if name is None else UNIX  # a path, mostly an empty one
