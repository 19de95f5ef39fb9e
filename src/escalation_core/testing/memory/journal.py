"""The Journal port."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from ...model import (
    NEEDS_REPLAN,
    AuditCursor,
    AuditEntry,
    AuditSource,
    Escalation,
    PageRecord,
    PageState,
    RecalcState,
    Stats,
    WorkerHeartbeat,
    canary_bucket,
)
from .state import State, Undo, is_open, passed

SETTLED = (PageState.DELIVERED, PageState.CANCELLED, PageState.DEAD)
SCHEMA_VERSION = "memory"


@attrs.frozen
class Journal:
    """What people and engines did."""

    store: State
    undo: Undo

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            again = entry.action == "exhausted" and any(
                (note.action, note.incident_key, note.episode, note.level)
                == (entry.action, entry.incident_key, entry.episode, entry.level)
                for note in self.store.notes.values()
            )
            if not again:
                self.undo.put(self.store.notes, next(self.store.numbers["notes"]), entry)

    async def audit(
        self, *, since: datetime, limit: int, incident_key: str | None = None, after: AuditCursor | None = None
    ) -> Sequence[AuditEntry]:
        store = self.store
        entries = [
            *((AuditSource.ESCALATION, number, _of_escalation(entry)) for number, entry in store.ledger.items()),
            *((AuditSource.PAGE, page.id, _of_page(page)) for page in store.pages.values() if page.state in SETTLED),
            *((AuditSource.NOTE, number, entry) for number, entry in store.notes.items()),
        ]
        found = [
            (AuditCursor(entry.at, source, number), entry)
            for source, number, entry in entries
            if entry.at >= since and incident_key in (None, entry.incident_key)
        ]
        placed = sorted(found, key=lambda one: _place(one[0]))
        rest = [one for one in placed if after is None or _place(one[0]) > _place(after)]
        return [attrs.evolve(entry, cursor=position.cursor) for position, entry in rest[:limit]]

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        now, latest = self.store.clock(), max(self.store.beats.values(), default=None)
        self.undo.put(self.store.beats, worker, now)
        for name, at in list(self.store.beats.items()):
            if now - at > timedelta(days=1) or at - now > tolerance:
                self.undo.drop(self.store.beats, name)
        return now, latest

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        beats = self.store.beats.values()
        lately = sum(beat > now - timedelta(days=1) for beat in beats)
        return WorkerHeartbeat(since=self.store.made_at, last=max(beats, default=None), workers=lately)

    async def stats(self, *, now: datetime, canary_pct: int, max_level: int) -> Stats:
        insiders = {key for key in self.store.due if canary_pct >= 100 or canary_bucket(key) < canary_pct}
        come = {key: due for key, due in self.store.due.items() if NEEDS_REPLAN < due <= now}
        overdue = [due for key, due in come.items() if key in insiders and key not in self.store.unreadable]
        unsettled = [self.store.pages[number] for number in self.store.unsettled]
        unreadable = [
            (key, row.fault)
            for key, (row, _) in self.store.unreadable.items()
            if key in self.store.rows and is_open(self.store.rows[key])
        ]
        exhausted = [
            row
            for row in self.store.rows.values()
            if is_open(row) and isinstance(row["level"], int) and row["level"] >= max_level
        ]
        return Stats(
            overdue=len(overdue),
            oldest_due=min(overdue, default=None),
            marked=sum(due == NEEDS_REPLAN and not passed(self.store, key) for key, due in self.store.due.items()),
            exhausted=len(exhausted),
            oldest_page=min((page.created_at for page in unsettled), default=None),
            dead=sum(page.state is PageState.DEAD for page in self.store.pages.values()),
            unreadable=len(unreadable),
            unreadable_examples=unreadable[:20],
            schema_version=SCHEMA_VERSION,
        )

    async def outside_canary(self, *, now: datetime, canary_pct: int) -> int:
        come = [key for key, due in self.store.due.items() if NEEDS_REPLAN < due <= now]
        return sum(canary_bucket(key) >= canary_pct for key in come)

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        return self.store.state["recalc"]

    async def recalc_unless_locked(self) -> RecalcState | None:
        return await self.recalc()

    async def save_recalc(self, state: RecalcState) -> None:
        self.undo.put(self.store.state, "recalc", state)


def _place(position: AuditCursor) -> tuple[timedelta, int, int]:
    """Return what sorts newest first."""
    return NEEDS_REPLAN - position.at, position.source, position.id


def _of_escalation(escalation: Escalation) -> AuditEntry:
    return AuditEntry(
        at=escalation.created_at,
        action="escalate",
        incident_key=escalation.incident_key,
        episode=escalation.episode,
        level=escalation.level,
    )


def _of_page(page: PageRecord) -> AuditEntry:
    return AuditEntry(
        at=page.due_at,
        action=f"page {page.state.value}",
        incident_key=page.incident_key,
        episode=page.episode,
        level=page.level,
        target=page.target,
        reason=page.reason,
    )
