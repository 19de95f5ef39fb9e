"""Slack, and other receivers of Slack's incoming webhooks. A webhook's URL is a secret: no message contains it.

Slack's documentation of incoming webhooks decides which replies are final and which deserve a retry. Only the reply
``ok`` means delivered, since proxies and login pages answer 200 as well (ADR 0010).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from json import dumps

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp
    from yarl import URL

from escalation_core import Abilities, Bundle, InvalidValue, Notice, NoticeBundle, Outcome, Page, Retry
from escalation_core.checks import check_mapping
from escalation_core.model import EVERY_KIND
from escalation_core.rules.routing import check_target

from .http import SecretClient, parse
from .slack_budget import SLACK_BUDGET, is_slack
from .slack_notices import render_notice, render_notices
from .slack_text import render, render_bundle
from .status import Reply, outcome_of

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
        self.abilities = Abilities(bundles=True, notices=EVERY_KIND, budgets=budgets)
        self._client = SecretClient(session=session, timeout=timeout)

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

    async def tell(self, notice: Notice) -> Outcome:
        """Post what became of an incident. Only targets that ask for notices get any."""
        return await self._post(notice.target, render_notice(notice), notice.dedup_key)

    async def tell_bundle(self, bundle: NoticeBundle) -> Outcome:
        """Post one message about all notices of the bundle, with the bundle's key."""
        return await self._post(bundle.target, render_notices(bundle), bundle.dedup_key)

    async def _post(self, target: str, text: str, dedup_key: str) -> Outcome:
        # Without mrkdwn Slack shows a host's text as it is: there is no escape for *, _, ~ and backquotes.
        body = dumps({"text": text, "mrkdwn": False, "dedup_key": dedup_key}).encode()
        reply = await self._client.post(self._urls[target], body, {"X-Dedup-Key": dedup_key})
        return reply if isinstance(reply, Retry) else parse_outcome(reply)

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's."""
        await self._client.aclose()


def parse_outcome(reply: Reply) -> Outcome:
    """Return the outcome of a reply of Slack, or of a receiver of Slack's webhooks."""
    word = reply.body.strip()
    return outcome_of(reply, confirmed=word == b"ok", lacking="the receiver's ok", whole_target=word in _OF_THE_WEBHOOK)


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
