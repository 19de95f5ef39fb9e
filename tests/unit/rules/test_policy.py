"""The rule of a policy: when an incident is due at each position of its walk. All figures are worked out by hand."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import attrs
import pytest

from escalation_core import Incident
from escalation_core.rules.hours import Hours, Window
from escalation_core.rules.on_call import OnCall
from escalation_core.rules.policies_file import read_version
from escalation_core.rules.policy import Anchor, Level, OnExpiry, Policy, Repeat

from ..kit import DAY, HOUR, MINUTE, SECOND, START, incident
from ..walking import minutes

TICK = MINUTE
OFFICE = Hours(name="office", zone="UTC", windows=(Window(days=frozenset(range(5)), start=time(9), end=time(17)),))
"""START is a Wednesday at midnight."""


def policy(*afters: float, **fields: Any) -> Policy:
    """Return a policy with levels after these minutes."""
    return Policy(name="p", levels=tuple(Level(after=after * MINUTE) for after in afters), **fields)


def due(one: Policy, level: int = 0, last: float | None = None, **fields: Any) -> float | None:
    """Return the minute at which an incident is due that rose to ``level`` at the minute ``last``."""
    instant = None if last is None else START + last * MINUTE
    return minutes(one.next_due_at(incident(level=level, **fields), level, instant, TICK))


def night(one: Policy, *, late: float = 0, **fields: Any) -> list[float]:
    """Return the minutes at which an incident escalates if each escalation comes so many minutes late."""
    found: list[float] = []
    while (at := due(one, len(found), found[-1] if found else None, **fields)) is not None:
        found.append(at + late)
    return found


THREE = policy(0, 5, 15, repeat=Repeat(times=1, after=30 * MINUTE))


def test_gaps_count_from_the_escalation_before() -> None:
    """With anchor previous each gap counts from the last escalation; repeat.after stands for the first gap later."""
    assert [0, 5, 20, 50, 55, 70] == night(THREE)
    assert [1, 7, 23, 54, 60, 76] == night(THREE, late=1)
    assert [0, 5, 15, 30, 5, 15] == [gap / MINUTE for gap in THREE.gaps]


def test_gaps_add_up_from_the_beginning() -> None:
    """With anchor first_seen a late escalation delays later ones by the smallest gap alone."""
    added = attrs.evolve(THREE, anchor=Anchor.FIRST_SEEN)
    assert [0, 5, 20, 50, 55, 70] == night(added)
    # Five minutes, the smallest gap, lie between any two.
    assert [2, 9, 22, 52, 59, 72] == night(added, late=2)


def test_the_first_gap_stands_for_the_missing_repeat() -> None:
    """Without repeat.after a later round begins after the gap of the first level."""
    assert [3, 10, 13, 20, 23, 30] == night(policy(3, 7, repeat=Repeat(times=2)))


def test_the_walk_ends() -> None:
    """At position levels times rounds the walk is over, and it stays over at any higher level."""
    assert 6 == THREE.total
    assert None is due(THREE, 6, 70)
    assert None is due(THREE, 9, 70)
    assert 100 == due(THREE, 5, 85)


def test_the_tick_interval_lies_between_any_two() -> None:
    """Two levels in a row without a gap are one tick interval apart, whatever min_gap is."""
    assert [0, 1, 2] == night(policy(0, 0, 0))
    assert [0, 1, 2] == night(policy(0, 0, 0, min_gap=SECOND))


def test_the_least_gap() -> None:
    """min_gap holds back a level that is due earlier, with either anchor."""
    assert [2, 12, 22] == night(policy(2, 3, 4, min_gap=10 * MINUTE))
    assert [2, 12, 22] == night(policy(2, 3, 4, min_gap=10 * MINUTE, anchor=Anchor.FIRST_SEEN))


def test_the_least_gap_after_an_outage() -> None:
    """With anchor first_seen the smallest gap above 0 lies between two escalations; with previous, none does."""
    added = policy(0, 5, 15, 20, anchor=Anchor.FIRST_SEEN)
    assert 105 == due(added, 1, 100)
    assert 110 == due(added, 2, 105)
    assert 101 == due(policy(5, 0), 1, 100)
    assert 103 == due(attrs.evolve(added, min_gap=3 * MINUTE), 1, 100)


def test_the_gap_of_a_later_round_may_be_the_least() -> None:
    """The smallest gap is looked for among all gaps of the walk, repeat.after too."""
    assert 102 == due(policy(10, 20, repeat=Repeat(times=1, after=2 * MINUTE), anchor=Anchor.FIRST_SEEN), 1, 100)
    assert 110 == due(policy(10, 20, repeat=Repeat(times=0, after=2 * MINUTE), anchor=Anchor.FIRST_SEEN), 1, 100)


def test_a_snooze_delays() -> None:
    """An incident is not due before snoozed_until, and an earlier snooze changes nothing."""
    assert 40 == due(THREE, 1, 0, snoozed_until=START + 40 * MINUTE)
    assert 5 == due(THREE, 1, 0, snoozed_until=START + 4 * MINUTE)


@pytest.mark.parametrize(
    ("level", "position", "round_", "place", "said"),
    [
        (0, 0, 1, 0, "before its first level"),
        (1, 1, 1, 1, "round 1, level 1 of 3"),
        (3, 3, 1, 3, "round 1, level 3 of 3"),
        (5, 5, 2, 2, "round 2, level 2 of 3"),
    ],
)
def test_steps(level: int, position: int, round_: int, place: int, said: str) -> None:
    """A step tells the position, the round, and the level within the round."""
    step = THREE.step(incident(level=level))
    assert (position, 6, 3, round_, place, said) == (
        step.position,
        step.total,
        step.levels,
        step.round,
        step.level,
        str(step),
    )
    assert (THREE.name, THREE.digest) == (step.policy, step.version)


def test_a_walk_that_began_at_a_level() -> None:
    """The position counts from policy_level, and gaps count from policy_since."""
    begun: dict[str, Any] = {"policy_level": 4, "policy_since": START + 100 * MINUTE}
    assert 0 == THREE.position(incident(level=4, **begun))
    assert 100 == due(THREE, 4, 90, **begun)
    assert 95 == due(attrs.evolve(THREE, anchor=Anchor.FIRST_SEEN), 4, 90, policy_level=4, policy_since=START)
    assert 2 == THREE.position(incident(level=6, **begun))
    assert 125 == due(THREE, 6, 110, **begun)
    assert None is due(THREE, 10, 110, **begun)


def test_a_policy_level_above_the_level() -> None:
    """A policy_level above the level counts as the level."""
    assert 0 == THREE.position(incident(level=1, policy_level=3))
    assert 0 == due(THREE, 1, None, policy_level=3)


def test_a_walk_that_began_later_waits_no_longer_than_its_gap() -> None:
    """With anchor first_seen and policy_since, a later level comes at the latest its own gap after the last one."""
    added = attrs.evolve(THREE, anchor=Anchor.FIRST_SEEN)
    # 300 + 0 + 5 + 15 = 320, and 15 minutes after the last escalation is 215.
    assert 215 == due(added, 2, 200, policy_since=START + 300 * MINUTE)
    # At the first position the sum alone counts.
    assert 300 == due(added, 0, 200, policy_since=START + 300 * MINUTE)
    assert 20 == due(added, 2, 3)


def test_who_is_told() -> None:
    """The targets are those of the level of the position, in each round again."""
    told = Policy(
        name="p",
        levels=(Level(after=MINUTE, to=("a",)), Level(after=MINUTE), Level(after=MINUTE, to=("b", "c"))),
        repeat=Repeat(times=1),
    )

    def targets(level: int, policy_level: int | None = None) -> tuple[str, ...]:
        one = incident(level=level, policy_level=policy_level)
        return tuple(each.target for each in told.recipients(one, OnCall(), START).known)

    assert [("a",), (), ("b", "c"), ("a",), (), ("b", "c")] == [targets(level=n) for n in range(1, 7)]
    assert ("a",) == targets(level=8, policy_level=7)


# --- hours


def test_gaps_run_inside_the_clock() -> None:
    """A gap counts open time only: from 16:30, an hour ends at 9:30 of the next day that is open."""
    clocked = policy(60, 30, 0, clock=OFFICE)
    # START is Wednesday, 0:00, and the clock starts at 9:00.
    assert 10 * 60 == due(clocked)
    assert (24 + 9.5) * 60 == due(clocked, first_seen=START + 16.5 * HOUR)
    # From Friday, 16:30, to Monday, 9:30.
    assert (5 * 24 + 9.5) * 60 == due(clocked, first_seen=START + 2 * DAY + 16.5 * HOUR)


def test_a_gap_that_fills_a_window() -> None:
    """A gap that fills a window ends at its end, and a gap of zero ends at once, inside or outside."""
    clocked = policy(60, 30, 0, clock=OFFICE)
    assert 17 * 60 == due(clocked, first_seen=START + 16 * HOUR)
    assert 17 * 60 == due(clocked, 1, 16.5 * 60)
    assert 20 * 60 + 1 == due(clocked, 2, 20 * 60)


def test_sums_run_inside_the_clock() -> None:
    """With anchor first_seen the sum of the gaps counts inside the clock."""
    clocked = policy(60, 30, 120, clock=OFFICE, anchor=Anchor.FIRST_SEEN)
    assert 12.5 * 60 == due(clocked, 2, 10.5 * 60)


def test_the_clock_leaves_the_least_gap_and_a_snooze() -> None:
    """min_gap and a snooze count at all hours."""
    clocked = policy(60, 0, clock=OFFICE, min_gap=20 * MINUTE)
    assert 17 * 60 + 20 == due(clocked, 1, 17 * 60)
    assert 22 * 60 == due(clocked, 1, 17 * 60, snoozed_until=START + 22 * HOUR)


def test_a_level_waits_for_its_hours() -> None:
    """What is due outside the level's hours waits for their start; what follows waits as well."""
    held = Policy(
        name="p", levels=(Level(after=5 * MINUTE), Level(after=5 * MINUTE, deliver=OFFICE), Level(after=5 * MINUTE))
    )
    assert [5, 540, 545] == night(held)
    assert 9 * 60 == due(held, 1, 5, snoozed_until=START + 8 * HOUR)
    assert 16 * 60 + 59 == due(held, 1, 16 * 60 + 54)
    assert (24 + 9) * 60 == due(held, 1, 16 * 60 + 55)


def test_a_level_is_put_off() -> None:
    """If the next level's hours are closed, they say when they open; a level without hours is not put off."""
    held = Policy(name="p", levels=(Level(after=5 * MINUTE, deliver=OFFICE), Level(after=5 * MINUTE)))
    assert START + 9 * HOUR == held.put_off(incident(), START + 8 * HOUR)
    assert None is held.put_off(incident(), START + 9 * HOUR)
    assert START + DAY + 9 * HOUR == held.put_off(incident(), START + 17 * HOUR)
    assert None is held.put_off(incident(level=1), START + 8 * HOUR)


# --- versions


def test_a_version_is_its_policy_and_its_hours() -> None:
    """The digest depends on each field and on the hours, but not on the name; only the built-in policy has none."""
    base = Policy(name="p", levels=(Level(after=MINUTE, to=("a",), deliver=OFFICE),))
    assert base.digest == attrs.evolve(base, name="q").digest
    open_longer = attrs.evolve(OFFICE, windows=(attrs.evolve(OFFICE.windows[0], end=time(18)),))
    others = [
        attrs.evolve(base, levels=(Level(after=2 * MINUTE, to=("a",), deliver=OFFICE),)),
        attrs.evolve(base, levels=(Level(after=MINUTE, to=("b",), deliver=OFFICE),)),
        attrs.evolve(base, levels=(Level(after=MINUTE, to=("a",)),)),
        attrs.evolve(base, levels=(Level(after=MINUTE, to=("a",), deliver=open_longer),)),
        attrs.evolve(base, levels=(Level(after=MINUTE, to=("a",), deliver=attrs.evolve(OFFICE, zone="Asia/Tokyo")),)),
        attrs.evolve(base, repeat=Repeat(times=1)),
        attrs.evolve(base, repeat=Repeat(after=MINUTE)),
        attrs.evolve(base, anchor=Anchor.FIRST_SEEN),
        attrs.evolve(base, min_gap=MINUTE),
        attrs.evolve(base, clock=OFFICE),
        attrs.evolve(base, ack_timeout=HOUR),
        attrs.evolve(base, on_ack_expiry=OnExpiry.RESTART),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 13
    assert "" == attrs.evolve(base, name="builtin").digest
    for other in others:
        assert other == read_version("p", other.text())


def test_an_instant_beyond_the_calendar() -> None:
    """A due instant beyond the year 9999 is the last instant, not an error."""
    late = Incident(incident_key="k", first_seen=datetime(9999, 12, 31, tzinfo=UTC))
    end = datetime.max.replace(tzinfo=UTC)
    one = Policy(name="p", levels=(Level(after=timedelta(days=300)),))
    assert end == one.next_due_at(late, 0, None, TICK)
    assert end == attrs.evolve(one, clock=OFFICE).next_due_at(late, 0, None, TICK)
    assert end == attrs.evolve(one, levels=(Level(after=DAY, deliver=OFFICE),)).next_due_at(late, 0, None, TICK)
