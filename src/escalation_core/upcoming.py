"""When an incident escalates next, or what keeps it from that: the tick's own rules, asked about one incident."""

from datetime import datetime
from enum import StrEnum

import attrs

from .gate import Gate, Mode
from .keys import in_canary
from .model import Incident, PutBack, State
from .settings import Settings


class HeldBy(StrEnum):
    """What keeps an incident from escalating, or from doing so sooner."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    GONE = "gone"
    """There is no row."""
    UNREADABLE = "unreadable"
    """The row cannot be read, planned or written, and is left alone for a while."""
    EXHAUSTED = "exhausted"
    """It is at the maximum level."""
    DISABLED = "disabled"
    V1_OFF = "v1_off"
    DRY_RUN = "dry_run"
    CANARY = "canary"
    """It is outside the canary."""
    PAUSED = "paused"
    SNOOZED = "snoozed"


@attrs.frozen
class Upcoming:
    """An incident's next escalation."""

    at: datetime | None
    """When it comes, never before now; None if none comes as things stand."""
    held_by: HeldBy | None = None
    detail: str | None = None
    """The same in words: who or what it is, and until when."""


def upcoming(
    incident: Incident | None, left_alone: PutBack | None, *, settings: Settings, gate: Gate, now: datetime
) -> Upcoming:
    """Return what comes next for a row as it stands. ``left_alone`` is why workers leave it alone, if they do."""
    if incident is not None and incident.state is not State.OPEN:
        return _ended(incident)
    if left_alone is not None:
        again = f"looked at again {_at(left_alone.until)}" if left_alone.until > now else "looked at again now"
        return Upcoming(None, HeldBy.UNREADABLE, f"{left_alone.fault}; {again}")
    if incident is None:
        return Upcoming(None, HeldBy.GONE, "there is no row that can be read")
    due = settings.policy.next_due_at(incident, now)
    if due is not None and incident.next_due_at is not None:
        # No worker looks at the row before the instant that it holds.
        due = max(due, incident.next_due_at)
    if due is None:
        return Upcoming(None, HeldBy.EXHAUSTED, f"the maximum level is {settings.max_level}")
    switched_off = _switched_off(incident, settings, gate)
    if switched_off is not None:
        return switched_off
    if gate.paused is not None:
        because = "" if gate.paused.reason is None else f": {gate.paused.reason}"
        told = f"by {gate.paused.by} until {_at(gate.paused.until)}{because}"
        return Upcoming(max(due, gate.paused.until), HeldBy.PAUSED, told)
    if incident.snoozed_until is not None and incident.snoozed_until == due > now:
        return Upcoming(due, HeldBy.SNOOZED, f"until {_at(due)}")
    return Upcoming(max(due, now))


def _ended(incident: Incident) -> Upcoming:
    if incident.resolved_at is not None:
        return Upcoming(None, HeldBy.RESOLVED, f"at {_at(incident.resolved_at)}")
    by = "" if incident.acknowledged_by is None else f"by {incident.acknowledged_by} "
    return Upcoming(None, HeldBy.ACKNOWLEDGED, f"{by}at {_at(incident.acknowledged_at)}")


def _at(instant: datetime | None) -> str:
    return "" if instant is None else instant.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")


def _switched_off(incident: Incident, settings: Settings, gate: Gate) -> Upcoming | None:
    """Return what holds for as long as the settings stay, None if nothing does."""
    if gate.mode is Mode.DISABLED:
        return Upcoming(None, HeldBy.DISABLED, "ESCALATION_WORKER_ENABLED is false")
    if not settings.v1:
        return Upcoming(None, HeldBy.V1_OFF, "ESCALATION_V1 is false")
    if settings.dry_run:
        return Upcoming(None, HeldBy.DRY_RUN, "ESC_DRY_RUN is true")
    if not in_canary(incident.incident_key, settings.canary_pct):
        return Upcoming(None, HeldBy.CANARY, f"ESC_CANARY_PCT is {settings.canary_pct}, and this one is outside")
    return None
