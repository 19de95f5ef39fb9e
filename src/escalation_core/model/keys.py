"""Two hashes of an incident key: the idempotency key of an escalation, and the canary bucket (ADR 0039)."""

import hashlib
from collections.abc import Iterable

import attrs

from ..checks import check_count, check_key

KEY_CHARS = 64
"""The length of a dedup key, and of a bundle's key, in hex digits."""


def idempotency_key(incident_key: str, level: int, episode: int = 1) -> str:
    r"""Return the idempotency key of one escalation: 64 hex digits, unique in the database, sent with each page.

    In episode 1 it is ``sha256(f"{key}|{level}")``. Later episodes hash ``"\0" + f"{episode}|{level}|{key}"``.
    The NUL keeps the two apart, because an incident key contains no NUL.

    Raises:
        InvalidValue: the key, the level or the episode is not valid.
    """
    return escalation_hash(check_key(incident_key), check_count(level, "level", 0), check_count(episode, "episode", 1))


def escalation_hash(incident_key: str, level: int, episode: int) -> str:
    """Return ``idempotency_key`` of values that are already validated."""
    text = f"{incident_key}|{level}" if episode == 1 else f"\0{episode}|{level}|{incident_key}"
    return hashlib.sha256(text.encode()).hexdigest()


def key_of_test_page(unique: str) -> str:
    """Return the dedup key of a test page: 64 hex digits.

    An escalation's text has no NUL, or a digit after it. So the key of a test page never equals that of an escalation.
    """
    return hashlib.sha256(f"\0test page|{unique}".encode()).hexdigest()


def bundle_key(target: str, dedup_keys: Iterable[str]) -> str:
    """Return the key of a bundle: 64 hex digits, from its target and the dedup keys of its pages, in any order.

    The text begins as no escalation's does: see ``key_of_test_page``.
    """
    text = "\0".join(("\0bundle", target, *sorted(dedup_keys)))
    return hashlib.sha256(text.encode()).hexdigest()


def canary_bucket(incident_key: str) -> int:
    """Return the key's canary bucket, 0 to 99: the first 8 hex digits of md5(key), modulo 100."""
    digest = hashlib.md5(check_key(incident_key).encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % 100


@attrs.frozen
class Canary:
    """The share of incidents that may escalate: the incidents in the first ``percent`` of 100 buckets."""

    percent: int = attrs.field(default=100)

    @percent.validator
    def _check_percent(self, _: object, value: object) -> None:
        check_count(value, "percent", 0, 100)

    @property
    def whole(self) -> bool:
        """Whether the canary contains every incident."""
        return self.percent == 100

    @property
    def buckets(self) -> list[int]:
        """The buckets of the canary."""
        return list(range(self.percent))

    def has(self, incident_key: str) -> bool:
        """Return whether an incident is in the canary."""
        return self.whole or canary_bucket(incident_key) < self.percent


def in_canary(incident_key: str, percent: int) -> bool:
    """Return whether this incident is in a canary of ``percent`` (0 to 100)."""
    return Canary(percent).has(check_key(incident_key))
