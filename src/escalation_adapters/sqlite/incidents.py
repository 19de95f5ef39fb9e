"""The Incidents port on the incidents table."""

import heapq
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice

import attrs

from escalation_core import Incident
from escalation_core.model import Canary, Candidate, Deferral, OpenRows, Unseen

from .codec import (
    COLUMNS,
    SELECTED,
    SQL_NAMES,
    WHOLE,
    WITHOUT_LABELS,
    Row,
    instant,
    micros,
    optional_instant,
    optional_micros,
    read_claimed,
    read_claims,
    read_incident,
    to_row,
)
from .session import Session

_NAMES = ", ".join(SQL_NAMES.values()) + ", canary_bucket"
_PLACES = ", ".join("?" for _ in range(len(COLUMNS) + 1))
_FOUND = (
    f"SELECT {SELECTED}, coalesce(u.attempts, 0) FROM incidents i"
    " LEFT JOIN escalation_unreadable u ON u.incident_key = i.incident_key"
)
_BARE = _FOUND.replace(SELECTED, WITHOUT_LABELS)
UNLESS_PASSED = """
    AND NOT EXISTS (
        SELECT 1 FROM escalation_unreadable r WHERE r.incident_key = i.incident_key AND r.passed_until > ?)
"""
"""Leaves out rows of incidents i that are passed over because the file refuses to write them."""
_ORDER = "ORDER BY i.next_due_at, i.incident_key LIMIT ?"
_DUE_AT, _KEY, _LABELS = (COLUMNS.index(name) for name in ("next_due_at", "incident_key", "labels"))
_KEEP = (
    "INSERT INTO escalation_unreadable (incident_key, attempts, fault, seen_at, passed_until) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (incident_key) DO UPDATE SET attempts = excluded.attempts, fault = excluded.fault,"
    " seen_at = excluded.seen_at, passed_until = excluded.passed_until"
)
_OPEN = "i.acknowledged_at IS NULL AND i.resolved_at IS NULL"
_LIST_DUE = (
    f"{_FOUND} WHERE i.next_due_at IS NOT NULL AND (:until IS NULL OR i.next_due_at <= :until) AND {_OPEN}"
    " AND (:due IS NULL OR (i.next_due_at, i.incident_key) > (:due, :key))"
    " ORDER BY i.next_due_at, i.incident_key LIMIT :limit"
)
_LIST_NOT_DUE = (
    f"{_FOUND} WHERE i.next_due_at IS NULL AND {_OPEN} AND (:after IS NULL OR i.incident_key > :after)"
    " ORDER BY i.incident_key LIMIT :limit"
)
_UNSEEN = """
SELECT i.incident_key,
    (:held_before IS NULL OR i.first_seen IS NULL OR i.first_seen >= :held_before)
    AND NOT EXISTS (
        SELECT 1 FROM escalation_audit a WHERE a.action = 'exhausted' AND a.incident_key = i.incident_key
            AND a.episode = i.episode AND a.level = i.escalation_level AND NOT EXISTS (
                SELECT 1 FROM escalation_audit r
                WHERE r.action = 'resolve' AND r.incident_key = i.incident_key AND r.episode = i.episode))
    AND NOT EXISTS (
        SELECT 1 FROM escalation_unreadable u WHERE u.incident_key = i.incident_key AND u.passed_until > :now)
FROM incidents i
WHERE i.next_due_at IS NULL AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL
    AND (:after IS NULL OR i.incident_key > :after)
ORDER BY i.incident_key LIMIT :limit
"""
_MARK_UNSEEN = """
UPDATE incidents AS i SET
    next_due_at = 0,
    episode = CASE WHEN f.again OR f.behind THEN f.next ELSE i.episode END,
    escalation_level = CASE WHEN f.again THEN 0 ELSE i.escalation_level END,
    last_escalated_at = CASE WHEN f.again THEN NULL ELSE i.last_escalated_at END,
    policy_pin = CASE WHEN f.again THEN NULL ELSE i.policy_pin END,
    policy_level = CASE
        WHEN f.again THEN NULL WHEN f.behind THEN min(i.policy_level, i.escalation_level) ELSE i.policy_level END,
    policy_since = CASE WHEN f.again THEN NULL ELSE i.policy_since END
FROM (
    SELECT o.incident_key AS key,
        EXISTS (
            SELECT 1 FROM escalation_audit r
            WHERE r.action = 'resolve' AND r.incident_key = o.incident_key AND r.episode = o.episode) AS again,
        EXISTS (
            SELECT 1 FROM escalation_events e WHERE e.incident_key = o.incident_key
                AND (e.episode > o.episode OR e.episode = o.episode AND e.level > o.escalation_level)) AS behind,
        1 + max(o.episode, coalesce((
            SELECT max(e.episode) FROM escalation_events e WHERE e.incident_key = o.incident_key), 0)) AS next
    FROM incidents o WHERE o.incident_key = ?
) AS f
WHERE i.incident_key = f.key
"""
WRITE = f"REPLACE INTO incidents ({_NAMES}) VALUES ({_PLACES})"
"""Writes a whole row, as ``codec.to_row`` makes it."""


@attrs.frozen
class Incidents:
    """Rows of incidents, in one transaction. Writers take turns on a file, so no row needs a lock of its own."""

    session: Session

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:  # noqa: ARG002 - see the class
        """Return one incident."""
        row = await self.session.row(f"SELECT {WHOLE} FROM incidents i WHERE i.incident_key = ?", (incident_key,))
        return None if row is None else read_incident(row)

    async def insert(self, incident: Incident) -> bool:
        """Insert a row unless its key is taken."""
        statement = f"INSERT INTO incidents ({_NAMES}) VALUES ({_PLACES}) ON CONFLICT DO NOTHING"
        return await self.session.run(statement, to_row(attrs.asdict(incident))) == 1

    async def save(self, incident: Incident) -> None:
        """Write every column."""
        await self.session.run(WRITE, to_row(attrs.asdict(incident)))

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        """Return due rows, oldest first."""
        return await self.peek(until=until, after=None, limit=limit, canary=canary)

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        """Return due rows beyond ``after``, oldest first."""
        where, values = f"i.next_due_at <= ?{UNLESS_PASSED}", [micros(until), micros(self.session.clock())]
        beyond: list[object] = []
        if after is not None:
            where += " AND (i.next_due_at, i.incident_key) > (?, ?)"
            beyond = [micros(after[0]), after[1]]

        def found(connection: sqlite3.Connection) -> list[Candidate]:
            if canary.whole:
                return read_claims(connection.execute(f"{_FOUND} WHERE {where} {_ORDER}", (*values, *beyond, limit)))
            # Merge each bucket's oldest rows, from the index: rows outside the canary are never read.
            statement = f"{_FOUND} WHERE i.canary_bucket = ? AND {where} {_ORDER}"
            buckets = [connection.execute(statement, (bucket, *values, *beyond, limit)) for bucket in canary.buckets]
            merged = heapq.merge(*buckets, key=lambda row: (row[_DUE_AT], row[_KEY].encode()))
            return read_claims(islice(merged, limit))

        return await self.session.in_thread(found)

    async def advance(self, incidents: Sequence[Incident]) -> None:
        """Write level and instants of many rows."""
        values = [
            (i.level, optional_micros(i.last_escalated_at), optional_micros(i.next_due_at), i.incident_key)
            for i in incidents
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE incidents SET escalation_level = ?, last_escalated_at = ?, next_due_at = ?"
                " WHERE incident_key = ?",
                values,
            )
            heal(connection, (value[-1] for value in values))

        await self.session.in_thread(write)

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Set next_due_at of rows, and record each one's fault and attempts."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_KEEP, [(*_kept(row, now), None) for row in rows])
            connection.executemany(
                "UPDATE incidents SET next_due_at = ? WHERE incident_key = ?",
                [(micros(row.until), row.incident_key) for row in rows],
            )

        await self.session.in_thread(write)

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return next_due_at of rows, as a host's triggers left it."""

        def find(connection: sqlite3.Connection) -> list[Row]:
            statement = "SELECT incident_key, next_due_at FROM incidents WHERE incident_key = ?"
            return [row for key in keys for row in connection.execute(statement, (key,))]

        return {key: optional_instant(due) for key, due in await self.session.in_thread(find)}

    async def left_alone(self, keys: Sequence[str]) -> Mapping[str, Deferral]:
        """Return the rows' entries in escalation_unreadable."""
        statement = (
            "SELECT u.incident_key, u.attempts, u.fault, coalesce(u.passed_until, i.next_due_at, u.seen_at)"
            " FROM escalation_unreadable u JOIN incidents i ON i.incident_key = u.incident_key"
            " WHERE u.incident_key = ?"
        )

        def find(connection: sqlite3.Connection) -> list[Row]:
            return [row for key in keys for row in connection.execute(statement, (key,))]

        return {row[0]: Deferral.from_row(row, instant) for row in await self.session.in_thread(find)}

    async def list_open(
        self, *, after: tuple[datetime | None, str] | None, limit: int, until: datetime | None = None
    ) -> Sequence[Candidate]:
        """Return open rows by their index on next_due_at; then those without it, by their index on the key."""
        due, key = after or (None, None)
        rows: list[Row] = []
        if after is None or due is not None:
            values = {"until": optional_micros(until), "due": optional_micros(due), "key": key, "limit": limit}
            rows += await self.session.rows(_LIST_DUE, values)
            key = None
        if until is None and len(rows) < limit:
            rows += await self.session.rows(_LIST_NOT_DUE, {"after": key, "limit": limit - len(rows)})
        return [read_claimed(row) for row in rows]

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Record the instant in escalation_unreadable, and leave the rows alone."""
        await self.session.run_many(_KEEP, [(*_kept(row, now), micros(row.until)) for row in rows])

    async def end_passing(self, beyond: datetime) -> None:
        """Clear each ``passed_until`` that lies after ``beyond``."""
        await self.session.run(
            "UPDATE escalation_unreadable SET passed_until = NULL WHERE passed_until > ?", (micros(beyond),)
        )

    async def unseen(
        self,
        after: str | None,
        *,
        limit: int,
        held_before: datetime | None,
        lock: bool = True,  # noqa: ARG002 - see the class
    ) -> Unseen:
        """Read a batch of open rows without next_due_at, by key, from their index."""
        rows = await self.session.rows(
            _UNSEEN,
            {
                "after": after,
                "limit": limit,
                "held_before": optional_micros(held_before),
                "now": micros(self.session.clock()),
            },
        )
        return Unseen([key for key, unseen in rows if unseen], rows[-1][0] if len(rows) == limit else None)

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        """Set next_due_at of rows to the epoch (needs replan), as a host's insert does."""
        await self.session.run_many(_MARK_UNSEEN, [(key,) for key in keys])

    async def scan_unresolved(
        self,
        after: str | None,
        limit: int,
        *,
        wait: bool = True,  # noqa: ARG002 - see the class
        labels: bool = False,
    ) -> OpenRows:
        """Return unresolved rows by key."""
        statement = (
            f"{_FOUND if labels else _BARE} WHERE (:after IS NULL OR i.incident_key > :after)"
            " AND i.resolved_at IS NULL ORDER BY i.incident_key LIMIT :limit"
        )
        values = {"after": after, "limit": limit}
        rows = await self.session.in_thread(lambda connection: read_claims(connection.execute(statement, values)))
        goes_on = len(rows) == limit or (rows and rows[-1].more)
        return OpenRows(rows, rows[-1].incident_key if goes_on else None)

    async def earliest(self, canary: Canary) -> datetime | None:
        """Return the earliest next_due_at within the canary."""
        least = f"SELECT min(next_due_at) FROM incidents i WHERE next_due_at IS NOT NULL{UNLESS_PASSED}"
        now = micros(self.session.clock())

        def found(connection: sqlite3.Connection) -> int | None:
            if canary.whole:
                value: int | None = connection.execute(least, (now,)).fetchone()[0]
                return value
            each = (
                connection.execute(f"{least} AND canary_bucket = ?", (now, bucket)).fetchone()[0]
                for bucket in canary.buckets
            )
            return min((value for value in each if value is not None), default=None)

        return optional_instant(await self.session.in_thread(found))


def heal(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Delete the deferrals of rows that were planned. Nearly always there are no deferrals at all."""
    if connection.execute("SELECT EXISTS (SELECT 1 FROM escalation_unreadable)").fetchone()[0]:
        connection.executemany("DELETE FROM escalation_unreadable WHERE incident_key = ?", [(key,) for key in keys])


def _kept(row: Deferral, now: datetime) -> tuple[object, ...]:
    return row.incident_key, row.attempts, row.fault, micros(now)
