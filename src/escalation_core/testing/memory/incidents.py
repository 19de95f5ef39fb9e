"""The Incidents port of MemoryStore."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

import attrs

from ...model import NEEDS_REPLAN, AuditEntry, Canary, Candidate, Deferral, Incident, OpenRows, Unseen
from ..host import WALK
from .state import State, Undo, is_open, long_labels, passed, read_row, write_row


@attrs.frozen
class Incidents:
    """Rows of incidents. Rows need no locks, because no step of a transaction waits."""

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

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        return await self.peek(until=until, after=None, limit=limit, canary=canary)

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        found = [(due, key.encode(), key) for key, due in self._candidates(canary) if due <= until]
        beyond = found if after is None else [row for row in found if row[:2] > (after[0], after[1].encode())]
        return [self._claimed(key) for _, _, key in sorted(beyond)[:limit]]

    async def advance(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            columns = {name: getattr(incident, name) for name in ("level", "last_escalated_at", "next_due_at")}
            write_row(self.store, self.undo, self.store.rows[incident.incident_key] | columns)
            self.undo.drop(self.store.unreadable, incident.incident_key)

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        for row in rows:
            self.undo.put(self.store.unreadable, row.incident_key, (row, None))
            columns = self.store.rows[row.incident_key] | {"next_due_at": row.until}
            write_row(self.store, self.undo, columns)

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        return {key: self.store.rows[key]["next_due_at"] for key in keys if key in self.store.rows}

    async def left_alone(self, keys: Sequence[str]) -> Mapping[str, Deferral]:
        return {
            key: attrs.evolve(row, until=until or self.store.rows[key]["next_due_at"] or self.store.clock())
            for key in keys
            if key in self.store.rows and key in self.store.unreadable
            for row, until in [self.store.unreadable[key]]
        }

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        for row in rows:
            self.undo.put(self.store.unreadable, row.incident_key, (row, row.until))

    async def list_open(
        self, *, after: tuple[datetime | None, str] | None, limit: int, until: datetime | None = None
    ) -> Sequence[Candidate]:
        placed = sorted(
            (_place(row["next_due_at"], key), key)
            for key, row in self.store.rows.items()
            if is_open(row) and (until is None or (row["next_due_at"] is not None and row["next_due_at"] <= until))
        )
        return [self._claimed(key) for place, key in placed if after is None or place > _place(*after)][:limit]

    async def unseen(self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True) -> Unseen:
        looked = sorted(
            key
            for key, row in self.store.rows.items()
            if row["next_due_at"] is None and is_open(row) and (after is None or key > after)
        )[:limit]
        exhausted = {(note.incident_key, note.episode, note.level) for note in self._notes("exhausted")}
        resolved = self._resolved()
        keys = [
            key
            for key in looked
            if (
                (key, (row := self.store.rows[key])["episode"], row["level"]) not in exhausted
                or (key, row["episode"]) in resolved
            )
            and (held_before is None or row["first_seen"] is None or row["first_seen"] >= held_before)
            and not passed(self.store, key)
        ]
        return Unseen(keys, looked[-1] if len(looked) == limit else None)

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        resolved = self._resolved()
        for key in keys:
            row = self.store.rows[key] | {"next_due_at": NEEDS_REPLAN}
            episode, highest = row["episode"], self.store.episodes.get(key, 0)
            recorded = self.store.levels.get((key, episode))
            if (key, episode) in resolved:
                row |= {"episode": max(episode, highest) + 1, "level": 0, "last_escalated_at": None}
                row |= dict.fromkeys(WALK)
            elif highest > episode or (recorded is not None and recorded.level > row["level"]):
                row["episode"] = highest + 1
                if row["policy_level"] is not None:
                    row["policy_level"] = min(row["policy_level"], row["level"])
            write_row(self.store, self.undo, row)

    def _notes(self, action: str) -> Iterator[AuditEntry]:
        return (note for note in self.store.notes.values() if note.action == action)

    def _resolved(self) -> set[tuple[str | None, int | None]]:
        """Return the episodes that the audit notes as resolved."""
        return {(note.incident_key, note.episode) for note in self._notes("resolve")}

    async def end_passing(self, beyond: datetime) -> None:
        for key, (row, until) in list(self.store.unreadable.items()):
            if until is not None and until > beyond:
                self.undo.put(self.store.unreadable, key, (row, None))

    async def scan_unresolved(
        self, after: str | None, limit: int, *, wait: bool = True, labels: bool = False
    ) -> OpenRows:
        keys = sorted(
            key for key, row in self.store.rows.items() if (after is None or key > after) and row["resolved_at"] is None
        )
        rows = [self._claimed(key, labels=labels) for key in keys[:limit]]
        return OpenRows(rows, rows[-1].incident_key if len(rows) == limit else None)

    def earliest(self, canary: Canary) -> datetime | None:
        return min((due for _, due in self._candidates(canary)), default=None)

    def _candidates(self, canary: Canary) -> Iterator[tuple[str, datetime]]:
        for key, due in self.store.due.items():
            if canary.has(key) and not passed(self.store, key):
                yield key, due

    def _claimed(self, key: str, *, labels: bool = True) -> Candidate:
        row, defer = self.store.rows[key], self.store.unreadable.get(key)
        row = row if labels else row | {"labels": {}}
        incident, fault = read_row(row)
        return Candidate(
            incident_key=key,
            incident=incident,
            due_at=row["next_due_at"],
            fault=fault,
            attempts=0 if defer is None else defer[0].attempts,
            labels_left_out=long_labels(row),
        )


def _place(due: datetime | None, key: str) -> tuple[bool, datetime, bytes]:
    """Return the place of a row in the list: rows without an instant are behind all others."""
    return due is None, due or NEEDS_REPLAN, key.encode()
