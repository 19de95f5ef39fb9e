"""Build an engine and its parts from settings, for the command line and for small services."""

import logging
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from escalation_core import Engine, EscalationError, Notifier, Policies, Settings
from escalation_core.settings.limits import LOG_TARGET

from ..calendars.of_file import FileCalendars
from ..channels.by_scheme import channel_budgets
from ..files import read_secret
from .parts import (
    TO_THE_LOG,
    NamedTargets,
    heartbeat_of,
    known_targets,
    make_heartbeat,
    make_notifiers,
    make_router,
    router_of,
    sources_of,
    unheard,
    with_targets,
)
from .plugin_records import NO_PLUGINS, Plugins
from .reload import Load, read
from .stores import NO_DATABASE, UNKNOWN_DATABASE, Pooler, open_store

__all__ = [
    "NO_DATABASE",
    "TO_THE_LOG",
    "UNCHECKED",
    "UNKNOWN_DATABASE",
    "NamedTargets",
    "Pooler",
    "check_policies",
    "with_targets",
    "make_heartbeat",
    "make_notifiers",
    "make_router",
    "open_engine",
    "open_store",
    "policies_loader",
    "settings_from",
    "unheard",
]
log = logging.getLogger(__name__)

UNCHECKED = "ESC_TARGETS is not set: whether the targets exist was not checked"
NO_PLUGINS_HERE = (
    "ESC_PLUGINS is set, and this program loads no plug-ins: give open_engine(plugins=load_plugins(...)), or leave"
    " ESC_PLUGINS out"
)


def settings_from(environ: Mapping[str, str], *, own_targets: Collection[str] | None = ()) -> Settings:
    """Read settings from variables; secrets may come from files. ``own_targets`` is as in ``Settings``."""
    return Settings.from_env(environ, read_file=read_secret, own_targets=own_targets)


def policies_loader(settings: Settings) -> Load | None:
    """Return the function that reads the settings' policies file; None if they name none. It blocks."""
    path = settings.policies_file
    if path is None:
        return None

    def load() -> Policies:
        from ..policies_file import load_policies

        return load_policies(path)

    return load


def check_policies(policies: Policies, settings: Settings, *, any_schedule: bool = False) -> Sequence[str]:
    """Check policies against settings, and return their warnings.

    If no target is defined, or not every plug-in is known, their targets are not checked, as with routes: a service may
    have notifiers of its own. ``any_schedule`` says that sources may have schedules beside those of the file.

    Raises:
        PoliciesError: a policy does not fit the settings.
    """
    own = settings.own_targets
    known = own is not None and (settings.targets or own)
    targets = {*settings.targets, *(own or ()), LOG_TARGET} if known else None
    policies.check(
        max_level=settings.max_level,
        tick_interval=settings.tick_interval,
        targets=targets,
        schedules=None if any_schedule else frozenset(),
    )
    return [*policies.warnings, *([UNCHECKED] if policies.targets and targets is None else [])]


async def _read_policies(given: Policies | Load | None) -> tuple[Policies | None, EscalationError | None]:
    """Return the policies, and why they could not be read."""
    if given is None or isinstance(given, Policies):
        return given, None
    try:
        return await read(given), None
    except EscalationError as error:
        return None, error


def _use_policies(engine: Engine, policies: Policies | None, fault: EscalationError | None, *, refuse: bool) -> None:
    """Give the engine its policies. If they are faulty, raise, or go on without them; then health and the log say so.

    Only a worker that stays refuses to start: an operator sees it, and the workers of before go on. A command that
    answers an incident must work while a file is faulty, and a tick of a scheduler escalates the incidents that are
    pinned to a version, and the others by the built-in policy: a late page is better than none. What needs the file
    is left to a worker that has it.
    """
    try:
        if fault is not None:
            raise fault
        if policies is not None:
            engine.use_policies(policies)
    except EscalationError as error:
        if refuse:
            raise
        engine.refuse_policies(str(error))


async def open_engine(
    settings: Settings,
    *,
    schema: str = "public",
    pooler: Pooler | None = None,
    long_running: bool = False,
    create: bool = True,
    notifiers: Sequence[Notifier] = (),
    ticks: bool = True,
    policies: Policies | None = None,
    plugins: Plugins | None = None,
) -> Engine:
    """Open the engine that the settings describe. ``create`` makes a missing SQLite file.

    ``long_running`` names its worker heartbeat by process; short commands share the heartbeat of their machine.
    ``notifiers`` are the host's own, beside those of the settings. ``ticks=False`` is for an engine that neither ticks
    nor delivers: it loads no HTTP client. ``policies`` take the place of the settings' policies file. ``plugins`` are
    what ``load_plugins`` returned; without them, ESC_PLUGINS has no effect but a warning.

    Raises:
        SettingsError: the settings name a target that neither they nor a plug-in define.
        PoliciesError: the policies file is faulty, and the engine is ``long_running``. Any other engine works without
            the file, and says so in health and in the log.
    """
    if plugins is None and settings.plugins:
        log.warning(NO_PLUGINS_HERE)
    own = plugins or NO_PLUGINS
    settings = with_targets(settings, own) if own.loaded else settings
    # Before the store, so that a failure leaves no connection open.
    file, fault = await _read_policies(policies or policies_loader(settings))
    budgets = {**channel_budgets(settings.targets), **own.budgets}
    unsent = NamedTargets(known_targets(settings, file, own), budgets)
    known = [*make_notifiers(settings), *own.notifiers] if ticks else [unsent]
    heartbeat = heartbeat_of(settings, own) if ticks else None
    machine = socket.gethostname()
    folder = Path() if settings.policies_file is None else Path(settings.policies_file).parent
    store = await open_store(settings.database_url, schema=schema, pooler=pooler, create=create)
    try:
        engine = Engine(
            store,
            settings=settings,
            notifiers=[*known, *notifiers],
            router=router_of(settings, own),
            schedules=sources_of(settings, own),
            calendars=FileCalendars(folder),
            heartbeat=heartbeat,
            worker=f"{machine}/{os.getpid()}" if long_running else machine,
        )
    except BaseException:
        await store.aclose()
        raise
    try:
        _use_policies(engine, file, fault, refuse=long_running)
    except BaseException:
        await engine.aclose()
        raise
    return engine
