"""The Incidents port."""

import heapq
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from escalation_core import Incident
from escalation_core.model import Claimed

from .codec import (
    COLUMNS,
    SELECTED,
    Row,
    micros,
    optional_instant,
    optional_micros,
    read_claimed,
    read_incident,
    row_of,
)
from .session import Session

_NAMES = ", ".join("escalation_level" if name == "level" else name for name in COLUMNS) + ", canary_bucket"
_PLACES = ", ".join("?" for _ in range(len(COLUMNS) + 1))
_FOUND = (
    f"SELECT {SELECTED}, u.incident_key IS NOT NULL FROM incidents i"
    " LEFT JOIN escalation_unreadable u ON u.incident_key = i.incident_key"
)
_ORDER = "ORDER BY i.next_due_at, i.incident_key LIMIT ?"
_DUE_AT, _KEY = COLUMNS.index("next_due_at"), COLUMNS.index("incident_key")
WRITE = f"REPLACE INTO incidents ({_NAMES}) VALUES ({_PLACES})"
"""Writes a whole row, as ``codec.row_of`` makes it."""


@attrs.frozen
class Incidents:
    """Rows of incidents, in one transaction. Writers take turns on a file, so no row needs a lock of its own."""

    session: Session

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:  # noqa: ARG002 - see the class
        """Return one incident."""
        row = await self.session.row(f"SELECT {SELECTED} FROM incidents i WHERE i.incident_key = ?", (incident_key,))
        return None if row is None else read_incident(row)

    async def insert(self, incident: Incident) -> bool:
        """Insert a row unless its key is taken."""
        statement = f"INSERT INTO incidents ({_NAMES}) VALUES ({_PLACES}) ON CONFLICT DO NOTHING"
        return await self.session.run(statement, row_of(attrs.asdict(incident))) == 1

    async def save(self, incident: Incident) -> None:
        """Write every column."""
        await self.session.run(WRITE, row_of(attrs.asdict(incident)))

    async def claim(self, *, until: datetime, limit: int, canary_pct: int) -> Sequence[Claimed]:
        """Return due rows, oldest first."""
        return await self.peek(until=until, after=None, limit=limit, canary_pct=canary_pct)

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary_pct: int
    ) -> Sequence[Claimed]:
        """Return due rows beyond ``after``, oldest first."""
        where, values = "i.next_due_at <= ?", [micros(until)]
        beyond: list[object] = []
        if after is not None:
            where += " AND (i.next_due_at, i.incident_key) > (?, ?)"
            beyond = [micros(after[0]), after[1]]

        def found(connection: sqlite3.Connection) -> list[Row]:
            if canary_pct >= 100:
                return connection.execute(f"{_FOUND} WHERE {where} {_ORDER}", (*values, *beyond, limit)).fetchall()
            # Each bucket's oldest from the index, merged: outsiders are never looked at.
            statement = f"{_FOUND} WHERE i.canary_bucket = ? AND {where} {_ORDER}"
            buckets = [
                connection.execute(statement, (bucket, *values, *beyond, limit)).fetchall()
                for bucket in range(canary_pct)
            ]
            merged = heapq.merge(*buckets, key=lambda row: (row[_DUE_AT], row[_KEY].encode()))
            return [row for _, row in zip(range(limit), merged, strict=False)]

        return [read_claimed(row) for row in await self.session.hop(found)]

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
            if connection.execute("SELECT EXISTS (SELECT 1 FROM escalation_unreadable)").fetchone()[0]:
                keys = [(value[3],) for value in values]
                connection.executemany("DELETE FROM escalation_unreadable WHERE incident_key = ?", keys)

        await self.session.hop(write)

    async def put_back(self, unreadable: Mapping[str, str], now: datetime) -> None:
        """Give unreadable rows another instant: a minute from now, doubling to an hour."""
        seen_at = micros(now)

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO escalation_unreadable (incident_key, attempts, fault, seen_at) VALUES (?, 1, ?, ?)"
                " ON CONFLICT (incident_key) DO UPDATE SET attempts = attempts + 1, fault = excluded.fault,"
                " seen_at = excluded.seen_at",
                [(key, fault, seen_at) for key, fault in unreadable.items()],
            )
            connection.executemany(
                "UPDATE incidents SET next_due_at = ? + 60000000 * min(60, 1 << min(u.attempts - 1, 10))"
                " FROM escalation_unreadable u WHERE u.incident_key = incidents.incident_key"
                " AND incidents.incident_key = ?",
                [(seen_at, key) for key in unreadable],
            )

        await self.session.hop(write)

    async def walk(self, after: str | None, limit: int) -> Sequence[Claimed]:
        """Return open rows by key."""
        rows = await self.session.rows(
            f"{_FOUND} WHERE (:after IS NULL OR i.incident_key > :after) AND i.acknowledged_at IS NULL"
            " AND i.resolved_at IS NULL ORDER BY i.incident_key LIMIT :limit",
            {"after": after, "limit": limit},
        )
        return [read_claimed(row) for row in rows]

    async def earliest(self, canary_pct: int) -> datetime | None:
        """Return the least instant within the canary."""
        least = "SELECT min(next_due_at) FROM incidents WHERE next_due_at IS NOT NULL"

        def found(connection: sqlite3.Connection) -> int | None:
            if canary_pct >= 100:
                value: int | None = connection.execute(least).fetchone()[0]
                return value
            each = (
                connection.execute(f"{least} AND canary_bucket = ?", (bucket,)).fetchone()[0]
                for bucket in range(canary_pct)
            )
            return min((value for value in each if value is not None), default=None)

        return optional_instant(await self.session.hop(found))
