"""The side door: what a host's own SQL does to a row, behind the engine's back.

``HostTable`` is how the conformance checks write as a host would. Stores that hosts reach with SQL implement it with
plain SQL and their trigger; the others use the functions here, which are the trigger's rule in Python, so that the two
can be compared.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from ..model import LOOK_AGAIN, AuditEntry, told

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

    async def update(self, incident_key: str, **columns: Any) -> None:
        """UPDATE columns of a row."""

    async def delete(self, incident_key: str) -> None:
        """DELETE a row."""

    async def rows(self) -> Mapping[str, Row]:
        """SELECT every row, by key, as it stands."""


def host_insert(incident_key: str, columns: Mapping[str, Any], *, highest_episode: int, now: datetime) -> Row:
    """Return the row that a host's INSERT leaves; ``highest_episode`` is what the ledger knows of the key."""
    row: Row = {"incident_key": incident_key, "first_seen": now, **BLANK, **columns}
    if row["next_due_at"] is None:
        row["episode"] = highest_episode + 1
        row["next_due_at"] = _mark(row)
    return row


def host_update(before: Row, columns: Mapping[str, Any], *, now: datetime) -> tuple[Row, list[AuditEntry]]:
    """Return the row that a host's UPDATE leaves, and what the trigger notes of it in the audit."""
    after = {**before, **columns}
    severity, snoozed = (after[name] != before[name] for name in ("severity", "snoozed_until"))
    if after["next_due_at"] != before["next_due_at"] or all(after[name] == before[name] for name in WATCHED):
        return after, []
    if after["episode"] == before["episode"]:
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
    done: list[tuple[str | None, str | None]] = [
        (_what_was_done(before, after), None),
        ("change_severity" if severity else None, "none" if after["severity"] is None else after["severity"]),
        ("snooze" if snoozed else None, _until(after["snoozed_until"])),
    ]
    return after, [_noted(action, what, after, now) for action, what in done if action is not None]


def _noted(action: str, what: str | None, after: Row, now: datetime) -> AuditEntry:
    return AuditEntry(
        at=now,
        action=action,
        incident_key=after["incident_key"],
        episode=after["episode"],
        level=after["level"],
        actor=after["acknowledged_by"] if action == "acknowledge" else None,
        reason=told("by SQL", what),
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
    return "drain" if all(isinstance(level, int) for level in levels) and levels[1] < levels[0] else None


def _mark(row: Row) -> datetime | None:
    return LOOK_AGAIN if row["acknowledged_at"] is None and row["resolved_at"] is None else None
