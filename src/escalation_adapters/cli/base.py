"""Shared parts of all commands: settings, the engine, output for people or machines, and errors in one line."""

import asyncio
import errno
import gc
import getpass
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import update_wrapper
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from escalation_core import Engine, EscalationError, InvalidValue, Settings
from escalation_core.checks import visible

from ..logs import set_up_logging
from ..wire import MAX_SPAN, read_instant, read_span, to_json
from ..worker.app import TO_THE_LOG, Pooler, open_engine, settings_from, unheard

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])


@attrs.define
class Context:
    """The options in front of a command."""

    database: str | None = attrs.field(default=None, repr=False)
    schema: str = "public"
    pooler: Pooler | None = None

    def settings(self) -> Settings:
        """Return the settings in force: the environment's, with the database of ``--database``."""
        settings = settings_from(os.environ)
        return settings if self.database is None else attrs.evolve(settings, database_url=self.database)

    def run(
        self,
        work: Callable[[Engine], Awaitable[Result]],
        *,
        level: str = "WARNING",
        json_lines: bool | None = None,
        long_running: bool = False,
        create: bool = False,
        pages: bool = False,
    ) -> Result:
        """Open the engine, do the work and close the engine.

        ``create`` makes a missing SQLite file. Commands that only read, or that need an incident, leave it off.
        ``pages`` is for commands that send pages: it warns if pages would go to the log alone.
        """
        set_up_logging(json_lines, level=level)
        settings = self.settings()

        async def main() -> Result:
            engine = await open_engine(
                settings, schema=self.schema, pooler=self.pooler, long_running=long_running, create=create
            )
            async with engine:
                # The engine itself warns of incidents that no route matches.
                if pages and TO_THE_LOG in unheard(settings):
                    log.warning(TO_THE_LOG)
                if long_running:
                    # These objects live as long as the process: the garbage collector need not scan them again.
                    gc.freeze()
                return await work(engine)

        with asyncio.Runner(loop_factory=_loop_factory() if long_running else None) as runner:
            return runner.run(main())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's event loop where it is installed: it sends more pages a second. None means Python's own."""
    try:
        for stream in range(3):
            os.fstat(stream)  # the loop would reuse the number of a closed stream, and libuv aborts on that
        from uvloop import new_event_loop
    except (OSError, ImportError):
        return None
    return new_event_loop


pass_context = click.make_pass_decorator(Context, ensure=True)


def json_option(command: Command) -> Command:
    """Give a command ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")(command)


def actor_option(command: Command) -> Command:
    """Give a command ``--by``."""
    option = click.option(
        "--by", metavar="WHO", default=_login, help="The actor's name for the audit. Default: your login name."
    )
    return option(command)


def _login() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return None


def reason_option(command: Command) -> Command:
    """Give a command ``--reason``."""
    return click.option("--reason", metavar="TEXT", help="The reason, for the audit.")(command)


def print_json(value: object) -> None:
    """Print one JSON document."""
    # json.dumps writes ASCII, so the encoding of the terminal or the stream changes nothing.
    click.echo(json.dumps(to_json(value), indent=2))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print a table: drawn on a terminal, in tab-separated lines elsewhere."""
    if not rows:
        click.echo(empty)
        return
    cells = [["" if cell is None else show(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *cells]:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, title=title, title_justify="left", title_style="bold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def show(value: object) -> str:
    """Return a value for people: instants to the second in UTC, and control characters as escapes."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {item}" for name, item in value.items() if item)
    elif isinstance(value, list):
        value = "; ".join(show(item) for item in value)
    return visible(str(value))


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


def run_to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine. SIGTERM cancels it, as Ctrl-C does, so that it removes its temporary files and schemas."""

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a running coroutine belongs to a task
        with suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; a thread that is not the main one
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise click.Abort from None


class Span(click.ParamType[timedelta]):
    """A span, for example 30s, 15m, 24h or 7d."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span."""
        if isinstance(value, timedelta):
            return value
        span = read_span(value)
        if span is None:
            self.fail(f"{value!r} is not a valid span; write for example 30s, 15m, 24h or 7d", param, ctx)
        if span > MAX_SPAN:
            self.fail(f"{value!r} is longer than {MAX_SPAN.days} days", param, ctx)
        return span


class Instant(click.ParamType[datetime | timedelta]):
    """An instant in ISO 8601 with a zone, or a span from the store's now, for example 2h."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """Return the instant, aware, or the span."""
        if isinstance(value, datetime | timedelta):
            return value
        if read_span(value) is not None:
            return SPAN.convert(value, param, ctx)
        instant = read_instant(value)
        if instant is None and read_instant(f"{value}Z") is not None:
            self.fail(f"{value!r} has no time zone; add Z or +01:00", param, ctx)
        if instant is None:
            remedy = "write for example 2025-01-31T12:00:00Z, or a span such as 2h"
            self.fail(f"{value!r} is not a valid instant with a time zone; {remedy}", param, ctx)
        return instant


SPAN = Span()
INSTANT = Instant()


def parse_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Return labels from NAME=VALUE texts."""
    labels: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidValue("label", f"{pair!r} is not a valid label", "write NAME=VALUE")
        labels[name] = value
    return labels


_FULL = (errno.ENOSPC, errno.EIO, errno.EBADF)


@contextmanager
def open_streams() -> Iterator[None]:
    """Discard the output of a closed stream: some schedulers start their jobs with closed streams."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        yield


def errors_in_one_line(function: Callable[[], None]) -> Callable[[], None]:
    """Turn the library's errors into one line on stderr and exit code 1. Other errors keep their traceback."""

    def main() -> None:
        with open_streams():
            try:
                function()
            except EscalationError as error:
                click.echo(f"escalation: {error}", err=True)
                sys.exit(1)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                click.echo(f"escalation: its output cannot be written: {error.strerror}", err=True)
                sys.exit(1)

    return update_wrapper(main, function)
