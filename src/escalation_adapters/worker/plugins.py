"""Plug-ins of the program ``escalation``: notifiers, a router, schedule sources and a heartbeat of your own.

Entry points of installed distributions and ``ESC_PLUGINS`` name factories. Each is called once, before the store is
opened, and every fault is reported.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from escalation_core import EscalationError, InvalidValue, Settings
from escalation_core.errors import Problem, error_place
from escalation_core.settings.parse import text
from escalation_core.settings.secrets import secret_text

from ..files import read_secret
from .entry_points import find_entry_points
from .named_objects import add_working_directory, find_object
from .plugin_checks import check_made
from .plugin_claims import Claims
from .plugin_records import Kind, Plugin, Plugins

Result = TypeVar("Result")
FACTORY_TIMEOUT = 10.0
"""Seconds that a factory may take, with the import of its module."""


class PluginsError(EscalationError, ValueError):
    """Plug-ins are wrong. ``problems`` maps the name of each wrong plug-in to its fault and remedy."""

    def __init__(self, problems: Mapping[str, Problem]) -> None:
        lines = "".join(f"\n  {name}: {problem}" for name, problem in problems.items())
        count = "1 plug-in is" if len(problems) == 1 else f"{len(problems)} plug-ins are"
        super().__init__(f"{count} wrong:{lines}")
        self.problems = dict(problems)


@attrs.frozen
class PluginContext:
    """What a factory gets: the settings, and the environment for variables of its own."""

    settings: Settings
    environ: Mapping[str, str] = attrs.field(repr=False)

    def secret(self, name: str) -> str:
        """Return the value of the variable ``name``, or the content of the file that ``NAME_FILE`` names.

        Raises:
            InvalidValue: neither is set, or both are, the file cannot be read, or the value is empty or has blanks
                around it.
        """
        try:
            value = secret_text(self.environ, name, read_secret)
            if value is not None:
                return text(value)
        except InvalidValue as fault:
            raise InvalidValue(name, fault.fault, fault.remedy) from None
        raise InvalidValue(name, "is not set", f"set it, or set {name}_FILE to the path of a file")


def load_plugins(settings: Settings, environ: Mapping[str, str]) -> Plugins:
    """Load all plug-ins: those of entry points, and those of ``ESC_PLUGINS``.

    Raises:
        PluginsError: a plug-in is wrong. The error has every problem, and no text of another library's error.
    """
    found = find_plugins(settings, environ)
    if found.problems:
        raise PluginsError(found.problems)
    return found


def find_plugins(settings: Settings, environ: Mapping[str, str]) -> Plugins:
    """Load the plug-ins that can be loaded, for a process that sends no page; ``problems`` has the others."""
    context, claims = PluginContext(settings, environ), Claims.of(settings)
    loaded: list[Plugin] = []
    problems: dict[str, Problem] = {}
    if settings.plugins:
        add_working_directory()
    for name, factory, kind in _named(settings):
        try:
            plugin = _load(name, factory, kind, context)
            claims.take(name, plugin.kind, plugin.targets)
            loaded.append(plugin)
        except InvalidValue as fault:
            problems[name] = Problem(fault.fault, fault.remedy)
    return Plugins(loaded, problems)


def _named(settings: Settings) -> Iterator[tuple[str, str, Kind | None]]:
    """Yield the name of each plug-in, its factory, and its kind if an entry point says it."""
    kinds = {kind.group: kind for kind in Kind}
    for entry in find_entry_points(*kinds):
        owner = f" of {entry.owner}" if entry.owner else ""
        name = f"entry point {entry.group}: {entry.name}{owner}"
        yield name, entry.value.partition("[")[0].strip(), kinds[entry.group]
    for factory in settings.plugins:
        yield f"ESC_PLUGINS {factory}", factory, None


def _load(name: str, factory: str, kind: Kind | None, context: PluginContext) -> Plugin:
    """Import the factory, call it, and check what it returns."""

    def work() -> Plugin:
        make = find_object(factory)
        if not callable(make):
            raise InvalidValue(name, f"is {type(make).__name__}", "name a function that takes the context")
        made = _call(name, make, context)
        return check_made(name, made, kind)

    try:
        return in_time(FACTORY_TIMEOUT, work)
    except TimeoutError:
        fault = f"has not returned within {FACTORY_TIMEOUT:g} s"
        raise InvalidValue(name, fault, "connect at the first call that needs it, not in the factory") from None


def _call(name: str, make: Callable[[PluginContext], Any], context: PluginContext) -> Any:
    try:
        return make(context)
    except EscalationError as error:  # no error of the library has a secret in its text
        fault = f"{error.field}: {error.fault}" if isinstance(error, InvalidValue) else str(error)
        remedy = error.remedy if isinstance(error, InvalidValue) else "repair it"
        raise InvalidValue(name, fault, remedy) from None
    except BaseException as error:  # noqa: BLE001 - a factory of another author may raise anything, also SystemExit
        remedy = "repair it; call the factory in a test of the plug-in to see the whole error"
        raise InvalidValue(name, f"raised {error_place(error)}", remedy) from None


def in_time(seconds: float, work: Callable[[], Result]) -> Result:
    """Call ``work`` in a thread, and return its result. A thread that hangs does not keep the process from ending.

    Raises:
        TimeoutError: it has not ended in time.
    """
    done: list[Result] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            raised.append(error)

    thread = threading.Thread(target=run, name="escalation plug-in", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not done:
        raise TimeoutError
    return done[0]
