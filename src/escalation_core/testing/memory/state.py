"""The tables of a MemoryStore, its undo log, and functions on rows."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from operator import itemgetter
from typing import Any, TypeVar

import attrs

from ...errors import InvalidValue
from ...model import (
    MAX_LABELS_BYTES,
    MAX_NAME_CHARS,
    MAX_SUMMARY_CHARS,
    AuditEntry,
    AuditRange,
    Change,
    Deferral,
    Escalation,
    Incident,
    KeptVersion,
    LastAttempts,
    LatestEscalation,
    NoticeRecord,
    Pace,
    PageRecord,
    Pause,
    RecalcState,
    ShiftOverride,
)
from ..clock import Clock
from ..host import Row

Item = TypeVar("Item")


class State:
    """The tables of a MemoryStore."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.due: dict[str, datetime] = {}
        """next_due_at by key, of the rows that have one."""
        self.unreadable: dict[str, tuple[Deferral, datetime | None]] = {}
        """Deferrals by key, each with the end of its passing over; None for a row that is not passed over."""
        self.ledger: dict[int, Escalation] = {}
        self.levels: dict[tuple[str, int], LatestEscalation] = {}
        self.hashes: dict[str, int] = {}
        self.episodes: dict[str, int] = {}
        self.pages: dict[int, PageRecord] = {}
        self.page_ids: dict[tuple[str, int, int, str], int] = {}
        self.unsettled: dict[int, None] = {}
        self.paces: dict[str, Pace] = {}
        self.attempts: dict[str, LastAttempts] = {}
        self.notes: dict[int, AuditEntry] = {}
        self.beats: dict[str, datetime] = {}
        self.overrides: dict[int, ShiftOverride] = {}
        self.digests: dict[str, str] = {}
        """The digest of the policies file of each worker that has a heartbeat."""
        self.versions: dict[str, KeptVersion] = {}
        self.reloads: dict[str, datetime] = {}
        """When an operator last asked for a reload, under the one key ``reload``."""
        self.pauses: dict[int, Pause] = {}
        self.changes: dict[int, Change] = {}
        self.notices: dict[int, NoticeRecord] = {}
        self.requests: dict[str, datetime] = {}
        """The ids of signed requests, and when each expires."""
        self.state: dict[str, RecalcState] = {"recalc": RecalcState()}
        self.made_at = clock()
        self.numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        """The next id of each table with ids. An id is never used twice, even after a prune or a rollback."""


class Undo:
    """An undo log: a transaction that fails uses it to roll back its writes."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def put(self, table: dict[Any, Any], key: object, value: object) -> None:
        """Write an entry of a table."""
        if key in table:
            old = table[key]
            self._steps.append(lambda: table.__setitem__(key, old))
        else:
            self._steps.append(lambda: table.pop(key))
        table[key] = value

    def drop(self, table: dict[Any, Any], key: object) -> None:
        """Remove an entry of a table, if it exists."""
        if key in table:
            old = table.pop(key)
            self._steps.append(lambda: table.__setitem__(key, old))

    @property
    def mark(self) -> int:
        """The current length of the log, to which ``roll_back`` can return."""
        return len(self._steps)

    def roll_back(self, mark: int = 0) -> None:
        """Undo all writes after this length of the log, the last one first."""
        while len(self._steps) > mark:
            self._steps.pop()()


def write_row(store: State, undo: Undo, row: Row) -> None:
    """Write a row, and update the index of next_due_at."""
    undo.put(store.rows, row["incident_key"], row)
    if row["next_due_at"] is None:
        undo.drop(store.due, row["incident_key"])
    else:
        undo.put(store.due, row["incident_key"], row["next_due_at"])


def is_open(row: Row) -> bool:
    """Return whether a row is neither acknowledged nor resolved."""
    return row["acknowledged_at"] is None and row["resolved_at"] is None


def open_episodes(store: State) -> dict[str, int]:
    """Return the present episode of each open incident."""
    return {key: row["episode"] for key, row in store.rows.items() if is_open(row)}


def unheard_steps(store: State) -> set[tuple[str, int, int]]:
    """Return the steps that the notes name as unheard."""
    return {
        (note.incident_key or "", note.episode or 0, note.level or 0)
        for note in store.notes.values()
        if note.action == "unheard"
    }


_LONGEST = (
    *((name, MAX_NAME_CHARS) for name in ("severity", "acknowledged_by", "policy", "policy_pin")),
    ("summary", MAX_SUMMARY_CHARS),
)


def long_labels(row: Row) -> bool:
    """Return whether a claim leaves out the labels of a row."""
    labels = row["labels"]
    if not labels or sum(map(len, (*labels, *labels.values()))) < MAX_LABELS_BYTES // 16:
        return False  # a character takes at most 12 bytes as JSON
    return len(json.dumps(labels, ensure_ascii=False).encode(errors="replace")) > MAX_LABELS_BYTES


_FIELDS = [field.name for field in attrs.fields(Incident)]
_VALUES = itemgetter(*_FIELDS)
_INSTANTS = itemgetter(*(name for name in _FIELDS if name.endswith(("_at", "_seen", "_until", "_since"))))


def read_row(row: Row) -> tuple[Incident | None, str | None]:
    """Return a row's incident, with texts cut and long labels left out, or the fault that makes it unreadable."""
    cut = {name: row[name][:most] for name, most in _LONGEST if isinstance(row[name], str) and len(row[name]) > most}
    if long_labels(row):
        cut["labels"] = {}
    read = row | cut if cut else row
    try:
        if all(value is None or (type(value) is datetime and value.tzinfo is UTC) for value in _INSTANTS(read)):
            return Incident.from_row(_VALUES(read)), None
        return Incident(**read), None
    except InvalidValue as fault:
        return None, str(fault)


def passed(store: State, key: str) -> bool:
    """Return whether a row is passed over now."""
    _, until = store.unreadable.get(key, (None, None))
    return until is not None and until > store.clock()


def seen(store: State, undo: Undo, key: str) -> None:
    """End the passing over of a row, because a host has written it."""
    if key in store.unreadable:
        undo.put(store.unreadable, key, (store.unreadable[key][0], None))


def newest(
    found: Iterable[Item], place: Callable[[Item], tuple[datetime, int]], reach: AuditRange, limit: int
) -> list[Item]:
    """Return the items in a range, newest first, then by id."""

    def inside(item: Item) -> bool:
        at, number = place(item)
        before = reach.until is None or at < reach.until or (at == reach.until and number > reach.after_id)
        return at >= reach.since and before

    by_id = sorted(filter(inside, found), key=lambda item: place(item)[1])
    return sorted(by_id, key=lambda item: place(item)[0], reverse=True)[:limit]
