"""Signed requests, tested with published vectors."""

import base64
import hmac
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalation_adapters.auth.hmac_signature import HmacVerifier, Refused, Verified, mac, parse_secret, sign
from escalation_core import InvalidValue, Settings, SettingsError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "another secret, of thirty-two bytes or more"
ID, AT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""The signature that the reference libraries of Standard Webhooks publish for the four values above."""
LONG = (
    b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be"
    b" hashed before being used by the HMAC algorithm."
)
NOW = datetime.fromtimestamp(AT, UTC)


def headers(message_id: str = ID, timestamp: object = AT, signature: str = SIGNATURE) -> list[tuple[bytes, bytes]]:
    return [
        (b"webhook-id", message_id.encode()),
        (b"webhook-timestamp", str(timestamp).encode()),
        (b"Webhook-Signature", signature.encode()),
    ]


# --- vectors


def test_standard_webhooks_vector() -> None:
    """The signature equals the one that the specification's libraries make, and the verifier takes it."""
    assert SIGNATURE == sign(secret=SECRET, message_id=ID, timestamp=AT, body=BODY)
    expected = Verified(0, ID, AT, NOW + timedelta(minutes=10))
    assert expected == HmacVerifier([SECRET]).verify(headers(), BODY, now=NOW)


@pytest.mark.parametrize(
    ("key", "data", "digest"),
    [
        (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (b"\x0c" * 20, b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            b"\xaa" * 131,
            LONG,
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ],
    ids=[f"case {number}" for number in range(1, 8)],
)
def test_rfc_4231_vectors(key: bytes, data: bytes, digest: str) -> None:
    """The MAC equals HMAC-SHA256 in the RFC's test cases, also when fed in parts; case 5 gives half of the digest."""
    assert digest == mac(key, data).hex()[: len(digest)]
    assert mac(key, data) == mac(key, data[:3], data[3:])
    assert 32 == len(mac(key, data))


def test_slack_vector() -> None:
    """The MAC equals that of Slack's documented example."""
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    key = b"8f742231b10e8888abcd99yyyzzz85a5"
    expected = "a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    assert expected == mac(key, b"v0:1531420618:", body).hex()


# --- signers and verifiers


@given(
    st.binary(max_size=300), st.text(min_size=1).filter(lambda s: not s.startswith("whsec_")), st.integers(0, 10**10)
)
def test_what_is_signed_verifies(body: bytes, secret: str, at: int) -> None:
    """For any body and secret, the verifier takes the signature, and refuses it for another body or secret."""
    made = sign(secret=secret.encode(errors="surrogatepass"), message_id="m", timestamp=at, body=body)
    now = datetime.fromtimestamp(at, UTC)
    given_ = headers("m", at, made)
    verifier = HmacVerifier([OTHER, secret.encode(errors="surrogatepass")])
    assert Verified(1, "m", at, now + timedelta(minutes=10)) == verifier.verify(given_, body, now=now)
    assert isinstance(verifier.verify(given_, body + b" ", now=now), Refused)
    assert isinstance(HmacVerifier([OTHER]).verify(given_, body, now=now), Refused)


def test_hex_of_the_replaced_worker_is_lower_case() -> None:
    """The verifier compares x-signature exactly, as the how-to says: upper case, a prefix or a blank is refused."""
    verifier = HmacVerifier([OTHER], legacy=True)
    digest = mac(OTHER.encode(), BODY).hex()
    assert isinstance(verifier.match([(b"x-signature", digest.encode())], BODY), Verified)
    for wrong in (digest.upper(), f"sha256={digest}", f" {digest}"):
        refused = verifier.match([(b"x-signature", wrong.encode())], BODY)
        assert refused == Refused("no signature matches a secret", "x-signature")


@pytest.mark.parametrize("secret", [SECRET, OTHER, OTHER.encode()])
def test_each_of_several_secrets_counts(secret: str | bytes) -> None:
    """While a secret is rotated, the verifier takes the old and the new one, and any one of several signatures."""
    made = sign(secret=secret, message_id=ID, timestamp=AT, body=BODY)
    verifier = HmacVerifier([SECRET, OTHER])
    several = f"v1a,bm90IG91cnM= v1,AAAA {made}"
    for signature in (made, several):
        verified = verifier.verify(headers(signature=signature), BODY, now=NOW)
        assert isinstance(verified, Verified)
        assert (SECRET, OTHER)[verified.secret] in (secret, bytes(secret).decode() if isinstance(secret, bytes) else "")


@pytest.mark.parametrize(
    ("seconds", "fresh"), [(-301, False), (-300, True), (0, True), (300, True), (301, False), (10**9, False)]
)
def test_timestamp_must_be_near(seconds: int, fresh: bool) -> None:
    """The verifier takes a timestamp up to five minutes in the past or the future, and not one second more."""
    made = sign(secret=SECRET, message_id=ID, timestamp=AT + seconds, body=BODY)
    verdict = HmacVerifier([SECRET]).verify(headers(timestamp=AT + seconds, signature=made), BODY, now=NOW)
    assert fresh == isinstance(verdict, Verified)


GOOD = dict(headers())
TAMPERED: dict[str, tuple[list[tuple[bytes, bytes]], bytes]] = {
    "tampered body": (headers(), BODY.replace(b"2", b"3", 1)),
    "body in other words": (headers(), b'{"test":2432232314}'),
    "another id": (headers("msg_other"), BODY),
    "another timestamp": (headers(timestamp=AT + 1), BODY),
    "no headers": ([], BODY),
    "no id": (headers()[1:], BODY),
    "no timestamp": ([headers()[0], headers()[2]], BODY),
    "no signature": (headers()[:2], BODY),
    "the same header twice": ([*headers(), headers()[2]], BODY),
    "the id twice": ([*headers(), (b"WEBHOOK-ID", b"other")], BODY),
    "an empty id": (headers(""), BODY),
    "a dot in the id": (headers("msg.1"), BODY),
    "an endless id": (headers("m" * 257), BODY),
    "a signed timestamp": (headers(timestamp="+1614265330"), BODY),
    "a fraction": (headers(timestamp="1614265330.0"), BODY),
    "digits of another script": (headers(timestamp="١٦١٤٢٦٥٣٣٠"), BODY),
    "an endless number": (headers(timestamp="9" * 5000), BODY),
    "no version": (headers(signature=SIGNATURE.removeprefix("v1,")), BODY),
    "another version": (headers(signature=SIGNATURE.replace("v1", "v2")), BODY),
    "a signature cut short": (headers(signature=SIGNATURE[:-4]), BODY),
    "empty signature": (headers(signature=""), BODY),
    "no base64": (headers(signature="v1,\u00ff\u2028"), BODY),
    "the right one, too late in a long list": (headers(signature="v1,AAAA " * 16 + SIGNATURE), BODY),
    "hex": (headers(signature="v1," + base64.b64decode(SIGNATURE[3:]).hex()), BODY),
    "bytes that are no text": ([(b"webhook-id", b"\xff\x00"), *headers()[1:]], BODY),
    "a name that is no text": ([(b"\xff\xfe", b""), *headers()[1:]], BODY),
    "the older header": ([(b"x-signature", hmac.digest(OTHER.encode(), BODY, "sha256").hex().encode())], BODY),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_hmac_rejects(name: str) -> None:
    """The verifier refuses every request with a wrong signature; it never raises, and the reason quotes nothing."""
    given_, body = TAMPERED[name]
    verdict = HmacVerifier([SECRET, OTHER]).verify(given_, body, now=NOW)
    assert isinstance(verdict, Refused), name
    quoted = [value for _, value in given_ if len(value) > 3 and value.decode("latin-1") in verdict.reason]
    assert [] == quoted


@given(st.lists(st.tuples(st.sampled_from([*GOOD, b"x-signature", b"other"]), st.binary(max_size=80)), max_size=6))
def test_nothing_raises(given_: list[tuple[bytes, bytes]]) -> None:
    """The verifier refuses bytes of any kind in any header, and never raises."""
    assert isinstance(HmacVerifier([SECRET], legacy=True).verify(given_, BODY, now=NOW), Refused)


# --- the replaced worker's own header


def test_replaced_workers_signature_only_when_switched_on() -> None:
    """The verifier takes X-Signature, hex over the raw body, only with legacy=True and without another signature."""
    made = [(b"X-Signature", mac(OTHER.encode(), BODY).hex().encode())]
    legacy = HmacVerifier([SECRET, OTHER], legacy=True)
    assert Verified(1, None, None) == legacy.verify(made, BODY, now=NOW)
    for verifier, given_, body in (
        (legacy, made, BODY + b" "),
        (legacy, made * 2, BODY),
        (legacy, [*made, headers()[0]], BODY),
        (HmacVerifier([SECRET, OTHER]), made, BODY),
    ):
        assert isinstance(verifier.verify(given_, body, now=NOW), Refused)


# --- secrets


@pytest.mark.parametrize("secrets", [[], [""], [b""], ["whsec_"], ["whsec_%%%"], ["whsec_AAA"], "a text", [7]])
def test_useless_secrets_are_refused(secrets: Any) -> None:
    """The verifier refuses a missing, empty or wrongly typed secret and invalid base64, and does not quote it."""
    with pytest.raises(InvalidValue, match=r"secrets?: (is|holds)") as refusal:
        HmacVerifier(secrets)
    assert "%%%" not in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"message_id": wrong} for wrong in ("", "a.b", "ü")),
        *({"timestamp": wrong} for wrong in (-1, True, 1.5)),
        {"secret": ""},
    ],
)
def test_sign_refuses_what_would_not_verify(wrong: dict[str, Any]) -> None:
    """``sign`` refuses values that no verifier would take."""
    right: dict[str, Any] = {"secret": SECRET, "message_id": ID, "timestamp": AT, "body": BODY}
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        sign(**(right | wrong))


def test_repr_shows_no_secret() -> None:
    """The repr of a verifier shows how many secrets it has, and no secret."""
    assert "HmacVerifier(2 secrets)" == repr(HmacVerifier([SECRET, OTHER]))


def test_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier compares each secret with each entry by ``compare_digest``, even after a match."""
    compared: list[tuple[object, object]] = []
    compare = hmac.compare_digest

    def spy(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", spy)
    wrong = "v1," + base64.b64encode(bytes(32)).decode()
    verified = HmacVerifier([SECRET, OTHER]).verify(headers(signature=f"{SIGNATURE} {wrong}"), BODY, now=NOW)
    assert isinstance(verified, Verified)
    assert 4 == len(compared)
    assert all(isinstance(value, bytes) for pair in compared for value in pair)


@pytest.mark.parametrize("secret", ["hush" * 9 + "\ud800", "whsec_hush\x80", "whsec_hush!"])
def test_secret_that_is_no_key_is_refused_and_carried_nowhere(secret: str) -> None:
    """The verifier and the settings refuse a text that cannot be a key; the error and its context do not hold it."""
    with pytest.raises(InvalidValue, match=r"^secret: ") as refusal:
        HmacVerifier([secret])
    assert None is refusal.value.__context__
    with pytest.raises(SettingsError):
        Settings(ops_hmac_secret=secret)


def test_secret_of_other_bytes_is_a_key() -> None:
    """If the bytes of a variable are not valid UTF-8, the key is these bytes."""
    assert b"\xff" * 32 == parse_secret(os.fsdecode(b"\xff" * 32))
    assert Settings(ops_hmac_secret="\udcff" * 32).ops_hmac_secret
