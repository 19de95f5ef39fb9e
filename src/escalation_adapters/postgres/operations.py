"""The Operations and SeenRequests ports."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from escalation_core.model import AuditSource, Integrity, OldRow, Pause

from .session import Session, instant


@attrs.frozen
class Operations:
    """Operators' pauses, retention and integrity, in one transaction."""

    session: Session

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Return the pauses that end after ``now``. Usually there is none, as the first statement saw."""
        if not self.session.any_pause and self.session.at is not None and now >= self.session.at:
            return []
        return [Pause.from_row(row, instant) for row in await self.session.rows("pauses", now=now)]

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""
        self.session.any_pause = True
        await self.session.run("add_pause", **attrs.asdict(pause))

    async def end_pauses(self, now: datetime) -> int:
        """End at ``now`` each pause that has not ended, and return how many; rows that lift the schedule stay."""
        return await self.session.run("end_pauses", now=now)

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Make the pauses that begin after ``now`` earlier by ``step``."""
        await self.session.run("shift_pauses", now=now, step=step)

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Return a batch of old rows, by the primary key."""
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
        """Delete pauses that ended before ``before``."""
        return await self.session.run("delete_pauses", before=before)

    async def integrity(self) -> Integrity:
        """Count escalations and pages, and those without their counterpart."""
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
        """Insert the id; return False if the primary key is taken."""
        await self.session.run("delete_expired_requests", now=now)
        return await self.session.run("claim_request_id", message_id=message_id, expires=expires) == 1

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete expired ids, and rate-limit rows of idle keys."""
        await self.session.run("delete_limits")
        return await self.session.run("delete_expired", now=now)
