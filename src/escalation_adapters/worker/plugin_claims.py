"""The library refuses a plug-in that serves a target of another one, or is a second router or heartbeat."""

from collections.abc import Sequence

import attrs

from escalation_core import InvalidValue, Settings
from escalation_core.settings.limits import LOG_TARGET

from .plugin_records import Kind


@attrs.define
class Claims:
    """What is taken already: each target, the router's place and the heartbeat's, with the name of its owner."""

    taken: dict[str, str]

    @classmethod
    def of(cls, settings: Settings) -> "Claims":
        """Return what the settings take."""
        taken = dict.fromkeys((_target(name) for name in settings.targets), "ESC_TARGETS")
        taken[_target(LOG_TARGET)] = "the library"
        if settings.routes:
            taken[Kind.ROUTER] = "ESC_ROUTES"
        if settings.heartbeat_url is not None:
            taken[Kind.HEARTBEAT] = "ESC_HEARTBEAT_URL"
        return cls(taken)

    def take(self, name: str, kind: Kind, targets: Sequence[str]) -> None:
        """Note what the plug-in ``name`` takes.

        Raises:
            InvalidValue: another one has it. Then nothing is noted.
        """
        wanted = [kind.value] if kind in (Kind.ROUTER, Kind.HEARTBEAT) else [_target(target) for target in targets]
        for what in wanted:
            if what in self.taken:
                fault = f"there are two for the {what}: this plug-in and {self.taken[what]}"
                raise InvalidValue(name, fault, "leave one of them out")
        self.taken |= dict.fromkeys(wanted, name)


def _target(name: str) -> str:
    return f"target {name!r}"
