"""The Operations port."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ...pausing import Pause
from .state import State, Undo


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
