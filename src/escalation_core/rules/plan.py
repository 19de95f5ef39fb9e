"""The decision: from a row that a store claimed to what happens to it. Pure; ``now`` is an argument."""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..errors import InvalidValue
from ..model import NEEDS_REPLAN, Candidate, Deferral, Escalation, Incident, LatestEscalation, State
from .gate import Gate
from .policy import EscalationPolicy

MAX_AGE = timedelta(days=365)
"""How far back a row's first_seen may lie when it comes in."""
MAX_AHEAD = timedelta(hours=24)
"""How far ahead it may lie."""
FIRST_DEFERRAL, MAX_DEFERRAL = timedelta(minutes=1), timedelta(hours=1)
"""How long a row that cannot be planned or written is left alone: at first, doubling, and at most."""
ALTERED = "next_due_at is not what the engine wrote: a trigger or a rule of the host changes it; let it leave it alone"
"""The fault of a row that would be claimed again and again, or never."""

_NOTHING_HELD = Gate()


class Reason(StrEnum):
    """Why a row that was claimed did not escalate."""

    NOT_DUE = "not_due"
    """Planned anew with this engine's settings, it is not due yet."""
    V1_OFF = "v1_off"
    """It was marked, and got its true instant; ESCALATION_V1 keeps it from escalating."""
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    EXHAUSTED = "exhausted"
    """It is at the maximum level."""
    ALREADY_RECORDED = "already_recorded"
    """Its escalation is recorded already; its level was brought up to the record, and nobody was paged."""
    UNREADABLE = "unreadable"
    """The row cannot be read, planned or written; it was deferred."""


@attrs.frozen(kw_only=True)
class Escalate:
    """The incident rises by one level, and its pages go out."""

    incident: Incident
    """As it is to be written."""
    escalation: Escalation
    lateness: timedelta | None
    """Fired minus due; None for a row that the host had marked."""
    exhausted: bool
    """It reached the maximum level with this step."""


@attrs.frozen(kw_only=True)
class Reschedule:
    """The incident is not due after all: its true instant is written, and nobody is paged."""

    incident: Incident
    reason: Reason


@attrs.frozen(kw_only=True)
class Skip:
    """Nothing can happen to the incident now. ``incident`` is as it is to be written, None for an unreadable row."""

    reason: Reason
    incident: Incident | None
    detail: str | None = None


Decision = Escalate | Reschedule | Skip


def plan(
    claimed: Candidate,
    *,
    policy: EscalationPolicy,
    now: datetime,
    gate: Gate = _NOTHING_HELD,
    recorded: LatestEscalation | None = None,
    clock: datetime | None = None,
) -> Decision:
    """Decide what happens to a claimed row.

    ``clock`` is the store's instant where ``now`` is a tick's, which may lag behind: what another worker escalated
    meanwhile lies after ``now``, and yet not in the future.
    ``recorded`` is what the ledger knows of the row's episode, given when its escalation turned out to be there
    already. The ledger wins: the level becomes the recorded one, and nobody is paged.
    """
    incident = claimed.incident
    if incident is None:
        return Skip(reason=Reason.UNREADABLE, incident=None, detail=claimed.fault)
    marked = incident.next_due_at == NEEDS_REPLAN
    if incident.state is not State.OPEN:
        return Skip(reason=Reason(incident.state.value), incident=_due(incident, None))
    if marked or claimed.attempts:
        try:
            check_first_seen(incident.first_seen, now)
        except InvalidValue as fault:
            return Skip(reason=Reason.UNREADABLE, incident=None, detail=str(fault))
    clock = clock or now
    if incident.last_escalated_at is not None and incident.last_escalated_at > clock:
        incident = incident.moved(level=incident.level, last_escalated_at=clock, next_due_at=incident.next_due_at)
    if recorded is not None and recorded.level > incident.level:
        return Skip(reason=Reason.ALREADY_RECORDED, incident=_catch_up(incident, recorded, policy, clock))
    due = policy.next_due_at(incident, clock)
    if due is None:
        return Skip(reason=Reason.EXHAUSTED, incident=_due(incident, None))
    if due > now or not gate.may_escalate:
        reason = Reason.NOT_DUE if due > now else Reason.V1_OFF
        return Reschedule(incident=_due(incident, due), reason=reason)
    return _escalate(incident, policy, now, None if marked else now - due)


def check_first_seen(first_seen: datetime, now: datetime) -> None:
    """Refuse a first_seen that no incident of today can have: over a year back, or over 24 hours ahead."""
    if not now - MAX_AGE <= first_seen <= now + MAX_AHEAD:
        remedy = "give an instant from one year back to 24 hours ahead"
        raise InvalidValue("first_seen", f"is {first_seen.isoformat()}", remedy)


def defer(claimed: Candidate, fault: str, now: datetime) -> Deferral:
    """Return until when a row that cannot be planned or written is left alone: longer each time."""
    wait = min(FIRST_DEFERRAL * 2 ** min(claimed.attempts, 10), MAX_DEFERRAL)
    return Deferral(incident_key=claimed.incident_key, fault=fault, attempts=claimed.attempts + 1, until=now + wait)


def defer_altered(claimed: Candidate, written: Incident, now: datetime) -> Deferral:
    """Return until when a row is left alone whose instant a host's trigger changes: until the one that was written."""
    until = written.next_due_at or now + MAX_DEFERRAL
    return Deferral(incident_key=claimed.incident_key, fault=ALTERED, attempts=claimed.attempts + 1, until=until)


def _escalate(incident: Incident, policy: EscalationPolicy, now: datetime, lateness: timedelta | None) -> Escalate:
    risen = policy.advance(incident, incident.level + 1, now, now)
    return Escalate(
        incident=risen,
        escalation=Escalation(
            incident_key=risen.incident_key, episode=risen.episode, level=risen.level, created_at=now
        ),
        lateness=lateness,
        exhausted=risen.level >= policy.max_level,
    )


def _catch_up(incident: Incident, recorded: LatestEscalation, policy: EscalationPolicy, now: datetime) -> Incident:
    last = max(filter(None, (incident.last_escalated_at, recorded.created_at)))
    return policy.advance(incident, recorded.level, last, now)


def _due(incident: Incident, due: datetime | None) -> Incident:
    return incident.moved(level=incident.level, last_escalated_at=incident.last_escalated_at, next_due_at=due)
