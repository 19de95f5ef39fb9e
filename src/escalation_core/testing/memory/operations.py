"""The Operations port."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from ...model import AuditSource, Integrity, PageRecord, Pause
from .state import State, Undo, is_open


@attrs.frozen
class Operations:
    """What operators set, and which of their requests were seen."""

    store: State
    undo: Undo

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        return [pause for pause in self.store.pauses.values() if pause.ends_at > now]

    async def add_pause(self, pause: Pause) -> None:
        self.undo.put(self.store.pauses, next(self.store.numbers["pauses"]), pause)

    async def end_pauses(self, now: datetime) -> int:
        standing = [
            (number, pause)
            for number, pause in self.store.pauses.items()
            if pause.ends_at > now and not pause.lifts_schedule
        ]
        for number, pause in standing:
            self.undo.put(self.store.pauses, number, attrs.evolve(pause, ends_at=now))
        return len(standing)

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        for number, pause in list(self.store.pauses.items()):
            if pause.starts_at > now:
                earlier = attrs.evolve(pause, starts_at=min(pause.starts_at - step, now), ends_at=pause.ends_at - step)
                self.undo.put(self.store.pauses, number, earlier)

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        for seen, end in list(self.store.requests.items()):
            if end <= now:
                self.undo.drop(self.store.requests, seen)
        if message_id in self.store.requests:
            return False
        self.undo.put(self.store.requests, message_id, expires)
        return True

    async def prune(
        self, source: AuditSource, *, before: datetime, after: int, limit: int
    ) -> tuple[int | None, int, int]:
        store = self.store
        if source is AuditSource.NOTE:
            seen = sorted(n for n, note in store.notes.items() if n > after and note.at < before)[:limit]
            gone = [n for n in seen if self._over(store.notes[n].incident_key, store.notes[n].episode)]
            for number in gone:
                self.undo.drop(store.notes, number)
            return (seen[-1] if seen else None), len(gone), 0
        seen = sorted(n for n, e in store.ledger.items() if n > after and e.created_at < before)[:limit]
        count = pages = 0
        for number in seen:
            escalation = store.ledger[number]
            step = (escalation.incident_key, escalation.episode, escalation.level)
            of_it = [page for page in store.pages.values() if (page.incident_key, page.episode, page.level) == step]
            settled = all(page.id not in store.unsettled and page.due_at < before for page in of_it)
            # The highest that is recorded stays whatever followed: a key that is deleted counts on from it.
            if settled and self._over(*step[:2]) and step[1] < store.episodes.get(step[0], 0):
                self._remove(number, of_it)
                count, pages = count + 1, pages + len(of_it)
        return (seen[-1] if seen else None), count, pages

    async def delete_expired(self, *, before: datetime, now: datetime) -> int:
        over = [number for number, pause in self.store.pauses.items() if pause.ends_at < before]
        expired = [message_id for message_id, end in self.store.requests.items() if end <= now]
        for number in over:
            self.undo.drop(self.store.pauses, number)
        for message_id in expired:
            self.undo.drop(self.store.requests, message_id)
        return len(over) + len(expired)

    async def integrity(self) -> Integrity:
        steps = Counter((e.incident_key, e.episode, e.level) for e in self.store.ledger.values())
        pages = [(p.incident_key, p.episode, p.level) for p in self.store.pages.values()]
        return Integrity(
            escalations=steps.total(),
            duplicates=steps.total() - len(steps),
            without_page=len(steps.keys() - set(pages)),
            without_escalation=sum(
                (p.incident_key, p.episode, p.level) not in steps for p in self.store.pages.values()
            ),
            pages=dict(sorted(Counter(page.state.value for page in self.store.pages.values()).items())),
        )

    def _over(self, key: str | None, episode: int | None) -> bool:
        """Tell whether this is about no open incident, and about an episode that another one followed."""
        if key is None:
            return True
        row = self.store.rows.get(key)
        highest = max(self.store.episodes.get(key, 0), 0 if row is None else row["episode"] or 0)
        return (row is None or not is_open(row)) and (episode or 0) < highest

    def _remove(self, number: int, pages: Sequence[PageRecord]) -> None:
        store, escalation = self.store, self.store.ledger[number]
        for page in pages:
            self.undo.drop(store.page_ids, (page.incident_key, page.episode, page.level, page.target))
            self.undo.drop(store.pages, page.id)
        self.undo.drop(store.hashes, escalation.unique_hash)
        self.undo.drop(store.ledger, number)
        episode = (escalation.incident_key, escalation.episode)
        if not any((other.incident_key, other.episode) == episode for other in store.ledger.values()):
            self.undo.drop(store.levels, episode)
