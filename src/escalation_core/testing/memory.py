"""MemoryStore: the reference. It keeps nothing on disk, and is exact about everything else."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import attrs

from ..delivery import NewPage, PageRecord, PageState
from ..errors import InvalidValue
from ..health import Beat, RecalcState, Stats
from ..keys import canary_bucket
from ..model import LOOK_AGAIN, AuditEntry, Claimed, Escalation, Incident, Recorded
from ..ports import ClaimedPage, Transaction
from .clock import Clock, system_clock
from .host import Row, host_insert, host_update

Result = TypeVar("Result")

UNSETTLED = (PageState.PENDING, PageState.LEASED, PageState.CANCELLING)
SETTLED = (PageState.DELIVERED, PageState.CANCELLED, PageState.DEAD)
SCHEMA_VERSION = "memory"
LONGEST_PUT_BACK = timedelta(hours=1)


class _Undo:
    """Writes that can be taken back: a transaction that fails leaves nothing behind."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def put(self, table: dict[Any, Any], key: object, value: object) -> None:
        if key in table:
            old = table[key]
            self._steps.append(lambda: table.__setitem__(key, old))
        else:
            self._steps.append(lambda: table.pop(key))
        table[key] = value

    def drop(self, table: dict[Any, Any], key: object) -> None:
        if key in table:
            old = table.pop(key)
            self._steps.append(lambda: table.__setitem__(key, old))

    def roll_back(self) -> None:
        while self._steps:
            self._steps.pop()()


class MemoryStore:
    """A store in this process's memory, for tests, replays and demonstrations.

    Its transactions are atomic because their steps never wait: no other task runs between two of them. ``clock``
    defaults to the system's. ``host`` is the side door of a host that writes with SQL of its own.
    """

    def __init__(self, clock: Clock = system_clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.due: dict[str, datetime] = {}
        """next_due_at of the rows that have one."""
        self.unreadable: dict[str, tuple[int, str]] = {}
        """Attempts and fault of the rows that were put back."""
        self.ledger: dict[int, Escalation] = {}
        self.levels: dict[tuple[str, int], Recorded] = {}
        self.hashes: dict[str, int] = {}
        self.episodes: dict[str, int] = {}
        self.pages: dict[int, PageRecord] = {}
        self.page_ids: dict[tuple[str, int, int, str], int] = {}
        self.unsettled: dict[int, None] = {}
        self.holds: dict[str, datetime] = {}
        self.notes: dict[int, AuditEntry] = {}
        self.beats: dict[str, datetime] = {}
        self.state: dict[str, RecalcState] = {"recalc": RecalcState()}
        self.made_at = clock()
        self.host = MemoryHost(self)

    async def check(self) -> None:
        """Do nothing: there is no schema to be of another version."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``; take everything back if it raises."""
        undo = _Undo()
        try:
            return await work(_Transaction(self, undo))
        except BaseException:
            undo.roll_back()
            raise

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, and take back whatever it wrote: a reader leaves no trace."""
        undo = _Undo()
        try:
            return await work(_Transaction(self, undo))
        finally:
            undo.roll_back()

    async def aclose(self) -> None:
        """Do nothing: what is in memory goes with the process."""


@attrs.frozen
class MemoryHost:
    """A host's own writes to a MemoryStore: the ``HostTable`` of the conformance checks."""

    store: MemoryStore

    async def insert(self, incident_key: str, **columns: Any) -> None:
        """Insert a row, as a host's SQL and the trigger would."""
        highest = self.store.episodes.get(incident_key, 0)
        row = host_insert(incident_key, columns, highest_episode=highest, now=self.store.clock())
        _write_row(self.store, _Undo(), row)

    async def update(self, incident_key: str, **columns: Any) -> None:
        """Update a row, as a host's SQL and the trigger would."""
        _write_row(self.store, _Undo(), host_update(self.store.rows[incident_key], columns, now=self.store.clock()))

    async def delete(self, incident_key: str) -> None:
        """Delete a row."""
        self.store.rows.pop(incident_key, None)
        self.store.due.pop(incident_key, None)

    async def rows(self) -> Mapping[str, Row]:
        """Return every row as it stands."""
        return {key: dict(row) for key, row in self.store.rows.items()}


def _write_row(store: MemoryStore, undo: _Undo, row: Row) -> None:
    undo.put(store.rows, row["incident_key"], row)
    if row["next_due_at"] is None:
        undo.drop(store.due, row["incident_key"])
    else:
        undo.put(store.due, row["incident_key"], row["next_due_at"])


class _Transaction:
    """One transaction: the four ports on one undo log."""

    def __init__(self, store: MemoryStore, undo: _Undo) -> None:
        self._clock = store.clock
        self.incidents = _Incidents(store, undo)
        self.ledger = _Ledger(store, undo)
        self.outbox = _Outbox(store, undo)
        self.journal = _Journal(store, undo)

    async def now(self) -> datetime:
        return self._clock()


@attrs.frozen
class _Incidents:
    store: MemoryStore
    undo: _Undo

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        row = self.store.rows.get(incident_key)
        return None if row is None else Incident(**row)

    async def insert(self, incident: Incident) -> bool:
        if incident.incident_key in self.store.rows:
            return False
        await self.save(incident)
        return True

    async def save(self, incident: Incident) -> None:
        _write_row(self.store, self.undo, attrs.asdict(incident))

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
            _write_row(self.store, self.undo, self.store.rows[incident.incident_key] | columns)
            self.undo.drop(self.store.unreadable, incident.incident_key)

    async def put_back(self, unreadable: Mapping[str, str], now: datetime) -> None:
        for key, fault in unreadable.items():
            attempts = self.store.unreadable.get(key, (0, ""))[0] + 1
            self.undo.put(self.store.unreadable, key, (attempts, fault))
            wait = min(timedelta(minutes=2 ** min(attempts - 1, 10)), LONGEST_PUT_BACK)
            _write_row(self.store, self.undo, self.store.rows[key] | {"next_due_at": now + wait})

    async def walk(self, after: str | None, limit: int) -> Sequence[Claimed]:
        keys = sorted(key for key, row in self.store.rows.items() if (after is None or key > after) and _is_open(row))
        return [self._claimed(key) for key in keys[:limit]]

    async def earliest_due(self, canary_pct: int) -> datetime | None:
        return min((due for _, due in self._candidates(canary_pct)), default=None)

    def _candidates(self, canary_pct: int) -> Iterator[tuple[str, datetime]]:
        for key, due in self.store.due.items():
            if canary_pct >= 100 or canary_bucket(key) < canary_pct:
                yield key, due

    def _claimed(self, key: str) -> Claimed:
        row, was_unreadable = self.store.rows[key], key in self.store.unreadable
        incident, fault = _read(row)
        return Claimed(
            incident_key=key,
            incident=incident,
            due_at=row["next_due_at"],
            fault=fault,
            was_unreadable=was_unreadable,
        )


def _is_open(row: Row) -> bool:
    return row["acknowledged_at"] is None and row["resolved_at"] is None


def _read(row: Row) -> tuple[Incident | None, str | None]:
    try:
        return Incident(**row), None
    except InvalidValue as fault:
        return None, str(fault)


@attrs.frozen
class _Ledger:
    store: MemoryStore
    undo: _Undo

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        return [self._record(escalation) for escalation in escalations]

    def _record(self, escalation: Escalation) -> bool:
        store, episode = self.store, (escalation.incident_key, escalation.episode)
        if escalation.unique_hash in store.hashes:
            return False
        number = len(store.ledger) + 1
        self.undo.put(store.ledger, number, escalation)
        self.undo.put(store.hashes, escalation.unique_hash, number)
        if episode not in store.levels or store.levels[episode].level < escalation.level:
            self.undo.put(store.levels, episode, Recorded(escalation.level, escalation.created_at))
        highest = max(escalation.episode, store.episodes.get(escalation.incident_key, 0))
        self.undo.put(store.episodes, escalation.incident_key, highest)
        return True

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Recorded]:
        return {episode: self.store.levels[episode] for episode in episodes if episode in self.store.levels}

    async def highest_episode(self, incident_key: str) -> int:
        return self.store.episodes.get(incident_key, 0)

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        found = [
            (number, escalation)
            for number, escalation in self.store.ledger.items()
            if number > after and incident_key in (None, escalation.incident_key)
        ]
        return found[:limit]


@attrs.frozen
class _Outbox:
    store: MemoryStore
    undo: _Undo

    async def enqueue(self, pages: Sequence[NewPage], now: datetime) -> None:
        for page in pages:
            identity = (page.incident_key, page.episode, page.level, page.target)
            if identity in self.store.page_ids:
                continue
            number = len(self.store.pages) + 1
            self.undo.put(self.store.page_ids, identity, number)
            self._put(
                PageRecord(
                    id=number,
                    incident_key=page.incident_key,
                    episode=page.episode,
                    level=page.level,
                    target=page.target,
                    dedup_key=page.dedup_key,
                    state=PageState.PENDING if page.born_dead is None else PageState.DEAD,
                    created_at=now,
                    due_at=now,
                    reason=page.born_dead,
                )
            )

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        cancelled = 0
        for number in list(self.store.unsettled):
            page = self.store.pages[number]
            if page.incident_key != incident_key or page.state is PageState.CANCELLING:
                continue
            if page.state is PageState.PENDING:
                self._put(attrs.evolve(page, state=PageState.CANCELLED, due_at=now, reason=reason))
            else:
                self._put(attrs.evolve(page, state=PageState.CANCELLING, reason=reason))
            cancelled += 1
        return cancelled

    async def claim(self, room: Mapping[str, int], *, now: datetime, until: datetime) -> Sequence[ClaimedPage]:
        free = {target: count for target, count in room.items() if self.store.holds.get(target, now) <= now}
        claimed: list[ClaimedPage] = []
        for page in sorted(self._unsettled(), key=lambda page: (page.due_at, page.id)):
            if page.due_at <= until and free.get(page.target, 0) > 0:
                free[page.target] -= 1
                claimed.append(self._claimed(page))
        return claimed

    async def lock(self, ids: Sequence[int]) -> Sequence[ClaimedPage]:
        return [self._claimed(self.store.pages[number]) for number in ids if number in self.store.pages]

    async def write(self, pages: Sequence[PageRecord]) -> None:
        for page in pages:
            self._put(page)

    async def hold(self, target: str, until: datetime) -> None:
        self.undo.put(self.store.holds, target, max(until, self.store.holds.get(target, until)))

    async def earliest(self, targets: Sequence[str]) -> datetime | None:
        waits = (
            max(page.due_at, self.store.holds.get(page.target, page.due_at))
            for page in self._unsettled()
            if page.target in targets
        )
        return min(waits, default=None)

    async def pages(
        self, *, after: int = 0, limit: int, incident_key: str | None = None, state: PageState | None = None
    ) -> Sequence[PageRecord]:
        found = [
            page
            for number, page in self.store.pages.items()
            if number > after and incident_key in (None, page.incident_key) and state in (None, page.state)
        ]
        return found[:limit]

    def _unsettled(self) -> Iterator[PageRecord]:
        return (self.store.pages[number] for number in self.store.unsettled)

    def _put(self, page: PageRecord) -> None:
        self.undo.put(self.store.pages, page.id, page)
        if page.state in UNSETTLED:
            self.undo.put(self.store.unsettled, page.id, None)
        else:
            self.undo.drop(self.store.unsettled, page.id)

    def _claimed(self, page: PageRecord) -> ClaimedPage:
        row = self.store.rows.get(page.incident_key)
        incident, fault = (None, None) if row is None else _read(row)
        return ClaimedPage(page=page, incident=incident, fault=fault)


@attrs.frozen
class _Journal:
    store: MemoryStore
    undo: _Undo

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        for entry in entries:
            again = entry.action == "exhausted" and any(
                (note.action, note.incident_key, note.episode, note.level)
                == (entry.action, entry.incident_key, entry.episode, entry.level)
                for note in self.store.notes.values()
            )
            if not again:
                self.undo.put(self.store.notes, len(self.store.notes) + 1, entry)

    async def audit(self, *, since: datetime, limit: int, incident_key: str | None = None) -> Sequence[AuditEntry]:
        entries = [
            *(_of_escalation(escalation) for escalation in self.store.ledger.values()),
            *(_of_page(page) for page in self.store.pages.values() if page.state in SETTLED),
            *self.store.notes.values(),
        ]
        found = [entry for entry in entries if entry.at >= since and incident_key in (None, entry.incident_key)]
        return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]

    async def beat(self, worker: str, now: datetime, version: str) -> None:
        self.undo.put(self.store.beats, worker, now)
        for name, at in list(self.store.beats.items()):
            if now - at > timedelta(days=1):
                self.undo.drop(self.store.beats, name)

    async def last_beat(self) -> Beat:
        beats = self.store.beats.values()
        return Beat(since=self.store.made_at, last=max(beats, default=None), workers=len(beats))

    async def stats(self, *, now: datetime, canary_pct: int, max_level: int) -> Stats:
        insiders = {key for key in self.store.due if canary_pct >= 100 or canary_bucket(key) < canary_pct}
        come = {key: due for key, due in self.store.due.items() if LOOK_AGAIN < due <= now}
        overdue = [due for key, due in come.items() if key in insiders and key not in self.store.unreadable]
        unsettled = [self.store.pages[number] for number in self.store.unsettled]
        backlog: dict[str, int] = {}
        for page in unsettled:
            backlog[page.target] = backlog.get(page.target, 0) + 1
        exhausted = [
            row
            for row in self.store.rows.values()
            if _is_open(row) and isinstance(row["level"], int) and row["level"] >= max_level
        ]
        return Stats(
            overdue=len(overdue),
            oldest_due=min(overdue, default=None),
            marked=sum(due == LOOK_AGAIN for due in self.store.due.values()),
            canary_held=sum(key not in insiders for key in come),
            exhausted=len(exhausted),
            backlog=backlog,
            oldest_page=min((page.created_at for page in unsettled), default=None),
            dead=sum(page.state is PageState.DEAD for page in self.store.pages.values()),
            unreadable=len(self.store.unreadable),
            unreadable_examples=[(key, fault) for key, (_, fault) in list(self.store.unreadable.items())[:20]],
            schema_version=SCHEMA_VERSION,
        )

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        return self.store.state["recalc"]

    async def save_recalc(self, state: RecalcState) -> None:
        self.undo.put(self.store.state, "recalc", state)


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
