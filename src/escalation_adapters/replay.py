"""Replay: drive the real engine with a log of host events, the log's times being the clock.

Rules: ``docs/reference/rules.md``, "Replay". At one instant host events come before escalations; escalations happen at
the exact instant at which they are due; after the last event nothing more is played.
"""

import contextlib
import csv
import io
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import attrs

from escalation_core import Engine, Escalation, EscalationError, InvalidValue, Settings, State, TransitionRefused
from escalation_core.checks import check_instant, check_key
from escalation_core.gate import Mode, gate
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock

COLUMNS = ("at", "incident_key", "event", "severity")
EVENTS = ("opened", "acknowledged", "severity_changed", "reopened", "resolved")
_CHUNK = 5000


class UnreadableLog(EscalationError):
    """The log as a whole cannot be read: no header, or a column is missing."""


@attrs.frozen
class Event:
    """One usable row of the log."""

    line: int
    at: datetime
    incident_key: str
    event: str
    severity: str


@attrs.frozen
class Fault:
    """A row that was left out, and why."""

    line: int
    reason: str


@attrs.define(kw_only=True)
class Replay:
    """What a replay did."""

    events: int = 0
    """Events that were played."""
    played: Counter[str] = attrs.field(factory=Counter)
    unusable: list[Fault] = attrs.field(factory=list)
    """Rows that are no events."""
    refused: list[Fault] = attrs.field(factory=list)
    """Events that the incident's state does not allow."""
    incidents: int = 0
    escalations: list[Escalation] = attrs.field(factory=list)
    first: datetime | None = None
    last: datetime | None = None

    @property
    def levels(self) -> dict[int, int]:
        """How many escalations there were to each level."""
        return dict(sorted(Counter(escalation.level for escalation in self.escalations).items()))

    def as_dict(self) -> dict[str, object]:
        """Return the same for JSON; the escalations as counts."""
        return {
            "events": self.events,
            "played": dict(self.played),
            "incidents": self.incidents,
            "escalations": len(self.escalations),
            "levels": {str(level): count for level, count in self.levels.items()},
            "first": None if self.first is None else self.first.isoformat(),
            "last": None if self.last is None else self.last.isoformat(),
            "unusable": [attrs.asdict(fault) for fault in self.unusable],
            "refused": [attrs.asdict(fault) for fault in self.refused],
        }


def read_events(path: Path) -> tuple[list[Event], list[Fault]]:
    """Return the log's events in the order of their instants (of the file, at one instant), and the unusable rows.

    Raises:
        UnreadableLog: the file cannot be opened, or its header lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UnreadableLog(f"{path} cannot be read: {error.strerror}") from None
    # Line by line: no legal value holds a line break, so an open quote spoils its own line and not the rest.
    lines = enumerate(text.split("\n"), 1)
    header = _header(next(lines)[1], path)
    events: list[Event] = []
    faults: list[Fault] = []
    for number, line in lines:
        if not line.strip():
            continue
        try:
            events.append(_event(number, _cells(line), header))
        except InvalidValue as fault:
            faults.append(Fault(number, str(fault)))
    return sorted(events, key=lambda event: event.at), faults


def _header(line: str, path: Path) -> dict[str, int]:
    try:
        names = [name.strip() for name in _cells(line)]
    except InvalidValue as fault:
        raise UnreadableLog(f"{path}, line 1: {fault}") from None
    for column in COLUMNS:
        if names.count(column) != 1:
            what = "is missing" if column not in names else "is there twice"
            raise UnreadableLog(f"{path}, line 1: column {column!r} {what}; the columns are {','.join(COLUMNS)}")
    return {column: names.index(column) for column in COLUMNS} | {"": len(names)}


def _cells(line: str) -> list[str]:
    if not line.isascii() and any("\udc80" <= char <= "\udcff" for char in line):
        raise InvalidValue("row", "is not UTF-8", "save the log as UTF-8")
    if "\0" in line:
        raise InvalidValue("row", "holds a NUL character", "save the log as UTF-8 text")
    try:
        return next(csv.reader([line.removesuffix("\r")], strict=True), [])
    except csv.Error as error:
        raise InvalidValue("row", f"is no CSV ({error})", "mend its quotes") from None


def _event(line: int, cells: Sequence[str], header: dict[str, int]) -> Event:
    if len(cells) != header[""]:
        raise InvalidValue("row", f"has {len(cells)} cells", f"give {header['']}, as the header has")
    at, key, event, severity = (cells[header[column]] for column in COLUMNS)
    try:
        instant = check_instant(datetime.fromisoformat(at.strip()), "at")
    except InvalidValue:
        raise
    except ValueError:
        raise InvalidValue("at", f"{at!r} is no instant", "write such as 2025-01-31T12:00:00Z") from None
    if event not in EVENTS:
        raise InvalidValue("event", f"{event!r} is none", f"write {', '.join(EVENTS)}")
    if event == "severity_changed" and not severity.strip():
        raise InvalidValue("severity", "is empty", "name the severity that it changed to")
    return Event(line, instant, check_key(key), event, severity)


def replay_settings(settings: Settings, keep: Sequence[str] = ()) -> Settings:
    """Return the settings for a replay: canary, pause, dry run and switches are off unless they are kept by name."""
    off: dict[str, dict[str, Any]] = {
        "canary": {"canary_pct": 100},
        "pause": {"pause_cron": None, "pause_length": None},
        "dry-run": {"dry_run": False},
        "switches": {"worker_enabled": True, "v1": True},
    }
    changes = {field: value for name, fields in off.items() if name not in keep for field, value in fields.items()}
    return attrs.evolve(settings, warnings=(), **changes)


KEEPABLE = ("canary", "pause", "dry-run", "switches")


async def replay(
    engine: Engine, clock: ManualClock, events: Sequence[Event], *, progress: Callable[[int], None] = lambda done: None
) -> Replay:
    """Play events, in their order, on an engine whose store tells the time by ``clock``; return what came of it."""
    outcome = Replay()
    if events:
        outcome.first, outcome.last = events[0].at, events[-1].at
    for instant, group in groupby(events, key=lambda event: event.at):
        await _escalate(engine, clock, instant, inclusive=False)
        clock.set(instant)
        for event in group:
            try:
                await _apply(engine, event)
                outcome.played[event.event] += 1
            except (TransitionRefused, InvalidValue) as refusal:
                outcome.refused.append(Fault(event.line, str(refusal)))
            outcome.events += 1
        await _escalate(engine, clock, instant, inclusive=True)
        progress(outcome.events)
    outcome.escalations = sorted(
        [escalation async for escalation in _escalations(engine)],
        key=lambda done: (done.created_at, done.incident_key.encode(), done.episode, done.level),
    )
    outcome.incidents = len({event.incident_key for event in events})
    return outcome


async def _escalate(engine: Engine, clock: ManualClock, limit: datetime, *, inclusive: bool) -> None:
    """Play every escalation that is due before ``limit``, or at it, each at its own instant."""
    settings = engine.settings

    async def earliest(tx: Transaction) -> datetime | None:
        return await tx.incidents.earliest_due(settings.canary_pct)

    while (due := await engine.store.read(earliest)) is not None:
        # A change may make due what had its instant long ago: then it is played now, or when the pause ends.
        at = max(due, clock())
        held = gate(settings, at)
        if held.mode is Mode.PAUSED and held.until is not None:
            at = held.until
        if at > limit or (at == limit and not inclusive) or settings.dry_run:
            return
        clock.set(at)
        if not (await engine.tick(deliver=False)).changed:
            return


async def _apply(engine: Engine, event: Event) -> None:
    key = event.incident_key
    severity = event.severity if event.severity.strip() else None
    if event.event == "acknowledged":
        await engine.acknowledge(key)
    elif event.event == "resolved":
        await engine.resolve(key)
    elif event.event == "severity_changed":
        await engine.change_severity(key, event.severity)
    else:
        if event.event == "reopened":
            await _admit_reopen(engine, key)
        await engine.open(key, severity=severity)


async def _admit_reopen(engine: Engine, key: str) -> None:
    incident = await engine.store.read(lambda tx: tx.incidents.load(key, lock=False))
    state = State.UNKNOWN if incident is None else incident.state
    if state is not State.RESOLVED:
        raise TransitionRefused(key, state.value, "reopen", "only a resolved incident is reopened")


async def _escalations(engine: Engine) -> AsyncIterator[Escalation]:
    after = 0
    while True:

        async def work(tx: Transaction, after: int = after) -> Sequence[tuple[int, Escalation]]:
            return await tx.ledger.escalations(after=after, limit=_CHUNK)

        found = await engine.store.read(work)
        for after, escalation in found:  # noqa: B007 - the last number is where the next chunk begins
            yield escalation
        if len(found) < _CHUNK:
            return


def write_escalations(path: Path, escalations: Sequence[Escalation]) -> None:
    """Write escalations as CSV (RFC 4180), whole or not at all.

    Raises:
        EscalationError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("at", "incident_key", "episode", "level"))
    for escalation in escalations:
        at = escalation.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        writer.writerow((at, escalation.incident_key, escalation.episode, escalation.level))
    write_whole(path, text.getvalue())


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; into a pipe or a device, which cannot be replaced, as it comes.

    Raises:
        EscalationError: it cannot be written.
    """
    target = Path(os.path.realpath(path))
    unfinished = target.parent / f".{target.name}.{os.getpid()}"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(text.encode())
            return
        unfinished.write_bytes(text.encode())
        unfinished.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise EscalationError(f"{path} cannot be written: {error.strerror}") from None
