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
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs
import click

from escalation_core import Engine, EscalationError, Settings

from ..logs import set_up_logging
from ..worker.app import TO_THE_LOG, Pooler, open_engine, settings_from, unheard, with_targets
from ..worker.plugin_records import NO_PLUGINS, Plugins

log = logging.getLogger(__name__)
Result = TypeVar("Result")
MakeEngine = Callable[[], Coroutine[Any, Any, Engine]]
"""Makes the engine, in the event loop that runs it."""


class Ask(Protocol):
    """Runs a piece of work with an engine that is open."""

    def __call__(self, work: Callable[[Engine], Coroutine[Any, Any, Result]], /) -> Result:
        """Run the work to its end, and return its result."""


@attrs.define
class Context:
    """The options in front of a command."""

    database: str | None = attrs.field(default=None, repr=False)
    schema: str = "public"
    pooler: Pooler | None = None
    app: str | None = None
    """The engine of ``--app``, as ``package.module:attribute``. It has its own settings, notifiers and database."""

    def settings(self) -> Settings:
        """Return the settings in force: the environment's, with the database of ``--database``.

        The targets that they name are not checked: plug-ins may serve them.
        """
        settings = settings_from(os.environ, own_targets=None)
        return settings if self.database is None else attrs.evolve(settings, database_url=self.database)

    def load(self, *, strict: bool = True) -> tuple[Settings, Plugins]:
        """Load the plug-ins, and return the settings with the targets of the plug-ins.

        ``strict=False`` is for a command that sends no page: it logs a warning of each plug-in that cannot be loaded,
        and works without it.

        Raises:
            SettingsError: a setting is wrong, or names a target that is not defined.
            PluginsError: a plug-in cannot be loaded, and ``strict`` is set.
        """
        from ..worker.plugins import find_plugins, load_plugins

        settings = self.settings()
        plugins = (load_plugins if strict else find_plugins)(settings, os.environ)
        for name, problem in plugins.problems.items():
            log.warning("a plug-in is missing in this command: %s: %s", name, problem)
        return with_targets(settings, plugins), plugins

    def _without_plugins(self) -> tuple[Settings, Plugins]:
        """Return the settings. If there may be plug-ins, their targets stay unknown, and no name is checked."""
        from ..worker.entry_points import may_have_entry_points

        settings = self.settings()
        known = not settings.plugins and not may_have_entry_points()
        return with_targets(settings, NO_PLUGINS) if known else settings, NO_PLUGINS

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
        plugins: bool = True,
    ) -> Result:
        """Open the engine, do the work and close the engine.

        ``create`` makes a missing SQLite file. Commands that only read, or that need an incident, leave it off.
        ``ticks`` is for commands that tick; other commands load no HTTP client.
        ``pages`` is for commands that send pages: it warns if pages would go to the log alone.
        ``plugins=False`` is for commands that do not say whom an escalation pages: no plug-in can stop or delay them.
        """
        set_up_logging(json_lines, level=level)
        make = self._maker(long_running=long_running, create=create, ticks=ticks, pages=pages, plugins=plugins)

        async def main() -> Result:
            async with await make() as engine:
                if long_running:
                    # These objects live as long as the process: the garbage collector need not scan them again.
                    gc.freeze()
                return await work(engine)

        with asyncio.Runner(loop_factory=_loop_factory() if long_running else None) as runner:
            return runner.run(main())

    @contextmanager
    def opened(self) -> Iterator[Ask]:
        """Open the engine for a command that asks a question between two pieces of work; yield what runs a piece."""
        set_up_logging(level="WARNING")
        make = self._maker()

        async def opened() -> Engine:
            return await (await make()).__aenter__()

        with asyncio.Runner() as runner:
            engine = runner.run(opened())
            try:
                yield lambda work: runner.run(work(engine))
            finally:
                runner.run(engine.aclose())

    def engine_in_code(self) -> MakeEngine | None:
        """Import what ``--app`` names, and return what makes its engine; None without ``--app``."""
        if self.app is None:
            return None
        from ..worker.engine_in_code import find_app, make_engine

        return partial(make_engine, self.app, find_app(self.app))

    def look(self, work: Callable[[Engine], Result]) -> Result:
        """Make the engine of ``--app``, and return what ``work`` reads of it, without its database."""
        make = self.engine_in_code()
        if make is None:
            raise EscalationError("there is no engine in code: give --app")

        async def main() -> Result:
            engine = await make()
            try:
                return work(engine)
            finally:
                await engine.aclose()

        return asyncio.run(main())

    def _maker(
        self,
        *,
        long_running: bool = False,
        create: bool = False,
        ticks: bool = False,
        pages: bool = False,
        plugins: bool = True,
    ) -> MakeEngine:
        """Check the settings and plug-ins, or import what ``--app`` names; return what makes the engine in its loop."""
        in_code = self.engine_in_code()
        if in_code is not None:
            return in_code
        settings, loaded = self.load(strict=ticks) if plugins else self._without_plugins()

        async def make() -> Engine:
            engine = await open_engine(
                settings,
                schema=self.schema,
                pooler=self.pooler,
                long_running=long_running,
                create=create,
                ticks=ticks,
                plugins=loaded,
            )
            # The engine itself warns of incidents that no route matches.
            if pages and TO_THE_LOG in unheard(settings, loaded):
                log.warning(TO_THE_LOG)
            return engine

        return make


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
