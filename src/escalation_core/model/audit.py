"""The audit: its entries, and the place of an entry among them, which is what the next page of entries begins after."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

import attrs

from ..checks import check_optional_text
from ..errors import InvalidValue
from .incident import Incident

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@attrs.frozen(kw_only=True)
class AuditEntry:
    """One line of the audit: an escalation, a page's outcome, an operator's action or an engine's mark."""

    at: datetime
    action: str
    """What happened: ``escalate``, ``acknowledge``, ``exhausted``, ``page delivered`` and the like."""
    incident_key: str | None = None
    episode: int | None = None
    level: int | None = None
    actor: str | None = None
    reason: str | None = None
    target: str | None = None
    cursor: str | None = None
    """Its place in the audit: what ``Engine.audit(after=)`` takes. Not written."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "AuditEntry":
        """Return the note of a store's row: values in the order of the fields but ``cursor``."""
        at, action, key, episode, level, actor, reason, target = row
        return cls(
            at=instant(at),
            action=action,
            incident_key=key,
            episode=episode,
            level=level,
            actor=actor,
            reason=reason,
            target=target,
        )


@attrs.frozen
class By:
    """Who does something, and why; both are for the audit, and each may be left out."""

    actor: str | None = attrs.field(default=None)
    reason: str | None = attrs.field(default=None)

    @actor.validator
    def _check_actor(self, _: object, value: object) -> None:
        check_optional_text(value, "by")

    @reason.validator
    def _check_reason(self, _: object, value: object) -> None:
        check_optional_text(value, "reason")

    def entry(self, at: datetime, action: str, *said: str | None, incident: Incident | None = None) -> AuditEntry:
        """Return the audit's entry: its reason is what was done, ``said``, then why."""
        reason = ": ".join(part for part in (*said, self.reason) if part is not None)
        return AuditEntry(
            at=at,
            action=action,
            incident_key=None if incident is None else incident.incident_key,
            episode=None if incident is None else incident.episode,
            level=None if incident is None else incident.level,
            actor=self.actor,
            reason=reason or None,
        )


class AuditSource(IntEnum):
    """Where entries come from; those of one instant stand in this order."""

    ESCALATION = 1
    PAGE = 2
    NOTE = 3


@attrs.frozen(kw_only=True)
class AuditRange:
    """A stretch of time that one source is read for, newest first."""

    since: datetime
    until: datetime | None = None
    """The newest instant, None for now."""
    after_id: int = 0
    """Of the entries at ``until``, those with ids above this one."""


MAX_ID = 2**63 - 1


@attrs.frozen(order=True)
class AuditCursor:
    """An entry's place: newest first, at one instant by source and then by id."""

    at: datetime
    source: int
    id: int

    def range(self, source: AuditSource, since: datetime) -> AuditRange:
        """Return what stands behind this place in one of the sources."""
        after_id = self.id if source == self.source else 0 if source > self.source else MAX_ID
        return AuditRange(since=since, until=self.at, after_id=after_id)

    @property
    def cursor(self) -> str:
        """The place as text: what a caller gives to read the next entries."""
        return f"{(self.at - _EPOCH) // _MICROSECOND}.{self.source}.{self.id}"


def parse_cursor(cursor: str) -> AuditCursor:
    """Return the place that a cursor tells.

    Raises:
        InvalidValue: the value is not valid.
    """
    match = re.fullmatch(r"(-?[0-9]{1,18})\.([123])\.([0-9]{1,18})", cursor) if isinstance(cursor, str) else None
    try:
        if match is not None:
            return AuditCursor(_EPOCH + int(match[1]) * _MICROSECOND, int(match[2]), int(match[3]))
    except OverflowError:
        pass
    raise InvalidValue("after", "is not a valid cursor", "give the cursor of the last entry that you have")
