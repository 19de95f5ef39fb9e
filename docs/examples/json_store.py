"""JsonStore: a store on one JSON file, for one handle in one process.

A transaction works on a copy of the tables. A commit writes the copy to a new file and renames it over the old one.
Two handles on one file, in one process or in two, are not supported: each overwrites what the other writes.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

import attrs

from escalation_core import model
from escalation_core.errors import InvalidValue, StoreNotReady, StoreRefused, StoreUnavailable
from escalation_core.model import Canary, Deferral, Escalation, Incident, LastAttempts, Pace, PageRecord, PageState
from escalation_core.rules import unheard
from escalation_core.rules.bundle import bundle_order, is_fresh
from escalation_core.rules.priority import claim_order
from escalation_core.rules.retry import due_after_step, newer_level, throttled_after_step
from escalation_core.testing.clock import Clock, system_clock

Result = TypeVar("Result")
Row = dict[str, Any]
VERSION = "1"
DAY = timedelta(days=1)
NAME, SUMMARY = model.MAX_NAME_CHARS, model.MAX_SUMMARY_CHARS
LONGEST = dict.fromkeys(("severity", "acknowledged_by", "policy", "policy_pin"), NAME) | {"summary": SUMMARY}
identity_of = attrgetter("incident_key", "episode", "level", "target")
step_of = attrgetter("incident_key", "episode", "level")


def by_number(table: Mapping[Any, Any]) -> dict[int, Any]:
    """Return a copy of a table with numbers as keys: JSON turns them into texts."""
    return {int(number): record for number, record in table.items()}


@attrs.define(kw_only=True)
class Tables:
    """The file's content. A copy by ``attrs.evolve`` shares rows and records: the store never changes them in place."""

    made_at: datetime
    incidents: dict[str, Row] = attrs.field(factory=dict, converter=dict)
    deferred: dict[str, Deferral] = attrs.field(factory=dict, converter=dict)
    passed_over: dict[str, datetime] = attrs.field(factory=dict, converter=dict)
    escalations: dict[int, Escalation] = attrs.field(factory=dict, converter=by_number)
    pages: dict[int, PageRecord] = attrs.field(factory=dict, converter=by_number)
    paces: dict[str, Pace] = attrs.field(factory=dict, converter=dict)
    attempts: dict[str, LastAttempts] = attrs.field(factory=dict, converter=dict)
    notes: list[model.AuditEntry] = attrs.field(factory=list, converter=list)
    heartbeats: dict[str, datetime] = attrs.field(factory=dict, converter=dict)
    recalc: model.RecalcState = attrs.field(factory=model.RecalcState)

    def due(self, canary: Canary, now: datetime) -> list[tuple[datetime, str]]:
        """Return (instant, key) of each row that a claim finds once its instant has come, in this order."""
        rows = ((row["next_due_at"], key) for key, row in self.incidents.items() if canary.has(key))
        return sorted((at, key) for at, key in rows if at is not None and not self.is_passed_over(key, now))

    def is_passed_over(self, key: str, now: datetime) -> bool:
        """Return True if workers leave a row alone now, because the store refused to write it."""
        return self.passed_over.get(key, now) > now

    def steps_noted(self, action: str) -> set[tuple[str, int, int]]:
        """Return (incident_key, episode, level) of each note of an action."""
        return {step_of(note) for note in self.notes if note.action == action}

    def due_targets(self) -> dict[str, model.DueTarget]:
        """Return the targets that have unsettled pages."""
        due: dict[str, model.DueTarget] = {}
        for page in self.unsettled():
            late = page.hand_over_at if page.state is PageState.PENDING else None
            one = model.DueTarget(due_at=page.due_at, hand_over_at=late, pace=self.paces.get(page.target))
            due[page.target] = one if page.target not in due else due[page.target].earliest(one)
        return due

    def open_episodes(self) -> dict[str, int]:
        """Return the present episode of each open incident."""
        return {key: row["episode"] for key, row in self.incidents.items() if is_open(row)}

    def is_throttled(self, target: str, now: datetime) -> bool:
        """Return True if the target's receiver has asked for fewer messages, and a time has not passed yet."""
        pace = self.paces.get(target)
        return pace is not None and pace.held_until is not None and pace.held_until > now

    def unsettled(self, targets: Sequence[str] | None = None) -> list[PageRecord]:
        """Return the pages that a worker still has to send, to these targets or to all."""
        every = (page for page in self.pages.values() if page.state in model.UNSETTLED)
        return [page for page in every if targets is None or page.target in targets]


KINDS = (Deferral, Escalation, PageRecord, Pace, LastAttempts, model.AuditEntry, model.RecalcState)
RECORDS = {kind.__name__: kind for kind in KINDS}
TAG = "$kind"


def pack(value: Any) -> object:
    """Return an instant, a span or a record in a form for JSON."""
    if isinstance(value, datetime):
        return {TAG: ["instant", value.isoformat()]}
    if isinstance(value, timedelta):
        return {TAG: ["span", value // timedelta.resolution]}
    return {TAG: [type(value).__name__, attrs.asdict(value, recurse=False)]}


def unpack(document: dict[str, Any]) -> object:
    """Undo ``pack``. A label may have the tag's name, but its value is a text and not a list."""
    if not isinstance(document.get(TAG), list):
        return document
    kind, value = document[TAG]
    if kind == "instant":
        return datetime.fromisoformat(value)
    if kind == "span":
        return value * timedelta.resolution
    if kind == "PageRecord":
        value["state"] = PageState(value["state"])
    return RECORDS[kind](**value)


def load_tables(path: Path, clock: Clock) -> Tables:
    """Return the tables of a file, or empty ones if there is no file."""
    if not path.exists():
        return Tables(made_at=clock())
    try:
        return Tables(**json.loads(path.read_text(encoding="ascii"), object_hook=unpack))
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise StoreNotReady(f"{path} is not a valid store; restore it, or give another path") from error


def save_tables(path: Path, tables: Tables) -> None:
    """Replace the file in one step: after a crash the old file or the new one exists."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("w", encoding="ascii") as file:
            json.dump(attrs.asdict(tables, recurse=False), file, default=pack)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error


def refuses(what: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a method of the second tier, which this store does not have."""

    async def method(*_: object, **__: object) -> None:
        raise StoreRefused(f"this store cannot {what}")

    return method


def is_open(row: Row) -> bool:
    """Return True if an incident is neither acknowledged nor resolved."""
    return row["acknowledged_at"] is None and row["resolved_at"] is None


def has_long_labels(row: Row) -> bool:
    """Return True if a row's labels are longer than a claim returns."""
    return len(json.dumps(row["labels"], ensure_ascii=False).encode(errors="replace")) > model.MAX_LABELS_BYTES


def read_row(row: Row) -> tuple[Incident | None, str | None]:
    """Return a row's incident, with its texts cut for a page; or None and the fault of an unreadable row."""
    short = {name: row[name][:most] for name, most in LONGEST.items() if isinstance(row[name], str)}
    try:
        return Incident(**row | short | ({"labels": {}} if has_long_labels(row) else {})), None
    except InvalidValue as fault:
        return None, str(fault)


@attrs.frozen
class Port:
    """Base of the ports: the tables of a transaction, and the store's clock."""

    tables: Tables
    clock: Clock


class JsonIncidents(Port):
    """The rows of incidents. Writers take turns, so no row needs a lock."""

    left_alone = refuses("report why workers leave a row alone")
    list_open = refuses("list the open incidents")

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        row = self.tables.incidents.get(incident_key)
        return None if row is None else Incident(**row)

    async def insert(self, incident: Incident) -> bool:
        is_new = incident.incident_key not in self.tables.incidents
        if is_new:
            await self.save(incident)
        return is_new

    async def save(self, incident: Incident) -> None:
        self.tables.incidents[incident.incident_key] = attrs.asdict(incident)

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[model.Candidate]:
        return await self.peek(until=until, after=None, limit=limit, canary=canary)

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[model.Candidate]:
        due = [one for one in self.tables.due(canary, self.clock()) if one[0] <= until and (not after or one > after)]
        return [self._candidate(key) for _, key in due[:limit]]

    async def advance(self, incidents: Sequence[Incident]) -> None:
        for one in incidents:
            columns = {name: getattr(one, name) for name in ("level", "last_escalated_at", "next_due_at")}
            self._write(one.incident_key, **columns)
            self.tables.deferred.pop(one.incident_key, None)
            self.tables.passed_over.pop(one.incident_key, None)

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        for row in rows:
            self.tables.deferred[row.incident_key] = row
            self.tables.passed_over.pop(row.incident_key, None)
            self._write(row.incident_key, next_due_at=row.until)

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        for row in rows:
            self.tables.deferred[row.incident_key] = row
            self.tables.passed_over[row.incident_key] = row.until

    async def end_passing(self, beyond: datetime) -> None:
        self.tables.passed_over = {key: end for key, end in self.tables.passed_over.items() if end <= beyond}

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        rows = self.tables.incidents
        return {key: rows[key]["next_due_at"] for key in keys if key in rows}

    async def scan_unresolved(
        self, after: str | None, limit: int, *, wait: bool = True, labels: bool = False
    ) -> model.OpenRows:
        keys = self._unresolved_keys(after)[:limit]
        return model.OpenRows([self._candidate(key, labels) for key in keys], keys[-1] if len(keys) == limit else None)

    async def unseen(
        self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True
    ) -> model.Unseen:
        rows, resolved, now = self.tables.incidents, self._resolved(), self.clock()
        every = (key for key in self._unresolved_keys(after) if is_open(rows[key]))
        keys = [key for key in every if rows[key]["next_due_at"] is None][:limit]
        exhausted = self.tables.steps_noted("exhausted")

        def is_left_out(key: str, episode: int, level: int, first_seen: datetime | None) -> bool:
            was_planned = (key, episode, level) in exhausted and (key, episode) not in resolved
            is_old = held_before is not None and first_seen is not None and first_seen < held_before
            return was_planned or is_old or self.tables.is_passed_over(key, now)

        columns = ("episode", "level", "first_seen")
        found = [key for key in keys if not is_left_out(key, *(rows[key][name] for name in columns))]
        return model.Unseen(found, keys[-1] if len(keys) == limit else None)

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        ledger = JsonLedger(self.tables, self.clock)
        for key in keys:
            episode, level = self.tables.incidents[key]["episode"], self.tables.incidents[key]["level"]
            highest = await ledger.highest_episode(key)
            recorded = (await ledger.highest([(key, episode)])).get((key, episode))
            self._write(key, next_due_at=model.NEEDS_REPLAN)
            if (key, episode) in self._resolved():
                self._write(key, episode=max(episode, highest) + 1, level=0, last_escalated_at=None)
            elif highest > episode or (recorded is not None and recorded.level > level):
                self._write(key, episode=highest + 1)

    def _write(self, key: str, **columns: object) -> None:
        self.tables.incidents[key] = self.tables.incidents[key] | columns

    def _unresolved_keys(self, after: str | None) -> list[str]:
        rows = self.tables.incidents.items()
        return sorted(key for key, row in rows if row["resolved_at"] is None and (after is None or key > after))

    def _resolved(self) -> set[tuple[str, int]]:
        return {(key, episode) for key, episode, _ in self.tables.steps_noted("resolve")}

    def _candidate(self, key: str, labels: bool = True) -> model.Candidate:
        row, before = self.tables.incidents[key], self.tables.deferred.get(key)
        incident, fault = read_row(row if labels else row | {"labels": {}})
        return model.Candidate(
            incident_key=key,
            incident=incident,
            due_at=row["next_due_at"],
            fault=fault,
            attempts=0 if before is None else before.attempts,
            labels_left_out=has_long_labels(row),
        )


class JsonLedger(Port):
    """The escalations, each recorded once."""

    recent = refuses("read the audit")

    async def record(self, escalations: Sequence[Escalation]) -> Sequence[bool]:
        return [self._record(one) for one in escalations]

    def _record(self, one: Escalation) -> bool:
        table = self.tables.escalations
        is_new = all(one.unique_hash != other.unique_hash for other in table.values())
        if is_new:
            table[len(table) + 1] = one  # nothing deletes escalations, so no number comes twice
        return is_new

    async def highest(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], model.LatestEscalation]:
        found = sorted(self.tables.escalations.values(), key=lambda one: one.level)
        latest = {(one.incident_key, one.episode): model.LatestEscalation(one.level, one.created_at) for one in found}
        return {episode: latest[episode] for episode in episodes if episode in latest}

    async def highest_episode(self, incident_key: str) -> int:
        every = self.tables.escalations.values()
        return max((one.episode for one in every if one.incident_key == incident_key), default=0)

    async def escalations(
        self, *, after: int = 0, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, Escalation]]:
        every = self.tables.escalations.items()
        return [(n, one) for n, one in every if n > after and incident_key in (None, one.incident_key)][:limit]


class JsonOutbox(Port):
    """The pages."""

    settled = refuses("read the audit")

    async def enqueue(self, pages: Sequence[model.NewPage], now: datetime) -> None:
        table = self.tables.pages
        known = {identity_of(page) for page in table.values()}
        for page in pages:
            columns = attrs.asdict(page, filter=attrs.filters.exclude("in_place_of", "may_exist"))
            reason, after = columns.pop("undeliverable_reason"), columns.pop("hand_over_after")
            columns |= {"created_at": now, "due_at": now, "hand_over_at": None if after is None else now + after}
            state = PageState.PENDING if reason is None else PageState.DEAD
            if identity_of(page) not in known:
                number = len(table) + 1  # nothing deletes pages either
                table[number] = PageRecord(id=number, state=state, reason=reason, **columns)
                known.add(identity_of(page))

    async def cancel(self, incident_key: str, reason: str, now: datetime) -> int:
        pages = [page for page in self.tables.pages.values() if page.incident_key == incident_key]
        cancelled = [page for page in pages if page.state in model.CANCELS]
        for page in cancelled:
            due_at = now if page.state is PageState.PENDING else page.due_at
            await self.write([attrs.evolve(page, state=model.CANCELS[page.state], due_at=due_at, reason=reason)])
        return len(cancelled)

    async def claim(
        self, capacity: Mapping[str, int], *, now: datetime, until: datetime
    ) -> Sequence[model.ClaimedPage]:
        free = {target: count for target, count in capacity.items() if not self.tables.is_throttled(target, now)}
        claimed = []
        for page in sorted(self.tables.unsettled(list(free)), key=lambda page: claim_order(page, now)):
            if page.due_at <= until and free[page.target] > 0:
                free[page.target] -= 1
                newer = newer_level(page, self.tables.pages.values())
                claimed.append(attrs.evolve(self._claimed(page), newer=newer))
        return claimed

    async def claim_late(self, targets: Sequence[str], *, now: datetime, limit: int) -> Sequence[model.ClaimedPage]:
        pages = [page for page in self.tables.unsettled(targets) if page.state is PageState.PENDING]
        late = [page for page in pages if page.hand_over_at is not None and page.hand_over_at <= now]
        return [self._claimed(page) for page in sorted(late, key=attrgetter("hand_over_at", "id"))[:limit]]

    async def find_unheard(self, since: datetime) -> Sequence[tuple[str, int, int]]:
        pages, noted = self.tables.pages.values(), self.tables.steps_noted("unheard")
        return unheard.find_unheard(pages, open_episodes=self.tables.open_episodes(), since=since, noted=noted)

    async def count_waiting(self, limits: Mapping[str, int], *, until: datetime) -> Mapping[str, int]:
        fresh = [page.target for page in self.tables.unsettled() if is_fresh(page) and page.due_at <= until]
        return {target: min(fresh.count(target), most) for target, most in limits.items()}

    async def lock_bundle(self, bundle: str) -> tuple[Sequence[model.ClaimedPage], bool]:
        found = [page for page in self.tables.unsettled() if page.bundle == bundle]
        claimed = [self._claimed(page) for page in sorted(found, key=bundle_order)]
        every = self.tables.pages.values()
        return [attrs.evolve(one, newer=newer_level(one.page, every)) for one in claimed], True

    async def lock(self, ids: Sequence[int]) -> Sequence[model.ClaimedPage]:
        return [self._claimed(self.tables.pages[number]) for number in ids if number in self.tables.pages]

    async def write(self, pages: Sequence[PageRecord]) -> None:
        self.tables.pages.update((page.id, page) for page in pages)

    async def settle(self, pages: Sequence[PageRecord]) -> AbstractSet[int]:
        fences = await self.fences([page.id for page in pages])
        owned = [page for page in pages if fences.get(page.id) == page.fence - 1]
        await self.write(owned)
        return {page.id for page in owned}

    async def fences(self, ids: Sequence[int]) -> Mapping[int, int]:
        return {number: self.tables.pages[number].fence for number in ids if number in self.tables.pages}

    async def bring_forward(
        self, targets: Sequence[str] | None, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
    ) -> int:
        pages = self.tables.unsettled(targets)
        due_at = [due_after_step(page, now=now, step=step, beyond=beyond, lease_ends=lease_ends) for page in pages]
        moved = [attrs.evolve(page, due_at=at) for page, at in zip(pages, due_at, strict=True) if at != page.due_at]
        await self.write(moved)
        for page in self.tables.unsettled():
            if page.state is PageState.PENDING and page.hand_over_at is not None:
                await self.write([attrs.evolve(page, hand_over_at=page.hand_over_at - step)])
        for target, pace in list(self.tables.paces.items()):
            if pace.held_until is not None:
                until = throttled_after_step(pace.held_until, now=now, step=step, beyond=beyond)
                self.tables.paces[target] = attrs.evolve(pace, held_until=until)
        return len(moved)

    async def throttle_target(self, target: str, until: datetime) -> bool:
        self.tables.paces[target] = self.tables.paces.get(target, Pace(target=target)).throttled(until)
        return True

    async def due_targets(self) -> Mapping[str, model.DueTarget]:
        return self.tables.due_targets()

    async def lock_targets(self, targets: Sequence[str]) -> Mapping[str, Pace]:
        return {target: self.tables.paces.get(target, Pace(target=target)) for target in targets}

    async def write_paces(self, paces: Sequence[Pace]) -> None:
        for pace in paces:
            before = self.tables.paces.get(pace.target, Pace(target=pace.target))
            self.tables.paces[pace.target] = attrs.evolve(pace, held_until=before.held_until)

    async def pages(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: PageState | None = None,
        target: str | None = None,
    ) -> Sequence[PageRecord]:
        found = [page for number, page in self.tables.pages.items() if number > after and state in (None, page.state)]
        found = [page for page in found if incident_key in (None, page.incident_key) and target in (None, page.target)]
        return found[:limit]

    async def pages_of(self, episodes: Sequence[tuple[str, int]]) -> Sequence[PageRecord]:
        return [page for page in self.tables.pages.values() if (page.incident_key, page.episode) in episodes]

    async def pages_of_bundle(self, prefix: str) -> Sequence[PageRecord]:
        return [page for page in self.tables.pages.values() if (page.bundle or "").startswith(prefix)]

    def _claimed(self, page: PageRecord) -> model.ClaimedPage:
        row = self.tables.incidents.get(page.incident_key)
        incident, fault = (None, None) if row is None else read_row(row)
        return model.ClaimedPage(page=page, incident=incident, fault=fault)


class JsonJournal(Port):
    """Notes, heartbeats, counts, and the state of the recalculation."""

    notes = refuses("read the audit")

    async def note(self, entries: Sequence[model.AuditEntry]) -> None:
        for one in entries:
            if one.action not in model.NOTED_ONCE or step_of(one) not in self.tables.steps_noted(one.action):
                self.tables.notes.append(one)

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        now, before = self.clock(), self.tables.heartbeats
        heartbeats = before | {worker: now}
        self.tables.heartbeats = {name: at for name, at in heartbeats.items() if now - DAY <= at <= now + tolerance}
        return now, max(before.values(), default=None)

    async def last_heartbeat(self, now: datetime) -> model.WorkerHeartbeat:
        heartbeats = self.tables.heartbeats.values()
        workers = sum(at > now - DAY for at in heartbeats)
        return model.WorkerHeartbeat(since=self.tables.made_at, last=max(heartbeats, default=None), workers=workers)

    async def stats(self, *, now: datetime, canary: Canary, detail: bool = False) -> model.Stats:
        rows, deferred, unsettled = self.tables.incidents, self.tables.deferred, self.tables.unsettled()
        due = self.tables.due(Canary(), now)
        come = [(at, key) for at, key in due if model.NEEDS_REPLAN < at <= now and key not in deferred]
        overdue = [at for at, key in come if canary.has(key)]
        unreadable = [(key, one.fault) for key, one in deferred.items() if key in rows and is_open(rows[key])]
        idle = [row for row in rows.values() if is_open(row) and row["next_due_at"] is None]
        noted, pages = self.tables.steps_noted("exhausted"), self.tables.pages.values()
        return model.Stats(
            overdue=len(overdue),
            oldest_due=min(overdue, default=None),
            marked=sum(at == model.NEEDS_REPLAN for at, _ in due),
            exhausted=sum((row["incident_key"], row["episode"], row["level"]) in noted for row in idle),
            outside_canary=len(come) - len(overdue) if detail else 0,
            backlog=self._backlog(),
            oldest_page=min((page.created_at for page in unsettled), default=None),
            dead=sum(page.state is PageState.DEAD for page in pages),
            unheard=len(await self.unheard()),
            unreadable=len(unreadable),
            unreadable_examples=unreadable[:20],
            schema_version=VERSION,
        )

    async def unheard(self, keys: Sequence[str] | None = None) -> AbstractSet[str]:
        pages, noted = self.tables.pages.values(), self.tables.steps_noted("unheard")
        found = unheard.still_unheard(pages, open_episodes=self.tables.open_episodes(), noted=noted)
        return found if keys is None else found & set(keys)

    async def record_attempts(self, latest: Sequence[LastAttempts], *, now: datetime, step: timedelta) -> None:
        kept = self.tables.attempts
        if step:
            kept.update((target, one.moved_back(now, step)) for target, one in list(kept.items()))
        kept.update((one.target, kept.get(one.target, one).later(one)) for one in latest)

    async def targets(self) -> Sequence[model.TargetRecord]:
        return [self._target(name) for name in sorted({*self.tables.paces, *self.tables.attempts, *self._backlog()})]

    def _backlog(self) -> Counter[str]:
        return Counter(page.target for page in self.tables.unsettled())

    def _target(self, name: str) -> model.TargetRecord:
        waiting = [page.created_at for page in self.tables.unsettled([name])]
        return model.TargetRecord(
            target=name,
            pace=self.tables.paces.get(name, Pace(target=name)),
            attempts=self.tables.attempts.get(name, LastAttempts(target=name)),
            backlog=len(waiting),
            oldest_page=min(waiting, default=None),
        )

    async def recalc(self, *, lock: bool = True) -> model.RecalcState:
        return self.tables.recalc

    async def recalc_unless_locked(self) -> model.RecalcState | None:
        return self.tables.recalc

    async def save_recalc(self, state: model.RecalcState) -> None:
        self.tables.recalc = state


class JsonOperations(Port):
    """Pauses, retention, integrity, and the ids of requests: the second tier. No pause is set, so none is shifted."""

    add_pause = end_pauses = refuses("keep pauses")
    old = delete = delete_pauses = refuses("delete old records")
    integrity = refuses("count the records")
    claim_request_id = delete_expired = refuses("keep the ids of requests")

    async def pauses(self, now: datetime) -> Sequence[model.Pause]:
        return []

    async def shift_pauses(self, now: datetime, step: timedelta) -> None:
        pass


class JsonTransaction:
    """One transaction: the ports on one copy of the tables."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self.tables, self.clock = tables, clock
        self.incidents, self.ledger = JsonIncidents(tables, clock), JsonLedger(tables, clock)
        self.outbox, self.journal = JsonOutbox(tables, clock), JsonJournal(tables, clock)
        self.operations = self.requests = JsonOperations(tables, clock)

    async def now(self) -> datetime:
        return self.clock()

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        before = attrs.evolve(self.tables)
        try:
            return await work()
        except BaseException:
            for field in attrs.fields(Tables):
                setattr(self.tables, field.name, getattr(before, field.name))
            raise


class JsonStore:
    """A store on the file at ``path``. A commit blocks the event loop until the file is on the disk."""

    def __init__(self, path: str | Path, clock: Clock = system_clock) -> None:
        self._path, self._clock, self._turn = Path(path), clock, asyncio.Lock()
        self._committed = load_tables(self._path, clock)

    async def check(self) -> None:
        load_tables(self._path, self._clock)

    async def transact(self, work: Callable[[JsonTransaction], Awaitable[Result]]) -> Result:
        async with self._turn:
            tables = attrs.evolve(self._committed)
            result = await work(JsonTransaction(tables, self._clock))
            if tables != self._committed:
                save_tables(self._path, tables)
                self._committed = tables
            return result

    async def read(self, work: Callable[[JsonTransaction], Awaitable[Result]]) -> Result:
        return await work(JsonTransaction(attrs.evolve(self._committed), self._clock))

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> model.NextDue:
        now, tables = self._clock(), self._committed
        due = [] if canary is None else tables.due(canary, now)
        targets = tables.due_targets() if pages else {}
        return model.NextDue(at=now, pauses=[], due_at=due[0][0] if due else None, targets=targets)

    async def aclose(self) -> None:
        pass
