"""The Notices port on escalation_changes and escalation_notices."""

import sqlite3
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from escalation_core import Incident, InvalidValue, NoticeKind
from escalation_core.model import (
    Arrival,
    Change,
    ChangedIncident,
    ClaimedNotice,
    DueTarget,
    NewNotice,
    NoticeRecord,
    NoticeState,
)

from .codec import SELECTED, Row, instant, micros, optional_instant, optional_micros, read_incident, span_micros
from .outbox import read_pace
from .page_statements import PACE
from .session import Session

_NOTICE = (
    "n.id, n.kind, n.incident_key, n.episode, n.level, n.target, n.dedup_key, n.at, n.actor, n.first_seen, n.state,"
    " n.created_at, n.due_at, n.fence, n.attempts, n.reason, n.bundle, n.for_threads"
)
_COLUMNS = len(attrs.fields(NoticeRecord))
_UNSETTLED = "n.state IN ('pending', 'leased')"
_SETTLED = "state IN ('delivered', 'dead', 'expired')"
_NOTE = """
INSERT INTO escalation_changes (kind, incident_key, episode, at, actor, first_seen)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM escalation_pages WHERE incident_key = ?2)
"""
_READY = f"""
SELECT c.id, c.kind, c.incident_key, c.episode, c.at, c.actor, c.first_seen, i.incident_key IS NOT NULL, {SELECTED}
FROM escalation_changes c LEFT JOIN incidents i ON i.incident_key = c.incident_key
WHERE NOT EXISTS (
    SELECT 1 FROM escalation_pages p WHERE p.incident_key = c.incident_key AND p.due_at > ?
        AND (p.state = 'cancelling' OR p.state = 'leased' AND p.episode <= c.episode))
ORDER BY c.id LIMIT ?
"""
_ARRIVALS = """
SELECT p.episode, p.target, coalesce(max(p.level) FILTER (WHERE p.state = 'delivered'), max(p.level)),
    max(p.state = 'delivered')
FROM escalation_pages p
WHERE p.incident_key = ?1 AND (p.state IN ('leased', 'cancelling', 'delivered') OR p.fence > 1) AND NOT EXISTS (
    SELECT 1 FROM escalation_notices n
    WHERE n.incident_key = ?1 AND n.episode = p.episode AND n.target = p.target AND n.kind = 'resolved'
        AND n.state IN ('pending', 'leased', 'delivered'))
GROUP BY p.episode, p.target ORDER BY p.episode, p.target
"""
_ENQUEUE = """
INSERT INTO escalation_notices (kind, incident_key, episode, level, target, dedup_key, at, actor, first_seen, state,
    created_at, due_at, for_threads) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_CLAIM = f"""
SELECT {_NOTICE},
    EXISTS (
        SELECT 1 FROM escalation_notices f
        WHERE f.incident_key = n.incident_key AND f.episode = n.episode AND f.target = n.target AND f.id > n.id),
    i.incident_key IS NOT NULL, {SELECTED}
FROM escalation_notices n LEFT JOIN incidents i ON i.incident_key = n.incident_key
WHERE n.target = ? AND {_UNSETTLED} AND n.due_at <= ? ORDER BY n.due_at, n.id LIMIT ?
"""
_WRITE = (
    "UPDATE escalation_notices SET state = ?, due_at = ?, fence = ?, attempts = ?, reason = ?, bundle = ? WHERE id = ?"
)
_EXPIRE = f"""
UPDATE escalation_notices AS n SET state = 'expired', due_at = :now, fence = fence + 1
WHERE {_UNSETTLED} AND (n.state = 'pending' OR n.due_at <= :now)
    AND n.created_at < CASE n.kind WHEN 'resolved' THEN :resolved_before ELSE :before END
"""
_SHIFT = f"""
UPDATE escalation_notices AS n SET
    created_at = CASE WHEN created_at > :now THEN created_at - :step ELSE created_at END, due_at = due_at - :step
WHERE {_UNSETTLED} AND (n.created_at > :now OR n.state = 'pending' AND n.due_at > :now)
"""
_DELETE = f"""
DELETE FROM escalation_notices AS n WHERE {_SETTLED} AND due_at < ? AND NOT EXISTS (
    SELECT 1 FROM escalation_pages p WHERE p.incident_key = n.incident_key AND p.episode = n.episode)
"""
_DUE = f"""
SELECT n.target, n.due_at, {PACE} FROM escalation_notices n LEFT JOIN escalation_targets t ON t.target = n.target
WHERE {_UNSETTLED} AND n.target > ? ORDER BY n.target, n.due_at LIMIT 1
"""


@attrs.frozen
class Notices:
    """The changes and the notices, in one transaction."""

    session: Session

    async def note(self, changes: Sequence[Change]) -> None:
        """Insert the changes of incidents that have a page."""
        await self.session.run_many(_NOTE, [_change_values(change) for change in changes])

    async def ready(self, limit: int, now: datetime) -> Sequence[ChangedIncident]:
        """Return changes by id. A transaction of SQLite has no rival."""
        rows = await self.session.rows(_READY, (micros(now), limit))
        return [ChangedIncident(_change(row[:7]), _incident(row[7:])) for row in rows]

    async def arrivals(self, keys: Sequence[str]) -> Mapping[str, Sequence[Arrival]]:
        """Return the claimed pages by the unique index of pages."""

        def find(connection: sqlite3.Connection) -> dict[str, list[Row]]:
            return {key: connection.execute(_ARRIVALS, (key,)).fetchall() for key in keys}

        return {
            key: [Arrival(episode=row[0], target=row[1], level=row[2], certain=bool(row[3])) for row in rows]
            for key, rows in (await self.session.in_thread(find)).items()
            if rows
        }

    async def enqueue(self, notices: Sequence[NewNotice], now: datetime) -> None:
        """Insert notices that are not there yet."""
        at = micros(now)
        values = [(notice, _change_values(notice.change)) for notice in notices]
        await self.session.run_many(
            _ENQUEUE,
            [
                (*what[:3], new.level, new.target, new.dedup_key, *what[3:], at, at, new.for_threads)
                for new, what in values
            ],
        )

    async def delete_changes(self, ids: Sequence[int]) -> None:
        """Delete by id."""
        await self.session.run_many("DELETE FROM escalation_changes WHERE id = ?", [(number,) for number in ids])

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Go from target to target in their index."""

        def found(connection: sqlite3.Connection) -> Mapping[str, DueTarget]:
            targets: dict[str, DueTarget] = {}
            target = ""
            while (row := connection.execute(_DUE, (target,)).fetchone()) is not None:
                target, due_at, *pace = row
                targets[target] = DueTarget(due_at=instant(due_at), pace=None if pace[0] is None else read_pace(pace))
            return targets

        return await self.session.in_thread(found)

    async def has_changes(self) -> bool:
        """Return whether there is any change."""
        return await self.session.row("SELECT 1 FROM escalation_changes LIMIT 1") is not None

    async def claim(self, capacity: Mapping[str, int], *, until: datetime) -> Sequence[ClaimedNotice]:
        """Return due notices of each target."""

        def found(connection: sqlite3.Connection) -> list[Row]:
            at = micros(until)
            shares = (connection.execute(_CLAIM, (target, at, count)).fetchall() for target, count in capacity.items())
            return [row for share in shares for row in share]

        claimed = [
            ClaimedNotice(
                NoticeRecord.from_row(row[:_COLUMNS], instant),
                _incident(row[_COLUMNS + 1 :]),
                followed=bool(row[_COLUMNS]),
            )
            for row in await self.session.in_thread(found)
        ]
        return sorted(claimed, key=lambda one: (one.notice.due_at, one.notice.id))

    async def write(self, notices: Sequence[NoticeRecord]) -> None:
        """Write notices, one by one."""
        await self.session.run_many(_WRITE, [(*_written(notice), notice.id) for notice in notices])

    async def settle(self, notices: Sequence[NoticeRecord]) -> AbstractSet[int]:
        """Write notices whose fence is still the one before theirs; return their ids."""

        def settled(connection: sqlite3.Connection) -> AbstractSet[int]:
            statement = f"{_WRITE} AND fence = ?"
            return {
                notice.id
                for notice in notices
                if connection.execute(statement, (*_written(notice), notice.id, notice.fence - 1)).rowcount == 1
            }

        return await self.session.in_thread(settled)

    async def delete_notices(self, ids: Sequence[int]) -> None:
        """Delete by id."""
        await self.session.run_many("DELETE FROM escalation_notices WHERE id = ?", [(number,) for number in ids])

    async def expire(self, *, before: datetime, resolved_before: datetime, now: datetime) -> int:
        """Update the unsettled ones."""
        values = {"before": micros(before), "resolved_before": micros(resolved_before), "now": micros(now)}
        return await self.session.run(_EXPIRE, values)

    async def shift(self, now: datetime, step: timedelta) -> None:
        """Update the unsettled ones."""
        await self.session.run(_SHIFT, {"now": micros(now), "step": span_micros(step)})

    async def notices(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: NoticeState | None = None,
        target: str | None = None,
        bundle: str | None = None,
    ) -> Sequence[NoticeRecord]:
        """Return notices by id."""
        where, values = ["n.id > ?"], list[object]([after])
        given = ("incident_key", incident_key), ("state", None if state is None else state.value), ("target", target)
        for column, value in given:
            if value is not None:
                where.append(f"n.{column} = ?")
                values.append(value)
        if bundle is not None:
            where.append("n.bundle >= ? AND n.bundle < ?")
            values += [bundle, f"{bundle}g"]
        statement = f"SELECT {_NOTICE} FROM escalation_notices n WHERE {' AND '.join(where)} ORDER BY n.id LIMIT ?"
        return [NoticeRecord.from_row(row, instant) for row in await self.session.rows(statement, (*values, limit))]

    async def counts(self, *, since: datetime) -> Mapping[NoticeState, int]:
        """Count from the indexes of unsettled and of settled notices."""
        rows = await self.session.rows(
            f"SELECT state, count(*) FROM escalation_notices n WHERE {_UNSETTLED} GROUP BY 1 UNION ALL"
            f" SELECT state, count(*) FROM escalation_notices WHERE {_SETTLED} AND due_at >= ? GROUP BY 1",
            (micros(since),),
        )
        return {NoticeState(state): count for state, count in rows}

    async def delete(self, *, before: datetime) -> int:
        """Delete notices by their index, and old changes."""
        at = (micros(before),)
        changes = await self.session.run("DELETE FROM escalation_changes WHERE at < ?", at)
        return changes + await self.session.run(_DELETE, at)


def _change_values(change: Change) -> tuple[object, ...]:
    begin = optional_micros(change.first_seen)
    return change.kind.value, change.incident_key, change.episode, micros(change.at), change.actor, begin


def _change(row: Row) -> Change:
    number, kind, key, episode, at, actor, first_seen = row
    return Change(
        id=number,
        kind=NoticeKind(kind),
        incident_key=key,
        episode=episode,
        at=instant(at),
        actor=actor,
        first_seen=optional_instant(first_seen),
    )


def _written(notice: NoticeRecord) -> tuple[object, ...]:
    instants = notice.state.value, micros(notice.due_at)
    return *instants, notice.fence, notice.attempts, notice.reason, notice.bundle


def _incident(row: Row) -> Incident | None:
    """Return the incident in a row, which begins with whether there is one; None if it cannot be read."""
    if not row[0]:
        return None
    try:
        return read_incident(row[1:])
    except InvalidValue:
        return None
