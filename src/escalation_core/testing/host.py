"""Writes of a host to its own table, by SQL and without the engine.

The conformance checks write as a host through ``HostTable``. A store whose table a host can reach with SQL implements
it with plain SQL and its trigger. Other stores use the functions in this module, which implement the trigger's rule in
Python. The checks can therefore compare the two.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import attrs

from ..model import MAX_NAME_CHARS, NEEDS_REPLAN, UNACKNOWLEDGED, AuditEntry, Change, NoticeKind

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
    "policy",
)
"""The columns whose change makes the engine plan the row again."""
WALK = ("policy_pin", "policy_level", "policy_since")
"""The columns of the walk. The engine alone decides what they say: the trigger takes back what a host writes there."""
UNACKNOWLEDGED_BY_SQL = "unacknowledged"
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
    "policy": None,
    **dict.fromkeys(WALK),
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
    changes: Sequence[Change] = ()
    """What the trigger notes for notices."""


def host_insert(incident_key: str, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> Row:
    """Return the row after a host's INSERT. ``highest_episode`` is the key's highest episode in the ledger."""
    row: Row = {"incident_key": incident_key, "first_seen": now, **BLANK, **columns, **dict.fromkeys(WALK)}
    if row["next_due_at"] is None:
        row["episode"] = highest_episode + 1
        row["next_due_at"] = _mark(row, known=False)
    return row


def host_update(before: Row, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> HostUpdate:
    """Return the effects of a host's UPDATE. ``highest_episode`` is the new key's highest episode in the ledger."""
    after = {**before, **columns, **{name: before[name] for name in WALK}}
    other_key = after["incident_key"] != before["incident_key"]
    severity, snoozed, policy = (after[name] != before[name] for name in ("severity", "snoozed_until", "policy"))
    cancel = _cancels(before, after)
    if cancel == UNACKNOWLEDGED_BY_SQL and before["policy_pin"] is not None:
        after["policy_pin"] = UNACKNOWLEDGED + before["policy_pin"].removeprefix(UNACKNOWLEDGED)
    own_instant = after["next_due_at"] != before["next_due_at"]
    changes = _changes(before, after, cancel, now)
    if not other_key and (own_instant or all(after[name] == before[name] for name in WATCHED)):
        return HostUpdate(after, cancel=cancel, changes=changes)
    if other_key:
        after |= {"episode": highest_episode + 1, "level": 0, "last_escalated_at": None, **dict.fromkeys(WALK)}
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
        elif _is_lowered(before, after):
            after["episode"] += 1
    reopened = before["resolved_at"] is not None and after["resolved_at"] is None
    if reopened:
        after |= dict.fromkeys(WALK)
    elif _is_lowered(before, after) and after["policy_level"] is not None:
        after["policy_level"] = max(0, min(after["policy_level"], after["level"]))
    acknowledgement_ended = before["acknowledged_at"] is not None and after["acknowledged_at"] is None
    if acknowledgement_ended and after["acknowledged_by"] == before["acknowledged_by"]:
        after["acknowledged_by"] = None
    known = not (other_key or reopened or before["next_due_at"] == NEEDS_REPLAN)
    after["next_due_at"] = _mark(after, known=known)
    # ``severity`` and ``snoozed`` were compared above: the reopening may clear values that the host did not change.
    was, is_now = before["incident_key"], after["incident_key"]
    notes = [_noted("change_key", f"now {is_now}", before, now), _noted("change_key", f"was {was}", after, now)]
    done: list[tuple[str | None, str | None]] = [
        (_what_was_done(before, after), None),
        ("change_severity" if severity else None, "none" if after["severity"] is None else after["severity"]),
        ("change_policy" if policy else None, "none" if after["policy"] is None else after["policy"][:MAX_NAME_CHARS]),
        ("snooze" if snoozed else None, _until(after["snoozed_until"])),
    ]
    others = [_noted(action, what, after, now) for action, what in done if action is not None]
    return HostUpdate(after, [*notes, *others] if other_key else others, cancel, changes)


def _cancels(before: Row, after: Row) -> str | None:
    """Return why an UPDATE cancels the unsent pages of the row's old key; None if it does not."""
    if after["incident_key"] != before["incident_key"]:
        return "key changed"
    for name, reason in (("resolved_at", "resolved"), ("acknowledged_at", "acknowledged")):
        if before[name] is None and after[name] is not None:
            return reason
    if _is_acknowledged(before) and after["acknowledged_at"] is None and after["resolved_at"] is None:
        return UNACKNOWLEDGED_BY_SQL
    # A host that also writes next_due_at has written an old copy of the row: the ledger has the level, and it wins.
    own_instant = after["next_due_at"] != before["next_due_at"]
    return "drained" if _is_lowered(before, after) and not own_instant else None


def _changes(before: Row, after: Row, cancel: str | None, now: datetime) -> list[Change]:
    """Return what the trigger notes for notices, about the episode that the row was in."""
    resolved = before["resolved_at"] is not None or after["resolved_at"] is not None
    if cancel not in ("resolved", "acknowledged") or (cancel == "acknowledged" and resolved):
        return []
    began = before["first_seen"]
    return [
        Change(
            kind=NoticeKind(cancel),
            incident_key=before["incident_key"],
            episode=before["episode"],
            at=now,
            actor=after["acknowledged_by"] if cancel == "acknowledged" else None,
            first_seen=began if isinstance(began, datetime) else None,
        )
    ]


def _is_acknowledged(row: Row) -> bool:
    return row["acknowledged_at"] is not None and row["resolved_at"] is None


def _is_lowered(before: Row, after: Row) -> bool:
    levels = after["level"], before["level"]
    return all(isinstance(level, int) for level in levels) and levels[0] < levels[1]


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
    if before["incident_key"] != after["incident_key"]:
        return None
    return "drain" if _is_lowered(before, after) else None


def _mark(row: Row, *, known: bool) -> datetime | None:
    """Return next_due_at of a row that a host wrote. ``known``: an engine has planned the row in this episode.

    The policy of an acknowledged row may end its acknowledgement. A planner that has never pinned the row decides that.
    """
    if row["resolved_at"] is not None:
        return None
    planned = row["acknowledged_at"] is not None and known and row["policy_pin"] is None
    return None if planned else NEEDS_REPLAN
