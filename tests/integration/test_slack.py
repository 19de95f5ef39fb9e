"""The Slack notifier turns each reply of a real socket into an outcome, and never shows a URL."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import context

from escalation_adapters.channels import http
from escalation_adapters.channels.http import MAX_REPLY_BYTES
from escalation_adapters.channels.slack import SlackNotifier
from escalation_adapters.channels.slack_text import render
from escalation_adapters.channels.status import parse_retry_after
from escalation_core import (
    Delivered,
    InvalidValue,
    Notifier,
    Outcome,
    PageTest,
    Rejected,
    Retry,
    RetryPolicy,
    Verdict,
    send_test_page,
)

from ..unit.adapters.channels.slack_page import DEDUP, page
from .receivers import (
    SECRET,
    Raw,
    bad_chunk,
    break_off,
    endless_header,
    garbage,
    hang_up,
    no_answer,
    no_tls,
    raw_receiver,
    receiver,
    trickle,
)


async def send(address: str, *, timeout: timedelta = timedelta(seconds=5)) -> Outcome:  # noqa: ASYNC109 - handed on
    """Send one page to a webhook at this address."""
    notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True, timeout=timeout)
    try:
        return await notifier.send(page())
    finally:
        await notifier.aclose()


async def parse_outcome(status: int, body: str = "", headers: Mapping[str, str] | None = None) -> Outcome:
    """Return the notifier's outcome for this reply."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body or None, headers=headers)

    async with receiver(handler) as address:
        return await send(address)


@pytest.mark.asyncio
@pytest.mark.parametrize("body", ["ok", "ok\n", " ok "])
async def test_ok_is_delivered(body: str) -> None:
    """A 200 with the body ok, with or without blanks around it, is a delivery."""
    assert Delivered() == await parse_outcome(200, body)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "body"), [(200, "<html>log in</html>"), (200, ""), (200, "OK"), (200, "ok" * 5000), (204, "")]
)
async def test_any_other_body_is_tried_again(status: int, body: str) -> None:
    """A 2xx without the body ok is a Retry, and its reason does not quote the body."""
    assert Retry(f"HTTP {status} without the receiver's ok") == await parse_outcome(status, body)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_rejected_and_never_followed(status: int) -> None:
    """A redirect is Rejected. The notifier sends nothing to the address that the redirect names."""
    heard: list[str] = []

    async def stranger(request: web.Request) -> web.Response:
        heard.append(request.method)
        return web.Response(text="ok")

    async with receiver(stranger) as elsewhere:
        outcome = await parse_outcome(status, headers={"Location": f"{elsewhere}/{SECRET}"})
    assert (Rejected("redirect"), []) == (outcome, heard)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
async def test_client_errors_are_final(status: int) -> None:
    """A client error is Rejected. The reason has the status and nothing of the body."""
    assert Rejected(f"HTTP {status}") == await parse_outcome(status, f"no_service {SECRET}")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "body", "whole_target"),
    [
        (404, "no_service", True),
        (404, "no_team\n", True),
        (404, "channel_not_found", True),
        (403, "action_prohibited", True),
        (403, "invalid_token", True),
        (410, "channel_is_archived", True),
        (400, "invalid_payload", False),
        (400, "no_text", False),
        (400, "user_not_found", False),
        (404, "", False),
        (403, "<html>no_service</html>", False),
    ],
)
async def test_errors_of_the_webhook_itself_concern_every_page(status: int, body: str, whole_target: bool) -> None:
    """Slack says by its text whether it refuses the message or the webhook. Any other text is about the message."""
    assert Rejected(f"HTTP {status}", whole_target=whole_target) == await parse_outcome(status, body)


@pytest.mark.asyncio
async def test_a_refusal_without_its_text_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text never comes, or the connection ends before it."""
    monkeypatch.setattr(http, "MAX_REFUSAL_SECONDS", 0.05)
    for hangs in (True, False):

        async def reply(_: asyncio.StreamReader, writer: asyncio.StreamWriter, hangs: bool = hangs) -> None:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nno_s")
            await writer.drain()
            if hangs:
                await asyncio.Event().wait()

        async with raw_receiver(reply) as address:
            assert Rejected("HTTP 404") == await send(address)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
async def test_temporary_errors_are_tried_again(status: int) -> None:
    """A temporary error is a Retry without a wait, so the engine chooses the back-off."""
    assert Retry(f"HTTP {status}") == await parse_outcome(status, SECRET)


@pytest.mark.asyncio
async def test_unavailable_receiver_says_for_how_long() -> None:
    """A 503 with Retry-After is a Retry with that wait, and does not throttle the whole target."""
    assert Retry("HTTP 503", timedelta(seconds=7)) == await parse_outcome(503, headers={"Retry-After": "7"})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("value", "after"),
    [
        ("30", timedelta(seconds=30)),
        ("0", timedelta()),
        (" 5 ", timedelta(seconds=5)),
        ("soon", None),
        ("-3", None),
        ("1e3", None),
        ("٣", None),
        ("9999999999", timedelta.max),
        ("9" * 5000, timedelta.max),
        ("Wed, 32 Nov 2025 99:99:99 GMT", None),
        ("", None),
    ],
)
async def test_throttled_target_is_held(value: str, after: timedelta | None) -> None:
    """A 429 throttles the target and is not an attempt. If Retry-After is not valid, the engine chooses the wait."""
    assert Retry("HTTP 429", after, throttled=True) == await parse_outcome(429, headers={"Retry-After": value})


@pytest.mark.asyncio
async def test_throttled_without_retry_after() -> None:
    """A 429 without Retry-After throttles the target too."""
    assert Retry("HTTP 429", None, throttled=True) == await parse_outcome(429)


@pytest.mark.asyncio
async def test_retry_after_may_be_a_date() -> None:
    """A date in Retry-After counts from the reply's own Date header, not from this machine's clock."""
    there = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    headers = {"Date": format_datetime(there, usegmt=True)}
    headers["Retry-After"] = format_datetime(there + timedelta(seconds=90), usegmt=True)
    assert Retry("HTTP 429", timedelta(seconds=90), throttled=True) == await parse_outcome(429, headers=headers)


def test_date_that_has_passed_is_no_wait() -> None:
    """A date in the past in Retry-After means a wait of zero."""
    assert timedelta() == parse_retry_after("Wed, 01 Jan 2020 00:00:00 GMT")


@given(st.text(max_size=40))
def test_no_retry_after_can_raise(value: str) -> None:
    """Any text in Retry-After or Date gives a wait of zero or more, or None. It never raises."""
    for answer in (parse_retry_after(value), parse_retry_after("Wed, 01 Jan 2031 00:00:00 GMT", value)):
        assert answer is None or answer >= timedelta()


@pytest.mark.asyncio
async def test_request_carries_the_dedup_key_twice() -> None:
    """The notifier POSTs JSON with the dedup key in a header and in the body, and sends no cookie back."""
    seen: list[tuple[str, str, Mapping[str, str], Any]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, request.headers, await request.json()))
        return web.Response(text="ok", headers={"Set-Cookie": f"who={SECRET}; Path=/"})

    async with receiver(handler) as address:
        notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True)
        assert [Delivered(), Delivered()] == [await notifier.send(page()) for _ in range(2)]
        await notifier.aclose()
    for method, path, headers, body in seen:
        assert ("POST", f"/{SECRET}") == (method, path)
        assert ("application/json", DEDUP) == (headers["Content-Type"], headers["X-Dedup-Key"])
        assert {"text": render(page()), "mrkdwn": False, "dedup_key": DEDUP} == body
        assert "Cookie" not in headers


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reply", "scheme", "reason"),
    [
        (garbage, "http", "ClientResponseError"),
        (hang_up, "http", "ServerDisconnectedError"),
        (break_off, "http", "ClientPayloadError"),
        (endless_header, "http", "ClientResponseError"),
        (bad_chunk, "http", "Client"),
        (no_answer, "http", "timed out"),
        (trickle, "http", "timed out"),
        (no_tls, "https", "SSL"),
    ],
)
async def test_broken_receivers_are_tried_again_without_a_word_of_the_url(
    reply: Raw, scheme: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failure of a receiver or the network is a Retry that names its kind. Outcome and log do not show the URL."""
    caplog.set_level(logging.DEBUG)
    async with raw_receiver(reply, scheme=scheme) as address:
        outcome = await send(address, timeout=timedelta(milliseconds=150 if "timed" in reason else 5000))
    assert isinstance(outcome, Retry)
    assert reason in outcome.reason
    assert None is outcome.after
    assert False is outcome.throttled
    shown = repr(outcome) + caplog.text
    assert "HUSH" not in shown
    assert "127.0.0.1:" not in repr(outcome)


@pytest.mark.asyncio
async def test_refused_connection_is_tried_again() -> None:
    """If no server listens, the reason names the refused connection, and neither host nor path."""
    async with raw_receiver(no_answer) as address:
        pass
    assert Retry("ClientConnectorError (ConnectionRefusedError)", unanswered=True) == await send(address)


@pytest.mark.asyncio
async def test_test_page_to_a_receiver_that_never_answers() -> None:
    """A test page ends at the send timeout, as a real page does, and its receiver counts as unreachable."""

    async def never(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_receiver(never) as address:
        notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True)
        retry = RetryPolicy(send_timeout=timedelta(milliseconds=100))
        sent = await send_test_page([notifier], "slack:ops", at=datetime.now(UTC), retry=retry)
        await notifier.aclose()
    assert PageTest(target="slack:ops", channel="slack", verdict=Verdict.UNREACHABLE, reason="timed out") == sent


@pytest.mark.asyncio
async def test_failed_reply_is_not_shown_by_any_logger(caplog: pytest.LogCaptureFixture) -> None:
    """Failed replies and redirects leave no URL in an outcome or in a log of any level."""
    caplog.set_level(logging.DEBUG)
    shown = "".join(
        [repr(await parse_outcome(status, SECRET, {"Location": SECRET})) for status in (200, 302, 404, 429, 500)]
    )
    assert "HUSH" not in shown + caplog.text


@pytest.mark.asyncio
async def test_huge_reply_is_not_read() -> None:
    """Of a reply of 50 MB the notifier reads only the first 4 KiB, and closes the connection."""
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
        for _number in range(500):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with raw_receiver(flood) as address:
        assert Retry("HTTP 200 without the receiver's ok") == await send(address)
    assert 50_000_000 > sent


@pytest.mark.asyncio
async def test_ok_beyond_the_cap_is_not_seen() -> None:
    """The notifier does not read an ok after 4 KiB of blanks, so the outcome is a Retry."""
    assert isinstance(await parse_outcome(200, " " * MAX_REPLY_BYTES + "ok"), Retry)


@pytest.mark.asyncio
async def test_ok_in_pieces_is_delivered() -> None:
    """A reply of ok that arrives in several pieces is a delivery."""

    async def pieces(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\no\r\n",
            b"1\r\nk\r\n",
            b"0\r\n\r\n",
        ):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_receiver(pieces) as address:
        assert Delivered() == await send(address)


@pytest.mark.asyncio
async def test_packed_reply_is_not_unpacked() -> None:
    """The notifier never asks for compressed replies and decompresses none, so that no reply can expand in memory."""
    outcome = await parse_outcome(200, "ok", {"Content-Encoding": "gzip"})
    assert Delivered() == outcome


@pytest.mark.asyncio
async def test_many_pages_fly_at_once() -> None:
    """The notifier has no limit of its own: forty pages to one slow host are in flight at the same time."""
    arrived, open_door = 0, asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        nonlocal arrived
        arrived += 1
        if arrived == 40:
            open_door.set()
        await open_door.wait()
        return web.Response(text="ok")

    async with receiver(handler) as address:
        notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True)
        assert [Delivered()] * 40 == await asyncio.gather(*(notifier.send(page()) for _ in range(40)))
        await notifier.aclose()


@pytest.mark.asyncio
async def test_cancelled_send_is_cancelled() -> None:
    """A cancelled send raises CancelledError and has no outcome."""
    async with raw_receiver(no_answer) as address:
        task = asyncio.create_task(send(address))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.asyncio
async def test_lent_session_stays_open_and_obeys_the_same_rules() -> None:
    """The notifier uses the host's session as it is, does not close it, and does not raise by its raise_for_status."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:

        async def handler(_: web.Request) -> web.Response:
            return web.Response(status=404, text=SECRET)

        async with receiver(handler) as address:
            notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True, session=session)
            assert Rejected("HTTP 404") == await notifier.send(page())
            await notifier.aclose()
        assert not session.closed


@pytest.mark.asyncio
async def test_tracers_see_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracers that patch aiohttp do not see our session. In a host's session the notifier suppresses OpenTelemetry."""
    seen: list[object] = []

    async def spy(*_: object) -> None:
        seen.append(context.get_value("suppress_instrumentation"))

    def config() -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(spy)
        return trace

    untouched = aiohttp.ClientSession.__init__

    def patched(self: aiohttp.ClientSession, **options: Any) -> None:
        untouched(self, trace_configs=[config()], **options)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with receiver(handler) as address, aiohttp.ClientSession(trace_configs=[config()]) as session:
        monkeypatch.setattr(aiohttp.ClientSession, "__init__", patched)
        await send(address)
        assert [] == seen
        await SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True, session=session).send(page())
        assert ([True], None) == (seen, context.get_value("suppress_instrumentation"))


@pytest.mark.asyncio
async def test_closed_notifier_opens_again() -> None:
    """A closed notifier opens a new session for a later page."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async with receiver(handler) as address:
        notifier = SlackNotifier({"slack:ops": f"{address}/{SECRET}"}, allow_http=True)
        for _number in range(2):
            assert Delivered() == await notifier.send(page())
            await notifier.aclose()
        await notifier.aclose()


@pytest.mark.parametrize(
    "url",
    [
        f"http://hooks.example/{SECRET}",
        f"ftp://hooks.example/{SECRET}",
        f"hooks.example/{SECRET}",
        f"https:///{SECRET}",
        f"https://hooks.example:99999/{SECRET}",
        f"https://[::1/{SECRET}",
        f"https://[{SECRET}]@",
        f"https://hooks .example/{SECRET}",
        f"https://hooks.example/{SECRET}\n",
        "",
        None,
    ],
)
def test_bad_url_is_refused_by_its_targets_name(url: Any) -> None:
    """The notifier refuses a URL that is not a valid https URL with a host. The error names the target, not the URL."""
    with pytest.raises(InvalidValue, match="'slack:ops'") as caught:
        SlackNotifier({"slack:good": "https://hooks.example/x", "slack:ops": url})
    assert "HUSH" not in str(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_swapped_name_and_url_are_refused_without_showing_it() -> None:
    """If name and URL are swapped, the error does not show the URL."""
    with pytest.raises(InvalidValue) as caught:
        SlackNotifier({f"https://hooks.example/{SECRET}": "slack:ops"})
    assert "HUSH" not in str(caught.value)


def test_repr_shows_names_alone() -> None:
    """The notifier's repr shows the names of its targets and nothing else."""
    notifier: Notifier = SlackNotifier({"slack:ops": f"https://hooks.example/{SECRET}"})
    assert "SlackNotifier(['slack:ops'])" == repr(notifier)
    assert ("slack:ops",) == notifier.targets
    assert "slack" == notifier.channel
