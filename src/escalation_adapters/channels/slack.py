"""Slack, and other receivers of Slack's incoming webhooks. A webhook's URL is a secret: no message contains it.

Slack's documentation of incoming webhooks decides which replies are final and which deserve a retry. Only the reply
``ok`` means delivered, since proxies and login pages answer 200 as well (ADR 0010).
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from json import dumps

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp
    from yarl import URL

from escalation_core import Abilities, Bundle, Delivered, InvalidValue, Outcome, Page, Rejected, Retry, __version__
from escalation_core.checks import check_mapping, check_span
from escalation_core.rules.routing import check_target

from .http import failure, parse, session, untraced
from .slack_budget import SLACK_BUDGET, is_slack
from .slack_text import render, render_bundle

MAX_READ_BYTES = 4096
"""Longest part of a reply that the notifier reads, in bytes."""
_AGAIN = frozenset({408, 425})
"""Client errors that are not final: the request came too slowly (408) or too early (425)."""
_OF_THE_WEBHOOK = frozenset(
    {
        b"action_prohibited",
        b"channel_is_archived",
        b"channel_not_found",
        b"invalid_token",
        b"no_active_hooks",
        b"no_service",
        b"no_service_id",
        b"no_team",
        b"posting_to_general_channel_denied",
        b"team_disabled",
    }
)
"""The errors that Slack documents as faults of the webhook, its channel or its workspace, whatever the message says."""
_TEXT_SECONDS = 1.0
"""How long the notifier waits for the text of a refusal."""


class SlackNotifier:
    """Posts pages to incoming webhooks. ``targets`` maps the names that routes use to URLs.

    ``session`` is the caller's client session, which stays open. Without it, the notifier opens its own in the running
    loop. ``timeout`` limits a whole attempt, from the look-up of the host name to the end of the reply. Targets at
    Slack itself have a budget of one message a second and a burst of three.

    Raises:
        InvalidValue: a URL is not https (or http with ``allow_http``), or has no host. The message does not contain it.
    """

    channel = "slack"

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        allow_http: bool = False,
        session: aiohttp.ClientSession | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        named = check_mapping(targets, "targets", "map names, for example slack:ops, to URLs")
        self._urls = {check_target(name, "targets"): _url(name, url, allow_http) for name, url in named.items()}
        budgets = {name: SLACK_BUDGET for name, url in self._urls.items() if is_slack(url.host)}
        self.abilities = Abilities(bundles=True, budgets=budgets)
        self._lent = session
        self._own: aiohttp.ClientSession | None = None
        self._timeout = aiohttp.ClientTimeout(total=check_span(timeout, "timeout").total_seconds())

    def __repr__(self) -> str:
        """Return the targets' names, without their URLs."""
        return f"{type(self).__name__}({sorted(self._urls)})"

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets."""
        return tuple(self._urls)

    async def send(self, page: Page) -> Outcome:
        """Post the page once. Its dedup key is in a header and in the body, for receivers other than Slack."""
        return await self._post(page.target, render(page), page.dedup_key)

    async def send_bundle(self, bundle: Bundle) -> Outcome:
        """Post one message about all pages of the bundle, with the bundle's key."""
        return await self._post(bundle.target, render_bundle(bundle), bundle.dedup_key)

    async def _post(self, target: str, text: str, dedup_key: str) -> Outcome:
        # Without mrkdwn Slack shows a host's text as it is: there is no escape for *, _, ~ and backquotes.
        body = dumps({"text": text, "mrkdwn": False, "dedup_key": dedup_key}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Dedup-Key": dedup_key,
            "User-Agent": f"escalation-core/{__version__}",
            # The client does not decompress, so that no small reply grows large; so the reply must not be compressed.
            "Accept-Encoding": "identity",
        }
        try:
            with untraced():
                async with self._session().post(
                    self._urls[target],
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    raise_for_status=False,
                    auto_decompress=False,
                    read_bufsize=MAX_READ_BYTES,
                    timeout=self._timeout,
                ) as response:
                    return await _outcome(response)
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            return Retry(failure(error), unanswered=True)

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._lent is not None:
            return self._lent
        if self._own is None or self._own.closed:
            self._own = session()
        return self._own


async def _outcome(response: aiohttp.ClientResponse) -> Outcome:
    """Return the outcome of a reply. No outcome quotes the reply: a receiver may echo the URL."""
    status, headers = response.status, response.headers
    if 200 <= status < 300 and (await _read(response)).strip() == b"ok":
        return Delivered()
    after = retry_after(headers.get("Retry-After"), headers.get("Date"))
    if 200 <= status < 300:
        return Retry(f"HTTP {status} without the receiver's ok", after)
    if status == 429:
        return Retry("HTTP 429", after, throttled=True)
    if 300 <= status < 400:
        return Rejected("redirect")
    if 400 <= status < 500 and status not in _AGAIN:
        return Rejected(f"HTTP {status}", whole_target=await _refuses_all(response))
    return Retry(f"HTTP {status}", after)


async def _refuses_all(response: aiohttp.ClientResponse) -> bool:
    """Return whether a refusal concerns the webhook. If its text does not come, the refusal is final all the same."""
    try:
        async with asyncio.timeout(_TEXT_SECONDS):
            return (await _read(response)).strip() in _OF_THE_WEBHOOK
    except (aiohttp.ClientError, OSError):
        return False


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the reply's first bytes. The client drops the connection, and so the rest of a longer reply."""
    body = b""
    while len(body) < MAX_READ_BYTES and not response.content.at_eof():
        body += await response.content.read(MAX_READ_BYTES - len(body))
    return body


def retry_after(value: str | None, date: str | None = None) -> timedelta | None:
    """Return the span of a Retry-After (RFC 9110, 10.2.3), in seconds or as a date; None for any other text.

    A date counts from the reply's own ``Date``, so that a wrong clock on either side changes nothing.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch("[0-9]+", text):
        return timedelta(seconds=int(text)) if len(text) < 10 else timedelta.max
    until = _date(text)
    if until is None:
        return None
    return max(until - (_date(date or "") or datetime.now(UTC)), timedelta())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _url(name: str, url: str, allow_http: bool) -> URL:
    if "://" in name:
        raise InvalidValue("targets", "has a URL where a name belongs", "map names, for example slack:ops, to URLs")
    parsed = parse(url, allow_http=allow_http)
    if parsed is None:
        schemes = ("https", "http") if allow_http else ("https",)
        remedy = "write https://HOST/..." + ("" if allow_http else ", or allow http for a receiver in your own network")
        raise InvalidValue(
            "targets", f"the URL of {name!r} is not a valid {' or '.join(schemes)} URL with a host", remedy
        )
    return parsed
