"""Two hashes: one names an escalation everywhere, the other puts an incident in the canary (ADR 0039)."""

import hashlib

import attrs

from ..checks import check_count, check_key


def idempotency_key(incident_key: str, level: int, episode: int = 1) -> str:
    r"""Return the name of one escalation, 64 hex digits: unique in the database, and the dedup key of its pages.

    Episode 1 is ``sha256(f"{key}|{level}")``. Later episodes hash ``"\0" + f"{episode}|{level}|{key}"``,
    which no key of episode 1 can reach because an incident key holds no NUL.

    Raises:
        InvalidValue: the key, level or episode is not one.
    """
    return escalation_hash(check_key(incident_key), check_count(level, "level", 0), check_count(episode, "episode", 1))


def escalation_hash(incident_key: str, level: int, episode: int) -> str:
    """Return ``idempotency_key`` of what was checked before."""
    text = f"{incident_key}|{level}" if episode == 1 else f"\0{episode}|{level}|{incident_key}"
    return hashlib.sha256(text.encode()).hexdigest()


def canary_bucket(incident_key: str) -> int:
    """Return the key's canary bucket, 0 to 99: the first 8 hex digits of md5(key), modulo 100."""
    digest = hashlib.md5(check_key(incident_key).encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % 100


@attrs.frozen
class Canary:
    """The part of all incidents that may escalate: those in the first ``percent`` buckets."""

    percent: int = attrs.field(default=100)

    @percent.validator
    def _check_percent(self, _: object, value: object) -> None:
        check_count(value, "percent", 0, 100)

    @property
    def whole(self) -> bool:
        """Whether every incident is in it."""
        return self.percent == 100

    @property
    def buckets(self) -> list[int]:
        """The buckets that are in it."""
        return list(range(self.percent))

    def has(self, incident_key: str) -> bool:
        """Tell whether an incident is in it."""
        return self.whole or canary_bucket(incident_key) < self.percent


def in_canary(incident_key: str, percent: int) -> bool:
    """Tell whether the engine may escalate this incident when it runs for ``percent`` of them (0 to 100)."""
    return Canary(percent).has(check_key(incident_key))
