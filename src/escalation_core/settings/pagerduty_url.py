"""The URL of a PagerDuty target: ``pagerduty://ROUTING_KEY@HOST``. No error contains any part of it."""

import re

import attrs

from ..errors import InvalidValue
from .secrets import check_url

US_HOST = "events.pagerduty.com"
"""The host of the Events API, except for accounts in PagerDuty's European service region."""
_KEY = re.compile(r"[A-Za-z0-9]{32}")
"""A routing key. To any other PagerDuty answers that it should have 32 characters, all of them alphanumeric."""
_SCHEME = re.compile(r"pagerduty(\+http)?:", re.IGNORECASE)
_URL = re.compile(r"pagerduty(?P<http>\+http)?://(?P<key>[^@/?#]*)(@(?P<host>[^@/?#]*))?/?", re.IGNORECASE)


@attrs.frozen
class PagerDutyAddress:
    """Where a target's events go. Its repr shows none of it."""

    routing_key: str = attrs.field(repr=False)
    """The integration key of a PagerDuty service: who has it can page the people of this service."""
    url: str = attrs.field(repr=False)
    """The URL of the Events API v2."""


def is_pagerduty(url: object) -> bool:
    """Return whether a target's URL has the scheme of PagerDuty."""
    return isinstance(url, str) and _SCHEME.match(url) is not None


def parse_pagerduty(text: object, *, allow_http: bool) -> PagerDutyAddress:
    """Return the address of a routing key alone, of ``pagerduty://KEY``, or of ``pagerduty://KEY@HOST``.

    The scheme ``pagerduty+http`` means http instead of https, for a receiver in your own network.

    Raises:
        InvalidValue: the text has another form, the key or the host is not valid, or http is not allowed.
    """
    key, plain, host = _split(text)
    if _KEY.fullmatch(key) is None:
        fault = "has not the form pagerduty://ROUTING_KEY, with a key of 32 letters and digits"
        raise InvalidValue(
            "targets", fault, "copy the key of the integration; write pagerduty://KEY@HOST for another host"
        )
    if plain and not allow_http:
        raise InvalidValue("targets", "is not https", "write pagerduty://..., or set ESC_ALLOW_HTTP=true for http")
    url = f"{'http' if plain else 'https'}://{host}/v2/enqueue"
    try:
        check_url(url, allow_http=True)
    except InvalidValue:
        raise InvalidValue("targets", "names no valid host", "write pagerduty://ROUTING_KEY@HOST") from None
    return PagerDutyAddress(key, url)


def _split(text: object) -> tuple[str, bool, str]:
    """Return the key, whether it goes over http, and the host. The key is empty if the text has another form."""
    if not isinstance(text, str):
        return "", False, US_HOST
    if not is_pagerduty(text):
        return text, False, US_HOST
    found = _URL.fullmatch(text)
    if found is None:
        return "", False, US_HOST
    return found["key"], found["http"] is not None, US_HOST if found["host"] is None else found["host"]
