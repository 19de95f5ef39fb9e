"""PagerDuty, through its Events API v2. A routing key is a secret: no message contains it.

The thread of an episode is one alert of PagerDuty. Its documentation says which replies are final:
https://github.com/PagerDuty/developer-docs/blob/main/docs/events-API-v2/01-Overview.md.
Only the status ``success`` in the body means delivered, since proxies and login pages answer as well (ADR 0010).
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import attrs

from ..extras import needs

with needs(__name__, "http"):
    import aiohttp
    from yarl import URL

from escalation_core import Abilities, InvalidValue, Notice, NoticeKind, Outcome, Page, Rejected, Retry
from escalation_core.checks import check_mapping, check_text, quoted
from escalation_core.model import normal_severity
from escalation_core.rules.routing import check_target
from escalation_core.settings.pagerduty_url import PagerDutyAddress, parse_pagerduty

from .http import MAX_ANSWER_BYTES, SecretClient, parse
from .pagerduty_budget import budgets_by_address
from .pagerduty_event import ACTIONS, SEVERITIES, follow_up, trigger
from .status import Reply, outcome_of

KEY_REFUSED = "PagerDuty refuses the routing key"
THROTTLE = timedelta(seconds=30)
"""The wait after a 429 without Retry-After. PagerDuty suggests attempts that are 30 seconds apart:
https://github.com/PagerDuty/developer-docs/blob/main/docs/events-API-v2/05-Rate-Limits.md."""
_OF_THE_KEY = frozenset(
    {
        "invalid routing key",
        "length of 'routing_key' is incorrect (should be 32 characters)",
        "'routing_key' cannot contain non-alphanumeric characters",
    }
)
"""What PagerDuty answers if it refuses the routing key, whatever the event says."""


class PagerDutyNotifier:
    """Sends pages as events to integrations of PagerDuty services.

    ``targets`` maps the names that routes use to routing keys, or to the URLs of ESC_TARGETS:
    ``pagerduty://ROUTING_KEY@events.eu.pagerduty.com``. ``severities`` maps severities of the host to those of
    PagerDuty: ``critical``, ``error``, ``warning`` and ``info``; any other counts as ``error``. ``session`` is the
    caller's client session, which stays open. ``timeout`` limits a whole attempt.

    A page triggers the alert of its episode. A notice resolves it, or acknowledges it if the settings ask for that.
    Each routing key has a budget of 90 events a minute and a burst of 30.

    Raises:
        InvalidValue: a key, a URL or a severity is not valid. The message contains no key and no URL.
    """

    channel = "pagerduty"

    def __init__(
        self,
        targets: Mapping[str, str],
        *,
        severities: Mapping[str, str] = MappingProxyType({}),
        allow_http: bool = False,
        session: aiohttp.ClientSession | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        named = check_mapping(targets, "targets", "map names, for example pagerduty:ops, to routing keys")
        self._addresses = {
            check_target(name, "targets"): _address(name, url, allow_http) for name, url in named.items()
        }
        self._urls = {name: _url(name, address) for name, address in self._addresses.items()}
        self._severities = dict(_severity(*pair) for pair in check_mapping(severities, "severities", _WORDS).items())
        self.abilities = Abilities(
            notices=frozenset(ACTIONS),
            asked=frozenset({NoticeKind.RESOLVED}),
            threads=True,
            budgets=budgets_by_address(self._addresses),
        )
        self._client = SecretClient(session=session, timeout=timeout)

    def __repr__(self) -> str:
        """Return the targets' names, without their routing keys."""
        return f"{type(self).__name__}({sorted(self._addresses)})"

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets."""
        return tuple(self._addresses)

    async def send(self, page: Page) -> Outcome:
        """Trigger the alert of the page's episode: open it, or add to it. An acknowledged alert notifies no one."""
        key = self._addresses[page.target].routing_key
        return await self._post(page.target, trigger(page, key, self._severities))

    async def tell(self, notice: Notice) -> Outcome:
        """Resolve or acknowledge the alert of the notice's episode. PagerDuty drops the event if no alert is open."""
        return await self._post(notice.target, follow_up(notice, self._addresses[notice.target].routing_key))

    async def aclose(self) -> None:
        """Close the session, unless it is the caller's."""
        await self._client.aclose()

    async def _post(self, target: str, event: bytes) -> Outcome:
        reply = await self._client.post(self._urls[target], event, limit=MAX_ANSWER_BYTES)
        return reply if isinstance(reply, Retry) else parse_outcome(reply)


def parse_outcome(reply: Reply) -> Outcome:
    """Return the outcome of a reply of the Events API. Its reason quotes nothing of the reply."""
    # The end of a longer answer is unknown, so it confirms nothing.
    answer = {} if reply.truncated else _object(reply.body)
    outcome = outcome_of(
        reply,
        confirmed=answer.get("status") == "success",
        lacking="PagerDuty's success",
        whole_target=_of_the_key(answer),
    )
    if isinstance(outcome, Rejected) and outcome.whole_target:
        return attrs.evolve(outcome, reason=f"{outcome.reason}: {KEY_REFUSED}")
    if isinstance(outcome, Retry) and outcome.throttled and outcome.after is None:
        return attrs.evolve(outcome, after=THROTTLE)
    return outcome


def _object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of an answer; empty if the answer is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_the_key(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer says that the routing key is refused."""
    errors = answer.get("errors")
    texts = [answer.get("message"), *(errors if isinstance(errors, list) else [errors])]
    return any(isinstance(text, str) and text.rstrip(".").lower() in _OF_THE_KEY for text in texts)


def _address(name: str, text: object, allow_http: bool) -> PagerDutyAddress:
    try:
        return parse_pagerduty(text, allow_http=allow_http)
    except InvalidValue as fault:
        raise InvalidValue("targets", f"the URL of {name!r} {fault.fault}", fault.remedy) from None


def _url(name: str, address: PagerDutyAddress) -> URL:
    # The core checks the form of a host; yarl decides whether it can be called.
    found = parse(address.url, allow_http=True)
    if found is None:
        fault = f"the URL of {name!r} names no valid host"
        raise InvalidValue("targets", fault, "write pagerduty://ROUTING_KEY@HOST")
    return found


_WORDS = "map severities to critical, error, warning or info"


def _severity(name: object, word: object) -> tuple[str, str]:
    if word not in SEVERITIES.values():
        raise InvalidValue("severities", f"maps {quoted(name)} to {quoted(word)}", _WORDS)
    return normal_severity(check_text(name, "severities")), str(word)
