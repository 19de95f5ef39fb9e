"""A reference implementation of the rules: the escalations of a log, in plain Python, one incident at a time.

It follows the rules' text and shares no code with the engine, so that tests can compare the two.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

import attrs

MINUTE = timedelta(minutes=1)


@attrs.frozen
class Row:
    """One event of a log."""

    line: int
    at: datetime
    key: str
    event: str
    severity: str = ""


@attrs.frozen
class Rules:
    """The settings that count. ``held_until`` returns the end of the pause that covers an instant."""

    windows: dict[str, timedelta] = attrs.field(factory=lambda: {"critical": 5 * MINUTE, "warning": 15 * MINUTE})
    other: timedelta = 15 * MINUTE
    snooze: timedelta = 30 * MINUTE
    tick: timedelta = MINUTE
    max_level: int = 7
    held_until: Callable[[datetime], datetime | None] = lambda instant: None
    admitted: Callable[[str], bool] = lambda key: True


@attrs.define
class Standing:
    """The state of one incident."""

    severity: str
    born: datetime
    episode: int = 1
    level: int = 0
    last: datetime | None = None
    acknowledged: bool = False
    resolved: bool = False


Step = tuple[datetime, str, int, int]
"""An escalation: at, key, episode, level."""


@attrs.define
class Expected:
    """The escalations and refused events of a log."""

    steps: list[Step] = attrs.field(factory=list)
    refused: list[int] = attrs.field(factory=list)
    """The lines of events that the incident's state does not allow."""

    def csv(self) -> bytes:
        """Return the steps as the file that a replay writes."""
        lines = ["at,incident_key,episode,level"]
        for at, key, episode, level in self.steps:
            quoted = '"' + key.replace('"', '""') + '"' if set(key) & set(',"') else key
            lines.append(f"{instant(at)},{quoted},{episode},{level}")
        return "".join(f"{line}\r\n" for line in lines).encode()


def instant(at: datetime) -> str:
    """Return an instant as a replay writes it: in UTC, with Z, with a fraction only if it is not zero."""
    fraction = f".{at.microsecond:06}" if at.microsecond else ""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + fraction + "Z"


def expect(rows: Iterable[Row], rules: Rules) -> Expected:
    """Return the outcome of these events. Events of one instant count in the order of the file."""
    ordered = sorted(rows, key=lambda row: row.at)
    found = Expected()
    by_key = sorted(ordered, key=lambda row: row.key)  # stable: the events of each key stay in their order
    for key, events in groupby(by_key, key=lambda row: row.key):
        _live(key, list(events), ordered[-1].at, rules, found)
    found.steps.sort(key=lambda step: (step[0], step[1].encode(), step[2], step[3]))
    found.refused.sort()
    return found


def _live(key: str, events: Sequence[Row], end: datetime, rules: Rules, found: Expected) -> None:
    """Follow one incident through its events, up to the log's last instant."""
    incident: Standing | None = None
    for number, row in enumerate(events):
        incident, refused = _happen(incident, row)
        if refused:
            found.refused.append(row.line)
        # An escalation due at the instant of the next event comes after that event, so the next round handles it.
        until = events[number + 1].at if number + 1 < len(events) else end + timedelta(microseconds=1)
        if incident is not None and rules.admitted(key):
            _climb(key, incident, row.at, until, rules, found)


def _climb(key: str, incident: Standing, start: datetime, until: datetime, rules: Rules, found: Expected) -> None:
    """Escalate an incident while no event occurs: from ``start`` on, and before ``until``."""
    while (due := _due(incident, rules)) is not None:
        at = max(due, start)
        at = rules.held_until(at) or at
        if at >= until:
            return
        incident.level += 1
        incident.last = at
        found.steps.append((at, key, incident.episode, incident.level))


def _due(incident: Standing, rules: Rules) -> datetime | None:
    if incident.acknowledged or incident.resolved or incident.level >= rules.max_level:
        return None
    window = rules.windows.get(incident.severity.strip().lower(), rules.other)
    due = incident.born + window * (incident.level + 1)
    return due if incident.last is None else max(due, incident.last + max(rules.snooze, rules.tick))


def _happen(incident: Standing | None, row: Row) -> tuple[Standing | None, bool]:
    """Return the incident after an event, and whether the event was refused."""
    given = row.severity if row.severity.strip() else None
    over = incident is not None and incident.resolved
    match row.event:
        case "opened" | "reopened":
            if row.event == "reopened" and not over:
                return incident, True
            if incident is None:
                return Standing(given or "warning", row.at), False
            if over:
                return Standing(given or incident.severity, row.at, incident.episode + 1), False
            incident.severity = given or incident.severity
        case _ if incident is None:
            return None, True
        case "resolved":
            incident.resolved = True
        case _ if over:
            return incident, True
        case "acknowledged":
            incident.acknowledged = True
        case "severity_changed":
            incident.severity = row.severity
    return incident, False
