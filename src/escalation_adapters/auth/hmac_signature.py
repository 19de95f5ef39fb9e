"""Signed requests: Standard Webhooks 1.0.0 (https://github.com/standard-webhooks/standard-webhooks).

What is signed is ``id.timestamp.body``, over the body's raw bytes, with HMAC-SHA256. Nothing here knows a framework or
a database: a verified id is for the caller to remember, so that a captured request is refused the second time.
"""

import base64
import hmac
import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

import attrs

from escalation_core import InvalidValue
from escalation_core.checks import check_span
from escalation_core.settings.secrets import parse_key

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
LEGACY = "x-signature"
TOLERANCE = timedelta(minutes=5)
"""How far a request's timestamp may be from now, into the past and the future; the specification's advice."""
_VERSION = "v1,"
_MAX_SIGNATURES = 16
"""Entries of one header that are looked at: a sender that rotates its secret sends two."""

Secret = str | bytes
Headers = Iterable[tuple[bytes, bytes]]
"""As they came: several of one name are several pairs."""


@attrs.frozen
class Verified:
    """The request was made by somebody who knows the secret."""

    secret: int
    """Which of the verifier's secrets it was, counted from 0."""
    message_id: str | None = None
    """To be refused when it comes again; None with the older ``X-Signature``, which has none."""
    timestamp: int | None = None
    """When it was signed, in seconds since 1970, as its sender says."""
    expires: datetime | None = None
    """Until when the id has to be remembered: long after the timestamp alone is reason to refuse."""


@attrs.frozen
class Refused:
    """The request is refused. ``reason`` holds nothing that came with it, and tells of no secret."""

    reason: str
    header: str
    """Which header it is about."""


def mac(key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC-SHA256 (RFC 2104, RFC 4231) of the parts put together."""
    digest = hmac.new(key, digestmod="sha256")
    for part in parts:
        digest.update(part)
    return digest.digest()


def parse_secret(secret: Secret) -> bytes:
    """Return the key that a secret stands for: bytes as they are, ``whsec_`` and base64, or any other text.

    Raises:
        InvalidValue: it is empty, no base64 after ``whsec_``, or cannot be encoded. The secret is not in it.
    """
    if isinstance(secret, str):
        key = parse_key(secret)
    elif isinstance(secret, bytes):
        key = secret
    else:
        raise InvalidValue("secret", f"is {type(secret).__name__}", "give text or bytes")
    if not key:
        raise InvalidValue("secret", "is empty", "give a key")
    return key


def sign(*, secret: Secret, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of the ``webhook-signature`` header.

    ``timestamp`` is in seconds since 1970, as the ``webhook-timestamp`` header says it; ``body`` is what is sent, byte
    for byte; ``message_id`` is made anew for every request, of printable ASCII without a dot or a blank.

    Raises:
        InvalidValue: the secret or the id is of no use.
    """
    if not isinstance(message_id, str) or not _legal_id(message_id.encode("utf-8", errors="replace")):
        raise InvalidValue(
            "message_id", "is not a valid id", "give 1 to 256 printable ASCII characters without dot and blank"
        )
    if not isinstance(timestamp, int) or isinstance(timestamp, bool) or timestamp < 0:
        raise InvalidValue("timestamp", "is not a number of seconds", "give int(time.time())")
    return _entry(parse_secret(secret), message_id.encode(), str(timestamp).encode(), body).decode()


def signed_headers(body: bytes, *, secret: Secret, at: float | None = None) -> dict[str, str]:
    """Return the three headers of a request with this body, signed now (or at a Unix time), under an id of its own."""
    message_id, timestamp = f"msg_{uuid4().hex}", int(time.time() if at is None else at)
    signature = sign(secret=secret, message_id=message_id, timestamp=timestamp, body=body)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signature}


class HmacVerifier:
    """Verifies signed requests. ``secrets`` are all that count just now: the one in use, and the one before it.

    ``legacy`` also admits the older ``X-Signature``: hex over the body alone. Such a request can be captured and sent
    again for ever, so it is off unless a caller that cannot do better needs it.

    Raises:
        InvalidValue: there is no secret, or a secret is not valid.
    """

    def __init__(self, secrets: Sequence[Secret], *, tolerance: timedelta = TOLERANCE, legacy: bool = False) -> None:
        if isinstance(secrets, str | bytes) or not isinstance(secrets, Sequence) or not secrets:
            raise InvalidValue("secrets", "holds no secret", "give a list of at least one")
        self._keys = [parse_secret(secret) for secret in secrets]
        self._tolerance = check_span(tolerance, "tolerance")
        self._legacy = legacy

    def __repr__(self) -> str:
        """Return how many secrets there are, and nothing of them."""
        return f"{type(self).__name__}({len(self._keys)} secrets)"

    def verify(self, headers: Headers, body: bytes, *, now: datetime) -> Verified | Refused:
        """Tell who signed a request. Whatever came with it, this raises nothing.

        Which part of a signature differs is not to be learnt from the time this takes.
        """
        found = self.match(headers, body)
        return found if isinstance(found, Refused) else self.in_time(found, now)

    def match(self, headers: Headers, body: bytes) -> Verified | Refused:
        """Tell whose signature it is, whenever it was made: the part of ``verify`` that needs no clock."""
        found: dict[str, list[bytes]] = {ID: [], TIMESTAMP: [], SIGNATURE: [], LEGACY: []}
        for given_name, value in headers:
            found.get(given_name.lower().decode("latin-1"), []).append(value)
        legacy = found.pop(LEGACY)
        if self._legacy and legacy and not any(found.values()):
            return self._match_legacy(legacy, body)
        for name, values in found.items():
            if len(values) != 1:
                return Refused(f"{name} is {'missing' if not values else 'there more than once'}", name)
        message_id, timestamp, signature = (values[0] for values in found.values())
        if not _legal_id(message_id):
            return Refused(f"{ID} is not a valid id", ID)
        if not re.fullmatch(rb"[0-9]{1,11}", timestamp):
            return Refused(f"{TIMESTAMP} is not a number of seconds", TIMESTAMP)
        given = signature.split(b" ")[:_MAX_SIGNATURES]
        number = self._match([_entry(key, message_id, timestamp, body) for key in self._keys], given)
        if number is None:
            return Refused("no signature is right", SIGNATURE)
        return Verified(number, message_id.decode("ascii"), int(timestamp))

    def in_time(self, found: Verified, now: datetime) -> Verified | Refused:
        """Tell whether a signature that is right was made about now."""
        if found.timestamp is None:
            return found
        if abs(now.timestamp() - found.timestamp) > self._tolerance.total_seconds():
            return Refused(f"{TIMESTAMP} is too far from now", TIMESTAMP)
        # Longer than it can be verified: between that and the memory's own look at the clock time goes by.
        expires = datetime.fromtimestamp(found.timestamp, tz=now.tzinfo) + 2 * self._tolerance
        return attrs.evolve(found, expires=expires)

    def _match_legacy(self, values: Sequence[bytes], body: bytes) -> Verified | Refused:
        if len(values) != 1:
            return Refused(f"{LEGACY} is there more than once", LEGACY)
        number = self._match([mac(key, body).hex().encode() for key in self._keys], values)
        return Refused("no signature is right", LEGACY) if number is None else Verified(number)

    @staticmethod
    def _match(wanted: Sequence[bytes], given: Sequence[bytes]) -> int | None:
        number = None
        for index, right in enumerate(wanted):
            for one in given:
                # Every pair is compared, so that the time tells nothing.
                if hmac.compare_digest(right, one) and number is None:
                    number = index
        return number


def _entry(key: bytes, message_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    return _VERSION.encode() + base64.b64encode(mac(key, message_id, b".", timestamp, b".", body))


def _legal_id(message_id: bytes) -> bool:
    # A dot would let one signature stand for two readings of id and timestamp.
    return re.fullmatch(rb"[!-\-/-~]{1,256}", message_id) is not None
