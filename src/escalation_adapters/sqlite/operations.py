"""The Operations port."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from escalation_core.pausing import Pause

from .codec import instant, micros
from .session import Session


@attrs.frozen
class Operations:
    """What operators set, and which of their requests were seen, in one transaction."""

    session: Session

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Read them by the index of those that end later."""
        rows = await self.session.rows(
            "SELECT starts_at, ends_at, actor, reason, lifts_schedule FROM escalation_pauses"
            " WHERE ends_at > ? ORDER BY id",
            (micros(now),),
        )
        return [
            Pause(
                starts_at=instant(start), ends_at=instant(end), actor=actor, reason=reason, lifts_schedule=bool(lifts)
            )
            for start, end, actor, reason, lifts in rows
        ]

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""
        await self.session.run(
            "INSERT INTO escalation_pauses (starts_at, ends_at, actor, reason, lifts_schedule) VALUES (?, ?, ?, ?, ?)",
            (micros(pause.starts_at), micros(pause.ends_at), pause.actor, pause.reason, pause.lifts_schedule),
        )

    async def end_pauses(self, now: datetime) -> int:
        """Bring their ends forward."""
        return await self.session.run(
            "UPDATE escalation_pauses SET ends_at = :now WHERE ends_at > :now AND NOT lifts_schedule",
            {"now": micros(now)},
        )

    async def remember(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert the id; the key tells whether it was there."""
        await self.session.run("DELETE FROM escalation_requests WHERE expires_at <= ?", (micros(now),))
        inserted = await self.session.run(
            "INSERT INTO escalation_requests (message_id, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (message_id, micros(expires)),
        )
        return inserted == 1
