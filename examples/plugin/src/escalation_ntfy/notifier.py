"""The notifier: it publishes each page to the topic of its target, as JSON."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta

import aiohttp

from escalation_core import Abilities, Budget, Delivered, InvalidValue, Outcome, Page, Rejected, Retry

BUDGET = Budget(rate=0.2, burst=60)
"""What a server of ntfy takes from one sender, unless its configuration says otherwise: 60 at once, one each 5 s."""
PRIORITIES = {"critical": 5, "error": 4, "warning": 4}
"""The priorities of ntfy: 5 rings until a person looks, 3 is the default."""
MAX_CHARS = 1000
"""A message of more than 4,096 bytes would become an attachment. A character has at most four bytes."""
MAX_REPLY_BYTES = 64 * 1024
AGAIN = (408, 425)
"""Status codes below 500 after which the same message may be accepted later."""


class Ntfy:
    """Publishes pages to topics of one server. The topics and the token are secrets.

    Raises:
        InvalidValue: the URL is not an https URL, or http with ``allow_http``.
    """

    channel = "ntfy"

    def __init__(self, url: str, topics: Mapping[str, str], token: str, *, allow_http: bool = False) -> None:
        if not url.startswith(("https://", "http://") if allow_http else "https://"):
            raise InvalidValue("NTFY_URL", "is not https", "write https://..., or set ESC_ALLOW_HTTP=true for http")
        self._url, self._topics, self._token = url, dict(topics), token
        self._http: aiohttp.ClientSession | None = None
        # How many messages all workers together send to each target. ESC_BUDGETS may say otherwise.
        self.abilities = Abilities(budgets=dict.fromkeys(self._topics, BUDGET))

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets."""
        return tuple(self._topics)

    async def send(self, page: Page) -> Outcome:
        """Publish one page, once. The dedup key goes with it."""
        message = {
            "topic": self._topics[page.target],
            "title": _title(page),
            "message": page.title[:MAX_CHARS],
            "priority": PRIORITIES.get(page.severity, 3),
            # From release 2.16 on, ntfy shows messages with the same number once.
            "sequence_id": page.dedup_key,
        }
        headers = {
            "Authorization": f"Bearer {self._token}",
            "X-Dedup-Key": page.dedup_key,
            "Accept-Encoding": "identity",
        }
        try:
            async with self._session().post(
                self._url, json=message, headers=headers, allow_redirects=False
            ) as response:
                return await _outcome(response)
        except (aiohttp.ClientError, OSError) as error:
            # The text of such an error may hold the URL, so the reason has the class alone.
            return Retry(type(error).__name__, unanswered=True)

    async def aclose(self) -> None:
        """Close the connections. A second call does nothing."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    def _session(self) -> aiohttp.ClientSession:
        """Return the session. It belongs to the event loop, so the first send makes it, and not the constructor."""
        if self._http is None:
            # A compressed reply may be small and fill the memory.
            self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        return self._http


def _title(page: Page) -> str:
    return f"{page.incident.severity or 'incident'}, level {page.level}: {page.incident.incident_key}"[:250]


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    """Return what an answer means. In doubt it is Retry: two copies are better than no page."""
    status = response.status
    if status == 200:
        # A login page of a proxy has status 200 as well.
        published = _is_message(await _beginning(response.content))
        return Delivered() if published else Retry("HTTP 200 without a message of ntfy")
    after = _seconds(response.headers.get("Retry-After"))
    if status == 429:
        return Retry("HTTP 429", after, throttled=True)
    if 300 <= status < 500 and status not in AGAIN:
        return Rejected(f"HTTP {status}")
    return Retry(f"HTTP {status}", after)


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """Return the reply, or its first MAX_REPLY_BYTES. One ``read`` returns only what has arrived."""
    reply = bytearray()
    while len(reply) < MAX_REPLY_BYTES and (part := await content.read(MAX_REPLY_BYTES - len(reply))):
        reply += part
    return bytes(reply)


def _is_message(reply: bytes) -> bool:
    try:
        found = json.loads(reply)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("event") == "message"


def _seconds(text: str | None) -> timedelta | None:
    return timedelta(seconds=int(text)) if text is not None and re.fullmatch("[0-9]{1,6}", text) else None
