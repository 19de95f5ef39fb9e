"""Who is on call as lines of a terminal: a line for each day, with the hours of its zone from left to right."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from math import ceil

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from escalation_core import Cover

from ..oncall_picture.days import Day, Rota, change_text, people_text
from .output import show

_LABEL = 11
_MARK = 11
_MOST_HOURS = 26
"""The longest day of a zone: on Troll in Antarctica the clock is set back by two hours."""
MIN_CHARS = _LABEL + _MOST_HOURS + _MARK
"""A picture with one character for each hour is this wide."""
_GAP, _UNKNOWN = "bold red", "yellow"
_HOUR = timedelta(hours=1)


def lines(rota: Rota, width: int, *, plain: bool) -> Iterator[Text]:
    """Yield a scale and a line for each day, at most ``width`` characters wide. ``plain`` draws with ASCII.

    A day on which the clock is changed says so.
    """
    per_hour = min((width - _LABEL - _MARK) // _MOST_HOURS, 3)
    for day, scaled in rota.with_scales():
        change = day.clock_change
        if scaled:
            yield _scale(day, per_hour)
        line = Text(f"{day.label:{_LABEL}}", end="")
        for piece in _pieces(day, day.of(rota.spans), per_hour, plain=plain):
            line.append_text(piece)
        if change is not None:
            line.append(f" {change_text(change[1])}", style="bold")
        yield line


def _scale(day: Day, per_hour: int) -> Text:
    cells = [" "] * (_LABEL + _MOST_HOURS * per_hour + 2)
    free = 0
    for hours, hour in day.scale:
        place = _LABEL + round(hours * per_hour)
        if place >= free:
            cells[place : place + 2] = hour
            free = place + 3
    return Text("".join(cells).rstrip(), style="dim")


def _pieces(day: Day, spans: Sequence[Cover], per_hour: int, *, plain: bool) -> Iterator[Text]:
    """Yield the bars of a day. A gap is in each cell that it touches, so that none is too short to be seen."""
    cells: list[Cover] = []
    for number in range(ceil(day.hours * per_hour)):
        start = day.start + number * _HOUR / per_hour
        touching = [span for span in spans if span.start < start + _HOUR / per_hour and span.end > start]
        cells.append(next((span for span in touching if not span.people), touching[0]))
    first = 0
    for place in range(1, len(cells) + 1):
        if place == len(cells) or cells[place] is not cells[first]:
            yield _bar(cells[first], place - first, begins=cells[first].start > day.start, plain=plain)
            first = place


def _bar(span: Cover, length: int, *, begins: bool, plain: bool) -> Text:
    """Return the bar of one span: a line where it begins, the people, and a fill that says the same without colour."""
    edge, fill, style = ("|" if plain else "│"), ("-" if plain else "─"), ""
    if span.people is None:
        fill, style = "?", _UNKNOWN
    elif not span.people:
        fill, style = ("x" if plain else "▓"), _GAP
    name = f"{edge if begins else ' '}{show(people_text(span))} "
    if span.override is not None and cell_len(f"{name}(override) ") <= length:
        name = f"{name}(override) "
    fits = cell_len(name) <= length
    if not fits and not span.people:
        return Text(fill * length, style=style)
    text = name if fits else set_cell_size(name, length)
    return Text(text + fill * (length - cell_len(text)), style=style)
