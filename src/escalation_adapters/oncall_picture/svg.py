"""Who is on call as an SVG picture: a row for each day, with the hours of its zone from left to right."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from html import escape
from unicodedata import combining, east_asian_width
from zoneinfo import ZoneInfo

import attrs

from escalation_core import Cover, gaps
from escalation_core.checks import visible

from .days import Day, Rota, change_text, people_text

COLOURS = (
    "#a8d5ba", "#a9c8f0", "#f5d491", "#d3bdf0", "#f2b8a6", "#9fdbe0", "#dfe08d", "#f3b9d6", "#c9cdd6", "#c4a98a",
)  # fmt: skip
"""The colours of people. From the eleventh person on they repeat."""
GAP, INK, GREY, CHANGE = "#b3261e", "#1f2430", "#4b5563", "#8a4b00"
_HOUR = timedelta(hours=1)
_WIDTH, _LEFT, _PER_HOUR = 1000, 118, 30
_BAR, _TIMES, _SCALE, _BETWEEN = 24, 14, 14, 6
"""The heights of a bar, of the times above it, of a scale, and of the space between rows."""
_TIME_WIDTH = 36
_MIN_TEXT = 18
"""In a bar that is narrower there is no text."""
_WORDLESS = timedelta(hours=5)
"""A span without a person that is shorter is listed below the rows: midnight may divide its bar."""
_MAX_LISTED = 20


@attrs.define
class _Picture:
    """What is drawn so far, and how far down."""

    colours: dict[str, str]
    parts: list[str] = attrs.field(factory=list)
    y: int = 0

    def text(self, x: float, y: float, said: str, *, size: int = 12, fill: str = INK, more: str = "") -> None:
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{more}>{_xml(said)}</text>')

    def line(self, x: float, y1: float, y2: float, stroke: str, *, width: float = 1) -> None:
        self.parts.append(
            f'<line x1="{x:g}" y1="{y1:g}" x2="{x:g}" y2="{y2:g}" stroke="{stroke}" stroke-width="{width:g}"/>'
        )

    def rota(self, rota: Rota) -> None:
        """Draw the rows of a schedule, below what is drawn."""
        self.y += 30
        self.text(16, self.y, _cut(rota.schedule, 350), size=16, more=' font-weight="600"')
        self.text(_WIDTH - 16, self.y, _shown_time(rota), fill=GREY, more=' text-anchor="end"')
        self.y += 8
        handovers = set(rota.handovers)
        for day, scaled in rota.with_scales():
            if scaled:
                self.scale(day)
            self.day(day, day.of(rota.spans), handovers)
        self.y += 4
        for sentence in _sentences(rota):
            self.y += 17
            self.text(16, self.y, _cut(sentence, _WIDTH - 32), fill=GAP, more=' font-weight="600"')
        self.y += 12

    def scale(self, day: Day) -> None:
        """Draw the hours of a day."""
        self.y += _SCALE
        for hours, hour in day.scale:
            self.text(_LEFT + _PER_HOUR * hours, self.y - 2, hour, size=11, fill=GREY, more=' text-anchor="middle"')

    def day(self, day: Day, spans: Sequence[Cover], handovers: set[datetime]) -> None:
        """Draw the row of a day."""
        top = self.y + _TIMES
        weight = ' font-weight="600"' if day.date.weekday() >= 5 else ""
        self.text(16, top + 16, day.label, more=weight)
        for hours, _ in day.scale:
            self.line(_LEFT + _PER_HOUR * hours, top - 3, top + _BAR + 3, "#d5d9e2")
        change = day.clock_change
        if change is not None:
            # Behind the bars, so that no name is crossed out.
            self.line(_x(day, change[0]), top - 12, top + _BAR + 6, CHANGE, width=3)
            self.text(_x(day, day.end) + 8, top + 16, change_text(change[1]), fill=CHANGE, more=' font-weight="600"')
        for span in spans:
            self.bar(day, span, top)
        free = 0.0
        for at in (span.start for span in spans if span.start in handovers):
            x = _x(day, at)
            self.line(x, top - 4, top + _BAR, INK, width=2)
            if x >= free:
                self.text(x + 3, top - 4, _clock(at, day.zone), size=11)
                free = x + _TIME_WIDTH
        self.y = top + _BAR + _BETWEEN

    def bar(self, day: Day, span: Cover, top: int) -> None:
        """Draw a span within a day."""
        x, width = _x(day, span.start), max((span.end - span.start) / _HOUR * _PER_HOUR, 1)
        fill, ink = self.fill(span)
        dashes = "" if span.override is None else f' stroke="{INK}" stroke-width="1.5" stroke-dasharray="4 2"'
        said = f"{people_text(span)}: {_when(span, day.zone)}" + ("" if span.override is None else " (override)")
        self.parts.append(
            f'<g class="span"><title>{_xml(said)}</title>'
            f'<rect x="{x:g}" y="{top}" width="{width:g}" height="{_BAR}" fill="{fill}"{dashes}/>'
        )
        name = _cut(people_text(span), width - 8) if width >= _MIN_TEXT else ""
        if name:
            bold = "" if span.people else ' font-weight="600"'
            self.text(x + 4, top + 16, name, fill=ink, more=bold)
        self.parts.append("</g>")

    def fill(self, span: Cover) -> tuple[str, str]:
        """Return the colours of a span and of its text."""
        if span.people is None:
            return "url(#unknown)", INK
        return (self.colours[people_text(span)], INK) if span.people else (GAP, "#ffffff")

    def legend(self) -> None:
        """Draw what the colours mean."""
        self.y += 20
        marks = [(name, f'fill="{colour}"') for name, colour in self.colours.items()]
        marks.append(("no one", f'fill="{GAP}"'))
        marks.append(("not known", 'fill="url(#unknown)"'))
        marks.append(
            ("override by an operator", f'fill="none" stroke="{INK}" stroke-width="1.5" stroke-dasharray="4 2"')
        )
        x = 16.0
        for name, look in marks:
            shown = _cut(name, 300)
            needed = 28 + _text_width(shown) + 20
            if x + needed > _WIDTH and x > 16:
                x, self.y = 16.0, self.y + 20
            self.parts.append(f'<rect x="{x:g}" y="{self.y - 11}" width="20" height="13" {look}/>')
            self.text(x + 26, self.y, shown, fill=GREY)
            x += needed
        self.y += 16


def svg(rotas: Sequence[Rota], *, title: str) -> str:
    """Return a picture of who is on call for each schedule: a colour for each person, and gaps in red."""
    names = sorted({people_text(span) for rota in rotas for span in rota.spans if span.people})
    picture = _Picture({name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}, y=28)
    picture.text(16, picture.y, _cut(title, (_WIDTH - 32) / 1.5), size=18, more=' font-weight="600"')
    for rota in rotas:
        picture.rota(rota)
    picture.legend()
    described = " ".join(_described(rota) for rota in rotas)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {picture.y}" width="{_WIDTH}"'
        f' height="{picture.y}" role="img" aria-labelledby="title desc" font-family="system-ui, sans-serif">'
    )
    unknown = (
        '<defs><pattern id="unknown" width="8" height="8" patternUnits="userSpaceOnUse">'
        '<rect width="8" height="8" fill="#f2f3f6"/><path d="M0 8L8 0" stroke="#b9bec9" stroke-width="1.5"/>'
        "</pattern></defs>"
    )
    about = (f'<title id="title">{_xml(title)}</title>', f'<desc id="desc">{_xml(described)}</desc>')
    paper = f'<rect width="{_WIDTH}" height="{picture.y}" fill="#ffffff"/>'
    return "\n".join([head, *about, unknown, paper, *picture.parts, "</svg>"]) + "\n"


def _described(rota: Rota) -> str:
    shown = f"{rota.schedule}: {_shown_time(rota)}"
    return f"{shown}; handovers: {len(rota.handovers)}, gaps: {len(gaps(rota.spans))}."


def _shown_time(rota: Rota) -> str:
    return f"{rota.days[0].date} to {rota.days[-1].date}, hours of {rota.zone}"


def _sentences(rota: Rota) -> Iterator[str]:
    """Yield the spans without a person whose bars have no space for their words."""
    empty = [span for span in rota.spans if not span.people and span.end - span.start < _WORDLESS]
    for span in empty[:_MAX_LISTED]:
        yield f"{people_text(span)}: {_when(span, rota.days[0].zone)}"
    if len(empty) > _MAX_LISTED:
        yield f"and {len(empty) - _MAX_LISTED} more as short"


def _x(day: Day, at: datetime) -> float:
    return round(_LEFT + _PER_HOUR * ((at - day.start) / _HOUR), 2)


def _clock(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%H:%M}"


def _when(span: Cover, zone: ZoneInfo) -> str:
    start, end = span.start.astimezone(zone), span.end.astimezone(zone)
    last = f"{end:%H:%M}" if start.date() == end.date() else f"{end:%Y-%m-%d %H:%M}"
    return f"{start:%Y-%m-%d %H:%M} to {last}"


def _xml(text: str) -> str:
    """Return text for XML; a character that XML cannot hold shows as an escape."""
    return escape(visible(text), quote=False)


def _text_width(text: str) -> float:
    """Return the greatest width that a text of 12 pixels may have in the fonts of browsers."""
    widths = (
        12.5 if east_asian_width(char) in "WF" else 10.5 if char.isupper() or char in "mw@%" else 7 for char in text
    )
    return sum(0 if combining(char) else width for char, width in zip(text, widths, strict=True))


def _cut(text: str, width: float) -> str:
    """Return as much of a text as fits into a width, with an ellipsis if something is missing."""
    shown = visible(text)
    if _text_width(shown) <= width:
        return shown
    while shown and _text_width(shown) + 9 > width:
        shown = shown[:-1]
    return f"{shown.rstrip()}…" if shown else ""
