"""The gate decides whether the engine may act at an instant: switches, scheduled pauses, operators' pauses."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..errors import InvalidValue
from ..model import By, Pause, Paused
from .maintenance import PauseSchedule

MAX_PAUSE = timedelta(hours=24)
"""The longest pause that an operator may set. To pause for longer, the operator sets another pause."""
SCHEDULE = "schedule"
"""The name that stands for the operator when the schedule pauses."""
_MAX_LINKS = 1000


class Mode(StrEnum):
    """What the engine may do now. The most restrictive mode comes first."""

    DISABLED = "disabled"
    """ESCALATION_WORKER_ENABLED=false: the engine claims no row and no page."""
    PAUSED = "paused"
    """A pause lasts: the engine escalates nothing, reschedules nothing and claims no page."""
    V1_OFF = "v1_off"
    """ESCALATION_V1=false: the engine reschedules rows that need a replan, escalates nothing and claims no page."""
    OPEN = "open"


@attrs.frozen(kw_only=True)
class Switches:
    """The settings that enable or pause the engine."""

    enabled: bool = True
    v1: bool = True
    schedule: PauseSchedule | None = None


@attrs.frozen
class Gate:
    """The mode at one instant, and the pause at that instant, also if a switch has set the mode."""

    mode: Mode = Mode.OPEN
    paused: Paused | None = None

    @property
    def until(self) -> datetime | None:
        """When the pause ends; None without a pause."""
        return None if self.paused is None else self.paused.until

    @property
    def may_claim(self) -> bool:
        """Whether the engine may claim rows: to escalate them, or to replan those that need it."""
        return self.mode in (Mode.OPEN, Mode.V1_OFF)

    @property
    def may_escalate(self) -> bool:
        """Whether the engine may escalate incidents and claim pages to send them."""
        return self.mode is Mode.OPEN

    @classmethod
    def at(cls, switches: Switches, now: datetime, pauses: Sequence[Pause] = ()) -> "Gate":
        """Return the gate at ``now``. DISABLED comes before PAUSED, and PAUSED before V1_OFF."""
        paused = paused_at(switches.schedule, pauses, now)
        if not switches.enabled:
            return cls(Mode.DISABLED, paused)
        if paused is not None:
            return cls(Mode.PAUSED, paused)
        return cls() if switches.v1 else cls(Mode.V1_OFF)


def paused_at(schedule: PauseSchedule | None, pauses: Sequence[Pause], now: datetime) -> Paused | None:
    """Return the pause at ``now``, from operators' pauses and the schedule together; None if nothing pauses.

    Pauses that overlap or touch count as one pause, and ``until`` is the end of that one.
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
    """Return the latest end among the pauses that cover this instant; None if none covers it."""
    standing = [pause for pause in pauses if pause.covers(at)]
    ends = [pause.ends_at for pause in standing if not pause.lifts_schedule]
    if schedule is not None and not any(pause.lifts_schedule for pause in standing):
        end = schedule.paused_until(at)
        if end is not None:
            ends.append(end)
    return max(ends, default=None)


def pause_from(now: datetime, until: datetime | timedelta, who: By) -> Pause:
    """Return a pause that begins now and lasts until an instant or for a span.

    Raises:
        InvalidValue: the pause would end at or before ``now``, or last longer than 24 hours.
    """
    end = now + max(timedelta(), min(until, 2 * MAX_PAUSE)) if isinstance(until, timedelta) else until
    if end <= now:
        raise InvalidValue("until", "is over already", "give an instant in the future, or a span above zero")
    if end > now + MAX_PAUSE:
        raise InvalidValue("until", "is more than 24 hours away", "pause for at most 24 hours, then pause again")
    return Pause(starts_at=now, ends_at=end, actor=who.actor, reason=who.reason)
