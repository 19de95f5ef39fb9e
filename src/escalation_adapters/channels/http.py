"""The HTTP client whose URLs, bodies and replies are secret. No message, repr or trace contains any part of them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from opentelemetry import context

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp
    from yarl import URL

from escalation_core import Retry, __version__
from escalation_core.checks import check_span, is_web_url

from .status import Reply, is_refusal, is_success

MAX_REPLY_BYTES = 4 * 1024
"""Longest part of a reply that the client reads, in bytes, if a channel needs a word of it."""
MAX_ANSWER_BYTES = 64 * 1024
"""The same if a channel needs the whole answer."""
MAX_REFUSAL_SECONDS = 1.0
"""How long the client waits for the text of a refusal. Without its text the refusal is final all the same."""
QUIET: Final[Mapping[str, Any]] = {"allow_redirects": False, "raise_for_status": False, "auto_decompress": False}
"""Options of every request. By default aiohttp follows a redirect with the body, raises errors that contain the URL,
and decompresses a small reply to one that fills the memory."""
HEADERS: Final = MappingProxyType({"User-Agent": f"escalation-core/{__version__}", "Accept-Encoding": "identity"})
"""Headers of every request. The client does not decompress, so the reply must not be compressed."""
_JSON: Final = {**HEADERS, "Content-Type": "application/json"}


class SecretClient:
    """Sends requests to secret URLs, without redirects, cookies, proxies of the environment, traces or decompression.

    ``session`` is the caller's client session, which stays open. Without it, the client opens its own in the running
    loop. ``timeout`` limits a whole exchange, from the look-up of the host name to the end of the reply.

    Raises:
        InvalidValue: the timeout is not a timedelta above zero.
    """

    def __init__(
        self, *, session: aiohttp.ClientSession | None = None, timeout: timedelta = timedelta(seconds=10)
    ) -> None:
        self._lent = session
        self._own: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=check_span(timeout, "timeout").total_seconds())

    async def post(
        self, url: URL, body: bytes, headers: Mapping[str, str] | None = None, *, limit: int = MAX_REPLY_BYTES
    ) -> Reply | Retry:
        """Post a body of JSON once, with further headers. It returns what ``get`` returns."""
        return await self._exchange("POST", url, body, {**_JSON, **headers} if headers else _JSON, limit)

    async def get(self, url: URL, *, limit: int = MAX_REPLY_BYTES) -> Reply | Retry:
        """Get a URL once. Return the reply, or Retry with the kind of the failure if no whole reply comes.

        The client reads at most ``limit`` bytes of a success, and of a refusal those that come within a second. It
        reads the body of no other reply.
        """
        return await self._exchange("GET", url, None, HEADERS, limit)

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's. A later request opens a new one."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def _exchange(
        self, method: str, url: URL, body: bytes | None, headers: Mapping[str, str], limit: int
    ) -> Reply | Retry:
        try:
            with untraced():
                async with self._session().request(
                    method,
                    url,
                    data=body,
                    headers=headers,
                    read_bufsize=limit or MAX_REPLY_BYTES,
                    timeout=self._timeout,
                    **QUIET,
                ) as response:
                    return await read_reply(response, limit)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return Retry(failure(error), unanswered=True)

    def _session(self) -> aiohttp.ClientSession:
        if self._lent is not None:
            return self._lent
        if self._own is None or self._own.closed:
            self._own = session()
        return self._own


async def read_reply(response: aiohttp.ClientResponse, limit: int) -> Reply:
    """Return the reply, with the beginning of its body if a channel can need it: see ``SecretClient.get``."""
    status, headers = response.status, response.headers
    body, truncated = b"", False
    if limit and is_success(status):
        body, truncated = await read_at_most(response, limit)
    elif limit and is_refusal(status):
        try:
            async with asyncio.timeout(MAX_REFUSAL_SECONDS):
                body, truncated = await read_at_most(response, limit)
        except (aiohttp.ClientError, OSError):
            pass
    return Reply(status, body, truncated, headers.get("Retry-After"), headers.get("Date"))


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Return the first ``limit`` bytes of a body, and whether it has more.

    The client drops the connection, and so the rest of a longer body.
    """
    body = bytearray()
    while len(body) <= limit and not response.content.at_eof():
        body += await response.content.read(limit + 1 - len(body))
    return bytes(body[:limit]), len(body) > limit


def parse(url: object, *, allow_http: bool) -> URL | None:
    """Return an https URL with a host (http as well if allowed), None for anything else."""
    # None instead of an exception: one raised inside ``except`` would carry the first one, which contains the URL.
    if not is_web_url(url, allow_http=allow_http):
        return None
    # Here yarl finds the host; in the core's ``check_url`` a pattern does. The two differ on purpose: the client calls
    # the host that yarl reads, so this refuses a host that cannot be called. The core does not depend on yarl.
    try:
        parsed = URL(url)
        return parsed if parsed.host else None
    except (ValueError, IndexError):  # yarl 1.x raises IndexError for brackets without a host: https://[]@
        return None


def session() -> aiohttp.ClientSession:
    """Return a session without cookies, without proxies and passwords of the environment, and without tracers."""
    # No limit on connections: callers limit the pages being sent, and a slow receiver must not delay the others.
    made = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
    # Tracers that patch aiohttp add themselves to this list, and would record each URL.
    made.trace_configs.clear()
    return made


def failure(error: Exception) -> str:
    """Return the kind of a failure, without its message and its repr: those of aiohttp contain the URL."""
    if isinstance(error, TimeoutError):
        return "timed out"
    cause = getattr(error, "os_error", None)
    return type(error).__name__ + ("" if cause is None else f" ({type(cause).__name__})")


@contextmanager
def untraced() -> Iterator[None]:
    """Suppress OpenTelemetry's HTTP instrumentation, which writes URLs into spans. The engine traces sends itself."""
    token = context.attach(context.set_value("suppress_instrumentation", True))
    try:
        yield
    finally:
        context.detach(token)
