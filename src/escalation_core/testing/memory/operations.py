"""The Operations port."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import attrs

from ...pausing import Pause
from ...position import Source
from ...proof import Proof
from .state import State, Undo, is_open


@attrs.frozen
class Operations:
    """What operators set, and which of their requests were seen."""

    store: State
    undo: Undo

    async def pauses(self, now: datetime) -> Sequence[Pause]:
        return [pause for pause in self.store.pauses.values() if pause.ends_at > now]

    async def add_pause(self, pause: Pause) -> None:
        self.undo.put(self.store.pauses, len(self.store.pauses) + 1, pause)

    async def end_pauses(self, now: datetime) -> int:
        standing = [
            (number, pause)
            for number, pause in self.store.pauses.items()
            if pause.ends_at > now and not pause.lifts_schedule
        ]
        for number, pause in standing:
            self.undo.put(self.store.pauses, number, attrs.evolve(pause, ends_at=now))
        return len(standing)

    async def remember(self, message_id: str, *, now: datetime, expires: datetime) -> bool:
        for seen, end in list(self.store.requests.items()):
            if end <= now:
                self.undo.drop(self.store.requests, seen)
        if message_id in self.store.requests:
            return False
        self.undo.put(self.store.requests, message_id, expires)
        return True

    async def prune(self, source: Source, *, before: datetime, after: int, limit: int) -> tuple[int | None, int]:
        store = self.store
        rows: dict[int, tuple[datetime, str | None, int | None]]
        if source is Source.ESCALATION:
            rows = {number: (e.created_at, e.incident_key, e.episode) for number, e in store.ledger.items()}
        elif source is Source.PAGE:
            settled = [page for number, page in store.pages.items() if number not in store.unsettled]
            rows = {page.id: (page.due_at, page.incident_key, page.episode) for page in settled}
        else:
            rows = {number: (note.at, note.incident_key, None) for number, note in store.notes.items()}
        seen = sorted(number for number, (at, _, _) in rows.items() if number > after and at < before)[:limit]
        gone = [number for number in seen if self._may_go(*rows[number][1:])]
        for number in gone:
            self._remove(source, number)
        return (seen[-1] if seen else None), len(gone)

    async def forget(self, *, before: datetime, now: datetime) -> int:
        over = [number for number, pause in self.store.pauses.items() if pause.ends_at < before]
        expired = [message_id for message_id, end in self.store.requests.items() if end <= now]
        for number in over:
            self.undo.drop(self.store.pauses, number)
        for message_id in expired:
            self.undo.drop(self.store.requests, message_id)
        return len(over) + len(expired)

    async def proof(self) -> Proof:
        steps = Counter((e.incident_key, e.episode, e.level) for e in self.store.ledger.values())
        pages = [(p.incident_key, p.episode, p.level) for p in self.store.pages.values()]
        return Proof(
            escalations=steps.total(),
            duplicates=steps.total() - len(steps),
            without_page=len(steps.keys() - set(pages)),
            without_escalation=sum(
                (p.incident_key, p.episode, p.level) not in steps for p in self.store.pages.values()
            ),
            pages=dict(sorted(Counter(page.state.value for page in self.store.pages.values()).items())),
        )

    def _may_go(self, key: str | None, episode: int | None) -> bool:
        if key is None:
            return True
        if key in self.store.rows and is_open(self.store.rows[key]):
            return False
        return episode is None or episode < self.store.episodes.get(key, 0)

    def _remove(self, source: Source, number: int) -> None:
        store = self.store
        if source is Source.NOTE:
            self.undo.drop(store.notes, number)
        elif source is Source.PAGE:
            page = store.pages[number]
            self.undo.drop(store.page_ids, (page.incident_key, page.episode, page.level, page.target))
            self.undo.drop(store.pages, number)
        else:
            escalation = store.ledger[number]
            self.undo.drop(store.hashes, escalation.unique_hash)
            self.undo.drop(store.levels, (escalation.incident_key, escalation.episode))
            self.undo.drop(store.ledger, number)
