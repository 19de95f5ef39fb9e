"""Whether the engine may act at this instant: the switches, the schedule of pauses, and operators' pauses."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..errors import InvalidValue
from ..model import By, Pause, Paused
from .maintenance import PauseSchedule

MAX_PAUSE = timedelta(hours=24)
"""The longest pause that an operator may set; a longer one is set again when it ends."""
SCHEDULE = "schedule"
"""Who paused when it was the schedule."""
_MAX_LINKS = 1000


class Mode(StrEnum):
    """What holds the engine back, the strongest first."""

    DISABLED = "disabled"
    """ESCALATION_WORKER_ENABLED=false: no row and no page is claimed."""
    PAUSED = "paused"
    """Nothing escalates, nothing is rescheduled, no page is claimed."""
    V1_OFF = "v1_off"
    """ESCALATION_V1=false: marked rows are rescheduled, nothing escalates, no page is claimed."""
    OPEN = "open"


@attrs.frozen(kw_only=True)
class Switches:
    """What the settings say of acting at all."""

    enabled: bool = True
    v1: bool = True
    schedule: PauseSchedule | None = None


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
    def may_claim(self) -> bool:
        """Whether rows may be claimed: to escalate them, or to give marked ones their true instant."""
        return self.mode in (Mode.OPEN, Mode.V1_OFF)

    @property
    def may_escalate(self) -> bool:
        """Whether incidents may escalate and pages may be claimed for sending."""
        return self.mode is Mode.OPEN

    @classmethod
    def at(cls, switches: Switches, now: datetime, pauses: Sequence[Pause] = ()) -> "Gate":
        """Return what the switches and the operators' pauses hold back at ``now``. The switches win."""
        paused = paused_at(switches.schedule, pauses, now)
        if not switches.enabled:
            return cls(Mode.DISABLED, paused)
        if paused is not None:
            return cls(Mode.PAUSED, paused)
        return cls() if switches.v1 else cls(Mode.V1_OFF)


def paused_at(schedule: PauseSchedule | None, pauses: Sequence[Pause], now: datetime) -> Paused | None:
    """Return what pauses paging at ``now``: the union of the rows and of the schedule; None if nothing does.

    ``until`` is where the union ends: pauses that overlap or touch are one.
    """
    until = now
    for _ in range(_MAX_LINKS):
        end = _end(schedule, pauses, until)
        if end is None:
            break
        until = end
    if until == now:
        return None
    standing = [pause for pause in pauses if pause.covers(now) and not pause.lifts_schedule]
    if not standing:
        return Paused(until, SCHEDULE)
    longest = max(standing, key=lambda pause: pause.ends_at)
    return Paused(until, longest.actor, longest.reason)


def _end(schedule: PauseSchedule | None, pauses: Sequence[Pause], at: datetime) -> datetime | None:
    """Return when what pauses at this instant ends, the latest of all; None if nothing does."""
    standing = [pause for pause in pauses if pause.covers(at)]
    ends = [pause.ends_at for pause in standing if not pause.lifts_schedule]
    if schedule is not None and not any(pause.lifts_schedule for pause in standing):
        end = schedule.paused_until(at)
        if end is not None:
            ends.append(end)
    return max(ends, default=None)


def pause_from(now: datetime, until: datetime | timedelta, who: By) -> Pause:
    """Return the pause from now until an instant, or for a span.

    Raises:
        InvalidValue: it would be over already, or longer than 24 hours.
    """
    end = now + max(timedelta(), min(until, 2 * MAX_PAUSE)) if isinstance(until, timedelta) else until
    if end <= now:
        raise InvalidValue("until", "is over already", "give an instant to come, or a span")
    if end > now + MAX_PAUSE:
        raise InvalidValue("until", "is more than 24 hours away", "pause for 24 hours at most, and again if need be")
    return Pause(starts_at=now, ends_at=end, actor=who.actor, reason=who.reason)
