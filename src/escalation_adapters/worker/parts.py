"""The parts of an engine that settings and plug-ins describe: notifiers, the router, the dead man's switch."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs

from escalation_core import (
    Abilities,
    Budget,
    Heartbeat,
    Notifier,
    Outcome,
    Page,
    Policies,
    Retry,
    Router,
    Schedule,
    ScheduleSource,
    Settings,
    SettingsRouter,
)
from escalation_core.rules.routing import UNROUTED
from escalation_core.settings.limits import LOG_TARGET

from ..channels.by_scheme import make_channels
from ..channels.log import LogNotifier
from .plugin_records import NO_PLUGINS, Plugins

TO_THE_LOG = "ESC_TARGETS is not set: pages go to the log of this process alone, and count as delivered"


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


class UnknownSchedules:
    """Stands for the schedule sources of plug-ins that this process has not loaded: any name may be one of theirs."""

    async def load(self) -> Mapping[str, Schedule]:
        """Return no schedule: who is on call is not known here."""
        return {}


def with_targets(settings: Settings, plugins: Plugins) -> Settings:
    """Return the settings with the targets of the plug-ins, which routes, budgets and fallbacks may name then.

    If a plug-in could not be loaded, the settings stay as they are: a name may be a target of that one.

    Raises:
        SettingsError: the settings name a target that is not defined.
    """
    if plugins.problems:
        return settings
    own = dict.fromkeys((*(settings.own_targets or ()), *plugins.targets))
    return attrs.evolve(settings, own_targets=tuple(own))


def make_notifiers(settings: Settings) -> list[Notifier]:
    """Return the log's notifier, and those of the settings' targets."""
    targets = {name: url for name, url in settings.targets.items() if name != LOG_TARGET}
    return [LogNotifier(LOG_TARGET), *make_channels(targets, allow_http=settings.allow_http)]


def known_targets(settings: Settings, policies: Policies | None, plugins: Plugins) -> Sequence[str]:
    """Return the targets that workers know, for a process that sends no page.

    Without ESC_TARGETS and plug-ins a service has its own: those that the policies name. If not every plug-in is
    known, each name in the settings may be a target of one that is missing here.
    """
    known = [*settings.targets, *plugins.targets]
    named = [] if policies is None or (known and settings.own_targets is not None) else sorted(policies.targets)
    if settings.own_targets is None:
        default = () if settings.default_target is None else (settings.default_target,)
        routes = (target for route in settings.routes for target in route.targets)
        named += [*routes, *default, *settings.fallbacks, *settings.fallbacks.values()]
    return tuple(dict.fromkeys((*known, LOG_TARGET, *named)))


def make_heartbeat(settings: Settings) -> Heartbeat | None:
    """Return the settings' dead man's switch, None if they have none."""
    if settings.heartbeat_url is None:
        return None
    from .heartbeat import HttpHeartbeat

    return HttpHeartbeat(settings.heartbeat_url, allow_http=settings.allow_http)


def make_router(settings: Settings) -> SettingsRouter:
    """Return the settings' router. Its default target, if not set, is the only target, or the log without targets."""
    default, targets = settings.default_target, (*settings.targets, *(settings.own_targets or ()))
    if default is None and len(targets) < 2:
        default = next(iter(targets), LOG_TARGET)
    return SettingsRouter(settings.routes, default)


def router_of(settings: Settings, plugins: Plugins) -> Router:
    """Return the router of a plug-in, or else that of the settings."""
    return make_router(settings) if plugins.router is None else plugins.router


def sources_of(settings: Settings, plugins: Plugins) -> Sequence[ScheduleSource]:
    """Return the schedule sources of the plug-ins, with a stand-in if not every plug-in is known."""
    return [*plugins.schedules, *([UnknownSchedules()] if settings.own_targets is None else [])]


def heartbeat_of(settings: Settings, plugins: Plugins) -> Heartbeat | None:
    """Return the dead man's switch of a plug-in, or else that of the settings."""
    return make_heartbeat(settings) if plugins.heartbeat is None else plugins.heartbeat


def unheard(settings: Settings, plugins: Plugins = NO_PLUGINS) -> list[str]:
    """Return warnings of valid settings whose pages would reach no person."""
    if not {*settings.targets, *(settings.own_targets or ())} - {LOG_TARGET}:
        return [TO_THE_LOG]
    covered = plugins.router is not None or make_router(settings).covers_everything
    return [] if covered else [UNROUTED]
