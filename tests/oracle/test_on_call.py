"""Nights with schedules, people and overrides, by figures worked out by hand from the rules."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from .night import Night
from .oncall import Override, Roster, Shifts
from .records import TickReport
from .test_night import EVENING, MINUTE, after, file, notes, ticks

PEOPLE = {"ann": "slack:@ann", "bob": "email:bob", "cid": "pager:cid"}
SERVED = frozenset({"slack:@ann", "email:bob", "slack:ops", "slack:lead", "router"})
GAP = Shifts()
"""A schedule that names no one."""
LEVELS = [
    {"after": "0m", "to": ["oncall:primary"]},
    {"after": "10m", "to": ["oncall:secondary"]},
    {"after": "15m", "to": ["slack:lead"]},
]
OFFICE = {"after": "10m", "to": ["slack:ops"], "deliver": "office"}


def shift(*people: str, begin: float = -600, end: float = 600) -> Shifts:
    """Return a schedule with these people, from one minute up to another."""
    return Shifts(tuple((after(begin), after(end), person) for person in people))


def roster(**schedules: Shifts | None) -> Roster:
    return Roster(PEOPLE, schedules, SERVED, default="slack:ops")


def night(roster: Roster, *levels: dict[str, Any], **policy: Any) -> Night:
    """Return a night whose only policy has these levels, with an open incident."""
    found = Night(file=file(ops={"levels": list(levels) or LEVELS, **policy}), roster=roster)
    found.open(EVENING, severity="critical")
    return found


def paged(
    roster: Roster, *to: str, at: datetime = EVENING, overrides: tuple[Override, ...] = ()
) -> list[tuple[str, str | None]]:
    """Return the pages of a level as targets with their schedules."""
    return list(roster.recipients(to, at, overrides).items())


def events(report: TickReport) -> list[tuple[int, str | None]]:
    return [(each.level, each.outcome) for each in report.escalations]


def pages(report: TickReport) -> list[tuple[int, str, str | None]]:
    return [(each.level, each.target, each.via) for each in report.pages]


INSTEAD = [("slack:ops", None)]


@pytest.mark.parametrize(
    ("schedules", "expected"),
    [
        pytest.param({"primary": shift("ann")}, [("slack:@ann", "primary")], id="a person on call"),
        pytest.param(
            {"primary": shift("bob", "ann")}, [("slack:@ann", "primary"), ("email:bob", "primary")], id="two people"
        ),
        pytest.param({"primary": shift("ann", begin=0)}, [("slack:@ann", "primary")], id="a shift that begins now"),
        pytest.param({"primary": shift("ann", end=0)}, [], id="a shift that ends now"),
        pytest.param({"primary": GAP}, [], id="a gap"),
        pytest.param({}, INSTEAD, id="no such schedule"),
        pytest.param({"primary": None}, INSTEAD, id="an unreadable schedule"),
        pytest.param({"primary": replace(shift("ann"), horizon=after(0))}, INSTEAD, id="a horizon that is now"),
        pytest.param({"primary": replace(GAP, horizon=after(-1))}, INSTEAD, id="a horizon that is past"),
        pytest.param({"primary": replace(GAP, horizon=after(1))}, [], id="a gap before a horizon"),
        pytest.param({"primary": shift("dan")}, INSTEAD, id="an unmapped person"),
        pytest.param({"primary": shift("cid")}, INSTEAD, id="a person whose target has no notifier"),
        pytest.param(
            {"primary": shift("ann", "dan")}, [("slack:@ann", "primary"), *INSTEAD], id="one of two people is unmapped"
        ),
    ],
)
def test_a_schedule(schedules: dict[str, Shifts | None], expected: list[tuple[str, str | None]]) -> None:
    """A schedule names its people; what is unknown is replaced, and a gap is not unknown."""
    assert paged(roster(**schedules), "oncall:primary") == expected


def test_a_level_with_several_recipients() -> None:
    """The same target twice is one page, and its first mention counts; a gap beside others adds nothing."""
    who = roster(primary=shift("ann"), secondary=GAP)
    assert paged(who, "slack:@ann", "oncall:primary", "oncall:secondary") == [("slack:@ann", None)]
    assert paged(who, "oncall:primary", "slack:@ann") == [("slack:@ann", "primary")]
    assert paged(who, "oncall:secondary", "oncall:gone", "slack:gone") == INSTEAD
    assert paged(who, "oncall:secondary", "slack:lead") == [("slack:lead", None)]
    swapped = replace(who, people={"ann": "slack:ops"})
    assert paged(swapped, "oncall:primary", "oncall:gone") == [("slack:ops", "primary")]
    assert paged(swapped, "oncall:gone", "oncall:primary") == INSTEAD


def test_what_is_paged_instead() -> None:
    """The default target takes the place of what is unknown, if a notifier serves it; else the router's targets do."""
    who = replace(roster(), default="slack:gone")
    assert paged(who, "oncall:primary") == [("router", None)]
    who = replace(roster(), default=None, router=("router", "slack:ops"))
    assert paged(who, "slack:gone") == [("router", None), ("slack:ops", None)]
    assert paged(replace(who, router=()), "slack:gone") == [("", None)]
    assert list(who.recipients(None, EVENING, ())) == ["router", "slack:ops"]


def test_overrides() -> None:
    """An override names its person while it lasts, whatever the schedule knows; the one made last wins."""
    who = roster(primary=replace(shift("ann"), horizon=after(30)))
    one = Override("primary", "bob", after(10), after(60))
    two = Override("primary", "dan", after(20), after(25))
    other = Override("secondary", "ann", after(0), after(60))

    def found(minute: float, *overrides: Override) -> list[tuple[str, str | None]]:
        return paged(who, "oncall:primary", at=after(minute), overrides=(*overrides, other))

    assert found(9, one, two) == [("slack:@ann", "primary")]
    assert found(10, one, two) == found(59, one, two) == [("email:bob", "primary")]
    assert found(20, one, two) == found(60, one, two) == INSTEAD
    assert found(20, two, one) == [("email:bob", "primary")]
    assert paged(who, "oncall:secondary", at=after(5), overrides=(other,)) == [("slack:@ann", "secondary")]


def test_an_override_in_a_night() -> None:
    """An override counts from the next tick on."""
    found = night(roster(primary=shift("ann"), secondary=GAP))
    assert pages(found.tick(EVENING)) == [(1, "slack:@ann", "primary")]
    found.override(after(5), "secondary", "bob", after(5), after(11))
    assert pages(found.tick(after(10))) == [(2, "email:bob", "secondary")]


def test_a_pass() -> None:
    """The tick passes an empty level over, and pages the next one; the walk goes on from there."""
    found = night(roster(primary=GAP, secondary=shift("ann")))
    report = found.tick(EVENING)
    assert events(report) == [(1, "nobody"), (2, None)]
    assert pages(report) == [(2, "slack:@ann", "secondary")]
    assert (report.nobody_on_call, [each.position for each in report.escalations]) == (0, [1, 2])
    row = found.snapshot()
    assert (row["level"], row["last_escalated_at"], row["next_due_at"]) == (2, EVENING, after(15))
    assert found.planner.unsent == [(1, 2)]


@pytest.mark.parametrize(
    ("second", "recipient"),
    [
        pytest.param({"to": ["oncall:gone"]}, "slack:ops", id="an unknown schedule"),
        pytest.param({}, "router", id="the router"),
        pytest.param({"to": ["oncall:primary", "slack:lead"]}, "slack:lead", id="a target beside a gap"),
    ],
)
def test_what_a_pass_ends_at(second: dict[str, Any], recipient: str) -> None:
    """A level that holds something unknown, a target, or nothing at all is not empty."""
    report = night(roster(primary=GAP), LEVELS[0], {"after": "1h", **second}, LEVELS[2]).tick(EVENING)
    assert (events(report), pages(report)) == ([(1, "nobody"), (2, None)], [(2, recipient, None)])


def test_a_pass_ends_with_its_round() -> None:
    """A pass that pages no person of a schedule pages the default target at its last level, once in each round."""
    levels = ({"after": "5m", "to": ["slack:lead"]}, LEVELS[0], LEVELS[1])
    found = night(roster(primary=GAP, secondary=GAP), *levels, repeat={"times": 1, "after": "30m"})
    ticks(found, 0, 5)
    report = found.tick(after(6))
    assert events(report) == [(2, "nobody"), (3, "default")]
    assert (pages(report), report.nobody_on_call) == ([(3, "slack:ops", None)], 1)
    assert (found.snapshot()["level"], found.snapshot()["next_due_at"]) == (3, after(36))
    assert events(found.tick(after(36))) == [(4, None)]
    assert events(found.tick(after(37))) == [(5, "nobody"), (6, "default")]
    assert found.snapshot()["next_due_at"] is None
    assert notes(found) == ["nobody_on_call", "nobody_on_call", "exhausted"]


def test_a_pass_without_a_default_target() -> None:
    """The router's targets are paged; a page without a target that is served is dead, and nothing can cancel it."""
    who = replace(roster(primary=GAP), default=None, router=("slack:gone",))
    found = night(who, LEVELS[0])
    assert pages(found.tick(EVENING)) == [(1, "slack:gone", None)]
    assert found.planner.unsent == []


def test_a_pass_ends_before_closed_hours() -> None:
    """A pass ends before a level whose hours are closed; that level waits for its hours as always."""
    found = night(roster(primary=GAP, secondary=GAP), LEVELS[0], LEVELS[1], OFFICE)
    report = found.tick(EVENING)
    assert (events(report), report.nobody_on_call) == ([(1, "nobody"), (2, "default")], 1)
    morning = datetime.fromisoformat("2026-03-03T08:00+00:00")
    assert found.snapshot()["next_due_at"] == morning
    assert pages(found.tick(morning)) == [(3, "slack:ops", None)]
    noon = datetime.fromisoformat("2026-03-03T12:00+00:00")
    later = Night(file=file(ops={"levels": [LEVELS[0], OFFICE]}), roster=roster(primary=GAP))
    later.open(noon)
    assert events(later.tick(noon)) == [(1, "nobody"), (2, None)]


def test_a_pass_looks_at_the_hours_of_the_tick() -> None:
    """A first level whose hours are closed is put off, though it is empty."""
    found = night(roster(primary=GAP), LEVELS[0] | {"deliver": "office"}, LEVELS[2])
    found.host_write(EVENING, severity="major")
    assert found.tick(EVENING) == TickReport()
    assert found.snapshot()["level"] == 0


def test_a_pass_that_is_recorded_already() -> None:
    """If an event of a pass is known, none is recorded, and the level becomes the highest that was recorded."""
    found = night(roster(primary=shift("ann"), secondary=shift("bob")), *LEVELS[:2], *LEVELS[:2], LEVELS[2])
    ticks(found, 0, 11)
    known = list(found.planner.escalations)
    assert [(each.level, each.at) for each in known] == [(1, EVENING), (2, after(10)), (3, after(11))]
    found.replace_roster(after(20), roster(primary=GAP, secondary=GAP))
    found.set_back(after(20), 1)
    assert found.tick(after(20)) == TickReport(already_recorded=1)
    row = found.snapshot()
    assert (row["level"], row["last_escalated_at"], row["next_due_at"]) == (3, after(11), after(21))
    assert (found.planner.escalations, len(found.planner.pages), notes(found)) == (known, 3, [])


def test_a_pass_whose_last_event_is_known() -> None:
    """The events before a known one are not recorded either."""
    found = night(roster(primary=GAP, secondary=GAP))
    found.host_write(EVENING, level=2)
    assert events(found.tick(after(15))) == [(3, None)]
    found.set_back(after(40), 3)
    assert found.tick(after(40)) == TickReport(already_recorded=1)
    assert (found.snapshot()["level"], [each.level for each in found.planner.escalations]) == (3, [3])


def test_a_drain_after_a_pass() -> None:
    """A drain repeats the last level alone, and not the levels that were passed over."""
    found = night(roster(primary=GAP, secondary=shift("ann")))
    found.tick(EVENING)
    found.drain(after(1))
    assert [(each.episode, each.level) for each in found.planner.cancelled] == [(1, 2)]
    report = found.tick(after(10))
    assert [(each.episode, each.level, each.position) for each in report.escalations] == [(2, 2, 2)]


def test_a_policy_that_comes_back_after_a_pass() -> None:
    """A passed level is an event of its policy, so the walk goes on behind it."""
    found = night(roster(primary=GAP, secondary=GAP), *LEVELS[:2], repeat={"times": 1, "after": "10m"})
    found.tick(EVENING)
    found.open(after(1), policy="builtin")
    found.open(after(2), policy="ops")
    row = found.snapshot()
    assert (row["level"], row["policy_level"], row["next_due_at"]) == (2, 0, after(10))


def test_a_person_on_call_changes_later() -> None:
    """A page keeps the target that it was recorded with."""
    found = night(roster(primary=shift("ann")))
    found.tick(EVENING)
    found.replace_roster(after(1), roster(primary=shift("bob")))
    ticks(found, 1, 9)
    assert [each.target for each in found.planner.pages] == ["slack:@ann"]


def test_switches_stop_passes() -> None:
    """Nothing is passed over while a switch is against an escalation, or while a snooze or an acknowledgement lasts."""
    found = night(roster(primary=GAP))
    for switches in ({"enabled": False}, {"paused": True}, {"dry_run": True}, {"inside": False}, {"v1": False}):
        found.switch(EVENING, **switches)
        assert found.tick(EVENING) == TickReport()
        found.switch(EVENING, **{name: not value for name, value in switches.items()})
    found.snooze(EVENING, after(5))
    assert found.tick(after(4)) == TickReport()
    found.acknowledge(after(4))
    assert found.tick(after(5)) == TickReport()
    found.unacknowledge(after(6))
    assert events(found.tick(after(6))) == [(1, "nobody"), (2, None)]


def test_an_acknowledgement_that_expires_into_a_pass() -> None:
    """The tick that ends the acknowledgement passes the empty level over as well."""
    found = night(roster(primary=GAP, secondary=shift("bob")), ack_timeout="30m")
    found.acknowledge(EVENING)
    report = found.tick(EVENING + 30 * MINUTE)
    assert (events(report), notes(found)) == ([(1, "nobody"), (2, None)], ["ack_expired"])


def test_a_level_that_was_set_back() -> None:
    """The row takes the instant of the highest event, and its walk begins where it began."""
    found = night(roster(primary=shift("ann")), {"after": "0m", "to": ["oncall:primary"]}, LEVELS[1], LEVELS[2])
    ticks(found, 0, 10)
    found.host_write(after(11), last_escalated_at=EVENING)
    found.set_back(after(12), 1)
    assert found.tick(after(12)) == TickReport(already_recorded=1)
    assert (found.snapshot()["level"], found.snapshot()["last_escalated_at"]) == (2, after(10))
    found.rebind(after(13), restart=True)
    found.set_back(after(13), 2)
    assert (found.snapshot()["level"], found.snapshot()["policy_level"]) == (2, 2)


def test_an_assignment_of_a_level_that_was_set_back() -> None:
    """A policy that the same tick assigns begins its walk behind the record, and so loses no level."""
    two = file(ops={"levels": LEVELS}, slow={"levels": [{"after": "1m", "to": ["slack:lead"]}]})
    found = Night(file=two, roster=roster(primary=shift("ann"), secondary=shift("bob")))
    found.open(EVENING)
    ticks(found, 0, 10)
    found.host_write(after(20), policy="slow")
    found.set_back(after(20), 1)
    assert found.tick(after(20)) == TickReport(already_recorded=1)
    row = found.snapshot()
    assert (row["level"], row["policy_level"], row["policy_since"], row["next_due_at"]) == (2, 2, after(10), after(11))
    assert pages(found.tick(after(21))) == [(3, "slack:lead", None)]


def test_a_policy_that_comes_back_to_a_level_that_was_set_back() -> None:
    """A walk begins at level 0 at the earliest."""
    found = night(roster(primary=shift("ann")))
    ticks(found, 0, 10)
    found.set_back(after(11), 2)
    found.open(after(11), policy="builtin")
    found.open(after(12), policy="ops")
    assert (found.snapshot()["level"], found.snapshot()["policy_level"]) == (0, 0)


def test_an_acknowledgement_that_expires_into_a_record() -> None:
    """The tick that meets a record ends the acknowledgement once."""
    found = night(roster(primary=shift("ann"), secondary=shift("bob")), ack_timeout="30m")
    ticks(found, 0, 10)
    found.set_back(after(11), 1)
    found.acknowledge(after(12))
    assert found.tick(after(42)) == TickReport(already_recorded=1)
    assert (notes(found), found.snapshot()["level"], found.snapshot()["state"]) == (["ack_expired"], 2, "open")
