"""Events from any host's text, answers from any server in PagerDuty's place, and any text where a URL belongs."""

import asyncio
import json
from datetime import timedelta
from typing import Any, cast

import aiohttp
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.channels.http import MAX_ANSWER_BYTES, read_reply
from escalation_adapters.channels.pagerduty import PagerDutyNotifier, parse_outcome
from escalation_adapters.channels.pagerduty_event import MAX_EVENT_BYTES, trigger
from escalation_core import Delivered, Incident, InvalidValue, Page, Retry
from escalation_core.rules.retry import parse_outcome as as_stored
from escalation_core.rules.retry import throttle_for
from escalation_core.settings.pagerduty_url import is_pagerduty, parse_pagerduty

from ..pagerduty_server import KEY, faults
from .material import ANY_TEXT, HUSH, near, near_bytes, told
from .test_slack import INSTANTS, LABELS, NOW, POLICY, SUMMARIES, Reply

SUCCESS = b'{"status": "success", "message": "Event processed", "dedup_key": "k"}'
REFUSAL = b'{"status": "invalid event", "message": "Event object is invalid", "errors": ["Invalid routing key"]}'


@given(
    st.integers(100, 999) | st.sampled_from([200, 202, 302, 400, 429, 503]),
    st.dictionaries(st.sampled_from(["Retry-After", "Date", "X-Other"]), INSTANTS),
    st.lists(near_bytes(SUCCESS, REFUSAL, HUSH.encode(), b" " * MAX_ANSWER_BYTES, b"[" * 9000), max_size=4),
)
def test_answer(status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
    """Every answer gives an outcome that a store can write; only a 2xx with the status success is delivered."""
    whole = b"".join(pieces)
    response = cast("aiohttp.ClientResponse", Reply(status, headers, pieces))
    outcome = parse_outcome(asyncio.run(read_reply(response, MAX_ANSWER_BYTES)))
    assert outcome == as_stored(outcome)
    assert (200 <= status < 300 and len(whole) <= MAX_ANSWER_BYTES and confirms(whole)) == isinstance(
        outcome, Delivered
    )
    assert HUSH not in repr(outcome)
    if isinstance(outcome, Retry):
        assert POLICY.least_after <= throttle_for(outcome, POLICY) <= POLICY.most_after


def confirms(answer: bytes) -> bool:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("status") == "success"


@given(ANY_TEXT, st.none() | ANY_TEXT, SUMMARIES, LABELS, st.lists(ANY_TEXT, max_size=3), st.integers(1, 2**31))
def test_event(key: str, severity: str | None, summary: str | None, labels: Any, names: list[str], level: int) -> None:
    """Every valid incident has an event that PagerDuty accepts: no host's text breaks a rule or a limit."""
    try:
        incident = Incident(incident_key=key, severity=severity, summary=summary, labels=labels, first_seen=NOW)
        for name in names:
            name.encode()
    except (InvalidValue, UnicodeEncodeError):
        return
    page = Page(
        incident=incident, episode=1, level=level, target="t", dedup_key="d", at=NOW + timedelta(days=1),
        paged_before=names, next_names=names,
    )  # fmt: skip
    body = trigger(page, KEY, {})
    assert len(body) <= MAX_EVENT_BYTES
    assert [] == list(faults(json.loads(body), {KEY}))


URLS = near(
    f"pagerduty://{KEY}", f"pagerduty+http://{KEY}@[::1]:8080", f"PagerDuty://{KEY}@events.eu.pagerduty.com/", KEY
)


@given(URLS, st.booleans())
def test_url(url: str, allow_http: bool) -> None:
    """Any text is a routing key with a host, or refused without a part of it; the notifier takes no other."""
    try:
        address = parse_pagerduty(url, allow_http=allow_http)
    except InvalidValue as refusal:
        assert KEY not in told(refusal)
        return
    assert 32 == len(address.routing_key)
    assert address.url.startswith("https://") or (allow_http and "+" in url)
    assert address.routing_key not in repr(address)
    assert is_pagerduty(url) or address.routing_key == url
    try:
        assert KEY not in repr(PagerDutyNotifier({"a": url}, allow_http=allow_http))
    except InvalidValue as refusal:  # a host that cannot be called
        assert KEY not in told(refusal)
