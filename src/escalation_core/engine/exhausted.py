"""Exhausted incidents: open, at the end of their walk, and so without next_due_at. The audit has a note of each."""

from collections.abc import Sequence
from datetime import datetime

from ..model import AuditEntry, Incident, State
from ..ports import Transaction


async def note_exhausted(tx: Transaction, written: Sequence[Incident], now: datetime) -> None:
    """Note in the audit each incident that is open and has no next_due_at, once per episode and level.

    Health counts these notes. The search for rows that no trigger saw leaves out the rows that have such a note.
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
