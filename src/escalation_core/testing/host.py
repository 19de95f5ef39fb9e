"""Host writes: what a host's own SQL does to a row, without the engine.

``HostTable`` is how the conformance checks write as a host would. Stores that hosts reach with SQL implement it with
plain SQL and their trigger; the others use the functions here, which are the trigger's rule in Python, so that the two
can be compared.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import attrs

from ..model import NEEDS_REPLAN, AuditEntry

Row = dict[str, Any]
"""A row as it stands, by ``Incident``'s field names. It may hold what no incident can: a level of None, say."""

WATCHED = (
    "severity",
    "level",
    "first_seen",
    "last_escalated_at",
    "acknowledged_at",
    "resolved_at",
    "snoozed_until",
)
"""The columns whose change makes a row worth another look."""
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
"""What an insert leaves to the columns' defaults."""


class HostTable(Protocol):
    """A host's plain writes to its ``incidents`` table. Columns go by ``Incident``'s field names."""

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row."""

    async def update(self, incident_key: str, /, **columns: Any) -> None:
        """UPDATE columns of a row, its key among them."""

    async def delete(self, incident_key: str) -> None:
        """DELETE a row."""

    async def rows(self) -> Mapping[str, Row]:
        """SELECT every row, by key, as it stands."""

    async def past_triggers(self, incident_key: str, **columns: Any) -> None:
        """INSERT a row, or UPDATE its columns if it is there, while the triggers are off."""


@attrs.frozen
class HostUpdate:
    """What the trigger makes of a host's UPDATE."""

    row: Row
    """The row that it leaves."""
    notes: Sequence[AuditEntry] = ()
    """What it notes in the audit."""
    cancel: str | None = None
    """Why the unsent pages of the row's old key are cancelled, if they are."""


def host_insert(incident_key: str, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> Row:
    """Return the row that a host's INSERT leaves; ``highest_episode`` is what the ledger knows of the key."""
    row: Row = {"incident_key": incident_key, "first_seen": now, **BLANK, **columns}
    if row["next_due_at"] is None:
        row["episode"] = highest_episode + 1
        row["next_due_at"] = _mark(row)
    return row


def host_update(before: Row, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> HostUpdate:
    """Return what becomes of a host's UPDATE; ``highest_episode`` is what the ledger knows of the row's new key."""
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
            # What the same statement set is what the host means; the rest belongs to the episode that is over.
            after |= {name: value for name, value in fresh.items() if after[name] == before[name]}
        elif isinstance(after["level"], int) and isinstance(before["level"], int) and after["level"] < before["level"]:
            after["episode"] += 1
    if after["acknowledged_at"] is None:
        after["acknowledged_by"] = None
    after["next_due_at"] = _mark(after)
    # What the reopening above has cleared is not what the host did.
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
    """Return why an UPDATE cancels the unsent pages of the row's old key, None if it does not."""
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
    """Return what an UPDATE does to an incident's state or level, None if it is nothing that the audit tells of."""
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
