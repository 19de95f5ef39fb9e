"""The Ledger port on escalation_events, whose unique keys keep an escalation from being recorded twice."""

import sqlite3
from collections.abc import Mapping, Sequence

import attrs

from escalation_core import Escalation
from escalation_core.model import AuditRange, LatestEscalation

from .codec import instant, micros
from .session import Session

_COLUMNS = "id, incident_key, episode, level, created_at, unique_hash, policy, position, outcome"


@attrs.frozen
class Ledger:
    """The escalations, in one transaction."""

    session: Session

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        """Insert escalations, and return which were new. A row whose unique key is taken is skipped."""
        values = [
            (e.incident_key, e.level, e.unique_hash, micros(e.created_at), e.episode, e.policy, e.position, e.outcome)
            for e in escalations
        ]

        def write(connection: sqlite3.Connection) -> list[bool]:
            statement = (
                "INSERT INTO escalation_events (incident_key, level, unique_hash, created_at, episode,"
                " policy, position, outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            )
            # Nearly always all of them are new, and then one call is enough.
            connection.execute("SAVEPOINT record")
            if connection.executemany(statement, values).rowcount != len(values):
                connection.execute("ROLLBACK TO record")
                return [connection.execute(statement, row).rowcount == 1 for row in values]
            connection.execute("RELEASE record")
            return [True] * len(values)

        return await self.session.in_thread(write)

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        """Return the highest recorded level of each episode."""
        statement = (
            "SELECT level, created_at FROM escalation_events WHERE incident_key = ? AND episode = ?"
            " ORDER BY level DESC LIMIT 1"
        )

        def found(connection: sqlite3.Connection) -> dict[tuple[str, int], LatestEscalation]:
            rows = {episode: connection.execute(statement, episode).fetchone() for episode in episodes}
            return {
                episode: LatestEscalation(row[0], instant(row[1])) for episode, row in rows.items() if row is not None
            }

        return await self.session.in_thread(found)

    async def highest_episode(self, incident_key: str) -> int:
        """Return the highest recorded episode."""
        row = await self.session.row(
            "SELECT coalesce(max(episode), 0) FROM escalation_events WHERE incident_key = ?", (incident_key,)
        )
        return int(row[0]) if row else 0

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations from their index, newest first."""
        rows = await self.session.newest(_COLUMNS, "escalation_events", "created_at", reach, limit, incident_key)
        return [(row[0], Escalation.from_row(row[1:], instant)) for row in rows]

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations by id."""
        rows = await self.session.rows(
            f"SELECT {_COLUMNS} FROM escalation_events"
            f" WHERE {'incident_key = ?' if incident_key is not None else '? IS NULL'} AND id > ? ORDER BY id LIMIT ?",
            (incident_key, after, limit),
        )
        return [(row[0], Escalation.from_row(row[1:], instant)) for row in rows]
