"""The Journal port of MemoryStore."""

from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from operator import attrgetter

import attrs

from ...model import (
    NEEDS_REPLAN,
    NOTED_ONCE,
    AuditEntry,
    AuditRange,
    Canary,
    LastAttempts,
    Pace,
    PageState,
    RecalcState,
    Stats,
    TargetRecord,
    WorkerHeartbeat,
)
from ...rules.unheard import still_unheard
from .state import State, Undo, is_open, newest, open_episodes, passed, unheard_steps

SCHEMA_VERSION = "memory"
step_of = attrgetter("incident_key", "episode", "level")


@attrs.frozen
class Journal:
    """The audit notes, heartbeats, counts and recalculation state."""

    store: State
    undo: Undo

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            again = entry.action in NOTED_ONCE and any(
                (note.action, note.incident_key, note.episode, note.level)
                == (entry.action, entry.incident_key, entry.episode, entry.level)
                for note in self.store.notes.values()
            )
            if not again:
                self.undo.put(self.store.notes, next(self.store.numbers["notes"]), entry)

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        found = [(n, note) for n, note in self.store.notes.items() if incident_key in (None, note.incident_key)]
        return newest(found, lambda one: (one[1].at, one[0]), reach, limit)

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        now, latest = self.store.clock(), max(self.store.beats.values(), default=None)
        self.undo.put(self.store.beats, worker, now)
        for name, at in list(self.store.beats.items()):
            if now - at > timedelta(days=1) or at - now > tolerance:
                self.undo.drop(self.store.beats, name)
                self.undo.drop(self.store.digests, name)
        return now, latest

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        beats = self.store.beats.values()
        lately = sum(beat > now - timedelta(days=1) for beat in beats)
        return WorkerHeartbeat(since=self.store.made_at, last=max(beats, default=None), workers=lately)

    async def stats(self, *, now: datetime, canary: Canary, detail: bool = False) -> Stats:
        insiders = {key for key in self.store.due if canary.has(key)}
        come = {key: due for key, due in self.store.due.items() if NEEDS_REPLAN < due <= now}
        overdue = [due for key, due in come.items() if key in insiders and key not in self.store.unreadable]
        unsettled = [self.store.pages[number] for number in self.store.unsettled]
        unreadable = [
            (key, row.fault)
            for key, (row, _) in self.store.unreadable.items()
            if key in self.store.rows and (key in self.store.due or is_open(self.store.rows[key]))
        ]
        noted = {step_of(note) for note in self.store.notes.values() if note.action == "exhausted"}
        exhausted = [
            key
            for key, row in self.store.rows.items()
            if key not in self.store.due and is_open(row) and (key, row["episode"], row["level"]) in noted
        ]
        return Stats(
            overdue=len(overdue),
            oldest_due=min(overdue, default=None),
            marked=sum(due == NEEDS_REPLAN and not passed(self.store, key) for key, due in self.store.due.items()),
            exhausted=len(exhausted),
            outside_canary=len(come.keys() - insiders) if detail else 0,
            backlog=dict(Counter(page.target for page in unsettled)),
            oldest_page=min((page.created_at for page in unsettled), default=None),
            dead=sum(page.state is PageState.DEAD for page in self.store.pages.values()),
            unheard=len(await self.unheard()),
            unreadable=len(unreadable),
            unreadable_examples=unreadable[:20],
            schema_version=SCHEMA_VERSION,
        )

    async def unheard(self, keys: Sequence[str] | None = None) -> AbstractSet[str]:
        found = still_unheard(
            self.store.pages.values(), open_episodes=open_episodes(self.store), noted=unheard_steps(self.store)
        )
        return found if keys is None else found & set(keys)

    async def record_attempts(self, latest: Sequence[LastAttempts], *, now: datetime, step: timedelta) -> None:
        for target, kept in list(self.store.attempts.items()) if step else ():
            self.undo.put(self.store.attempts, target, kept.moved_back(now, step))
        for one in latest:
            kept = self.store.attempts.get(one.target, one)
            self.undo.put(self.store.attempts, one.target, kept.later(one))

    async def targets(self) -> Sequence[TargetRecord]:
        unsettled: dict[str, list[datetime]] = {}
        for number in self.store.unsettled:
            page = self.store.pages[number]
            unsettled.setdefault(page.target, []).append(page.created_at)
        return [
            TargetRecord(
                target=target,
                pace=self.store.paces.get(target, Pace(target=target)),
                attempts=self.store.attempts.get(target, LastAttempts(target=target)),
                backlog=len(unsettled.get(target, ())),
                oldest_page=min(unsettled.get(target, ()), default=None),
            )
            for target in sorted(unsettled.keys() | self.store.paces.keys() | self.store.attempts.keys())
        ]

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        return self.store.state["recalc"]

    async def recalc_unless_locked(self) -> RecalcState | None:
        return await self.recalc()

    async def save_recalc(self, state: RecalcState) -> None:
        self.undo.put(self.store.state, "recalc", state)
