"""Timelines of incidents: SVG pictures for web pages, and lines of text for terminals."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from unicodedata import combining, east_asian_width

import attrs

from escalation_core import IncidentHistory
from escalation_core.checks import visible

COLOURS = {"open": "#f2b6a0", "acknowledged": "#f7e3a1", "resolved": "#cfe8cf"}
"""A bar's colour while the incident was in that state."""
_BARS = {"open": "━", "acknowledged": "─", "resolved": "┄"}
_PLAIN_BARS = {"open": "=", "acknowledged": "-", "resolved": "."}
_ENDS = {
    "acknowledge": "acknowledged",
    "unacknowledge": "open",
    "ack_expired": "open",
    "resolve": "resolved",
    "open": "open",
}
_EMPTY = datetime(2025, 1, 1, tzinfo=UTC)
"""The start of an empty picture, which needs some scale."""
_MIN_EXTENT = timedelta(seconds=1)
"""The shortest time that a picture shows."""
_WIDTH, _LEFT, _ROW, _TOP = 960, 210, 30, 46


@attrs.frozen
class Span:
    """A time in which an incident has one state."""

    start: datetime
    end: datetime
    state: str


@attrs.frozen
class Track:
    """One incident's line: its spans, and its escalations with their levels."""

    label: str
    spans: Sequence[Span]
    levels: Sequence[tuple[datetime, int]]


def track(history: IncidentHistory, label: str, until: datetime) -> Track:
    """Return the line of one incident up to ``until``.

    The audit may lack a change that the host made with its own SQL; the row shows the last one.
    """
    changes: list[tuple[datetime, str]] = []
    for entry in reversed(history.audit):
        # Opening a live incident updates its text, and leaves its state alone.
        live = entry.action == "open" and bool(changes) and changes[-1][1] != "resolved"
        if entry.action in _ENDS and not live:
            changes.append((entry.at, _ENDS[entry.action]))
    levels = sorted((escalation.created_at, escalation.level) for escalation in history.escalations)
    if history.incident is not None:
        told = {state for _, state in changes}
        for at, state in (
            (min([history.incident.first_seen, *(at for at, _ in levels)]), "open"),
            (history.incident.acknowledged_at, "acknowledged"),
            (history.incident.resolved_at, "resolved"),
        ):
            if at is not None and state not in told:
                changes.append((at, state))
    changes.sort()
    ends = [at for at, _ in changes[1:]] + [until]
    spans = [Span(start, end, state) for (start, state), end in zip(changes, ends, strict=False) if end > start]
    return Track(label, spans, levels)


def svg(tracks: Sequence[Track], *, title: str) -> str:
    """Return a picture of the tracks: a bar per state, and a numbered dot for each escalation."""
    start, end = _extent(tracks)
    height = _TOP + _ROW * len(tracks) + 58

    def x(at: datetime) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - 30) * ((at - start) / (end - start)), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        '<g font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{_xml(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="16" font-weight="600" fill="#1f2430">{_xml(title)}</text>',
    ]
    bottom = _TOP + _ROW * len(tracks)
    for tick in _ticks(start, end):
        parts.append(f'<line x1="{x(tick)}" y1="{_TOP - 6}" x2="{x(tick)}" y2="{bottom}" stroke="#e4e7ee"/>')
        parts.append(
            f'<text x="{x(tick)}" y="{bottom + 16}" fill="#6b7280" font-size="11" text-anchor="middle">'
            f"{tick:%H:%M}</text>"
        )
    for number, line in enumerate(tracks):
        middle = _TOP + _ROW * number + 14
        parts.append(
            f'<text x="{_LEFT - 12}" y="{middle + 4}" text-anchor="end" fill="#1f2430">{_xml(line.label)}</text>'
        )
        for span in line.spans:
            width = max(x(span.end) - x(span.start), 1)
            parts.append(
                f'<rect x="{x(span.start)}" y="{middle - 7}" width="{width:.1f}" height="14" rx="3"'
                f' fill="{COLOURS[span.state]}"/>'
            )
        for at, level in line.levels:
            parts.append(f'<circle cx="{x(at)}" cy="{middle}" r="9" fill="#b3261e"/>')
            parts.append(
                f'<text x="{x(at)}" y="{middle + 4}" text-anchor="middle" font-size="11" font-weight="600"'
                f' fill="#ffffff">{level}</text>'
            )
    parts.append(_legend(bottom + 40))
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def _xml(text: str) -> str:
    """Return text for XML; a character that XML cannot hold shows as an escape."""
    return escape(visible(text), quote=False)


def _legend(y: int) -> str:
    parts, x = [], _LEFT
    for state, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="{y - 10}" width="22" height="12" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{x + 28}" y="{y}" fill="#4b5563" font-size="12">{state}</text>')
        x += 130
    parts.append(f'<circle cx="{x + 8}" cy="{y - 4}" r="8" fill="#b3261e"/>')
    parts.append(f'<text x="{x + 22}" y="{y}" fill="#4b5563" font-size="12">escalation to level n, paged</text>')
    return "\n".join(parts)


def text(
    tracks: Sequence[Track],
    *,
    width: int = 78,
    plain: bool = False,
    there: Callable[[datetime], datetime] = lambda instant: instant,
) -> str:
    """Return the tracks as lines of a terminal, ``width`` characters wide.

    ``plain`` draws with ASCII. ``there`` gives the time of day that stands below an instant; the default is UTC.
    """
    bars = _PLAIN_BARS if plain else _BARS
    start, end = _extent(tracks)
    labels = [visible(line.label) for line in tracks]
    margin = max(map(_cells, labels), default=0) + 2
    cells_wide = max(width - margin, 10)

    def column(at: datetime) -> int:
        return min(int(cells_wide * ((at - start) / (end - start))), cells_wide - 1)

    lines = []
    for label, line in zip(labels, tracks, strict=True):
        cells = [" "] * cells_wide
        for span in line.spans:
            for place in range(column(span.start), column(span.end) + 1):
                cells[place] = bars[span.state]
        for at, level in line.levels:
            cells[column(at)] = str(level % 10)
        lines.append(label + " " * (margin - _cells(label)) + "".join(cells).rstrip())
    scale = [" "] * (cells_wide + 6)
    free = 0
    for tick in _ticks(start, end):
        if column(tick) >= free:  # a narrow terminal has space for some of them
            scale[column(tick) : column(tick) + 5] = f"{there(tick):%H:%M}"
            free = column(tick) + 6
    lines.append(" " * margin + "".join(scale).rstrip())
    legend = "  ".join(f"{bar} {state}" for state, bar in bars.items())
    lines.append(" " * margin + f"{legend}  n escalated to level n")
    return "\n".join(lines)


def _cells(text: str) -> int:
    """Return how many of a terminal's cells a text takes: wide letters take two, combining ones none."""
    return sum(2 if east_asian_width(char) in "WF" else not combining(char) for char in text)


def _extent(tracks: Sequence[Track]) -> tuple[datetime, datetime]:
    instants = [at for line in tracks for span in line.spans for at in (span.start, span.end)]
    instants += [at for line in tracks for at, _ in line.levels]
    if not instants:
        return _EMPTY, _EMPTY + timedelta(hours=1)
    start = min(*instants, datetime.max.replace(tzinfo=UTC) - _MIN_EXTENT)
    return start, max(*instants, start + _MIN_EXTENT)


def _ticks(start: datetime, end: datetime) -> Sequence[datetime]:
    """Return the instants to label: five to nine of them, on whole steps of the clock."""
    span = end - start
    steps = [timedelta(minutes=m) for m in (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440)]
    step = next((step for step in steps if span / step <= 9), span / 8)
    first = start.replace(minute=0, second=0, microsecond=0)
    found = []
    while first <= end:
        if first >= start:
            found.append(first)
        if end - first < step:
            break
        first += step
    return found
