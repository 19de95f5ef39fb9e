"""What a MemoryStore holds, and how a write to it is taken back."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import count
from typing import Any, TypeVar

from ...errors import InvalidValue
from ...model import (
    MAX_LABELS_BYTES,
    MAX_NAME_CHARS,
    MAX_SUMMARY_CHARS,
    AuditEntry,
    AuditRange,
    Deferral,
    Escalation,
    Incident,
    LatestEscalation,
    PageRecord,
    Pause,
    RecalcState,
)
from ..clock import Clock
from ..host import Row

Item = TypeVar("Item")


class State:
    """The tables."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.rows: dict[str, Row] = {}
        self.due: dict[str, datetime] = {}
        """next_due_at of the rows that have one."""
        self.unreadable: dict[str, tuple[Deferral, datetime | None]] = {}
        """Rows that were deferred, and until when they are passed over, if they are."""
        self.ledger: dict[int, Escalation] = {}
        self.levels: dict[tuple[str, int], LatestEscalation] = {}
        self.hashes: dict[str, int] = {}
        self.episodes: dict[str, int] = {}
        self.pages: dict[int, PageRecord] = {}
        self.page_ids: dict[tuple[str, int, int, str], int] = {}
        self.unsettled: dict[int, None] = {}
        self.holds: dict[str, datetime] = {}
        self.notes: dict[int, AuditEntry] = {}
        self.beats: dict[str, datetime] = {}
        self.pauses: dict[int, Pause] = {}
        self.requests: dict[str, datetime] = {}
        """When the ids of signed requests expire."""
        self.state: dict[str, RecalcState] = {"recalc": RecalcState()}
        self.made_at = clock()
        self.numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
        """The next id of each table that has some. None is given twice, whatever was pruned or taken back."""


class Undo:
    """Writes that can be taken back: a transaction that fails leaves nothing behind."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def put(self, table: dict[Any, Any], key: object, value: object) -> None:
        """Write an entry."""
        if key in table:
            old = table[key]
            self._steps.append(lambda: table.__setitem__(key, old))
        else:
            self._steps.append(lambda: table.pop(key))
        table[key] = value

    def drop(self, table: dict[Any, Any], key: object) -> None:
        """Remove an entry, if it is there."""
        if key in table:
            old = table.pop(key)
            self._steps.append(lambda: table.__setitem__(key, old))

    @property
    def mark(self) -> int:
        """How much there is to take back: to come back to this point."""
        return len(self._steps)

    def roll_back(self, mark: int = 0) -> None:
        """Take everything back that came after the mark, the last write first."""
        while len(self._steps) > mark:
            self._steps.pop()()


def write_row(store: State, undo: Undo, row: Row) -> None:
    """Write a row, and keep the index of instants."""
    undo.put(store.rows, row["incident_key"], row)
    if row["next_due_at"] is None:
        undo.drop(store.due, row["incident_key"])
    else:
        undo.put(store.due, row["incident_key"], row["next_due_at"])


def is_open(row: Row) -> bool:
    """Tell whether a row is neither acknowledged nor resolved."""
    return row["acknowledged_at"] is None and row["resolved_at"] is None


_LONGEST = (("severity", MAX_NAME_CHARS), ("acknowledged_by", MAX_NAME_CHARS), ("summary", MAX_SUMMARY_CHARS))


def long_labels(row: Row) -> bool:
    """Tell whether a row's labels are left out where many rows are read."""
    labels = row["labels"]
    if not labels or sum(map(len, (*labels, *labels.values()))) < MAX_LABELS_BYTES // 16:
        return False  # as JSON a character takes 12 bytes at most
    return len(json.dumps(labels, ensure_ascii=False).encode(errors="replace")) > MAX_LABELS_BYTES


def read_row(row: Row) -> tuple[Incident | None, str | None]:
    """Return a row's incident, with so much of each text as a page carries, or the fault that makes it none."""
    cut = {name: row[name][:most] for name, most in _LONGEST if isinstance(row[name], str) and len(row[name]) > most}
    if long_labels(row):
        cut["labels"] = {}
    try:
        return Incident(**row | cut if cut else row), None
    except InvalidValue as fault:
        return None, str(fault)


def passed(store: State, key: str) -> bool:
    """Tell whether a row is passed over now: the store refuses to write it."""
    _, until = store.unreadable.get(key, (None, None))
    return until is not None and until > store.clock()


def seen(store: State, undo: Undo, key: str) -> None:
    """End that a row is passed over: a host has written it."""
    if key in store.unreadable:
        undo.put(store.unreadable, key, (store.unreadable[key][0], None))


def newest(
    found: Iterable[Item], place: Callable[[Item], tuple[datetime, int]], reach: AuditRange, limit: int
) -> list[Item]:
    """Return what lies in a range, newest first, at one instant by id."""

    def inside(item: Item) -> bool:
        at, number = place(item)
        before = reach.until is None or at < reach.until or (at == reach.until and number > reach.after_id)
        return at >= reach.since and before

    by_id = sorted(filter(inside, found), key=lambda item: place(item)[1])
    return sorted(by_id, key=lambda item: place(item)[0], reverse=True)[:limit]
