"""The Operations and SeenRequests ports."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from escalation_core.model import AuditSource, Integrity, LevelOutcome, OldRow, Pause

from .codec import instant, micros, span_micros
from .session import Session

_STANDING = (
    "i.incident_key IS NOT NULL AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL, i.episode,"
    " coalesce((SELECT max(e.episode) FROM escalation_events e WHERE e.incident_key = d.incident_key), 0)"
)
"""Whether the incident of d is open, the episode of its row, and the highest recorded one."""
_OLD_NOTES = f"""
SELECT d.id, d.incident_key, d.episode, {_STANDING}, 0, NULL
FROM escalation_audit d LEFT JOIN incidents i ON i.incident_key = d.incident_key
WHERE d.id > :after AND d.at < :before ORDER BY d.id LIMIT :limit
"""
_OLD_ESCALATIONS = f"""
SELECT d.id, d.incident_key, d.episode, {_STANDING},
    coalesce(max(p.state IN ('pending', 'leased', 'cancelling')), 0), max(p.due_at)
FROM (SELECT * FROM escalation_events WHERE id > :after AND created_at < :before ORDER BY id LIMIT :limit) d
LEFT JOIN incidents i ON i.incident_key = d.incident_key
LEFT JOIN escalation_pages p ON p.incident_key = d.incident_key AND p.episode = d.episode AND p.level = d.level
GROUP BY d.id ORDER BY d.id
"""


@attrs.frozen
class Operations:
    """Operators' pauses, retention and integrity, in one transaction."""

    session: Session

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        """Return the pauses that end after ``now``, by their index."""
        rows = await self.session.rows(
            "SELECT starts_at, ends_at, actor, reason, lifts_schedule FROM escalation_pauses"
            " WHERE ends_at > ? ORDER BY id",
            (micros(now),),
        )
        return [Pause.from_row(row, instant) for row in rows]

    async def add_pause(self, pause: Pause) -> None:
        """Insert a row."""
        await self.session.run(
            "INSERT INTO escalation_pauses (starts_at, ends_at, actor, reason, lifts_schedule) VALUES (?, ?, ?, ?, ?)",
            (micros(pause.starts_at), micros(pause.ends_at), pause.actor, pause.reason, pause.lifts_schedule),
        )

    async def end_pauses(self, now: datetime) -> int:
        """End at ``now`` each pause that has not ended, and return how many; rows that lift the schedule stay."""
        return await self.session.run(
            "UPDATE escalation_pauses SET ends_at = max(starts_at, :now) WHERE ends_at > :now AND NOT lifts_schedule",
            {"now": micros(now)},
        )

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Make the pauses that begin after ``now`` earlier by ``step``."""
        await self.session.run(
            "UPDATE escalation_pauses SET starts_at = min(starts_at - :step, :now), ends_at = ends_at - :step"
            " WHERE starts_at > :now",
            {"now": micros(now), "step": span_micros(step)},
        )

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        """Return a batch of old rows, by the primary key."""
        statement = _OLD_NOTES if source is AuditSource.NOTE else _OLD_ESCALATIONS
        rows = await self.session.rows(statement, {"after": after, "before": micros(before), "limit": limit})
        return [OldRow.from_row(row, instant) for row in rows]

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        """Delete rows by the primary key, and pages by the key of their escalation."""
        numbers = [(number,) for number in ids]
        table = "escalation_audit" if source is AuditSource.NOTE else "escalation_events"

        def delete(connection: sqlite3.Connection) -> tuple[int, int]:
            pages = 0
            if source is not AuditSource.NOTE:
                pages = connection.executemany(
                    "DELETE FROM escalation_pages AS p WHERE (p.incident_key, p.episode, p.level) ="
                    " (SELECT incident_key, episode, level FROM escalation_events WHERE id = ?)",
                    numbers,
                ).rowcount
            return connection.executemany(f"DELETE FROM {table} WHERE id = ?", numbers).rowcount, pages

        return await self.session.in_thread(delete)

    async def delete_pauses(self, *, before: datetime) -> int:
        """Delete pauses that ended before ``before``."""
        return await self.session.run("DELETE FROM escalation_pauses WHERE ends_at < ?", (micros(before),))

    async def integrity(self) -> Integrity:
        """Count escalations and pages, and those without their counterpart."""
        row = await self.session.row(
            "SELECT (SELECT count(*) FROM escalation_events),"
            " (SELECT count(*) FROM (SELECT DISTINCT incident_key, episode, level FROM escalation_events)),"
            " (SELECT count(*) FROM escalation_events e WHERE e.outcome IS NOT ?"
            " AND NOT EXISTS (SELECT 1 FROM escalation_pages p"
            " WHERE p.incident_key = e.incident_key AND p.episode = e.episode AND p.level = e.level)),"
            " (SELECT count(*) FROM escalation_pages p WHERE NOT EXISTS (SELECT 1 FROM escalation_events e"
            " WHERE e.incident_key = p.incident_key AND e.episode = p.episode AND e.level = p.level)),"
            " (SELECT count(*) FROM escalation_pages) - (SELECT count(*) FROM"
            " (SELECT DISTINCT incident_key, episode, level, target FROM escalation_pages))",
            (LevelOutcome.NOBODY,),
        )
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        count, distinct, without_page, without_escalation, copies = row
        pages = await self.session.rows("SELECT state, count(*) FROM escalation_pages GROUP BY 1 ORDER BY 1")
        return Integrity(
            escalations=count,
            duplicates=count - distinct,
            without_page=without_page,
            without_escalation=without_escalation,
            copies=copies,
            pages=dict(pages),
        )


@attrs.frozen
class SeenRequests:
    """The ids of signed requests, in one transaction."""

    session: Session

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert the id; return False if the primary key is taken."""
        await self.delete_expired(now=now)
        inserted = await self.session.run(
            "INSERT INTO escalation_requests (message_id, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (message_id, micros(expires)),
        )
        return inserted == 1

    async def delete_expired(self, *, now: datetime) -> int:
        """Delete expired ids."""
        return await self.session.run("DELETE FROM escalation_requests WHERE expires_at <= ?", (micros(now),))
