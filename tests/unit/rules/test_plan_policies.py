"""Planning with a policies file: each decision about a claimed row, its reason, and what it notes."""

from datetime import datetime, time, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import BuiltinPolicy, Escalate, Policies, Reschedule, Skip, plan
from escalation_core.model import NEEDS_REPLAN, Candidate, LatestEscalation
from escalation_core.rules.gate import Gate, Mode
from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.plan import Decision, Reason
from escalation_core.rules.planner import Planner, Version
from escalation_core.rules.policy import Level, OnExpiry, Policy
from escalation_core.rules.settled import Note

from ..kit import HOUR, MINUTE, SECOND, START, incident
from ..walking import minutes

OFFICE = Hours(name="office", zone="UTC", windows=(Window(start=time(9), end=time(17)),))
OPS = Policy(
    name="ops",
    levels=(Level(after=timedelta(), to=("first",)), Level(after=5 * MINUTE, to=("second", "lead"))),
    ack_timeout=30 * MINUTE,
)
HELD = Policy(name="held", levels=(Level(after=timedelta(), deliver=OFFICE),))
PLAN = Policies(policies={"ops": OPS, "held": HELD}, assignments=())
PINS = {policy.name: f"{policy.name}@{policy.digest}@critical" for policy in (OPS, HELD)}


def decide(now: datetime, *, file: Policies | None = PLAN, gate: Gate | None = None, **fields: Any) -> Decision:
    """Plan a row that was due at START."""
    one = incident(**{"next_due_at": START, "policy_pin": PINS["ops"], **fields})
    versions = {policy.digest: Version(policy, START) for policy in (OPS, HELD)}
    planner = Planner(builtin=BuiltinPolicy(), policies=file, versions=versions)
    row = Candidate(incident_key="k", incident=one, due_at=one.next_due_at)
    return plan(row, policy=planner, now=now, gate=gate or Gate())


def notes(decision: Decision) -> list[Note]:
    """Return what the planning did besides."""
    assert decision.settled is not None
    return [note for note, _ in decision.settled.notes]


def due(decision: Decision) -> float | None:
    """Return the minute of the next_due_at that the decision writes."""
    assert decision.incident is not None
    return minutes(decision.incident.next_due_at)


def test_an_escalation_names_its_place_and_its_targets() -> None:
    """The event has the policy and the position, and the decision the targets of the level."""
    first = decide(START)
    assert isinstance(first, Escalate)
    assert ("ops", 1, ("first",), False, timedelta()) == (
        first.escalation.policy,
        first.escalation.position,
        first.targets,
        first.exhausted,
        first.lateness,
    )
    assert (5, 1) == (due(first), first.incident.level)
    second = decide(START + HOUR, level=1, last_escalated_at=START)
    assert isinstance(second, Escalate)
    assert ("ops", 2, ("second", "lead"), True, None) == (
        second.escalation.policy,
        second.escalation.position,
        second.targets,
        second.exhausted,
        second.incident.next_due_at,
    )


def test_an_escalation_without_a_pin() -> None:
    """Without a file and a pin the event has neither policy nor position."""
    decision = decide(START + HOUR, file=None, policy_pin=None)
    assert isinstance(decision, Escalate)
    assert (None, None, ()) == (decision.escalation.policy, decision.escalation.position, decision.targets)


def test_a_walk_that_is_over() -> None:
    """After the last position the row has no instant."""
    decision = decide(START + HOUR, level=2, last_escalated_at=START)
    assert isinstance(decision, Skip)
    assert (Reason.EXHAUSTED, None) == (decision.reason, due(decision))


def test_an_acknowledged_row_waits_for_its_expiry() -> None:
    """An acknowledged row gets the instant of its expiry; at that instant it escalates."""
    acked: dict[str, Any] = {"acknowledged_at": START + 10 * MINUTE}
    decision = decide(START + 40 * MINUTE - SECOND, **acked)
    assert isinstance(decision, Reschedule)
    assert (Reason.ACKNOWLEDGED, 40, []) == (decision.reason, due(decision), notes(decision))
    assert isinstance(ended := decide(START + 40 * MINUTE, **acked), Escalate)
    assert ([Note.ACK_EXPIRED], None) == (notes(ended), ended.incident.acknowledged_at)
    for_ever = decide(START + HOUR, **acked, policy_pin=PINS["held"])
    assert isinstance(for_ever, Skip)
    assert (Reason.ACKNOWLEDGED, None) == (for_ever.reason, due(for_ever))


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.OPEN])
def test_no_acknowledgement_ends_while_the_gate_is_closed(mode: Mode) -> None:
    """While the gate is not open, an acknowledgement stays."""
    decision = decide(START + HOUR, gate=Gate(mode), acknowledged_at=START, next_due_at=NEEDS_REPLAN)
    assert isinstance(decision, Reschedule)
    assert (Reason.ACKNOWLEDGED, 30) == (decision.reason, due(decision))


def test_a_level_outside_its_hours() -> None:
    """A row that was due inside the hours waits for their next start, which is noted unless it needs a replan."""
    late: dict[str, Any] = {
        "policy_pin": PINS["held"],
        "first_seen": START + 16 * HOUR,
        "next_due_at": START + 16 * HOUR,
    }
    decision = decide(START + 17 * HOUR, **late)
    assert isinstance(decision, Reschedule)
    assert (Reason.NOT_DUE, 33 * 60, [Note.PUT_OFF]) == (decision.reason, due(decision), notes(decision))
    marked = decide(START + 17 * HOUR, **late | {"next_due_at": NEEDS_REPLAN})
    assert (33 * 60, []) == (due(marked), notes(marked))
    early = decide(START + 8 * HOUR, **late | {"first_seen": START})
    assert (9 * 60, []) == (due(early), notes(early))


def test_a_level_outside_its_hours_while_v1_is_off() -> None:
    """While V1 is off a row outside its hours waits for them, too."""
    decision = decide(START + 18 * HOUR, gate=Gate(Mode.V1_OFF), policy_pin=PINS["held"], next_due_at=NEEDS_REPLAN)
    assert (33 * 60, []) == (due(decision), notes(decision))


def test_a_row_that_an_engine_is_unsure_about() -> None:
    """A row that needs a replan is noted; a row that comes again each minute is not, until it escalates."""
    unsure: dict[str, Any] = {"policy": "nope", "policy_pin": None}
    marked = decide(START, **unsure, next_due_at=NEEDS_REPLAN)
    assert (1, [Note.UNKNOWN_POLICY]) == (due(marked), notes(marked))
    again = decide(START + MINUTE, **unsure)
    assert (2, []) == (due(again), notes(again))
    risen = decide(START + 5 * MINUTE, **unsure)
    assert isinstance(risen, Escalate)
    assert (6, [Note.UNKNOWN_POLICY]) == (due(risen), notes(risen))
    over = decide(START + HOUR, **unsure, level=7, last_escalated_at=START)
    assert isinstance(over, Skip)
    assert (61, []) == (due(over), notes(over))
    acked = decide(START + HOUR, **unsure, acknowledged_at=START)
    assert isinstance(acked, Skip)
    assert (61, []) == (due(acked), notes(acked))


def test_an_unsure_row_outside_its_hours_is_not_noted_each_minute() -> None:
    """A row that comes again each minute because of its name is not put off each minute."""
    fields: dict[str, Any] = {"policy": "nope", "policy_pin": PINS["held"], "first_seen": START + 16 * HOUR}
    decision = decide(START + 18 * HOUR, **fields)
    assert (18 * 60 + 1, []) == (due(decision), notes(decision))


def test_a_recorded_escalation_of_a_walk() -> None:
    """The ledger's level counts, with the gap of the level after it."""
    row = incident(next_due_at=START, policy_pin=PINS["ops"])
    planner = Planner(
        builtin=BuiltinPolicy(),
        policies=PLAN,
        versions={OPS.digest: Version(OPS, START)},
        positions={("k", 1): {"ops": 1}},
    )
    decision = plan(
        Candidate(incident_key="k", incident=row, due_at=START),
        policy=planner,
        now=START + HOUR,
        recorded=LatestEscalation(1, START + 50 * MINUTE),
    )
    assert isinstance(decision, Skip)
    assert (Reason.ALREADY_RECORDED, 55) == (decision.reason, due(decision))


def test_a_restart_is_planned_in_the_same_step() -> None:
    """A walk that begins again escalates at once if its first level is due: position 1 of the new episode."""
    again = attrs.evolve(OPS, on_ack_expiry=OnExpiry.RESTART)
    row = incident(
        level=2,
        last_escalated_at=START,
        acknowledged_at=START,
        next_due_at=START,
        policy_pin=f"ops@{again.digest}@critical",
    )
    planner = Planner(builtin=BuiltinPolicy(), policies=PLAN, versions={again.digest: Version(again, START)})
    decision = plan(Candidate(incident_key="k", incident=row, due_at=START), policy=planner, now=START + HOUR)
    assert isinstance(decision, Escalate)
    assert (2, 3, 1, ("first",)) == (
        decision.escalation.episode,
        decision.escalation.level,
        decision.escalation.position,
        decision.targets,
    )
    assert [Note.ACK_EXPIRED, Note.RESTART] == notes(decision)


def test_a_clock_ahead_of_the_tick() -> None:
    """An escalation of another worker after the tick's instant does not lie in the future."""
    row = incident(level=1, last_escalated_at=START + 2 * SECOND, next_due_at=START, policy_pin=PINS["ops"])
    planner = Planner(builtin=BuiltinPolicy(), policies=PLAN, versions={OPS.digest: Version(OPS, START)})
    decision = plan(
        Candidate(incident_key="k", incident=row, due_at=START), policy=planner, now=START, clock=START + 3 * SECOND
    )
    assert 5 + 2 / 60 == due(decision)


def test_an_unreadable_text_that_the_file_has_counts_from_when_it_was_kept() -> None:
    """The file's policy decides in place of the kept text, and an acknowledgement lasts no longer because of it."""
    planner = Planner(builtin=BuiltinPolicy(), policies=PLAN, versions={OPS.digest: Version(None, START)})
    one = incident(level=1, last_escalated_at=START, acknowledged_at=START, policy_pin=PINS["ops"])
    found = planner.settle(one, START + 10 * MINUTE)
    assert (OPS, False, 30) == (found.policy, found.unsure, minutes(found.due(START + 10 * MINUTE)))
