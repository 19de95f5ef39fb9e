"""Build an engine and its parts from settings, for the command line and for small services."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from escalation_core import (
    Abilities,
    Budget,
    Engine,
    EscalationError,
    Heartbeat,
    Notifier,
    Outcome,
    Page,
    Policies,
    Retry,
    Settings,
    SettingsRouter,
    Store,
)
from escalation_core.rules.routing import UNROUTED
from escalation_core.settings.limits import LOG_TARGET

from ..calendars.of_file import FileCalendars
from ..channels.by_scheme import channel_budgets, make_channels
from ..channels.log import LogNotifier
from ..files import read_secret
from .reload import Load, read

Pooler = Literal["transaction"]
"""The pooler between this process and PostgreSQL: one in transaction mode, for example pgbouncer."""
NO_DATABASE = (
    "ESC_DATABASE_URL is not set; set it to sqlite:///FILE or postgresql://USER@HOST/DATABASE, or give --database"
)
UNCHECKED = "ESC_TARGETS is not set: whether the targets exist was not checked"
NO_FILE = "sqlite:/// names no file, and a database in memory loses its data; give sqlite:///FILE"
UNKNOWN_DATABASE = (
    "the database's URL is not a valid URL of a store; give sqlite:///FILE or postgresql://USER@HOST/DATABASE"
)
TO_THE_LOG = "ESC_TARGETS is not set: pages go to the log of this process alone, and count as delivered"


def settings_from(environ: Mapping[str, str]) -> Settings:
    """Read settings from variables; secrets may come from files."""
    return Settings.from_env(environ, read_file=read_secret)


async def open_store(
    url: str | None,
    *,
    schema: str = "public",
    pooler: Pooler | None = None,
    clock: Callable[[], datetime] | None = None,
    create: bool = True,
) -> Store:
    """Open the store that a URL names: ``sqlite:///FILE`` or ``postgresql://...``. ``create`` makes a missing file.

    Raises:
        EscalationError: there is no URL, or it is not valid. The message does not hold the URL, which may hold a
            password.
        StoreUnavailable, StoreNotReady: the database is out of reach or not migrated.
    """
    if not url:
        raise EscalationError(NO_DATABASE)
    if url.startswith("sqlite:///"):
        from ..sqlite import SQLiteStore

        if url in ("sqlite:///", "sqlite:///:memory:"):
            raise EscalationError(NO_FILE)
        return await SQLiteStore.connect(url.removeprefix("sqlite:///"), clock=clock, create=create)
    if url.startswith(("postgresql://", "postgres://")):
        from ..postgres import PostgresStore

        return await PostgresStore.connect(url, schema=schema, pooler=pooler, clock=clock)
    raise EscalationError(UNKNOWN_DATABASE)


class NamedTargets:
    """The targets of the settings for an engine that sends no page: their names and budgets, and no HTTP client."""

    channel = "unsent"

    def __init__(self, targets: Sequence[str], budgets: Mapping[str, Budget] = MappingProxyType({})) -> None:
        self.targets = targets
        self.abilities = Abilities(budgets=budgets)

    async def send(self, page: Page) -> Outcome:
        """Return Retry: a worker sends the page."""
        return Retry(f"this process sends no page to {page.target}")

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def make_notifiers(settings: Settings) -> list[Notifier]:
    """Return the log's notifier, and those of the settings' targets."""
    targets = {name: url for name, url in settings.targets.items() if name != LOG_TARGET}
    return [LogNotifier(LOG_TARGET), *make_channels(targets, allow_http=settings.allow_http)]


def _names(settings: Settings, policies: Policies | None) -> Sequence[str]:
    """Return the targets that workers know. Without ESC_TARGETS a service has its own: those that the policies name."""
    named = () if settings.targets or policies is None else sorted(policies.targets)
    return tuple(dict.fromkeys((*settings.targets, LOG_TARGET, *named)))


def make_heartbeat(settings: Settings) -> Heartbeat | None:
    """Return the settings' dead man's switch, None if they have none."""
    if settings.heartbeat_url is None:
        return None
    from .heartbeat import HttpHeartbeat

    return HttpHeartbeat(settings.heartbeat_url, allow_http=settings.allow_http)


def make_router(settings: Settings) -> SettingsRouter:
    """Return the settings' router. Its default target, if not set, is the only target, or the log without targets."""
    default = settings.default_target
    if default is None and len(settings.targets) < 2:
        default = next(iter(settings.targets), LOG_TARGET)
    return SettingsRouter(settings.routes, default)


def unheard(settings: Settings) -> list[str]:
    """Return warnings of valid settings whose pages would reach no person."""
    if not settings.targets.keys() - {LOG_TARGET}:
        return [TO_THE_LOG]
    return [] if make_router(settings).covers_everything else [UNROUTED]


def policies_loader(settings: Settings) -> Load | None:
    """Return the function that reads the settings' policies file; None if they name none. It blocks."""
    path = settings.policies_file
    if path is None:
        return None

    def load() -> Policies:
        from ..policies_file import load_policies

        return load_policies(path)

    return load


def check_policies(policies: Policies, settings: Settings) -> Sequence[str]:
    """Check policies against settings, and return their warnings.

    Without ESC_TARGETS their targets are not checked, as with routes: a service may have notifiers of its own.

    Raises:
        PoliciesError: a policy does not fit the settings.
    """
    targets = {*settings.targets, LOG_TARGET} if settings.targets else None
    policies.check(
        max_level=settings.max_level, tick_interval=settings.tick_interval, targets=targets, schedules=frozenset()
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
) -> Engine:
    """Open the engine that the settings describe. ``create`` makes a missing SQLite file.

    ``long_running`` names its worker heartbeat by process; short commands share the heartbeat of their machine.
    ``notifiers`` are the host's own, beside those of the settings. ``ticks=False`` is for an engine that neither ticks
    nor delivers: it loads no HTTP client. ``policies`` take the place of the settings' policies file.

    Raises:
        PoliciesError: the policies file is faulty, and the engine is ``long_running``. Any other engine works without
            the file, and says so in health and in the log.
    """
    # Before the store, so that a failure leaves no connection open.
    file, fault = await _read_policies(policies or policies_loader(settings))
    names, budgets = _names(settings, file), channel_budgets(settings.targets)
    known = make_notifiers(settings) if ticks else [NamedTargets(names, budgets)]
    heartbeat = make_heartbeat(settings) if ticks else None
    machine = socket.gethostname()
    folder = Path() if settings.policies_file is None else Path(settings.policies_file).parent
    engine = Engine(
        await open_store(settings.database_url, schema=schema, pooler=pooler, create=create),
        settings=settings,
        notifiers=[*known, *notifiers],
        router=make_router(settings),
        calendars=FileCalendars(folder),
        heartbeat=heartbeat,
        worker=f"{machine}/{os.getpid()}" if long_running else machine,
    )
    try:
        _use_policies(engine, file, fault, refuse=long_running)
    except BaseException:
        await engine.aclose()
        raise
    return engine
