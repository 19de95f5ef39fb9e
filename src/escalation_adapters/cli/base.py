"""The base of all commands: settings, the engine, and errors in one line."""

import asyncio
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from functools import update_wrapper
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from escalation_core import Engine, EscalationError, Settings

from ..logs import set_up_logging
from ..worker.app import TO_THE_LOG, Pooler, open_engine, settings_from, unheard

log = logging.getLogger(__name__)
Result = TypeVar("Result")


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
        ticks: bool = False,
        pages: bool = False,
    ) -> Result:
        """Open the engine, do the work and close the engine.

        ``create`` makes a missing SQLite file. Commands that only read, or that need an incident, leave it off.
        ``ticks`` is for commands that tick; other commands load no HTTP client.
        ``pages`` is for commands that send pages: it warns if pages would go to the log alone.
        """
        set_up_logging(json_lines, level=level)
        settings = self.settings()

        async def main() -> Result:
            engine = await open_engine(
                settings,
                schema=self.schema,
                pooler=self.pooler,
                long_running=long_running,
                create=create,
                ticks=ticks,
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
