"""Whether the engine may act at all at this instant: the switches of the seed, and the pause."""

from datetime import datetime
from enum import StrEnum

import attrs

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
    """What holds the engine back now, and for how long if that is known."""

    mode: Mode = Mode.OPEN
    until: datetime | None = None

    @property
    def claims(self) -> bool:
        """Whether rows may be claimed: to escalate them, or to give marked ones their true instant."""
        return self.mode in (Mode.OPEN, Mode.V1_OFF)

    @property
    def pages(self) -> bool:
        """Whether incidents may escalate and pages may be claimed for sending."""
        return self.mode is Mode.OPEN


def gate(settings: Settings, now: datetime) -> Gate:
    """Return what the settings hold back at ``now``."""
    if not settings.worker_enabled:
        return Gate(Mode.DISABLED)
    until = settings.pause.paused_until(now) if settings.pause is not None else None
    if until is not None:
        return Gate(Mode.PAUSED, until)
    return Gate() if settings.v1 else Gate(Mode.V1_OFF)
