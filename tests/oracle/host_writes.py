"""Writes of a host's own SQL, and what the triggers make of them: they know no policy."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from .planner import Planner
from .records import EPOCH, Row

WATCHED = (
    *("severity", "level", "first_seen", "last_escalated_at", "acknowledged_at", "resolved_at", "snoozed_until"),
    "policy",
)
"""The columns whose change asks for a planning."""


def insert(now: datetime, columns: Mapping[str, Any]) -> Row:
    """Return the row that a host inserts; the next tick plans it, also if it is acknowledged."""
    row = Row(**({"severity": None, "first_seen": now} | dict(columns)))
    row.next_due_at = None if row.state == "resolved" else EPOCH
    return row


def write(before: Row, planner: Planner, now: datetime, columns: Mapping[str, Any]) -> Row:
    """Return the row after a host's update of some columns."""
    row = replace(before, **columns)
    changed = {name for name in WATCHED if getattr(before, name) != getattr(row, name)}
    reopened = before.resolved_at is not None and row.resolved_at is None
    unacknowledged = before.acknowledged_at is not None and row.state == "open"
    lowered = row.level < before.level
    if reopened:
        fresh = {
            "level": 0,
            "first_seen": now,
            "last_escalated_at": None,
            "snoozed_until": None,
            "acknowledged_at": None,
        }
        for name in fresh.keys() - changed:
            setattr(row, name, fresh[name])
        row.policy_pin = row.policy_level = row.policy_since = None
    elif lowered and row.policy_level is not None:
        row.policy_level = min(row.policy_level, row.level)
    if reopened or lowered:
        row.episode += 1
    if row.acknowledged_at is None:
        row.acknowledged_by = None
    if unacknowledged and row.pinned is not None:
        row.policy_pin = f"!{row.pinned}"
    ended = {name for name in ("acknowledged_at", "resolved_at") if name in changed and getattr(before, name) is None}
    if ended or unacknowledged or lowered:
        planner.cancel(now)
    if changed:
        row.next_due_at = _next_due_at(before, row, reopened=reopened)
    return row


def _next_due_at(before: Row, row: Row, *, reopened: bool) -> datetime | None:
    if row.state == "resolved":
        return None
    if row.state == "open" or row.policy_pin is not None or before.next_due_at == EPOCH or reopened:
        return EPOCH
    return None
