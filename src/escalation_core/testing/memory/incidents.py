"""The Incidents port."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ...keys import canary_bucket
from ...model import Claimed, Incident
from .state import State, Undo, is_open, read_row, write_row

LONGEST_PUT_BACK = timedelta(hours=1)


@attrs.frozen
class Incidents:
    """Rows of incidents. No step of a transaction waits, so no row needs a lock."""

    store: State
    undo: Undo

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        row = self.store.rows.get(incident_key)
        return None if row is None else Incident(**row)

    async def insert(self, incident: Incident) -> bool:
        if incident.incident_key in self.store.rows:
            return False
        await self.save(incident)
        return True

    async def save(self, incident: Incident) -> None:
        write_row(self.store, self.undo, attrs.asdict(incident))

    async def claim(self, *, until: datetime, limit: int, canary_pct: int) -> Sequence[Claimed]:
        return await self.peek(until=until, after=None, limit=limit, canary_pct=canary_pct)

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary_pct: int
    ) -> Sequence[Claimed]:
        found = [(due, key.encode(), key) for key, due in self._candidates(canary_pct) if due <= until]
        beyond = found if after is None else [row for row in found if row[:2] > (after[0], after[1].encode())]
        return [self._claimed(key) for _, _, key in sorted(beyond)[:limit]]

    async def advance(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            columns = {name: getattr(incident, name) for name in ("level", "last_escalated_at", "next_due_at")}
            write_row(self.store, self.undo, self.store.rows[incident.incident_key] | columns)
            self.undo.drop(self.store.unreadable, incident.incident_key)

    async def put_back(self, unreadable: Mapping[str, str], now: datetime) -> None:
        for key, fault in unreadable.items():
            attempts = self.store.unreadable.get(key, (0, ""))[0] + 1
            self.undo.put(self.store.unreadable, key, (attempts, fault))
            wait = min(timedelta(minutes=2 ** min(attempts - 1, 10)), LONGEST_PUT_BACK)
            write_row(self.store, self.undo, self.store.rows[key] | {"next_due_at": now + wait})

    async def walk(self, after: str | None, limit: int) -> Sequence[Claimed]:
        keys = sorted(key for key, row in self.store.rows.items() if (after is None or key > after) and is_open(row))
        return [self._claimed(key) for key in keys[:limit]]

    def earliest(self, canary_pct: int) -> datetime | None:
        return min((due for _, due in self._candidates(canary_pct)), default=None)

    def _candidates(self, canary_pct: int) -> Iterator[tuple[str, datetime]]:
        for key, due in self.store.due.items():
            if canary_pct >= 100 or canary_bucket(key) < canary_pct:
                yield key, due

    def _claimed(self, key: str) -> Claimed:
        row, was_unreadable = self.store.rows[key], key in self.store.unreadable
        incident, fault = read_row(row)
        return Claimed(
            incident_key=key,
            incident=incident,
            due_at=row["next_due_at"],
            fault=fault,
            was_unreadable=was_unreadable,
        )
