"""Read a log of host events: usable rows become events, and each other row becomes a fault with its line number."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from escalation_core import EscalationError, InvalidValue
from escalation_core.checks import check_instant, check_key

COLUMNS = ("at", "incident_key", "event", "severity")
FIRST, LAST = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Limits of an event's instant: the epoch is ``NEEDS_REPLAN``, and escalations after ``LAST`` need instants, too."""
EVENTS = ("opened", "acknowledged", "severity_changed", "reopened", "resolved")


class UnreadableLog(EscalationError):
    """The log as a whole cannot be read: for example, a column is missing."""


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
    """A row that the replay leaves out, and the reason."""

    line: int
    reason: str


def read_events(path: Path) -> tuple[list[Event], list[Fault]]:
    """Return the log's events, in order of instant and then of line, and the unusable rows.

    Raises:
        UnreadableLog: the file cannot be opened, or its header lacks a column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UnreadableLog(f"{path} cannot be read: {error.strerror}") from None
    # Line by line: no valid value holds a line break, so an open quote makes only its own line unusable.
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
            what = "is missing" if column not in names else "occurs twice"
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
        raise InvalidValue("row", f"is not valid CSV ({error})", "correct its quotes") from None


def _event(line: int, cells: Sequence[str], header: dict[str, int]) -> Event:
    if len(cells) != header[""]:
        raise InvalidValue("row", f"has {len(cells)} cells", f"give {header['']}, as the header has")
    at, key, event, severity = (cells[header[column]] for column in COLUMNS)
    try:
        instant = check_instant(datetime.fromisoformat(at.strip()), "at")
    except InvalidValue:
        raise
    except ValueError:
        raise InvalidValue("at", f"{at!r} is not a valid instant", "write for example 2025-01-31T12:00:00Z") from None
    if not FIRST <= instant <= LAST:
        raise InvalidValue("at", f"{at!r} lies outside the years 1970 to 9998", "leave the row out")
    if event not in EVENTS:
        raise InvalidValue("event", f"{event!r} is not a valid event", f"write {', '.join(EVENTS)}")
    if event == "severity_changed" and not severity.strip():
        raise InvalidValue("severity", "is empty", "give the new severity")
    return Event(line, instant, check_key(key), event, severity)
