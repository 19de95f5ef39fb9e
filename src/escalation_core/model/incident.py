"""Records of an incident and of an escalation. They contain no rules."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import attrs

from ..checks import MAX_KEY_BYTES, check_count, check_instant, check_key, check_labels, check_optional_text
from .keys import escalation_hash

NEEDS_REPLAN = datetime(1970, 1, 1, tzinfo=UTC)
"""The value of next_due_at in a row that the host wrote and the engine must plan again. Such a row is always due."""

MAX_SUMMARY_CHARS = 4000
"""Max characters of a summary in a page. A claim reads no more of each row, which limits its memory."""
MAX_NAME_CHARS = 1000
"""Max characters that a claim reads of a severity or of acknowledged_by."""
MAX_LABELS_BYTES = 64 * 1024
"""Max bytes of labels as JSON in UTF-8. A claim leaves longer labels out: cut labels would mislead the routes."""

MAX_CLAIM_LABELS_BYTES = 4 * 1024 * 1024
"""Max bytes of labels that one claim reads. It leaves the remaining rows to the next claim."""


@lru_cache(maxsize=1000)
def normal_severity(severity: str) -> str:
    """Return a severity in the form in which it is compared: without surrounding blanks, and without regard to case."""
    return severity.strip().casefold()


class State(StrEnum):
    """The state of an incident. ``UNKNOWN`` means that the store has no row with this key."""

    UNKNOWN = "unknown"
    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


def _utc(value: datetime) -> datetime:
    """Convert an aware datetime to UTC; leave any other value to the field's validator, which names the field."""
    aware = isinstance(value, datetime) and value.tzinfo is not UTC and value.utcoffset() is not None
    return check_instant(value, "instant") if aware else value


def _optional_utc(value: datetime | None) -> datetime | None:
    return None if value is None else _utc(value)


def _plain(text: object) -> bool:
    return type(text) is str and text.isascii() and "\0" not in text


def _labels(value: Mapping[str, str]) -> Mapping[str, str]:
    return check_labels(value)


def _is_instant(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None or field.name == "first_seen":
        check_instant(value, field.name)


def _is_text(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    check_optional_text(value, field.name)


# Without slots: a tick copies each row once or twice, and a copy of a dict takes a third of the time.
@attrs.frozen(kw_only=True, slots=False)
class Incident:
    """One incident, as its row is now. Instants are aware, in UTC; an invalid value raises ``InvalidValue``.

    Level, first_seen, last_escalated_at, snoozed_until and the acknowledgement belong to the current episode.
    """

    incident_key: str = attrs.field(converter=check_key)
    """The host's name of the incident: 1 to 512 bytes of UTF-8, no control characters; compared byte for byte."""
    severity: str | None = attrs.field(default=None, validator=_is_text)
    """Matched without regard to case and surrounding blanks. None is a severity without a window of its own."""
    first_seen: datetime = attrs.field(converter=_utc, validator=_is_instant)
    """The start of the episode. The windows count from this instant."""
    level: int = attrs.field(default=0)
    """The number of the last escalation; 0 before the first one."""
    episode: int = attrs.field(default=1)
    """1 at first. Reopening, draining or inserting the key again adds 1."""
    last_escalated_at: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    acknowledged_at: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    acknowledged_by: str | None = attrs.field(default=None, validator=_is_text)
    resolved_at: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    snoozed_until: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    next_due_at: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    """The next escalation's instant; None without a next one; ``NEEDS_REPLAN`` if a tick must plan the row."""
    summary: str | None = attrs.field(default=None, validator=_is_text)
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_labels)
    policy: str | None = attrs.field(default=None, validator=_is_text)
    """The policy that the host names. None: the assignments of the policies file decide."""
    policy_pin: str | None = attrs.field(default=None, validator=_is_text)
    """The policy that the incident walks through: ``NAME@SHA256@SEVERITY`` (``Pin``). None: the built-in policy."""
    policy_level: int | None = attrs.field(default=None)
    """The level at which the walk began. None: 0."""
    policy_since: datetime | None = attrs.field(default=None, converter=_optional_utc, validator=_is_instant)
    """The instant at which the walk began. None: first_seen."""

    @level.validator
    def _check_level(self, _: object, value: object) -> None:
        check_count(value, "level", 0)

    @episode.validator
    def _check_episode(self, _: object, value: object) -> None:
        check_count(value, "episode", 1)

    @policy_level.validator
    def _check_policy_level(self, _: object, value: object) -> None:
        if value is not None:
            check_count(value, "policy_level", 0)

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Incident":
        """Return the incident in a store's row: the values in the order of the fields, instants in UTC.

        Fast path: nearly all rows pass a few cheap checks, and a tick reads thousands of rows. Other rows use the
        validating constructor, which names the invalid field.

        Raises:
            InvalidValue: the row is not a valid incident.
        """
        key, severity, first_seen, level, episode, _, _, acked_by, _, _, _, summary, labels, policy, pin, walked, _ = (
            row
        )
        plain = (
            type(key) is str
            and 0 < len(key) <= MAX_KEY_BYTES
            and key.isascii()
            and key.isprintable()
            and type(level) is int
            and level >= 0
            and type(episode) is int
            and episode >= 1
            and not labels
            and first_seen is not None
            and (severity is None or _plain(severity))
            and (acked_by is None or _plain(acked_by))
            and (summary is None or _plain(summary))
            and (policy is None or _plain(policy))
            and (pin is None or _plain(pin))
            and (walked is None or (type(walked) is int and walked >= 0))
        )
        if not plain:
            return cls(**dict(zip(_FIELDS, row, strict=True)))
        made = object.__new__(cls)
        vars(made).update(zip(_FIELDS, row, strict=True))
        return made

    @property
    def state(self) -> State:
        """Open, acknowledged or resolved; resolved wins over acknowledged."""
        if self.resolved_at is not None:
            return State.RESOLVED
        return State.OPEN if self.acknowledged_at is None else State.ACKNOWLEDGED

    def moved(self, *, level: int, last_escalated_at: datetime | None, next_due_at: datetime | None) -> "Incident":
        """Return a copy with another level and other instants.

        The copy is not validated, because a tick makes one for each row: the old values were validated before, and
        the new ones come from the engine.
        """
        other = object.__new__(Incident)
        vars(other).update(vars(self), level=level, last_escalated_at=last_escalated_at, next_due_at=next_due_at)
        return other

    def pinned(self, policy_pin: str, policy_level: int | None, policy_since: datetime | None) -> "Incident":
        """Return a copy with another walk. It is not validated, as in ``moved``."""
        other = object.__new__(Incident)
        vars(other).update(vars(self), policy_pin=policy_pin, policy_level=policy_level, policy_since=policy_since)
        return other


_FIELDS = tuple(field.name for field in attrs.fields(Incident))


class LevelOutcome(StrEnum):
    """What became of an escalation that did not page whom its level names."""

    NOBODY = "nobody"
    """The level's schedules name no one, so it was passed over, and the next level followed at once."""
    DEFAULT = "default"
    """The last level that was passed over: no level named anyone, so it paged the default target or the router's."""


@attrs.frozen(kw_only=True)
class Escalation:
    """One escalation. ``escalation_events`` records it exactly once per (incident_key, episode, level)."""

    incident_key: str
    episode: int
    level: int
    created_at: datetime
    policy: str | None = None
    """The name of the policy that decided. None: the built-in policy, of an engine without a policies file."""
    position: int | None = None
    """The position in the policy's walk, from 1. None: the level."""
    outcome: LevelOutcome | None = None
    """None: it paged whom its level names."""
    unique_hash: str = attrs.field(
        default=attrs.Factory(
            lambda self: escalation_hash(self.incident_key, self.level, self.episode), takes_self=True
        )
    )
    """The idempotency key. It is also the dedup key of the escalation's pages."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "Escalation":
        """Return the escalation in a store's row: the values in the order of the fields."""
        key, episode, level, at, unique_hash, policy, position, outcome = row
        return cls(
            incident_key=key,
            episode=episode,
            level=level,
            created_at=instant(at),
            unique_hash=unique_hash,
            policy=policy,
            position=position,
            outcome=None if outcome is None else LevelOutcome(outcome),
        )
