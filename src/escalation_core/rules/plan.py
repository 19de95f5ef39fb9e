"""The plan decides what happens to a row that a store claimed. Pure functions; ``now`` is an argument."""

from datetime import datetime, timedelta
from enum import StrEnum

import attrs

from ..errors import InvalidValue
from ..model import NEEDS_REPLAN, Candidate, Deferral, Escalation, Incident, LatestEscalation, LevelOutcome
from .builtin import BuiltinPolicy
from .gate import Gate
from .on_call import ROUTED, OnCall, Recipients
from .planner import Planner
from .policy import Policy
from .settled import Note, Settled

MAX_AGE = timedelta(days=365)
"""How far in the past the first_seen of a new row may lie."""
MAX_AHEAD = timedelta(hours=24)
"""How far in the future the first_seen of a new row may lie."""
FIRST_DEFERRAL, MAX_DEFERRAL = timedelta(minutes=1), timedelta(hours=1)
"""How long a row that cannot be planned or written is deferred: the first time, and at most. The time doubles."""
ALTERED = (
    "next_due_at is not what the engine wrote: a trigger or rule of the host changes it; correct the trigger or rule"
)
"""The fault of a row whose next_due_at the host changes: workers would claim it again and again, or never."""

_NOTHING_HELD = Gate()


class Reason(StrEnum):
    """Why a claimed row did not escalate."""

    NOT_DUE = "not_due"
    """By this engine's settings it is not due yet."""
    V1_OFF = "v1_off"
    """It needed a replan and got its next_due_at; ESCALATION_V1=false keeps it from escalating."""
    ACKNOWLEDGED = "acknowledged"
    """It is acknowledged. If the acknowledgement expires, the row got the instant of the expiry."""
    RESOLVED = "resolved"
    EXHAUSTED = "exhausted"
    """Its walk is over: the policy has no further escalation."""
    ALREADY_RECORDED = "already_recorded"
    """The ledger already has its escalation: the row got the recorded level, and no page was recorded."""
    UNREADABLE = "unreadable"
    """The engine cannot read, plan or write the row, and deferred it."""


@attrs.frozen(kw_only=True)
class Escalate:
    """The decision to raise the incident to the next level that pages, and to page its targets."""

    incident: Incident
    """The incident with its new values, to be written."""
    escalation: Escalation
    """The escalation that pages."""
    passed: tuple[Escalation, ...] = ()
    """Escalations before it, of levels that were passed over because their schedules name no one."""
    lateness: timedelta | None
    """The instant of the escalation minus the due instant; None for a row that needed a replan."""
    exhausted: bool
    """Whether the incident's walk is over with this step."""
    recipients: Recipients = ROUTED
    """Whom the policy names for this step. If it names no one, the router decides."""
    settled: Settled | None = attrs.field(default=None, eq=False, repr=False)
    """The policy that decided, and what happened before this step."""

    @property
    def first(self) -> bool:
        """Whether no level of the episode was paged before."""
        return self.incident.level == 1 + len(self.passed)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that the policy names for this step, itself or by its schedules."""
        return tuple(one.target for one in self.recipients.known)


@attrs.frozen(kw_only=True)
class Reschedule:
    """The decision to write the incident's next_due_at without a page: it is not due, or ESCALATION_V1 is false.

    An acknowledged incident waits for the expiry of its acknowledgement.
    """

    incident: Incident
    reason: Reason
    settled: Settled | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class Skip:
    """The decision not to escalate. ``incident`` has the values to be written, or None for an unreadable row."""

    reason: Reason
    incident: Incident | None
    detail: str | None = None
    settled: Settled | None = attrs.field(default=None, eq=False, repr=False)
    """None for a row that was not planned."""


Decision = Escalate | Reschedule | Skip


def plan(
    claimed: Candidate,
    *,
    policy: BuiltinPolicy | Planner,
    now: datetime,
    gate: Gate = _NOTHING_HELD,
    recorded: LatestEscalation | None = None,
    clock: datetime | None = None,
) -> Decision:
    """Decide what happens to a claimed row.

    ``policy`` is the built-in policy, or a planner with a policies file. ``now`` may be the instant of a tick, which
    lags behind the store's clock. ``clock`` is the store's instant: an escalation of another worker after ``now`` and
    before ``clock`` does not lie in the future. ``recorded`` is the highest escalation in the ledger for the row's
    episode. A caller gives it if the ledger already had the planned escalation. The ledger wins: the incident gets the
    recorded level, and no page is sent.
    """
    incident = claimed.incident
    if incident is None:
        return Skip(reason=Reason.UNREADABLE, incident=None, detail=claimed.fault)
    marked = incident.next_due_at == NEEDS_REPLAN
    if incident.resolved_at is not None:
        return Skip(reason=Reason.RESOLVED, incident=_due(incident, None))
    if (marked or claimed.attempts) and incident.acknowledged_at is None:
        try:
            check_first_seen(incident.first_seen, now)
        except InvalidValue as fault:
            return Skip(reason=Reason.UNREADABLE, incident=None, detail=str(fault))
    clock = clock or now
    if incident.last_escalated_at is not None and incident.last_escalated_at > clock:
        incident = incident.moved(level=incident.level, last_escalated_at=clock, next_due_at=incident.next_due_at)
    planner = policy if isinstance(policy, Planner) else Planner(builtin=policy)
    found = planner.settle(incident, now, may_expire=gate.may_escalate)
    if recorded is not None and recorded.level > found.incident.level:
        if found.incident.episode == incident.episode:
            # Whether an acknowledgement that ends begins the walk again depends on the recorded level.
            found = planner.settle(caught_up(incident, recorded, clock), now, may_expire=gate.may_escalate)
        else:
            found = attrs.evolve(found, incident=caught_up(found.incident, recorded, clock))
        found = planner.place(found, clock)
        due = found.after(found.incident.level, found.incident.last_escalated_at, clock)
        risen = _due(found.incident, found.until(due, clock))
        return Skip(reason=Reason.ALREADY_RECORDED, incident=risen, settled=found)
    return _decide(found, now, clock, gate, planner.on_call, marked=marked)


def _decide(found: Settled, now: datetime, clock: datetime, gate: Gate, on_call: OnCall, *, marked: bool) -> Decision:
    due = found.rule(clock)
    # A row that this engine is unsure about comes again each tick interval. It is noted when it escalates, and after a
    # host's write.
    quiet = found.heard() if found.unsure and not marked else found
    if found.incident.acknowledged_at is not None:
        if due is not None:
            return _wait(quiet, due, now, Reason.ACKNOWLEDGED)
        return Skip(reason=Reason.ACKNOWLEDGED, incident=_due(found.incident, found.until(None, now)), settled=quiet)
    if due is None:
        return Skip(reason=Reason.EXHAUSTED, incident=_due(found.incident, found.until(None, now)), settled=quiet)
    if due > now:
        return _wait(quiet, due, now, Reason.NOT_DUE)
    opens = found.put_off(now)
    if opens is not None:
        late = quiet if marked or found.unsure else found.noting(Note.PUT_OFF, found.policy.name)
        return _wait(late, opens, now, Reason.NOT_DUE)
    if not gate.may_escalate:
        return _wait(quiet, due, now, Reason.V1_OFF)
    return escalate(found, now, on_call, None if marked else now - due)


def check_first_seen(first_seen: datetime, now: datetime) -> None:
    """Refuse a first_seen that lies more than a year in the past or more than 24 hours in the future."""
    if not now - MAX_AGE <= first_seen <= now + MAX_AHEAD:
        remedy = "give an instant from one year back to 24 hours ahead"
        raise InvalidValue("first_seen", f"is {first_seen.isoformat()}", remedy)


def defer(claimed: Candidate, fault: str, now: datetime) -> Deferral:
    """Return the deferral of a row that cannot be planned or written. Each deferral is longer than the one before."""
    wait = min(FIRST_DEFERRAL * 2 ** min(claimed.attempts, 10), MAX_DEFERRAL)
    return Deferral(incident_key=claimed.incident_key, fault=fault, attempts=claimed.attempts + 1, until=now + wait)


def defer_altered(claimed: Candidate, written: Incident, now: datetime) -> Deferral:
    """Return the deferral of a row whose next_due_at the host changes: until the instant that the engine wrote."""
    until = written.next_due_at or now + MAX_DEFERRAL
    return Deferral(incident_key=claimed.incident_key, fault=ALTERED, attempts=claimed.attempts + 1, until=until)


def escalate(found: Settled, now: datetime, on_call: OnCall, lateness: timedelta | None = None) -> Escalate:
    """Return the step of an incident at ``now``. Only ``plan`` decides whether it is due.

    It is the step to the next level, or further: levels whose schedules name no one are passed over, within the round,
    and not into a level whose hours are closed. If that ends without anyone, the last level pages the default target.
    """
    policy, risen, passed = found.policy, found.incident, []
    while True:
        due = found.after(risen.level + 1, now, now)
        risen = risen.moved(level=risen.level + 1, last_escalated_at=now, next_due_at=found.until(due, now))
        recipients = policy.recipients(risen, on_call, now)
        if not recipients.empty:
            outcome = None
            break
        if policy.ends_round(risen) or policy.put_off(risen, now) is not None:
            outcome = LevelOutcome.DEFAULT
            break
        passed.append(_escalation(risen, policy, now, LevelOutcome.NOBODY))
    return Escalate(
        incident=risen,
        escalation=_escalation(risen, policy, now, outcome),
        passed=tuple(passed) if passed else (),
        lateness=lateness,
        exhausted=due is None,
        recipients=recipients,
        settled=found,
    )


def _escalation(risen: Incident, policy: Policy, now: datetime, outcome: LevelOutcome | None) -> Escalation:
    pinned = risen.policy_pin is not None
    return Escalation(
        incident_key=risen.incident_key,
        episode=risen.episode,
        level=risen.level,
        created_at=now,
        policy=policy.name if pinned else None,
        position=policy.position(risen) if pinned else None,
        outcome=outcome,
    )


def caught_up(incident: Incident, recorded: LatestEscalation, now: datetime) -> Incident:
    """Return the incident at the level that the ledger has; its next_due_at is not computed yet."""
    last = min(max(filter(None, (incident.last_escalated_at, recorded.created_at))), now)
    return incident.moved(level=recorded.level, last_escalated_at=last, next_due_at=incident.next_due_at)


def _wait(found: Settled, due: datetime, now: datetime, reason: Reason) -> Reschedule:
    return Reschedule(incident=_due(found.incident, found.until(due, now)), reason=reason, settled=found)


def _due(incident: Incident, due: datetime | None) -> Incident:
    return incident.moved(level=incident.level, last_escalated_at=incident.last_escalated_at, next_due_at=due)
