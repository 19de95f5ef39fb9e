"""What the commands print: JSON and tab-separated lines for machines, tables and times for people."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, Literal

import attrs
import click

from escalation_core.checks import visible

from ..wire import to_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

NARROW_CHARS = 60
"""On a terminal that is narrower, each row of a table with more than two columns is a block of lines."""
_VERY_NARROW_CHARS = 30
"""On a terminal that is narrower still, a value does not stand beside its name but behind it."""
_MIN_CHARS = 12
"""A table is drawn only if each column has the space that it needs, or this much."""
_UNITS = ((120, 1, "s"), (120 * 60, 60, "min"), (48 * 3600, 3600, "h"))
"""The length in seconds up to which a span is given in a unit, the unit in seconds, and its name."""


def on_terminal() -> bool:
    """Return whether people read the output: whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_json(value: object) -> None:
    """Print one JSON document."""
    # json.dumps writes ASCII, so the encoding of the terminal or the stream changes nothing.
    click.echo(json.dumps(to_json(value), indent=2))


@attrs.frozen
class Times:
    """Instants for people: on a terminal in the zone of this machine, or in UTC; elsewhere always in UTC, ISO 8601.

    ``now`` is the store's instant. This machine's clock may be wrong.
    """

    now: datetime
    utc: bool = False

    @property
    def zone(self) -> str:
        """The zone of the instants on a terminal, for example ``UTC``, ``CET`` or ``UTC+05:45``."""
        return zone_name(self.there(self.now))

    def at(self, instant: datetime) -> str:
        """Return an instant to the second: on a terminal the time, with its date if that is not today."""
        if not on_terminal():
            return _iso(instant)
        there, here = (one.isoformat(" ", "seconds") for one in (self.there(instant), self.there(self.now)))
        told = there[11:19] if there[:10] == here[:10] else there[:19]
        # Summer time has another offset than the zone that the header names.
        return told if there[19:] == here[19:] else told + there[19:]

    def when(self, instant: datetime) -> str:
        """Return an instant with its distance from now, for example ``03:14:05 (in 4 min)``; elsewhere as ``at``."""
        return f"{self.at(instant)} ({self.relative(instant)})" if on_terminal() else self.at(instant)

    def sentence(self, instant: datetime) -> str:
        """Return an instant for a sentence: as ``when``, with its zone, for example ``03:14:05 CET (in 4 min)``."""
        return f"{self.at(instant)} {self.zone} ({self.relative(instant)})" if on_terminal() else self.at(instant)

    def relative(self, instant: datetime) -> str:
        """Return the distance of an instant from now, for example ``in 4 min`` or ``2 h ago``."""
        distance = instant - self.now
        if abs(distance) < timedelta(seconds=1):
            return "now"
        return f"in {length(distance)}" if distance > timedelta(0) else f"{length(distance)} ago"

    def there(self, instant: datetime) -> datetime:
        """Return an instant in the zone in which it is shown."""
        try:
            return instant.astimezone(UTC if self.utc or not on_terminal() else None)
        except (OverflowError, OSError, ValueError):  # the ends of the calendar; Windows also refuses early years
            return instant.astimezone(UTC)


def zone_name(there: datetime) -> str:
    """Return the name of an instant's zone, for example ``CET`` or ``UTC+05:45``."""
    name = there.tzname() or ""
    # Some zones have no short name in letters, and Windows has none at all.
    return name if re.fullmatch("[A-Z]{2,5}", name) else f"UTC{there.isoformat()[-6:]}"


def length(span: timedelta) -> str:
    """Return the length of a span in one unit, for example ``42 s``, ``4 min``, ``30 h`` or ``3 d``."""
    seconds = abs(span.total_seconds())
    for most, unit, name in _UNITS:
        if seconds < most:
            return f"{seconds // unit:.0f} {name}"
    return f"{seconds // 86400:.0f} d"


def exact_length(span: timedelta) -> str:
    """Return the length of a span to the second, for example ``1 h 30 min``; a length of zero is ``0``."""
    seconds, parts = int(span.total_seconds()), []
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, unit)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts) or "0"


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str, times: Times | None = None
) -> None:
    """Print a table: on a terminal it folds what is too wide, elsewhere each row is a line with tabs.

    On a terminal, ``times`` writes the instants, and their columns name the zone. Without it they are in UTC.
    """
    if not rows:
        click.echo(empty)
        return
    cells = [["" if cell is None else show(cell, times) for cell in row] for row in rows]
    if not on_terminal():
        for row in [list(columns), *cells]:
            click.echo("\t".join(row))
        return
    if times is not None:
        dated = [any(isinstance(row[place], datetime) for row in rows) for place in range(len(columns))]
        columns = [f"{name} ({times.zone})" if has else name for name, has in zip(columns, dated, strict=True)]
    draw(title, columns, cells)


def say(sentence: str) -> None:
    """Print a sentence: on a terminal it folds between words."""
    if on_terminal():
        from rich.text import Text

        console().print(Text(sentence), overflow="fold")
    else:
        click.echo(sentence)


def facts(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and texts: on a terminal ``name: text``, folded; elsewhere a line with a tab for each."""
    if on_terminal():
        console().print(_block(rows))
        return
    for row in rows:
        click.echo("\t".join(row))


def draw(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Draw a table on the terminal. No cell loses a character: it folds, or the rows become blocks of lines."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    screen = console()
    widest = [max(Text(row[place]).cell_len for row in [columns, *cells]) for place in range(len(columns))]
    needed = sum(min(chars, _MIN_CHARS) for chars in widest) + 2 * (len(columns) - 1)
    screen.print(Text(title, style="bold"))
    if needed > screen.width or (screen.width < NARROW_CHARS and len(columns) > 2):
        for row in cells:
            screen.print(_block([(name, cell) for name, cell in zip(columns, row, strict=True) if cell]), "")
        return
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        drawn.add_column(Text(name), overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    screen.print(drawn)


def _block(rows: Sequence[tuple[str, str]]) -> "Table | Text":
    from rich.table import Table
    from rich.text import Text

    if console().width < _VERY_NARROW_CHARS:
        return Text("\n".join(f"{name}: {cell}" for name, cell in rows), overflow="fold")
    block = Table.grid("", "", padding=(0, 1, 0, 0))
    block.columns[0].no_wrap, block.columns[1].overflow = True, "fold"
    for name, cell in rows:
        block.add_row(Text(f"{name}:", style="bold"), Text(cell))
    return block


def ascii_only() -> bool:
    """Return whether the encoding of the output may lack the characters that draw lines."""
    return not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def screen_width() -> int:
    """Return how wide a timeline may be: at most 78, and so that the last time below it fits into the terminal."""
    return min(shutil.get_terminal_size().columns - 5, 78) if on_terminal() else 78


@contextmanager
def whole_screen() -> Iterator[list[str]]:
    """Clear the terminal and show what is printed inside, cut to its height; yield a list for lines below it.

    The lines below are always visible. The list says how many lines were cut.
    """
    foot: list[str] = []
    with redirect_stdout(_Lines()) as lines:
        yield foot
    width, height = shutil.get_terminal_size()
    room = max(height - 1 - sum(-(-len(line) // width) for line in foot), 1)
    printed = lines.getvalue().splitlines()
    if len(printed) > room:
        printed = [*printed[: room - 1], f"... {len(printed) - room + 1} more lines"]
    if os.environ.get("TERM") != "dumb":
        click.clear()
    click.echo("\n".join([*printed, *(show(line) for line in foot)]), color=True)


class _Lines(StringIO):
    """A text that is printed for the terminal later."""

    encoding = property(lambda _: getattr(sys.__stdout__, "encoding", None) or "utf-8")

    def isatty(self) -> bool:
        return True


def console() -> "Console":
    """Return the terminal. rich heeds its encoding and TERM; COLUMNS wins over the width that the terminal has."""
    from rich.console import Console

    width, height = shutil.get_terminal_size()
    # With NO_COLOR alone rich would still print bold letters.
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(width=width, height=height, color_system=colours, markup=False, emoji=False, highlight=False)


def show(value: object, times: Times | None = None) -> str:
    """Return a value for people: instants to the second, and control characters as escapes.

    A character that the output's encoding lacks is an escape, too.
    """
    if isinstance(value, datetime):
        return _iso(value) if times is None else times.at(value)
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {item}" for name, item in value.items() if item)
    elif isinstance(value, list):
        value = "; ".join(show(item, times) for item in value)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return visible(str(value)).encode(encoding, "backslashreplace").decode(encoding)


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(" ", "seconds").replace("+00:00", "Z")


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """Show the progress of long work on a terminal; yield a function that takes the count done so far."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
