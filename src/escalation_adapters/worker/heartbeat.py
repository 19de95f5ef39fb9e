"""The dead man's switch: the worker calls a URL after each good tick, and the service there reports missing calls."""

import logging
from datetime import timedelta

from escalation_core import InvalidValue, Retry

from ..channels.http import SecretClient, parse
from ..channels.status import is_success

log = logging.getLogger("escalation_adapters.worker.heartbeat")


class HttpHeartbeat:
    """Calls ``url`` with GET. The URL is a secret: a person who has it can suppress the alarm.

    Raises:
        InvalidValue: the URL is not an https URL (or http with ``allow_http``). The message does not hold it.
    """

    def __init__(self, url: str, *, allow_http: bool = False, timeout: timedelta = timedelta(seconds=5)) -> None:
        parsed = parse(url, allow_http=allow_http)
        if parsed is None:
            raise InvalidValue("heartbeat", "is not a valid https URL with a host", "write https://HOST/...")
        self._url = parsed
        self._client = SecretClient(timeout=timeout)
        self._failing = False

    def __repr__(self) -> str:
        """Return the name of the class alone."""
        return f"{type(self).__name__}()"

    async def beat(self) -> None:
        """Call the URL once. It logs when failures begin and when they end, and raises none."""
        # The connection is closed: the next call comes a tick interval later, and the port has no method to close it.
        try:
            reply = await self._client.get(self._url, limit=0)
        finally:
            await self._client.aclose()
        if isinstance(reply, Retry):
            fault: str | None = reply.reason
        else:
            fault = None if is_success(reply.status) else f"status {reply.status}"
        if fault is not None and not self._failing:
            log.warning("the heartbeat does not arrive: %s", fault)
        elif fault is None and self._failing:
            log.warning("the heartbeat arrives again")
        self._failing = fault is not None
