"""The Walks port of MemoryStore."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ...model import (
    BUILTIN,
    LATELY,
    MAX_NAME_CHARS,
    MAX_UNKNOWN_POLICIES,
    WORKER_RUNS,
    AuditEntry,
    By,
    Incident,
    KeptVersion,
    LevelOutcome,
    Pin,
    ShiftOverride,
    WalkStats,
    files_of,
)
from ..host import Row
from .journal import Journal, step_of
from .state import State, Undo, is_open, read_row, write_row

MOVED = (
    "level",
    "episode",
    "last_escalated_at",
    "next_due_at",
    "acknowledged_at",
    "policy_pin",
    "policy_level",
    "policy_since",
)


@attrs.frozen
class Walks:
    """The walks of incidents, and the kept versions."""

    store: State
    undo: Undo

    async def move(self, incidents: Sequence[Incident]) -> None:
        for incident in incidents:
            row = self.store.rows[incident.incident_key]
            columns = {name: getattr(incident, name) for name in MOVED}
            if incident.acknowledged_by != (row["acknowledged_by"] or "")[:MAX_NAME_CHARS]:
                columns["acknowledged_by"] = incident.acknowledged_by
            write_row(self.store, self.undo, row | columns)
            self.undo.drop(self.store.unreadable, incident.incident_key)

    async def keep(self, texts: Mapping[str, str]) -> None:
        for digest, text in texts.items():
            if digest not in self.store.versions:
                self.undo.put(self.store.versions, digest, KeptVersion(text, self.store.clock()))

    async def versions(self, digests: Sequence[str]) -> Mapping[str, KeptVersion]:
        return {digest: self.store.versions[digest] for digest in digests if digest in self.store.versions}

    async def positions(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Mapping[str, int]]:
        found: dict[tuple[str, int], dict[str, int]] = {}
        wanted = set(episodes)
        for one in sorted(self.store.ledger.values(), key=lambda one: one.level):
            episode = (one.incident_key, one.episode)
            if episode in wanted:
                position = one.level if one.position is None else one.position
                found.setdefault(episode, {})[one.policy or BUILTIN] = position
        return found

    async def pinned(self, policy: str, *, after: str | None, limit: int) -> Sequence[Incident]:
        found: list[Incident] = []
        for key in sorted(self.store.rows):
            incident, _ = read_row(self.store.rows[key])
            if incident is None or incident.resolved_at is not None or (after is not None and key <= after):
                continue
            pin = Pin.parse(incident.policy_pin)
            if pin is not None and pin.policy == policy:
                found.append(incident)
        return found[:limit]

    async def record_digest(self, worker: str, digest: str) -> datetime | None:
        if worker in self.store.beats:
            self.undo.put(self.store.digests, worker, digest)
        return self.store.reloads.get("reload")

    async def request_reload(self, who: By) -> datetime:
        now = self.store.clock()
        self.undo.put(self.store.reloads, "reload", now)
        await Journal(self.store, self.undo).note([who.entry(now, "reload")])
        return now

    async def add_override(self, override: ShiftOverride) -> None:
        self.undo.put(self.store.overrides, next(self.store.numbers["overrides"]), override)

    async def overrides(self, now: datetime) -> Sequence[ShiftOverride]:
        return [one for one in self.store.overrides.values() if one.ends_at > now]

    async def delete_overrides(self, *, before: datetime) -> int:
        over = [number for number, one in self.store.overrides.items() if one.ends_at < before]
        for number in over:
            self.undo.drop(self.store.overrides, number)
        return len(over)

    async def stats(self, now: datetime) -> WalkStats:
        day = now - timedelta(days=1)
        unknown = {
            (row["incident_key"], row["policy"][:MAX_NAME_CHARS])
            for note, row in self._noted("unknown_policy")
            if row["policy"] is not None and row["policy"][:MAX_NAME_CHARS] == note.reason
            if row["policy"] != _pinned_to(row)
        }
        names = Counter(name for _, name in sorted(unknown, key=lambda one: one[1]))
        off = Counter(
            step_of(note)
            for note, row in self._noted("put_off")
            if is_open(row) and note.level == row["level"] and note.reason == _pinned_to(row)
        )
        return WalkStats(
            unknown_policies=dict(names.most_common(MAX_UNKNOWN_POLICIES)),
            put_off=sum(count > 1 for count in off.values()),
            lately=dict(
                Counter(note.action for note in self.store.notes.values() if note.action in LATELY and note.at > day)
            ),
            worker_digests=files_of(
                Counter(
                    self.store.digests.get(worker, "")
                    for worker, at in self.store.beats.items()
                    if at > now - WORKER_RUNS
                )
            ),
            nobody_on_call=sum(
                one.outcome is LevelOutcome.DEFAULT and one.created_at > day for one in self.store.ledger.values()
            ),
            reload_requested_at=self.store.reloads.get("reload"),
        )

    def _noted(self, action: str) -> Iterator[tuple[AuditEntry, Row]]:
        """Yield the notes of an action about the episodes of rows that are not resolved, each with its row."""
        for note in self.store.notes.values():
            row = self.store.rows.get(note.incident_key or "")
            if note.action == action and row and row["resolved_at"] is None and row["episode"] == note.episode:
                yield note, row


def _pinned_to(row: Row) -> str | None:
    pin = Pin.parse(row["policy_pin"])
    return None if pin is None else pin.policy
