"""Planning through levels whose schedules name no one: they are passed over within a round."""

from datetime import datetime, time
from typing import Any

import pytest

from escalation_core import BuiltinPolicy, Escalate, Policies, plan
from escalation_core.model import Candidate, LevelOutcome
from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.on_call import OnCall, Recipient
from escalation_core.rules.planner import Planner, Version
from escalation_core.rules.policy import Level, Policy, Repeat
from escalation_core.rules.routing import Pager, SettingsRouter
from escalation_core.rules.shifts import Shift, Shifts

from ..kit import DAY, HOUR, MINUTE, START, incident

CLOSED = Hours(name="closed", zone="UTC", windows=(Window(start=time(5), end=time(6)),))
"""Hours that are closed at START."""
NOBODY, DEFAULT = LevelOutcome.NOBODY, LevelOutcome.DEFAULT


def schedule(*people: str, known: bool = True) -> Shifts:
    spans = [Shift(person=one, start=START - DAY, end=START + DAY) for one in people]
    return Shifts(shifts=spans, horizon=START + (DAY if known else -DAY))


ON_CALL = OnCall(
    schedules={"gap": schedule(), "ann": schedule("ann"), "stale": schedule("ann", known=False)},
    people={"ann": "slack:@ann"},
)


def decide(*levels: str | tuple[str, Hours], level: int = 0, times: int = 0, now: datetime = START) -> Escalate:
    """Plan a due row of a policy whose levels name these schedules, five minutes apart."""
    policy = Policy(
        name="ops",
        levels=tuple(
            Level(after=5 * MINUTE, to=(f"oncall:{one}",))
            if isinstance(one, str)
            else Level(after=5 * MINUTE, to=(f"oncall:{one[0]}",), deliver=one[1])
            for one in levels
        ),
        repeat=Repeat(times=times, after=HOUR),
    )
    one = incident(
        next_due_at=now - MINUTE,
        first_seen=now - DAY,
        policy_pin=f"ops@{policy.digest}@critical",
        level=level,
        last_escalated_at=now - 2 * HOUR if level else None,
    )
    planner = Planner(
        builtin=BuiltinPolicy(),
        policies=Policies(policies={"ops": policy}),
        versions={policy.digest: Version(policy)},
        on_call=ON_CALL,
    )
    row = Candidate(incident_key="k", incident=one, due_at=one.next_due_at)
    decision = plan(row, policy=planner, now=now)
    assert isinstance(decision, Escalate)
    return decision


def steps(decision: Escalate) -> list[tuple[int, int | None, LevelOutcome | None]]:
    """Return level, position and outcome of each escalation of a decision."""
    return [(one.level, one.position, one.outcome) for one in (*decision.passed, decision.escalation)]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (("ann", "gap"), [(1, 1, None)]),
        (("gap", "ann"), [(1, 1, NOBODY), (2, 2, None)]),
        (("gap", "gap", "ann"), [(1, 1, NOBODY), (2, 2, NOBODY), (3, 3, None)]),
        (("gap", "stale", "ann"), [(1, 1, NOBODY), (2, 2, None)]),
        (("gap", "missing"), [(1, 1, NOBODY), (2, 2, None)]),
        (("gap", "gap"), [(1, 1, NOBODY), (2, 2, DEFAULT)]),
        (("gap",), [(1, 1, DEFAULT)]),
        (("gap", ("ann", CLOSED)), [(1, 1, DEFAULT)]),
        (("gap", "gap", ("ann", CLOSED), "ann"), [(1, 1, NOBODY), (2, 2, DEFAULT)]),
    ],
)
def test_levels_that_name_no_one_are_passed_over(
    levels: tuple[str, ...], expected: list[tuple[int, int | None, LevelOutcome | None]]
) -> None:
    """A pass ends at the first level that names someone, or something unknown; or before hours that are closed."""
    decision = decide(*levels)
    assert expected == steps(decision)
    assert decision.incident.level == len(expected)
    assert {START} == {one.created_at for one in (*decision.passed, decision.escalation)}


def test_a_pass_ends_with_its_round() -> None:
    """The next round begins after its own gap."""
    first = decide("ann", "gap", level=1, times=1)
    assert [(2, 2, DEFAULT)] == steps(first)
    assert START + HOUR == first.incident.next_due_at
    last = decide("ann", "gap", level=3, times=1)
    assert [(4, 4, DEFAULT)] == steps(last)
    assert (None, True) == (last.incident.next_due_at, last.exhausted)


def test_the_walk_continues_from_the_level_that_paged() -> None:
    decision = decide("gap", "ann", "ann")
    assert (2, START, START + 5 * MINUTE) == (
        decision.incident.level,
        decision.incident.last_escalated_at,
        decision.incident.next_due_at,
    )
    assert DAY - 5 * MINUTE == decision.lateness


def pages(decision: Escalate, **fields: Any) -> list[tuple[str, str | None, str | None]]:
    pager = Pager(
        SettingsRouter(), frozenset({"slack:@ann", "spare", "slack:ops"}), **{"default_target": "spare", **fields}
    )
    found = pager.pages_for(decision.incident, decision.escalation.unique_hash, decision.recipients)
    return [(one.target, one.via, one.in_place_of) for one in found]


def test_who_is_paged() -> None:
    """The page has its schedule; in the place of what is empty or unknown the default target is paged."""
    assert [("slack:@ann", "oncall:ann", None)] == pages(decide("gap", "ann"))
    assert [("spare", None, None)] == pages(decide("gap"))
    assert [("spare", None, "oncall:stale")] == pages(decide("stale"))


def test_a_person_whose_target_has_no_notifier_is_unknown() -> None:
    pager = Pager(SettingsRouter(), frozenset({"spare"}), "spare")
    decision = decide("ann")
    [page] = pager.pages_for(decision.incident, "d", decision.recipients)
    assert ("spare", "slack:@ann of oncall:ann") == (page.target, page.in_place_of)


def test_without_a_default_target_the_router_decides() -> None:
    decision = decide("gap")
    router = SettingsRouter(default_target="slack:ops")
    [page] = Pager(router, frozenset({"slack:ops"})).pages_for(decision.incident, "d", decision.recipients)
    assert "slack:ops" == page.target
    [dead] = Pager(SettingsRouter(), frozenset({"slack:ops"})).pages_for(decision.incident, "d", decision.recipients)
    assert "unroutable: no route matches and there is no default target" == dead.undeliverable_reason


def test_the_digest_of_the_schedule_is_kept_with_the_page() -> None:
    assert (Recipient("slack:@ann", "oncall:ann", ON_CALL.schedules["ann"].digest),) == decide("ann").recipients.known
