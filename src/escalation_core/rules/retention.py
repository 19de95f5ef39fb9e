"""Retention decides which old escalations and notes a prune may delete."""

from datetime import datetime, timedelta

from ..model import AuditSource, OldRow

MIN_RETENTION = timedelta(days=1)
"""The shortest retention. The engine may still need younger rows to recognize a duplicate."""


def may_go(row: OldRow, source: AuditSource, before: datetime) -> bool:
    """Return whether a prune may delete an old row.

    For a note about no incident only the age counts. Any other note, and any escalation, stays while its incident is
    open. It also stays while no later episode of its key exists, in the incident's row or in the ledger.
    A prune deletes an escalation together with its pages. Therefore an escalation also stays while one of its pages is
    unsettled, or was settled at or after ``before``. It also stays while its episode is the highest in the ledger: if
    the host deletes the key and inserts it again, the new episode counts on from there.
    """
    if source is AuditSource.NOTE and row.incident_key is None:
        return True
    followed = (row.episode or 0) < max(row.highest_episode, row.current_episode or 0)
    if row.is_open or not followed:
        return False
    if source is AuditSource.NOTE:
        return True
    settled = not row.unsettled and (row.settled_at is None or row.settled_at < before)
    return settled and (row.episode or 0) < row.highest_episode
