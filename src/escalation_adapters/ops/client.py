"""A client for host code that acts on another service's engine: it signs each request."""

import json
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp

from escalation_core import EscalationError, InvalidValue
from escalation_core.checks import check_labels, check_span

from ..auth.hmac_signature import Secret, parse_secret, signed_headers
from ..channels.http import parse
from .messages import JSON

TIMEOUT = timedelta(minutes=3)
"""Longer than a tick of a busy service with default settings: one tick interval, one for delivery, and a last send."""


class OpsRefused(EscalationError):
    """The endpoint answered with a problem: ``status`` is the HTTP status, ``problem`` the document (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"{status}: {problem.get('detail', 'the endpoint gave no reason')}")
        self.status = status
        self.problem = problem


class OpsClient:
    """Sends actions to the endpoints at ``url``. A context manager; no message contains the URL or the secret.

    ``timeout`` limits one request. A tick may take two tick intervals of the service and some seconds: give more if
    the service's ESC_TICK_MS is longer than the default.

    Raises:
        InvalidValue: the URL has no host, or the secret, a header or the timeout is not valid.
            The message contains neither the URL nor the secret.
    """

    def __init__(
        self, url: str, *, secret: Secret, headers: dict[str, str] | None = None, timeout: timedelta = TIMEOUT
    ) -> None:
        parsed = parse(url, allow_http=True)
        if parsed is None:
            raise InvalidValue("url", "is not a valid URL with a host", "write https://HOST/ops/escalation")
        parse_secret(secret)
        self._url = parsed
        self._secret = secret
        self._headers = check_labels({} if headers is None else headers, "headers")
        self._timeout = aiohttp.ClientTimeout(total=check_span(timeout, "timeout").total_seconds())
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        """Return the name of the class alone."""
        return f"{type(self).__name__}()"

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def act(self, action: str, **fields: Any) -> dict[str, Any]:
        """Send an action, for example ``act("pause", minutes=30)``; return the JSON object of the response.

        Raises:
            OpsRefused: the endpoint refuses.
            EscalationError: the endpoint is out of reach, or its response is not a valid JSON object.
        """
        if self._session is None:
            raise EscalationError("the client is not open; write: async with OpsClient(...) as ops")
        body = json.dumps({"action": action, **fields}).encode()
        headers = {"Content-Type": JSON, **signed_headers(body, secret=self._secret)}
        try:
            async with self._session.post(
                self._url / action, data=body, headers=headers, allow_redirects=False
            ) as response:
                document = json.loads(await response.read())
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Only the error's kind: its text may hold the URL.
            raise EscalationError(f"the operators' endpoint gave no answer: {type(error).__name__}") from None
        if not isinstance(document, dict):
            raise EscalationError("the operators' endpoint gave no answer: it is not a valid JSON object")
        if status >= 300:
            raise OpsRefused(status, document)
        return document
