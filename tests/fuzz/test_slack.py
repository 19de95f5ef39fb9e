"""Messages from any host's text, and replies from any server at a webhook's URL."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from escalation_adapters.channels.http import MAX_REPLY_BYTES, read_reply
from escalation_adapters.channels.slack import parse_outcome as outcome_of_slack
from escalation_adapters.channels.slack_text import MAX_TEXT_CHARS, render
from escalation_core import Delivered, Incident, InvalidValue, Page, Retry, RetryPolicy
from escalation_core.model import PageRecord, PageState
from escalation_core.rules.retry import after_attempt, parse_outcome, throttle_for

from .material import ANY_TEXT, HUSH, near, near_bytes

NOW = datetime(2025, 1, 1, tzinfo=UTC)
POLICY = RetryPolicy()
DATES = ("Wed, 01 Jan 2025 00:02:00 GMT", "Wed, 31 Dec 9999 23:59:59 -1200", "Mon, 1 Jan 01 0:0 EST")
INSTANTS = near("120", "999999999", *DATES)


class Reply:
    """A reply in pieces, as a connection delivers it."""

    def __init__(self, status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
        self.status, self.headers, self.pieces = status, CIMultiDict(headers), pieces
        self.content = self

    def at_eof(self) -> bool:
        return not self.pieces

    async def read(self, most: int) -> bytes:
        piece = self.pieces.pop(0)
        if len(piece) > most:
            self.pieces.insert(0, piece[most:])
        return piece[:most]


@given(
    st.integers(100, 999) | st.sampled_from([200, 204, 302, 429, 503]),
    st.dictionaries(st.sampled_from(["Retry-After", "Date", "X-Other"]), INSTANTS),
    st.lists(near_bytes(b"ok", b" ok\r\n", HUSH.encode(), b"x" * MAX_REPLY_BYTES), max_size=4),
)
def test_reply(status: int, headers: dict[str, str], pieces: list[bytes]) -> None:
    """Every reply gives an outcome that a store can write; only a 2xx reply with the body ok is delivered."""
    whole = b"".join(pieces)
    response = cast("aiohttp.ClientResponse", Reply(status, headers, pieces))
    reply = asyncio.run(read_reply(response, MAX_REPLY_BYTES))
    outcome = outcome_of_slack(reply)
    assert outcome == parse_outcome(outcome)
    assert (200 <= status < 300 and whole[:MAX_REPLY_BYTES].strip() == b"ok") == isinstance(outcome, Delivered)
    assert HUSH not in repr(outcome) + repr(reply)
    if isinstance(outcome, Retry):
        assert POLICY.least_after <= throttle_for(outcome, POLICY) <= POLICY.most_after
    page = PageRecord(
        id=1, incident_key="k", episode=1, level=1, target="t", dedup_key="d", state=PageState.LEASED,
        created_at=NOW, due_at=NOW + POLICY.lease, fence=1,
    )  # fmt: skip
    settled = after_attempt(page, outcome, policy=POLICY, now=NOW, jitter=0.5, ended=None)
    assert 2 == settled.fence
    assert NOW <= settled.due_at <= NOW + timedelta(hours=1)


LABELS = st.dictionaries(ANY_TEXT, ANY_TEXT)
SUMMARIES = st.none() | st.text(max_size=3000)


@given(ANY_TEXT, st.none() | ANY_TEXT, SUMMARIES, LABELS, st.integers(1, 2**31))
def test_message(key: str, severity: str | None, summary: str | None, labels: Any, level: int) -> None:
    """Every valid incident has a message: short enough, escaped, and of at most three lines."""
    try:
        incident = Incident(incident_key=key, severity=severity, summary=summary, labels=labels, first_seen=NOW)
    except InvalidValue:
        return
    text = render(Page(incident=incident, episode=1, level=level, target="t", dedup_key="d", at=incident.first_seen))
    assert len(text) <= MAX_TEXT_CHARS
    assert re.search("&(?!amp;|lt;|gt;)|[<>]", text) is None
    assert 1 + bool((summary or "").split()) + bool(labels) == len(text.splitlines())
    text.encode()
