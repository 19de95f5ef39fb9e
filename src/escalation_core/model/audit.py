"""Audit entries, and the cursors with which a caller reads the audit page by page."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any

import attrs

from ..checks import check_optional_text
from ..errors import InvalidValue
from .incident import Incident
from .micros import from_micros, to_micros


@attrs.frozen(kw_only=True)
class AuditEntry:
    """One audit entry: an escalation, a page's outcome, an operator's action or an engine's note."""

    at: datetime
    action: str
    """The kind of event, for example ``escalate``, ``acknowledge``, ``exhausted`` or ``page delivered``."""
    incident_key: str | None = None
    episode: int | None = None
    level: int | None = None
    actor: str | None = None
    reason: str | None = None
    target: str | None = None
    cursor: str | None = None
    """The entry's place in the audit, for ``Engine.audit(after=)``. Stores do not save it."""

    @classmethod
    def from_row(cls, row: Sequence[Any], instant: Callable[[Any], datetime]) -> "AuditEntry":
        """Return the entry in a store's row. The row has the values of all fields except ``cursor``, in their order."""
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
    """The actor of an action and the reason. Both are optional, and both go into the audit."""

    actor: str | None = attrs.field(default=None)
    reason: str | None = attrs.field(default=None)

    @actor.validator
    def _check_actor(self, _: object, value: object) -> None:
        check_optional_text(value, "by")

    @reason.validator
    def _check_reason(self, _: object, value: object) -> None:
        check_optional_text(value, "reason")

    def entry(self, at: datetime, action: str, *said: str | None, incident: Incident | None = None) -> AuditEntry:
        """Return the audit entry for an action. Its reason is the texts of ``said``, then this object's reason."""
        reason = ": ".join(part for part in (*said, self.reason) if part)
        return AuditEntry(
            at=at,
            action=action,
            incident_key=None if incident is None else incident.incident_key,
            episode=None if incident is None else incident.episode,
            level=None if incident is None else incident.level,
            actor=self.actor,
            reason=reason or None,
        )


NOTED_ONCE = ("exhausted", "unheard")
"""Actions that the audit notes once for each (incident_key, episode, level)."""


class AuditSource(IntEnum):
    """The source of an audit entry. Entries of the same instant are sorted by source, in this order."""

    ESCALATION = 1
    PAGE = 2
    NOTE = 3


@attrs.frozen(kw_only=True)
class AuditRange:
    """A range of instants to read from one source, newest first."""

    since: datetime
    until: datetime | None = None
    """The newest instant of the range; None for no upper limit."""
    after_id: int = 0
    """Entries at exactly ``until`` belong to the range only if their id is above this id."""


MAX_ID = 2**63 - 1


@attrs.frozen(order=True)
class AuditCursor:
    """The place of an entry in the audit. The audit is sorted newest first, then by source, then by id."""

    at: datetime
    source: int
    id: int

    def range(self, source: AuditSource, since: datetime) -> AuditRange:
        """Return the range of the entries that come after this place in one source."""
        after_id = self.id if source == self.source else 0 if source > self.source else MAX_ID
        return AuditRange(since=since, until=self.at, after_id=after_id)

    @property
    def cursor(self) -> str:
        """The place as text. A caller passes it back to read the next entries."""
        return f"{to_micros(self.at)}.{self.source}.{self.id}"


def parse_cursor(cursor: str) -> AuditCursor:
    """Return the place that a cursor stands for.

    Raises:
        InvalidValue: the value is not a valid cursor.
    """
    match = re.fullmatch(r"(-?[0-9]{1,18})\.([123])\.([0-9]{1,18})", cursor) if isinstance(cursor, str) else None
    try:
        if match is not None:
            return AuditCursor(from_micros(int(match[1])), int(match[2]), int(match[3]))
    except OverflowError:
        pass
    raise InvalidValue("after", "is not a valid cursor", "give the cursor of the last entry that you have")
