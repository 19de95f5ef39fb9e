"""The plug-ins of a process. ``plugins`` loads them; this module imports none of what that needs."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from escalation_core import Abilities, Budget, Heartbeat, Notifier, Router, ScheduleSource
from escalation_core.errors import Problem


class Kind(StrEnum):
    """What a plug-in is."""

    NOTIFIER = "notifier"
    ROUTER = "router"
    SCHEDULES = "schedule source"
    HEARTBEAT = "heartbeat"

    @property
    def group(self) -> str:
        """The group of entry points for plug-ins of this kind."""
        return f"escalation.{'schedules' if self is Kind.SCHEDULES else f'{self.value}s'}"

    @property
    def method(self) -> str:
        """The method that tells this kind from the others."""
        return METHODS[self]


METHODS = {Kind.NOTIFIER: "send", Kind.ROUTER: "route", Kind.SCHEDULES: "load", Kind.HEARTBEAT: "beat"}
"""The method that tells each kind from the others."""


@attrs.frozen
class Plugin:
    """A plug-in that was loaded."""

    name: str
    """For example ``ESC_PLUGINS pager:make``."""
    kind: Kind
    made: Any = attrs.field(repr=False)
    targets: Sequence[str] = ()
    """The targets that a notifier serves."""
    abilities: Abilities = attrs.field(factory=Abilities)
    """What a notifier declared when it was checked."""


@attrs.frozen
class Plugins:
    """The plug-ins of a process: those that could be loaded, and what is wrong with the others."""

    loaded: Sequence[Plugin] = ()
    problems: Mapping[str, Problem] = attrs.field(factory=dict)
    """The plug-ins that could not be loaded, by name."""

    @property
    def notifiers(self) -> Sequence[Notifier]:
        """The notifiers."""
        return self._of(Kind.NOTIFIER)

    @property
    def targets(self) -> Sequence[str]:
        """The targets of the notifiers."""
        return [target for plugin in self.loaded for target in plugin.targets]

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """The budgets that the notifiers give their own targets."""
        return {
            name: budget
            for plugin in self.loaded
            for name, budget in plugin.abilities.budgets.items()
            if name in plugin.targets
        }

    @property
    def router(self) -> Router | None:
        """The router, None if no plug-in is one."""
        return next(iter(self._of(Kind.ROUTER)), None)

    @property
    def schedules(self) -> Sequence[ScheduleSource]:
        """The schedule sources."""
        return self._of(Kind.SCHEDULES)

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The dead man's switch, None if no plug-in is one."""
        return next(iter(self._of(Kind.HEARTBEAT)), None)

    def _of(self, kind: Kind) -> Sequence[Any]:
        return [plugin.made for plugin in self.loaded if plugin.kind is kind]


NO_PLUGINS = Plugins()
