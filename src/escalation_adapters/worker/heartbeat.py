"""The dead man's switch: the worker calls a URL after each good tick, and the service there reports missing calls."""

import logging
from datetime import timedelta

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp

from escalation_core import InvalidValue
from escalation_core.checks import check_span

from ..channels.http import failure, parse, session, untraced

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
        self._timeout = aiohttp.ClientTimeout(total=check_span(timeout, "timeout").total_seconds())
        self._failing = False

    def __repr__(self) -> str:
        """Return the name of the class alone."""
        return f"{type(self).__name__}()"

    async def beat(self) -> None:
        """Call the URL once. It logs when failures begin and when they end, and raises none."""
        try:
            with untraced():
                async with (
                    session() as http,
                    http.get(
                        self._url, allow_redirects=False, raise_for_status=False, timeout=self._timeout
                    ) as response,
                ):
                    fault = None if 200 <= response.status < 300 else f"status {response.status}"
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            fault = failure(error)
        if fault is not None and not self._failing:
            log.warning("the heartbeat does not arrive: %s", fault)
        elif fault is None and self._failing:
            log.warning("the heartbeat arrives again")
        self._failing = fault is not None
