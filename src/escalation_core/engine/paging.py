"""What makes the pages of an engine, from its settings, its notifiers and its router."""

from collections.abc import Mapping

from ..ports import Notifier, Router
from ..rules.fallback import check_served
from ..rules.routing import Pager, SettingsRouter
from ..settings import Settings


def make_pager(settings: Settings, served: Mapping[str, Notifier], router: Router | None) -> Pager:
    """Return the pager of an engine, with the notifier of each target. A single target is the default one.

    Raises:
        InvalidValue: the settings' fallbacks name a target that no notifier serves.
    """
    check_served(settings.fallbacks, served)
    default = settings.default_target or (next(iter(served)) if len(served) == 1 else None)
    return Pager(
        router or SettingsRouter(settings.routes, default),
        frozenset(served),
        default,
        settings.fallback,
        settings.order,
    )
