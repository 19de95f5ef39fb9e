"""The Operations port."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from escalation_core.model import AuditSource, Integrity, OldRow, Pause

from .session import Session, instant


@attrs.frozen
class Operations:
    """What operators set, and which of their requests were seen, in one transaction."""

    session: Session

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Read them by the index of those that end later."""
        return [Pause.from_row(row, instant) for row in await self.session.rows("pauses", now=now)]

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""
        await self.session.run("add_pause", **attrs.asdict(pause))

    async def end_pauses(self, now: datetime) -> int:
        """Bring their ends forward."""
        return await self.session.run("end_pauses", now=now)

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Bring those forward that lie ahead."""
        await self.session.run("shift_pauses", now=now, step=step)

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Read a batch by the primary key."""
        name = "old_notes" if source is AuditSource.NOTE else "old_escalations"
        rows = await self.session.rows(name, before=before, after=after, limit=limit)
        return [OldRow.from_row(row, instant) for row in rows]

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        """Delete by the primary key, in one statement."""
        if source is AuditSource.NOTE:
            return await self.session.run("delete_notes", ids=list(ids)), 0
        row = await self.session.row("delete_escalations", ids=list(ids))
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        gone, pages = row
        return gone, pages

    async def delete_pauses(self, *, before: datetime) -> int:
        """Delete."""
        return await self.session.run("delete_pauses", before=before)

    async def integrity(self) -> Integrity:
        """Count."""
        row = await self.session.row("integrity")
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        count, distinct, without_page, adopted, without_escalation, copies = row
        return Integrity(
            escalations=count,
            duplicates=count - distinct,
            without_page=without_page,
            adopted=adopted,
            without_escalation=without_escalation,
            copies=copies,
            pages=dict(await self.session.rows("integrity_pages")),
        )


@attrs.frozen
class SeenRequests:
    """The ids of signed requests, in one transaction."""

    session: Session

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert the id; the key tells whether it was there."""
        await self.session.run("delete_expired_requests", now=now)
        return await self.session.run("claim_request_id", message_id=message_id, expires=expires) == 1

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete them, and rate-limit rows of idle keys."""
        await self.session.run("delete_limits")
        return await self.session.run("delete_expired", now=now)
