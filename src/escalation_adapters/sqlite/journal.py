"""The Journal port: audit, heartbeats, health's counts and the recalculation's cursor."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from escalation_core import AuditEntry
from escalation_core.model import (
    AuditRange,
    Canary,
    LastAttempts,
    Pace,
    RecalcState,
    Stats,
    TargetRecord,
    WorkerHeartbeat,
)

from .codec import instant, micros, optional_instant, optional_micros, span_micros
from .outbox import read_pace
from .page_statements import PACE, UNSETTLED
from .session import Session

_DAY = timedelta(days=1)
_UNHEARD = """
escalation_audit a JOIN incidents i ON i.incident_key = a.incident_key
WHERE a.action = 'unheard' AND a.episode = i.episode
    AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM escalation_pages p
        WHERE p.incident_key = a.incident_key AND p.episode = a.episode AND p.level >= a.level
            AND p.state = 'delivered')
"""
_STATS = f"""
SELECT
    count(*) FILTER (WHERE inside AND NOT deferred), min(due) FILTER (WHERE inside AND NOT deferred),
    (SELECT count(*) FROM incidents i WHERE i.next_due_at = 0 AND NOT EXISTS (
        SELECT 1 FROM escalation_unreadable r WHERE r.incident_key = i.incident_key AND r.passed_until > :now)),
    (SELECT count(*) FROM incidents i
        WHERE i.next_due_at IS NULL AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL AND EXISTS (
            SELECT 1 FROM escalation_audit a WHERE a.action = 'exhausted' AND a.incident_key = i.incident_key
                AND a.episode = i.episode AND a.level = i.escalation_level)),
    (SELECT min(created_at) FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling')),
    (SELECT count(*) FROM escalation_pages WHERE state = 'dead'),
    (SELECT count(DISTINCT a.incident_key) FROM {_UNHEARD}),
    (SELECT count(*) FROM escalation_unreadable JOIN incidents USING (incident_key)
        WHERE next_due_at IS NOT NULL OR (acknowledged_at IS NULL AND resolved_at IS NULL)),
    (SELECT user_version FROM pragma_user_version)
FROM (
    SELECT i.next_due_at AS due, :percent >= 100 OR i.canary_bucket < :percent AS inside,
        u.incident_key IS NOT NULL AS deferred
    FROM incidents i LEFT JOIN escalation_unreadable u ON u.incident_key = i.incident_key
    WHERE i.next_due_at > 0 AND i.next_due_at <= :now
)
"""
_RECORD_ATTEMPTS = """
INSERT INTO escalation_targets AS t (target, last_delivered_at, last_failed_at, last_error) VALUES (?, ?, ?, ?)
ON CONFLICT (target) DO UPDATE SET
    last_delivered_at = coalesce(
        max(t.last_delivered_at, excluded.last_delivered_at), t.last_delivered_at, excluded.last_delivered_at),
    last_error = CASE
        WHEN excluded.last_failed_at IS NULL OR t.last_failed_at > excluded.last_failed_at THEN t.last_error
        ELSE excluded.last_error END,
    last_failed_at = coalesce(max(t.last_failed_at, excluded.last_failed_at), t.last_failed_at, excluded.last_failed_at)
"""
_MOVE_BACK = """
UPDATE escalation_targets SET
    last_delivered_at = CASE WHEN last_delivered_at > :now THEN min(:now, last_delivered_at - :step)
        ELSE last_delivered_at END,
    last_failed_at = CASE WHEN last_failed_at > :now THEN min(:now, last_failed_at - :step) ELSE last_failed_at END
"""
_TARGETS = f"""
SELECT n.name, coalesce(p.backlog, 0), p.oldest, t.last_delivered_at, t.last_failed_at, t.last_error, {PACE}
FROM (
    SELECT target AS name FROM escalation_targets
    UNION SELECT DISTINCT p.target FROM escalation_pages p WHERE {UNSETTLED}
) n
LEFT JOIN escalation_targets t ON t.target = n.name
LEFT JOIN (
    SELECT p.target, count(*) AS backlog, min(p.created_at) AS oldest FROM escalation_pages p
    WHERE {UNSETTLED} GROUP BY p.target
) p ON p.target = n.name
ORDER BY n.name
"""
_OUTSIDE = "SELECT count(*) FROM incidents WHERE next_due_at > 0 AND next_due_at <= ? AND canary_bucket >= ?"


@attrs.frozen
class Journal:
    """The audit, heartbeats and counts, in one transaction."""

    session: Session

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        """Insert entries. An entry that is noted once, and is there already, is not written again."""
        await self.session.run_many(
            "INSERT INTO escalation_audit (at, action, incident_key, episode, level, actor, reason, target)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [
                (micros(e.at), e.action, e.incident_key, e.episode, e.level, e.actor, e.reason, e.target)
                for e in entries
            ],
        )

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Return audit entries from their index, newest first."""
        columns = "id, at, action, incident_key, episode, level, actor, reason, target"
        rows = await self.session.newest(columns, "escalation_audit", "at", reach, limit, incident_key)
        return [(row[0], AuditEntry.from_row(row[1:], instant)) for row in rows]

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        """Write this worker's row, and delete heartbeats that are older than a day or ahead of the clock."""
        now = self.session.clock()
        latest = await self.session.row("SELECT max(ticked_at) FROM escalation_workers")
        await self.session.run(
            "DELETE FROM escalation_workers WHERE ticked_at < ? OR ticked_at > ?",
            (micros(now - _DAY), micros(now + tolerance)),
        )
        await self.session.run(
            "INSERT INTO escalation_workers (worker, ticked_at, version) VALUES (?, ?, ?)"
            " ON CONFLICT (worker) DO UPDATE SET ticked_at = excluded.ticked_at, version = excluded.version",
            (worker, micros(now), version),
        )
        return now, None if latest is None else optional_instant(latest[0])

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        """Return the heartbeat of all workers together."""
        row = await self.session.row(
            "SELECT (SELECT value FROM escalation_meta WHERE name = 'made_at'), max(ticked_at),"
            " count(*) FILTER (WHERE ticked_at > ?) FROM escalation_workers",
            (micros(now - timedelta(days=1)),),
        )
        assert row is not None  # noqa: S101 - an aggregate has one row
        return WorkerHeartbeat(since=instant(row[0]), last=optional_instant(row[1]), workers=row[2])

    async def stats(self, *, now: datetime, canary: Canary, detail: bool = False) -> Stats:
        """Count incidents and pages for health."""
        row = await self.session.row(_STATS, {"now": micros(now), "percent": canary.percent})
        assert row is not None  # noqa: S101 - an aggregate has one row
        overdue, oldest, marked, exhausted, oldest_page, dead, unheard, unreadable, version = row
        examples = await self.session.rows(
            "SELECT incident_key, fault FROM escalation_unreadable JOIN incidents USING (incident_key)"
            " WHERE next_due_at IS NOT NULL OR (acknowledged_at IS NULL AND resolved_at IS NULL)"
            " ORDER BY seen_at, incident_key LIMIT 20"
        )
        backlog = await self.session.rows(
            "SELECT target, count(*) FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling')"
            " GROUP BY target ORDER BY target"
        )
        outside = await self.session.row(_OUTSIDE, (micros(now), canary.percent)) if detail else None
        return Stats(
            overdue=overdue,
            oldest_due=optional_instant(oldest),
            marked=marked,
            outside_canary=0 if outside is None else outside[0],
            exhausted=exhausted,
            backlog=dict(backlog),
            oldest_page=optional_instant(oldest_page),
            dead=dead,
            unheard=unheard,
            unreadable=unreadable,
            unreadable_examples=[(key, fault) for key, fault in examples],
            schema_version=str(version),
        )

    async def unheard(self, keys: Sequence[str] | None = None) -> AbstractSet[str]:
        """Begin at the notes, by their index."""
        rows = await self.session.rows(f"SELECT DISTINCT a.incident_key FROM {_UNHEARD}")
        found = {key for (key,) in rows}
        return found if keys is None else found & set(keys)

    async def record_attempts(self, latest: Sequence[LastAttempts], *, now: datetime, step: timedelta) -> None:
        """Write the rows of these targets. SQLite's max is NULL if any argument is."""
        if step:
            await self.session.run(_MOVE_BACK, {"now": micros(now), "step": span_micros(step)})
        rows = [
            (one.target, optional_micros(one.delivered_at), optional_micros(one.failed_at), one.error) for one in latest
        ]
        await self.session.run_many(_RECORD_ATTEMPTS, rows)

    async def targets(self) -> Sequence[TargetRecord]:
        """Read all rows, and count the unsettled pages by their index."""
        return [
            TargetRecord(
                target=name,
                pace=Pace(target=name) if pace[0] is None else read_pace(pace),
                attempts=LastAttempts(
                    target=name,
                    delivered_at=optional_instant(delivered),
                    failed_at=optional_instant(failed),
                    error=error,
                ),
                backlog=backlog,
                oldest_page=optional_instant(oldest),
            )
            for name, backlog, oldest, delivered, failed, error, *pace in await self.session.rows(_TARGETS)
        ]

    async def recalc(self, *, lock: bool = True) -> RecalcState:  # noqa: ARG002 - writers take turns on a file
        """Return how far the recalculation is."""
        columns = "requested_at, cursor, visited, finished_at, fingerprint, due_only, ahead, skipped, held_before"
        row = await self.session.row(f"SELECT {columns} FROM escalation_recalc")
        assert row is not None  # noqa: S101 - the schema inserts this one row
        return RecalcState.from_row(row, instant)

    async def recalc_unless_locked(self) -> RecalcState | None:
        """Return how far the recalculation is. A transaction that writes locks the whole file, so this never waits."""
        return await self.recalc()

    async def save_recalc(self, state: RecalcState) -> None:
        """Write how far the recalculation is."""
        await self.session.run(
            "UPDATE escalation_recalc SET requested_at = ?, cursor = ?, visited = ?, finished_at = ?, fingerprint = ?,"
            " due_only = ?, ahead = ?, skipped = ?, held_before = ?",
            (
                optional_micros(state.requested_at),
                state.cursor,
                state.visited,
                optional_micros(state.finished_at),
                state.fingerprint,
                state.due_only,
                optional_micros(state.ahead),
                state.skipped,
                optional_micros(state.held_before),
            ),
        )
