"""The Ledger port of MemoryStore."""

from collections.abc import Mapping, Sequence

import attrs

from ...model import AuditRange, Escalation, LatestEscalation
from .state import State, Undo, newest


@attrs.frozen
class Ledger:
    """The escalations."""

    store: State
    undo: Undo

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        return [self._record(escalation) for escalation in escalations]

    def _record(self, escalation: Escalation) -> bool:
        store, episode = self.store, (escalation.incident_key, escalation.episode)
        if escalation.unique_hash in store.hashes:
            return False
        number = next(store.numbers["ledger"])
        self.undo.put(store.ledger, number, escalation)
        self.undo.put(store.hashes, escalation.unique_hash, number)
        if episode not in store.levels or store.levels[episode].level < escalation.level:
            self.undo.put(store.levels, episode, LatestEscalation(escalation.level, escalation.created_at))
        highest = max(escalation.episode, store.episodes.get(escalation.incident_key, 0))
        self.undo.put(store.episodes, escalation.incident_key, highest)
        return True

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], LatestEscalation]:
        return {episode: self.store.levels[episode] for episode in episodes if episode in self.store.levels}

    async def highest_episode(self, incident_key: str) -> int:
        return self.store.episodes.get(incident_key, 0)

    async def recent(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        found = [(n, one) for n, one in self.store.ledger.items() if incident_key in (None, one.incident_key)]
        return newest(found, lambda one: (one[1].created_at, one[0]), reach, limit)

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        found = [
            (number, escalation)
            for number, escalation in self.store.ledger.items()
            if number > after and incident_key in (None, escalation.incident_key)
        ]
        return found[:limit]
