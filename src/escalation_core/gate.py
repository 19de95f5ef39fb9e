"""Whether the engine may act at all at this instant: the switches of the seed, and the pauses."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import attrs

from .pausing import Pause, Paused, paused_at
from .settings import Settings


class Mode(StrEnum):
    """What holds the engine back, the strongest first."""

    DISABLED = "disabled"
    """ESCALATION_WORKER_ENABLED=false: no row and no page is claimed."""
    PAUSED = "paused"
    """Nothing escalates, nothing is rescheduled, no page is claimed."""
    V1_OFF = "v1_off"
    """ESCALATION_V1=false: marked rows are rescheduled, nothing escalates, no page is claimed."""
    OPEN = "open"


@attrs.frozen
class Gate:
    """What holds the engine back now, and the pause if there is one, also where a switch holds more."""

    mode: Mode = Mode.OPEN
    paused: Paused | None = None

    @property
    def until(self) -> datetime | None:
        """When the pause ends, if there is one."""
        return None if self.paused is None else self.paused.until

    @property
    def claims(self) -> bool:
        """Whether rows may be claimed: to escalate them, or to give marked ones their true instant."""
        return self.mode in (Mode.OPEN, Mode.V1_OFF)

    @property
    def pages(self) -> bool:
        """Whether incidents may escalate and pages may be claimed for sending."""
        return self.mode is Mode.OPEN


def gate(settings: Settings, now: datetime, pauses: Sequence[Pause] = ()) -> Gate:
    """Return what the settings and the operators' pauses hold back at ``now``. The switches win."""
    paused = paused_at(settings.pause, pauses, now)
    if not settings.worker_enabled:
        return Gate(Mode.DISABLED, paused)
    if paused is not None:
        return Gate(Mode.PAUSED, paused)
    return Gate() if settings.v1 else Gate(Mode.V1_OFF)
