"""The Operations port."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from escalation_core.model import AuditSource, Integrity, Pause

from .codec import instant, micros, span_micros
from .session import Session

_RECORDED = "(SELECT max(e.episode) FROM escalation_events e WHERE e.incident_key = d.incident_key)"
_OVER = (
    "NOT EXISTS (SELECT 1 FROM incidents i WHERE i.incident_key = d.incident_key"
    " AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL)"
    f" AND coalesce(d.episode, 0) < max(coalesce({_RECORDED}, 0),"
    " coalesce((SELECT i.episode FROM incidents i WHERE i.incident_key = d.incident_key), 0))"
)
"""The row d belongs to no open incident, and to an episode that another one followed."""


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
            "UPDATE escalation_pauses SET ends_at = max(starts_at, :now) WHERE ends_at > :now AND NOT lifts_schedule",
            {"now": micros(now)},
        )

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        """Bring those forward that lie ahead."""
        await self.session.run(
            "UPDATE escalation_pauses SET starts_at = min(starts_at - :step, :now), ends_at = ends_at - :step"
            " WHERE starts_at > :now",
            {"now": micros(now), "step": span_micros(step)},
        )

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        """Insert the id; the key tells whether it was there."""
        await self.session.run("DELETE FROM escalation_requests WHERE expires_at <= ?", (micros(now),))
        inserted = await self.session.run(
            "INSERT INTO escalation_requests (message_id, expires_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (message_id, micros(expires)),
        )
        return inserted == 1

    async def prune(
        self, source: AuditSource, *, before: datetime, after: int, limit: int
    ) -> tuple[int | None, int, int]:
        """Look at a batch by the primary key, and delete what may go of it."""
        table, made = ("escalation_audit", "at") if source is AuditSource.NOTE else ("escalation_events", "created_at")
        batch = f"SELECT id FROM {table} WHERE id > :after AND {made} < :before ORDER BY id LIMIT :limit"
        values = {"after": after, "before": micros(before), "limit": limit}
        row = await self.session.row(f"SELECT max(id) FROM ({batch})", values)
        last = None if row is None else row[0]
        if source is AuditSource.NOTE:
            may_go = f"(d.incident_key IS NULL OR {_OVER})"
            gone = await self.session.run(f"DELETE FROM {table} AS d WHERE id IN ({batch}) AND {may_go}", values)
            return last, gone, 0
        going = await self.session.rows(
            f"SELECT d.incident_key, d.episode, d.level FROM {table} d WHERE d.id IN ({batch}) AND {_OVER}"
            # The highest that is recorded stays whatever followed: a key that is deleted counts on from it.
            f" AND d.episode < {_RECORDED}"
            " AND NOT EXISTS (SELECT 1 FROM escalation_pages p WHERE p.incident_key = d.incident_key"
            " AND p.episode = d.episode AND p.level = d.level"
            " AND NOT (p.state IN ('delivered', 'cancelled', 'dead') AND p.due_at < :before))",
            values,
        )

        def delete(connection: sqlite3.Connection) -> list[int]:
            statement = "DELETE FROM {} WHERE incident_key = ? AND episode = ? AND level = ?"
            return [connection.executemany(statement.format(of), going).rowcount for of in ("escalation_pages", table)]

        pages, gone = await self.session.in_thread(delete) if going else (0, 0)
        return last, gone, pages

    async def delete_expired(self, *, before: datetime, now: datetime) -> int:
        """Delete both."""
        pauses = await self.session.run("DELETE FROM escalation_pauses WHERE ends_at < ?", (micros(before),))
        return pauses + await self.session.run("DELETE FROM escalation_requests WHERE expires_at <= ?", (micros(now),))

    async def integrity(self) -> Integrity:
        """Count."""
        row = await self.session.row(
            "SELECT (SELECT count(*) FROM escalation_events),"
            " (SELECT count(*) FROM (SELECT DISTINCT incident_key, episode, level FROM escalation_events)),"
            " (SELECT count(*) FROM escalation_events e WHERE NOT EXISTS (SELECT 1 FROM escalation_pages p"
            " WHERE p.incident_key = e.incident_key AND p.episode = e.episode AND p.level = e.level)),"
            " (SELECT count(*) FROM escalation_pages p WHERE NOT EXISTS (SELECT 1 FROM escalation_events e"
            " WHERE e.incident_key = p.incident_key AND e.episode = p.episode AND e.level = p.level)),"
            " (SELECT count(*) FROM escalation_pages) - (SELECT count(*) FROM"
            " (SELECT DISTINCT incident_key, episode, level, target FROM escalation_pages))"
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
