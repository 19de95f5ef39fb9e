"""Writes of a host to its own table, by SQL and without the engine.

The conformance checks write as a host through ``HostTable``. A store whose table a host can reach with SQL implements
it with plain SQL and its trigger. Other stores use the functions in this module, which implement the trigger's rule in
Python. The checks can therefore compare the two.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import attrs

from ..model import NEEDS_REPLAN, AuditEntry

Row = dict[str, Any]
"""A row by the field names of ``Incident``. It may have values that an incident cannot have, for example no level."""

WATCHED = (
    "severity",
    "level",
    "first_seen",
    "last_escalated_at",
    "acknowledged_at",
    "resolved_at",
    "snoozed_until",
)
"""The columns whose change makes the engine plan the row again."""
BLANK: Mapping[str, Any] = {
    "severity": None,
    "level": 0,
    "episode": 1,
    "last_escalated_at": None,
    "acknowledged_at": None,
    "acknowledged_by": None,
    "resolved_at": None,
    "snoozed_until": None,
    "next_due_at": None,
    "summary": None,
    "labels": {},
}
"""The defaults of the columns that an INSERT does not name."""


class HostTable(Protocol):
    """A host's plain writes to its ``incidents`` table. Columns have the field names of ``Incident``."""

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row."""

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        """UPDATE columns of a row. The key may change, too."""

    async def delete(self, incident_key: str) -> None:
        """DELETE a row."""

    async def rows(self) -> Mapping[str, Row]:
        """SELECT all rows, by key."""

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row, or UPDATE its columns if the key exists, while the triggers are off."""


@attrs.frozen
class HostUpdate:
    """The effects of the trigger on a host's UPDATE."""

    row: Row
    """The row after the UPDATE."""
    notes: Sequence[AuditEntry] = ()
    """The entries that the trigger writes to the audit."""
    cancel: str | None = None
    """Why the trigger cancels the unsent pages of the row's old key; None if it does not."""


def host_insert(incident_key: str, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> Row:
    """Return the row after a host's INSERT. ``highest_episode`` is the key's highest episode in the ledger."""
    row: Row = {"incident_key": incident_key, "first_seen": now, **BLANK, **columns}
    if row["next_due_at"] is None:
        row["episode"] = highest_episode + 1
        row["next_due_at"] = _mark(row)
    return row


def host_update(before: Row, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> HostUpdate:
    """Return the effects of a host's UPDATE. ``highest_episode`` is the new key's highest episode in the ledger."""
    after = {**before, **columns}
    other_key = after["incident_key"] != before["incident_key"]
    severity, snoozed = (after[name] != before[name] for name in ("severity", "snoozed_until"))
    cancel = _cancels(before, after)
    own_instant = after["next_due_at"] != before["next_due_at"]
    if not other_key and (own_instant or all(after[name] == before[name] for name in WATCHED)):
        return HostUpdate(after, cancel=cancel)
    if other_key:
        after |= {"episode": highest_episode + 1, "level": 0, "last_escalated_at": None}
    elif after["episode"] == before["episode"]:
        if before["resolved_at"] is not None and after["resolved_at"] is None:
            after["episode"] += 1
            fresh = {
                "level": 0,
                "first_seen": now,
                "last_escalated_at": None,
                "snoozed_until": None,
                "acknowledged_at": None,
            }
            # The host means the values that this statement changed. The other values belong to the ended episode.
            after |= {name: value for name, value in fresh.items() if after[name] == before[name]}
        elif isinstance(after["level"], int) and isinstance(before["level"], int) and after["level"] < before["level"]:
            after["episode"] += 1
    acknowledgement_ended = before["acknowledged_at"] is not None and after["acknowledged_at"] is None
    if acknowledgement_ended and after["acknowledged_by"] == before["acknowledged_by"]:
        after["acknowledged_by"] = None
    after["next_due_at"] = _mark(after)
    # ``severity`` and ``snoozed`` were compared above: the reopening may clear values that the host did not change.
    was, is_now = before["incident_key"], after["incident_key"]
    notes = [_noted("change_key", f"now {is_now}", before, now), _noted("change_key", f"was {was}", after, now)]
    done: list[tuple[str | None, str | None]] = [
        (_what_was_done(before, after), None),
        ("change_severity" if severity else None, "none" if after["severity"] is None else after["severity"]),
        ("snooze" if snoozed else None, _until(after["snoozed_until"])),
    ]
    others = [_noted(action, what, after, now) for action, what in done if action is not None]
    return HostUpdate(after, [*notes, *others] if other_key else others, cancel)


def _cancels(before: Row, after: Row) -> str | None:
    """Return why an UPDATE cancels the unsent pages of the row's old key; None if it does not."""
    if after["incident_key"] != before["incident_key"]:
        return "key changed"
    for name, reason in (("resolved_at", "resolved"), ("acknowledged_at", "acknowledged")):
        if before[name] is None and after[name] is not None:
            return reason
    return None


def _noted(action: str, what: str | None, after: Row, now: datetime) -> AuditEntry:
    return AuditEntry(
        at=now,
        action=action,
        incident_key=after["incident_key"],
        episode=after["episode"],
        level=after["level"],
        actor=after["acknowledged_by"] if action == "acknowledge" else None,
        reason="by SQL" if what is None else f"by SQL: {what}",
    )


def _until(end: object) -> str:
    return "ended" if end is None else f"until {end.isoformat() if isinstance(end, datetime) else end}"


def _what_was_done(before: Row, after: Row) -> str | None:
    """Return the audit action for an UPDATE of an incident's state or level; None if the audit needs no entry."""
    resolved = before["resolved_at"] is not None, after["resolved_at"] is not None
    acknowledged = before["acknowledged_at"] is not None, after["acknowledged_at"] is not None
    if resolved[0] != resolved[1]:
        return "resolve" if resolved[1] else "open"
    if acknowledged[0] != acknowledged[1]:
        return "acknowledge" if acknowledged[1] else "unacknowledge"
    levels = before["level"], after["level"]
    if before["incident_key"] != after["incident_key"]:
        return None
    return "drain" if all(isinstance(level, int) for level in levels) and levels[1] < levels[0] else None


def _mark(row: Row) -> datetime | None:
    return NEEDS_REPLAN if row["acknowledged_at"] is None and row["resolved_at"] is None else None
