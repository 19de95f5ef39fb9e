"""The Ledger port on escalation_events, whose unique keys keep an escalation from being recorded twice."""

from collections.abc import Mapping, Sequence

import attrs

from escalation_core import Escalation
from escalation_core.model import AuditRange, LatestEscalation

from .session import Session, instant


@attrs.frozen
class Ledger:
    """The escalations, in one transaction."""

    session: Session

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        """Insert in one statement, and return which escalations were new.

        Nearly always all of them are new. So the optimistic form reports all as new, in half the time: if a unique key
        is taken, it fails and the transaction is retried (ADR 0023). The other form skips such a row.
        """
        values: dict[str, object] = {
            "keys": [escalation.incident_key for escalation in escalations],
            "episodes": [escalation.episode for escalation in escalations],
            "levels": [escalation.level for escalation in escalations],
            "hashes": [escalation.unique_hash for escalation in escalations],
            "instants": [escalation.created_at for escalation in escalations],
            "policies": [escalation.policy for escalation in escalations],
            "positions": [escalation.position for escalation in escalations],
            "outcomes": [escalation.outcome for escalation in escalations],
        }
        if self.session.optimistic:
            await self.session.later("record_new", **values)
            return [True] * len(escalations)
        new = {row[0] for row in await self.session.rows("record", suffix=b"", **values)}
        fresh = []
        for escalation in escalations:
            # If one call names an escalation twice, only the first one is new.
            fresh.append(escalation.unique_hash in new)
            new.discard(escalation.unique_hash)
        return fresh

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        """Return the highest recorded level of each episode, from the index."""
        rows = await self.session.rows(
            "highest", keys=[key for key, _ in episodes], episodes=[episode for _, episode in episodes]
        )
        return {(key, episode): LatestEscalation(level, instant(at)) for key, episode, level, at in rows}

    async def highest_episode(self, incident_key: str) -> int:
        """Return the highest recorded episode."""
        row = await self.session.row("highest_episode", key=incident_key)
        return int(row[0]) if row else 0

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations from their index, newest first."""
        rows = await self.session.rows("recent", limit=limit, key=incident_key, **attrs.asdict(reach))
        return [(row[0], Escalation.from_row(row[1:], instant)) for row in rows]

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        """Return escalations by id."""
        if incident_key is None:
            rows = await self.session.rows("escalations", after=after, limit=limit)
        else:
            rows = await self.session.rows("escalations_of", after=after, limit=limit, key=incident_key)
        return [(row[0], Escalation.from_row(row[1:], instant)) for row in rows]
