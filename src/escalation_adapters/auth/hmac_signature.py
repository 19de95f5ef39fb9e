"""Signed requests: Standard Webhooks 1.0.0 (https://github.com/standard-webhooks/standard-webhooks).

The signature is an HMAC-SHA256 of ``id.timestamp.body``, with the body's raw bytes. This module uses no framework and
no database. The caller stores each verified id, and refuses a second request with the same id as a replay.
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
"""The largest difference between a request's timestamp and now, in both directions: the specification's advice."""
_VERSION = "v1,"
_MAX_SIGNATURES = 16
"""Entries of one header that the verifier checks; a sender that rotates its secret sends two."""

Secret = str | bytes
Headers = Iterable[tuple[bytes, bytes]]
"""Headers in the request's order; a repeated header is several pairs."""


@attrs.frozen
class Verified:
    """A valid signature: its sender has one of the secrets."""

    secret: int
    """The index of the secret in the verifier's list, from 0."""
    message_id: str | None = None
    """The caller refuses this id when it comes again. None with the older ``X-Signature``, which has no id."""
    timestamp: int | None = None
    """The sender's time of the signature, in seconds since 1970."""
    expires: datetime | None = None
    """Keep the id until then: the timestamp plus twice the tolerance. The verifier refuses the timestamp earlier."""


@attrs.frozen
class Refused:
    """A refused signature. ``reason`` quotes nothing of the request, and reveals nothing of a secret."""

    reason: str
    header: str
    """The header at fault."""


def mac(key: bytes, *parts: bytes) -> bytes:
    """Return the HMAC-SHA256 (RFC 2104, RFC 4231) of the concatenated parts."""
    digest = hmac.new(key, digestmod="sha256")
    for part in parts:
        digest.update(part)
    return digest.digest()


def parse_secret(secret: Secret) -> bytes:
    """Return the key of a secret: bytes as they are, the decoded base64 after ``whsec_``, or any other text as UTF-8.

    Raises:
        InvalidValue: the secret is empty, is not base64 after ``whsec_``, or cannot be encoded. The message does not
            hold the secret.
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

    ``timestamp`` is in seconds since 1970, as in the ``webhook-timestamp`` header. ``body`` holds the exact bytes of
    the request. ``message_id`` must be new in every request: 1 to 256 printable ASCII characters without dot and blank.

    Raises:
        InvalidValue: the secret, the id or the timestamp is not valid.
    """
    if not isinstance(message_id, str) or not _legal_id(message_id.encode("utf-8", errors="replace")):
        raise InvalidValue(
            "message_id", "is not a valid id", "give 1 to 256 printable ASCII characters without dot and blank"
        )
    if not isinstance(timestamp, int) or isinstance(timestamp, bool) or timestamp < 0:
        raise InvalidValue("timestamp", "is not a valid number of seconds", "give int(time.time())")
    return _entry(parse_secret(secret), message_id.encode(), str(timestamp).encode(), body).decode()


def signed_headers(body: bytes, *, secret: Secret, at: float | None = None) -> dict[str, str]:
    """Return the three headers of a request with this body, under a new id, signed now or at the Unix time ``at``."""
    message_id, timestamp = f"msg_{uuid4().hex}", int(time.time() if at is None else at)
    signature = sign(secret=secret, message_id=message_id, timestamp=timestamp, body=body)
    return {ID: message_id, TIMESTAMP: str(timestamp), SIGNATURE: signature}


class HmacVerifier:
    """Verifies signed requests. ``secrets`` are all secrets that are valid now: the current one and the previous one.

    ``legacy`` also admits the older ``X-Signature``, a hex digest of the body alone. A captured request of that kind
    can be sent again at any time. Leave ``legacy`` off unless a client cannot send the newer headers.

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
        """Return the number of secrets, and nothing of their content."""
        return f"{type(self).__name__}({len(self._keys)} secrets)"

    def verify(self, headers: Headers, body: bytes, *, now: datetime) -> Verified | Refused:
        """Check the signature and the timestamp of a request. No request makes this raise.

        The time that this takes does not reveal which part of a signature differs.
        """
        found = self.match(headers, body)
        return found if isinstance(found, Refused) else self.in_time(found, now)

    def match(self, headers: Headers, body: bytes) -> Verified | Refused:
        """Check the signature whatever its timestamp is: the part of ``verify`` that needs no clock."""
        found: dict[str, list[bytes]] = {ID: [], TIMESTAMP: [], SIGNATURE: [], LEGACY: []}
        for given_name, value in headers:
            found.get(given_name.lower().decode("latin-1"), []).append(value)
        legacy = found.pop(LEGACY)
        if self._legacy and legacy and not any(found.values()):
            return self._match_legacy(legacy, body)
        for name, values in found.items():
            if len(values) != 1:
                return Refused(f"{name} {'is missing' if not values else 'occurs more than once'}", name)
        message_id, timestamp, signature = (values[0] for values in found.values())
        if not _legal_id(message_id):
            return Refused(f"{ID} is not a valid id", ID)
        if not re.fullmatch(rb"[0-9]{1,11}", timestamp):
            return Refused(f"{TIMESTAMP} is not a valid number of seconds", TIMESTAMP)
        given = signature.split(b" ")[:_MAX_SIGNATURES]
        number = self._match([_entry(key, message_id, timestamp, body) for key in self._keys], given)
        if number is None:
            return Refused("no signature matches a secret", SIGNATURE)
        return Verified(number, message_id.decode("ascii"), int(timestamp))

    def in_time(self, found: Verified, now: datetime) -> Verified | Refused:
        """Refuse a valid signature whose timestamp is too far from now."""
        if found.timestamp is None:
            return found
        if abs(now.timestamp() - found.timestamp) > self._tolerance.total_seconds():
            return Refused(f"{TIMESTAMP} is too far from now", TIMESTAMP)
        # Longer than the timestamp is valid: the store reads its own clock, and does so later.
        expires = datetime.fromtimestamp(found.timestamp, tz=now.tzinfo) + 2 * self._tolerance
        return attrs.evolve(found, expires=expires)

    def _match_legacy(self, values: Sequence[bytes], body: bytes) -> Verified | Refused:
        if len(values) != 1:
            return Refused(f"{LEGACY} occurs more than once", LEGACY)
        number = self._match([mac(key, body).hex().encode() for key in self._keys], values)
        return Refused("no signature matches a secret", LEGACY) if number is None else Verified(number)

    @staticmethod
    def _match(wanted: Sequence[bytes], given: Sequence[bytes]) -> int | None:
        number = None
        for index, right in enumerate(wanted):
            for one in given:
                # Compare every pair, so that the time reveals nothing.
                if hmac.compare_digest(right, one) and number is None:
                    number = index
        return number


def _entry(key: bytes, message_id: bytes, timestamp: bytes, body: bytes) -> bytes:
    return _VERSION.encode() + base64.b64encode(mac(key, message_id, b".", timestamp, b".", body))


def _legal_id(message_id: bytes) -> bool:
    # With a dot in the id, one signature could match two different pairs of id and timestamp.
    return re.fullmatch(rb"[!-\-/-~]{1,256}", message_id) is not None
