"""Signatures of requests from any sender."""

import base64
import hmac
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.hmac_signature import HmacVerifier, Refused, Verified, parse_secret, sign
from escalation_core import InvalidValue

from .material import HUSH, damaged, near, near_bytes, told

AT = 1_735_732_800
NOW = datetime.fromtimestamp(AT, UTC)
BODY = b'{"action": "tick"}'
SIGNED = sign(secret=HUSH, message_id="msg_1", timestamp=AT, body=BODY).encode()
NAMES = near_bytes(b"webhook-id", b"Webhook-Timestamp", b"WEBHOOK-SIGNATURE", b"x-signature")
LEGACY = hmac.digest(HUSH.encode(), BODY, "sha256").hex().encode()
VALUES = near_bytes(b"msg_1", b"%d" % AT, SIGNED, b"v1,aaaa " + SIGNED, LEGACY)
COMPLETE = st.tuples(near_bytes(b"msg_1"), near_bytes(b"%d" % AT), near_bytes(SIGNED)).map(
    lambda values: list(zip((b"webhook-id", b"webhook-timestamp", b"webhook-signature"), values, strict=True))
)


RIGHT = [(b"webhook-id", b"msg_1"), (b"webhook-timestamp", b"%d" % AT), (b"webhook-signature", SIGNED)]


@given(COMPLETE | st.lists(st.tuples(NAMES, VALUES), max_size=5), damaged(st.just(BODY), st.binary(max_size=4)))
def test_verify(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """The verifier takes a request only if an independent reading of the specification takes it too."""
    verdict = HmacVerifier([HUSH]).verify(headers, body, now=NOW)
    found = {name.lower(): value for name, value in headers}
    if isinstance(verdict, Verified):
        message_id, timestamp = found[b"webhook-id"], found[b"webhook-timestamp"]
        digest = hmac.digest(HUSH.encode(), b".".join((message_id, timestamp, body)), "sha256")
        assert b"v1," + base64.b64encode(digest) in found[b"webhook-signature"].split(b" ")
        assert abs(AT - int(timestamp)) <= timedelta(minutes=5).total_seconds()
    else:
        assert isinstance(verdict, Refused)
        assert HUSH not in verdict.reason
        assert (headers, body) != (RIGHT, BODY)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), damaged(st.just(BODY), st.binary(max_size=4)))
def test_legacy(headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """With the replaced worker's header, the verifier takes exactly the hex HMAC of the body, given once."""
    verdict = HmacVerifier([HUSH], legacy=True).verify(headers, body, now=NOW)
    if isinstance(verdict, Verified) and verdict.message_id is None:
        given_ = [value for name, value in headers if name.lower() == b"x-signature"]
        assert [hmac.digest(HUSH.encode(), body, "sha256").hex().encode()] == given_


@given(near(HUSH, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", f"whsec_{HUSH}") | st.binary(max_size=80))
def test_secret(secret: str | bytes) -> None:
    """A secret is a key that signs and verifies, or is refused without a part of it."""
    try:
        assert parse_secret(secret)
    except InvalidValue as refusal:
        assert "secret" == refusal.field
        assert HUSH not in told(refusal)
        return
    headers = {"webhook-id": "m", "webhook-timestamp": str(AT)}
    headers["webhook-signature"] = sign(secret=secret, message_id="m", timestamp=AT, body=b"")
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert isinstance(HmacVerifier([secret]).verify(sent, b"", now=NOW), Verified)
