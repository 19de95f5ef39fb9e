"""Exhausted incidents: open, at the maximum level, and therefore without an instant. Never silent."""

from collections.abc import Sequence
from datetime import datetime

from ..model import AuditEntry, Incident, State
from ..ports import Transaction


async def note_exhausted(tx: Transaction, written: Sequence[Incident], now: datetime) -> None:
    """Note in the audit each of these incidents that is open and has no instant: once per episode and level.

    By that note health counts them, and the look for rows that no trigger saw passes them over.
    """
    top = [one for one in written if one.next_due_at is None and one.state is State.OPEN]
    if top:
        await tx.journal.note(
            [
                AuditEntry(
                    at=now,
                    action="exhausted",
                    incident_key=one.incident_key,
                    episode=one.episode,
                    level=one.level,
                )
                for one in top
            ]
        )
