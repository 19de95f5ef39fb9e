"""The Operations port."""

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from escalation_core.pausing import Pause

from .session import Session


@attrs.frozen
class Operations:
    """What operators set, and which of their requests were seen, in one transaction."""

    session: Session

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Read them by the index of those that end later."""
        return [
            Pause(
                starts_at=start.replace(tzinfo=UTC),
                ends_at=end.replace(tzinfo=UTC),
                actor=actor,
                reason=reason,
                lifts_schedule=lifts,
            )
            for start, end, actor, reason, lifts in await self.session.rows("pauses", now=now)
        ]

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""
        await self.session.run("add_pause", **attrs.asdict(pause))

    async def end_pauses(self, now: datetime) -> int:
        """Bring their ends forward."""
        return await self.session.run("end_pauses", now=now)

    async def remember(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert the id; the key tells whether it was there."""
        await self.session.run("forget_requests", now=now)
        return await self.session.run("remember", message_id=message_id, expires=expires) == 1
