"""Planning: from a claimed row to a decision, with every decision and every reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import BuiltinPolicy, Escalate, Incident, Reschedule, Skip, plan
from escalation_core.model import NEEDS_REPLAN, Candidate, LatestEscalation
from escalation_core.rules.gate import Gate, Mode
from escalation_core.rules.plan import Decision, Reason

from ..kit import DAY, HOUR, MINUTE, SECOND, START, incident

POLICY = BuiltinPolicy()
NOW = START + 5 * MINUTE
V1_OFF = Gate(Mode.V1_OFF)


def claimed(one: Incident | None = None, **fields: Any) -> Candidate:
    """Return a row as a store claims it."""
    one = one or incident(**{"next_due_at": START + 5 * MINUTE, **fields})
    return Candidate(incident_key=one.incident_key, incident=one, due_at=one.next_due_at)


def decide(row: Candidate, now: datetime = NOW, **given: Any) -> Decision:
    """Plan with the default policy."""
    return plan(row, policy=POLICY, now=now, **given)


def skip(row: Candidate, now: datetime = NOW, **given: Any) -> Skip:
    """Plan a row that must be skipped."""
    decision = decide(row, now, **given)
    assert isinstance(decision, Skip)
    return decision


def rise(row: Candidate, now: datetime = NOW, **given: Any) -> Escalate:
    """Plan a row that must escalate."""
    decision = decide(row, now, **given)
    assert isinstance(decision, Escalate)
    return decision


def test_due_row_rises_by_one_level() -> None:
    """Level and last_escalated_at move, the next instant follows, and the escalation holds the new level."""
    decision = rise(claimed())
    expected = incident(level=1, last_escalated_at=NOW, next_due_at=NOW + 30 * MINUTE)
    assert expected == decision.incident
    escalation = decision.escalation
    assert "k" == escalation.incident_key
    assert 1 == escalation.episode
    assert 1 == escalation.level
    assert NOW == escalation.created_at


def test_due_at_equality_and_not_a_microsecond_before() -> None:
    """An incident is due at its instant, and not a microsecond before."""
    before = decide(claimed(), NOW - timedelta(microseconds=1))
    assert (Reschedule, Escalate) == (type(before), type(decide(claimed())))


def test_lateness_is_fired_minus_due() -> None:
    """Lateness counts from the policy's instant, not from the column's value."""
    early = claimed(next_due_at=START + MINUTE)
    assert 7 * MINUTE == rise(early, START + 12 * MINUTE).lateness
    assert timedelta() == rise(early, START + 5 * MINUTE).lateness


def test_rows_that_need_a_replan_have_no_lateness() -> None:
    """A replanned row has no lateness: it may be years old when a worker first sees it."""
    assert None is rise(claimed(next_due_at=NEEDS_REPLAN), START + HOUR).lateness


def test_one_level_however_late() -> None:
    """An incident that is 95 minutes late rises by one level, and its next instant is a snooze away."""
    decision = rise(claimed(), START + 100 * MINUTE)
    assert (1, START + 130 * MINUTE) == (decision.incident.level, decision.incident.next_due_at)


def test_step_to_the_maximum_is_exhausted() -> None:
    """The step to the maximum is reported as exhausted, and leaves no next instant."""
    row = claimed(level=6, last_escalated_at=START)
    decision = rise(row, START + HOUR)
    assert 7 == decision.incident.level
    assert None is decision.incident.next_due_at
    assert True is decision.exhausted
    assert not rise(claimed(level=5, last_escalated_at=START), START + HOUR).exhausted


@pytest.mark.parametrize("level", [7, 8, 100])
def test_row_at_the_maximum_is_exhausted(level: int) -> None:
    """At or above the maximum level a row is skipped as exhausted, and has no next instant."""
    row = claimed(level=level, next_due_at=NEEDS_REPLAN)
    assert Skip(reason=Reason.EXHAUSTED, incident=incident(level=level, next_due_at=None)) == decide(row)


def test_row_that_is_not_due_after_all_is_rescheduled() -> None:
    """A row claimed by an older policy's instant gets its true instant, and does not escalate."""
    row = claimed(severity="warning")
    after = incident(severity="warning", next_due_at=START + 15 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.NOT_DUE) == decide(row)


def test_row_that_needs_a_replan_and_is_not_due_is_rescheduled() -> None:
    """A row that needs a replan and is not due gets its true instant, and does not escalate."""
    row = claimed(next_due_at=NEEDS_REPLAN)
    after = incident(next_due_at=START + 5 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.NOT_DUE) == decide(row, START)


def test_v1_off_reschedules_what_is_due() -> None:
    """With ESCALATION_V1 off a due row gets its true instant and the reason v1_off."""
    row = claimed(next_due_at=NEEDS_REPLAN)
    after = incident(next_due_at=START + 5 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.V1_OFF) == decide(row, gate=V1_OFF)


def test_v1_off_says_not_due_where_that_is_why() -> None:
    """With V1 off a row that is not due still gets the reason not_due."""
    row = claimed(next_due_at=NEEDS_REPLAN)
    after = incident(next_due_at=START + 5 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.NOT_DUE) == decide(row, START, gate=V1_OFF)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"acknowledged_at": START}, Reason.ACKNOWLEDGED),
        ({"resolved_at": START}, Reason.RESOLVED),
        ({"acknowledged_at": START, "resolved_at": START}, Reason.RESOLVED),
    ],
)
@pytest.mark.parametrize("due_at", [NEEDS_REPLAN, START])
def test_ended_rows_are_skipped_by_name(fields: dict[str, Any], reason: Reason, due_at: datetime) -> None:
    """An ended row has no next instant; resolved wins over acknowledged."""
    assert Skip(reason=reason, incident=incident(**fields)) == decide(claimed(next_due_at=due_at, **fields))


def test_future_last_escalation_is_brought_back_to_now() -> None:
    """A last_escalated_at beyond the clock counts as now, and now is what the plan writes."""
    row = claimed(level=1, last_escalated_at=NOW + DAY)
    after = incident(level=1, last_escalated_at=NOW, next_due_at=NOW + 30 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.NOT_DUE) == decide(row)


def test_last_escalation_after_a_long_ticks_instant_is_not_in_the_future() -> None:
    """A last_escalated_at after a long tick's instant, but not beyond the clock, stays; the next instant follows."""
    row = claimed(level=1, last_escalated_at=NOW + MINUTE)
    after = incident(level=1, last_escalated_at=NOW + MINUTE, next_due_at=NOW + 31 * MINUTE)
    assert Reschedule(incident=after, reason=Reason.NOT_DUE) == decide(row, clock=NOW + 2 * MINUTE)


def test_duplicate_catches_up_with_the_record() -> None:
    """The row takes level and last_escalated_at from the recorded escalation, and does not escalate."""
    row = claimed()
    recorded = LatestEscalation(3, START + 2 * MINUTE)
    after = incident(level=3, last_escalated_at=START + 2 * MINUTE, next_due_at=START + 32 * MINUTE)
    assert Skip(reason=Reason.ALREADY_RECORDED, incident=after) == decide(row, recorded=recorded)


def test_duplicate_keeps_its_own_last_escalation_if_that_is_later() -> None:
    """last_escalated_at becomes the later one of the row's and the record's."""
    row = claimed(level=1, last_escalated_at=START + 4 * MINUTE)
    found = skip(row, START + 40 * MINUTE, recorded=LatestEscalation(2, START + MINUTE))
    assert found.incident is not None
    assert (2, START + 4 * MINUTE) == (found.incident.level, found.incident.last_escalated_at)
    assert START + 34 * MINUTE == found.incident.next_due_at


def test_duplicate_at_the_maximum_has_no_next_instant() -> None:
    """A recorded escalation at the maximum level leaves no next instant."""
    found = skip(claimed(), recorded=LatestEscalation(7, START))
    assert found.incident is not None
    assert (7, None) == (found.incident.level, found.incident.next_due_at)


def test_record_below_the_level_is_no_duplicate() -> None:
    """A recorded escalation at the row's own level does not stop the next escalation."""
    row = claimed(level=1, last_escalated_at=START)
    assert 2 == rise(row, START + HOUR, recorded=LatestEscalation(1, START)).incident.level


BIRTHS = [(-365 * DAY, True), (-365 * DAY - SECOND, False), (DAY, True), (DAY + SECOND, False)]


@pytest.mark.parametrize(("born", "legal"), BIRTHS)
@pytest.mark.parametrize("deferred", [False, True])
def test_birth_limits_hold_for_replanned_and_put_back_rows(born: timedelta, legal: bool, deferred: bool) -> None:
    """A host's first_seen lies from a year back to 24 hours ahead, else the row is unreadable with a reason."""
    due = NOW if deferred else NEEDS_REPLAN
    row = attrs.evolve(claimed(first_seen=NOW + born, next_due_at=due), attempts=int(deferred))
    decision = decide(row)
    if legal:
        assert not isinstance(decision, Skip)
    else:
        assert isinstance(decision, Skip)
        assert (Reason.UNREADABLE, None) == (decision.reason, decision.incident)
        assert "first_seen" in (decision.detail or "")


@pytest.mark.parametrize("born", [born for born, _ in BIRTHS])
def test_birth_limits_do_not_hold_for_rows_of_our_own(born: timedelta) -> None:
    """A row that the engine has planned before may have a first_seen outside the limits, and is not skipped."""
    assert not isinstance(decide(claimed(first_seen=NOW + born, next_due_at=NOW)), Skip)


def test_put_back_rows_have_a_lateness() -> None:
    """A row that was unreadable and is valid now is late from the policy's instant."""
    row = attrs.evolve(claimed(next_due_at=NOW), attempts=1)
    assert MINUTE == rise(row, NOW + MINUTE).lateness


def test_ended_rows_are_not_held_against_birth_limits() -> None:
    """An ended row may have any first_seen, since the engine never pages it."""
    row = claimed(first_seen=datetime(2001, 1, 1, tzinfo=UTC), resolved_at=NOW, next_due_at=NEEDS_REPLAN)
    assert Reason.RESOLVED is skip(row).reason


def test_row_that_cannot_be_read_is_skipped_with_its_fault() -> None:
    """An unreadable row is skipped with the store's fault as its detail, and nothing is written."""
    row = Candidate(incident_key="k", incident=None, fault="level: is NoneType")
    assert Skip(reason=Reason.UNREADABLE, incident=None, detail="level: is NoneType") == decide(row)
