"""The forecast for one incident: when it escalates next, or what prevents that. It follows the rules of the tick."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import attrs

from ..errors import InvalidValue
from ..model import BUILTIN, NEEDS_REPLAN, AuditEntry, Canary, Deferral, Incident, Pause, RecalcState, State
from .gate import Gate, Switches
from .plan import ALTERED, check_first_seen
from .planner import Planner
from .settled import Settled


class HeldBy(StrEnum):
    """What prevents or delays the next escalation of an incident."""

    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    GONE = "gone"
    """The incident has no row."""
    UNREADABLE = "unreadable"
    """The row cannot be read, planned or written, so workers have deferred it."""
    EXHAUSTED = "exhausted"
    """The walk through its policy is over."""
    UNPLANNED = "unplanned"
    """The row has no next_due_at, and only a recalculation gives it one."""
    DISABLED = "disabled"
    V1_OFF = "v1_off"
    DRY_RUN = "dry_run"
    CANARY = "canary"
    """The incident is outside the canary."""
    PAUSED = "paused"
    SNOOZED = "snoozed"


@attrs.frozen
class Upcoming:
    """An incident's next escalation."""

    at: datetime | None
    """When the incident escalates, never before now; None if it does not as long as nothing changes."""
    held_by: HeldBy | None = None
    detail: str | None = None
    """The reason in words: its cause, and its end if that is known."""
    ack_expires_at: datetime | None = None
    """When the acknowledgement of the incident expires; None if it does not."""


def upcoming(
    incident: Incident | None,
    left_alone: Deferral | None,
    *,
    planner: Planner,
    switches: Switches,
    dry_run: bool,
    canary: Canary,
    pauses: Sequence[Pause],
    unplanned: bool,
    now: datetime,
) -> Upcoming:
    """Return the next escalation of a row in its present state.

    ``left_alone`` is the row's deferral, None if it has none. ``unplanned`` says of a row without next_due_at that no
    worker will plan it; see ``is_unplanned``.
    """
    if incident is not None and incident.state is not State.OPEN:
        return _ended(incident, planner, now, _switched_off(incident, switches, dry_run, canary))
    unreadable = _unreadable(incident, left_alone, now)
    if unreadable is not None:
        return unreadable
    if incident is None:
        return Upcoming(None, HeldBy.GONE, "there is no row that can be read")
    found = planner.settle(incident, now)
    due = found.coming(now)
    if due is None:
        return Upcoming(None, HeldBy.EXHAUSTED, _exhausted(found))
    if incident.next_due_at is None and unplanned:
        return Upcoming(None, HeldBy.UNPLANNED, "its row has no next_due_at; run escalation recalc")
    # No worker claims the row before its own next_due_at, or before the end of its deferral.
    looked_at = incident.next_due_at if left_alone is None else left_alone.until
    due = max(due, now, looked_at or now)
    return _switched_off(incident, switches, dry_run, canary) or _in_time(incident, due, switches, pauses, now)


def _exhausted(found: Settled) -> str:
    if found.policy.name == BUILTIN:
        return f"the maximum level is {found.policy.total}"
    return f"policy {found.policy.name} has no further level after {found.policy.step(found.incident)}"


def _ended(incident: Incident, planner: Planner, now: datetime, switched_off: Upcoming | None) -> Upcoming:
    if incident.resolved_at is not None:
        return Upcoming(None, HeldBy.RESOLVED, f"at {_at(incident.resolved_at)}")
    by = "" if incident.acknowledged_by is None else f"by {incident.acknowledged_by} "
    said = f"{by}at {_at(incident.acknowledged_at)}"
    expires = planner.settle(incident, now).ack_expires_at(now)
    if expires is None:
        return Upcoming(None, HeldBy.ACKNOWLEDGED, said)
    if incident.next_due_at is None:
        return Upcoming(None, HeldBy.ACKNOWLEDGED, f"{said}; it does not expire until escalation recalc")
    if switched_off is not None:
        return Upcoming(None, HeldBy.ACKNOWLEDGED, f"{said}; {switched_off.detail}, so it does not expire")
    coming = planner.next_step(incident, now)
    at = None if coming is None else coming[1]
    return Upcoming(at, HeldBy.ACKNOWLEDGED, f"{said}; the acknowledgement expires at {_at(expires)}", expires)


def _unreadable(incident: Incident | None, left_alone: Deferral | None, now: datetime) -> Upcoming | None:
    """Return the fault that keeps workers from planning or writing the row; None without a known fault."""
    marked = incident is not None and incident.next_due_at == NEEDS_REPLAN
    if left_alone is not None:
        waits = left_alone.until > now
        # A host has written a row that needs a replan after its deferral: the fault may be gone.
        # An ALTERED row can be planned if it has a next_due_at.
        mended = marked and not waits
        climbs = left_alone.fault == ALTERED and incident is not None and incident.next_due_at is not None
        if not mended and not climbs:
            again = _at(left_alone.until) if waits else "by the next tick"
            return Upcoming(None, HeldBy.UNREADABLE, f"{left_alone.fault}; a worker plans it again {again}")
    if incident is not None and (marked or incident.next_due_at is None or left_alone is not None):
        try:
            check_first_seen(incident.first_seen, now)
        except InvalidValue as fault:
            return Upcoming(None, HeldBy.UNREADABLE, f"{fault}; a worker plans it again by the next tick")
    return None


def plans_every_row(recalc: RecalcState) -> bool:
    """Return whether a recalculation is running that plans every open row."""
    return recalc.requested_at is not None and not recalc.due_only


def is_unplanned(incident: Incident, recalc: RecalcState, audit: Sequence[AuditEntry]) -> bool:
    """Return whether neither ``Incidents.unseen`` nor a running recalculation will plan a row without next_due_at.

    ``audit`` has the audit entries of the row's key.
    """
    if plans_every_row(recalc):
        return False
    if recalc.held_before is not None and incident.first_seen < recalc.held_before:
        return True
    noted = {(note.action, note.level) for note in audit if note.episode == incident.episode}
    return ("exhausted", incident.level) in noted and "resolve" not in {action for action, _ in noted}


def _switched_off(incident: Incident, switches: Switches, dry_run: bool, canary: Canary) -> Upcoming | None:
    """Return the setting that prevents the escalation; None if no setting does."""
    if not switches.enabled:
        return Upcoming(None, HeldBy.DISABLED, "ESCALATION_WORKER_ENABLED is false")
    if not switches.v1:
        return Upcoming(None, HeldBy.V1_OFF, "ESCALATION_V1 is false")
    if dry_run:
        return Upcoming(None, HeldBy.DRY_RUN, "ESC_DRY_RUN is true")
    if not canary.has(incident.incident_key):
        return Upcoming(None, HeldBy.CANARY, f"ESC_CANARY_PCT is {canary.percent}, and the incident is outside")
    return None


def _in_time(incident: Incident, due: datetime, switches: Switches, pauses: Sequence[Pause], now: datetime) -> Upcoming:
    """Return when an incident that is due at ``due`` escalates: at that instant, or at the end of a pause then."""
    paused = Gate.at(switches, due, pauses).paused
    if paused is not None:
        by = "" if paused.by is None else f"by {paused.by} "
        because = "" if paused.reason is None else f": {paused.reason}"
        return Upcoming(paused.until, HeldBy.PAUSED, f"{by}until {_at(paused.until)}{because}")
    if incident.snoozed_until is not None and incident.snoozed_until == due > now:
        return Upcoming(due, HeldBy.SNOOZED, f"until {_at(due)}")
    return Upcoming(due)


def _at(instant: datetime | None) -> str:
    return "" if instant is None else instant.isoformat(sep=" ", timespec="seconds").replace("+00:00", "Z")
