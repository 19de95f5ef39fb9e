"""The Operations port of MemoryStore."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from ...model import AuditSource, Integrity, LevelOutcome, OldRow, PageRecord, Pause
from .state import State, Undo, is_open


@attrs.frozen
class Operations:
    """Operators' pauses, retention and integrity."""

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

    async def old(self, source: AuditSource, *, before: datetime, after: int, limit: int) -> Sequence[OldRow]:
        store = self.store
        if source is AuditSource.NOTE:
            notes = sorted(n for n, note in store.notes.items() if n > after and note.at < before)[:limit]
            return [self._old(n, store.notes[n].incident_key, store.notes[n].episode) for n in notes]
        seen = sorted(n for n, e in store.ledger.items() if n > after and e.created_at < before)[:limit]
        rows = []
        for number in seen:
            pages = self._pages_of(number)
            row = self._old(number, store.ledger[number].incident_key, store.ledger[number].episode)
            rows.append(
                attrs.evolve(
                    row,
                    unsettled=any(page.id in store.unsettled for page in pages),
                    settled_at=max((page.due_at for page in pages), default=None),
                )
            )
        return rows

    async def delete(self, source: AuditSource, ids: Sequence[int]) -> tuple[int, int]:
        pages = 0
        for number in ids:
            if source is AuditSource.NOTE:
                self.undo.drop(self.store.notes, number)
            else:
                of_it = self._pages_of(number)
                self._remove(number, of_it)
                pages += len(of_it)
        return len(ids), pages

    async def delete_pauses(self, *, before: datetime) -> int:
        over = [number for number, pause in self.store.pauses.items() if pause.ends_at < before]
        for number in over:
            self.undo.drop(self.store.pauses, number)
        return len(over)

    async def integrity(self) -> Integrity:
        steps = Counter((e.incident_key, e.episode, e.level) for e in self.store.ledger.values())
        passed = {
            (e.incident_key, e.episode, e.level) for e in self.store.ledger.values() if e.outcome is LevelOutcome.NOBODY
        }
        pages = [(p.incident_key, p.episode, p.level) for p in self.store.pages.values()]
        return Integrity(
            escalations=steps.total(),
            duplicates=steps.total() - len(steps),
            without_page=len(steps.keys() - passed - set(pages)),
            without_escalation=sum(
                (p.incident_key, p.episode, p.level) not in steps for p in self.store.pages.values()
            ),
            pages=dict(sorted(Counter(page.state.value for page in self.store.pages.values()).items())),
        )

    def _old(self, number: int, key: str | None, episode: int | None) -> OldRow:
        row = None if key is None else self.store.rows.get(key)
        return OldRow(
            id=number,
            incident_key=key,
            episode=episode,
            is_open=row is not None and is_open(row),
            current_episode=None if row is None else row["episode"],
            highest_episode=0 if key is None else self.store.episodes.get(key, 0),
        )

    def _pages_of(self, number: int) -> list[PageRecord]:
        one = self.store.ledger[number]
        step = (one.incident_key, one.episode, one.level)
        return [page for page in self.store.pages.values() if (page.incident_key, page.episode, page.level) == step]

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


@attrs.frozen
class SeenRequests:
    """The ids of signed requests."""

    store: State
    undo: Undo

    async def claim_request_id(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        await self.delete_expired(now=now)
        if message_id in self.store.requests:
            return False
        self.undo.put(self.store.requests, message_id, expires)
        return True

    async def delete_expired(self, *, now: datetime) -> int:
        expired = [message_id for message_id, end in self.store.requests.items() if end <= now]
        for message_id in expired:
            self.undo.drop(self.store.requests, message_id)
        return len(expired)
