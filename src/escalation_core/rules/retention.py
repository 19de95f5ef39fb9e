"""Retention: which of the old escalations and notes may be deleted."""

from datetime import datetime, timedelta

from ..model import AuditSource, OldRow

MIN_RETENTION = timedelta(days=1)
"""The shortest retention: what is younger may still be needed to tell a duplicate."""


def may_go(row: OldRow, source: AuditSource, before: datetime) -> bool:
    """Tell whether an old row may be deleted.

    A note or an escalation stays while its incident is open, and while its episode is the key's highest: that of the
    row, or the highest recorded one. Notes about no incident go by their age alone. An escalation goes together with
    its pages. It stays while its episode is the highest recorded one, whatever the row says, because a key that is
    deleted and inserted again counts on from it; and while one of its pages is unsettled, or was settled later.
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
