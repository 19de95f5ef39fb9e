"""Whom a level pages: targets, the people of schedules, overrides, and what is not known."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from escalation_core.model import ShiftOverride
from escalation_core.rules.layer import Layer
from escalation_core.rules.on_call import OnCall, Recipient, Recipients
from escalation_core.rules.rotation import Rotation
from escalation_core.rules.shifts import Shift, Shifts

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
PEOPLE = {"ann": "slack:@ann", "bob": "email:bob", "cid": "slack:@ann"}


def shifts(*people: str, begins: float = -1, ends: float = 1, horizon: float = 24) -> Shifts:
    spans = [Shift(person=one, start=NOW + begins * HOUR, end=NOW + ends * HOUR) for one in people]
    return Shifts(shifts=spans, horizon=NOW + horizon * HOUR)


def override(person: str, *, begins: float = -1, ends: float = 1, schedule: str = "primary") -> ShiftOverride:
    begin, end = NOW + begins * HOUR, NOW + ends * HOUR
    return ShiftOverride(schedule=schedule, person=person, starts_at=begin, ends_at=end, made_at=NOW)


SCHEDULES: dict[str, Any] = {
    "primary": shifts("ann"),
    "both": shifts("ann", "bob"),
    "gap": shifts("ann", begins=1, ends=2),
    "stale": shifts("ann", horizon=0),
    "unmapped": shifts("dan"),
}


def recipients(*to: str, **fields: Any) -> Recipients:
    return OnCall(**{"schedules": SCHEDULES, "people": PEOPLE, **fields}).recipients(to, NOW)


def digest(schedule: str) -> str:
    return str(SCHEDULES[schedule].digest)


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ((), Recipients()),
        (("slack:ops",), Recipients((Recipient("slack:ops"),))),
        (("oncall:primary",), Recipients((Recipient("slack:@ann", "oncall:primary", digest("primary")),))),
        (
            ("oncall:both",),
            Recipients(
                (
                    Recipient("slack:@ann", "oncall:both", digest("both")),
                    Recipient("email:bob", "oncall:both", digest("both")),
                )
            ),
        ),
        (("oncall:gap",), Recipients((), (), ("oncall:gap",))),
        (("oncall:gap", "slack:ops"), Recipients((Recipient("slack:ops"),), (), ("oncall:gap",))),
        (("oncall:stale",), Recipients((), ("oncall:stale",))),
        (("oncall:missing",), Recipients((), ("oncall:missing",))),
        (("oncall:unmapped",), Recipients((), ("dan of oncall:unmapped",))),
        (("oncall:gap", "oncall:stale"), Recipients((), ("oncall:stale",), ("oncall:gap",))),
    ],
)
def test_whom_a_level_pages(to: tuple[str, ...], expected: Recipients) -> None:
    """A schedule stands for its people's targets. A gap, and what is not known, are kept apart."""
    assert expected == recipients(*to)


def test_what_is_empty() -> None:
    """A level is empty only if it has nothing but schedules that all name no one."""
    empty = [
        to
        for to in (
            (),
            ("slack:ops",),
            ("oncall:gap",),
            ("oncall:gap", "oncall:gap"),
            ("oncall:gap", "oncall:stale"),
            ("oncall:gap", "slack:ops"),
            ("oncall:unmapped",),
            ("oncall:primary",),
        )
        if recipients(*to).empty
    ]
    assert [("oncall:gap",), ("oncall:gap", "oncall:gap")] == empty


def test_a_target_that_is_named_twice_is_paged_once() -> None:
    """Its first mention counts."""
    own = recipients("oncall:primary", "oncall:both", "slack:@ann")
    first = Recipient("slack:@ann", "oncall:primary", digest("primary"))
    assert (first, Recipient("email:bob", "oncall:both", digest("both"))) == own.known
    assert Recipient("slack:@ann") == recipients("slack:@ann", "oncall:primary").known[0]
    two_people = recipients("oncall:both", schedules={"both": shifts("ann", "cid")})
    assert ["slack:@ann"] == [one.target for one in two_people.known]


def test_an_override_counts_before_the_schedule() -> None:
    """It names its person alone, also while the schedule is a gap, stale or missing; the last one made wins."""
    for schedule in ("primary", "gap", "stale", "missing"):
        made = [override("ann", schedule=schedule), override("bob", schedule=schedule)]
        found = recipients(f"oncall:{schedule}", overrides=made)
        assert Recipients((Recipient("email:bob", f"oncall:{schedule}", "override"),)) == found


@pytest.mark.parametrize(
    "made", [override("bob", begins=1, ends=2), override("bob", begins=-1, ends=0), override("bob", schedule="both")]
)
def test_an_override_that_does_not_concern_the_instant(made: ShiftOverride) -> None:
    assert ["slack:@ann"] == [one.target for one in recipients("oncall:primary", overrides=[made]).known]


def test_an_override_that_was_made_before_a_step_of_the_clock() -> None:
    """It began as it was made, so it has begun after a step back as well; one that began later has not."""
    begun, ahead = override("bob", begins=1, ends=2), override("bob", begins=2, ends=3)
    begun, ahead = (attrs.evolve(one, made_at=NOW + HOUR) for one in (begun, ahead))
    assert begun.after_step(NOW).covers(NOW)
    assert attrs.evolve(begun, starts_at=NOW) == begun.after_step(NOW)
    assert ahead == ahead.after_step(NOW)
    assert begun == begun.after_step(NOW + HOUR)
    scheduled = attrs.evolve(ahead, made_at=NOW)
    assert scheduled == scheduled.after_step(NOW)


def test_an_override_to_a_person_without_a_target_is_unknown() -> None:
    assert ("dan of oncall:primary",) == recipients("oncall:primary", overrides=[override("dan")]).unknown


@attrs.frozen
class Broken:
    """A host's schedule that does something wrong."""

    people: Any
    horizon: Any = NOW + HOUR
    digest: str = "1a"

    def on_call(self, at: datetime) -> Any:
        if self.people is None:
            raise OSError
        return self.people

    def next_change(self, after: datetime) -> datetime | None:
        return after + timedelta(seconds=1)


@pytest.mark.parametrize(
    "broken",
    [
        Broken(None),
        Broken(frozenset({"ann"}), digest="\ud800"),
        Broken(frozenset({"ann"}), digest=""),
        Broken(frozenset({7})),
        Broken(frozenset({""})),
        Broken(frozenset({"ann"}), horizon="later"),
        Broken({"ann"}),
        Broken(""),
        Broken([]),
        Broken({}),
    ],
)
def test_a_schedule_that_is_broken_is_unknown(broken: Broken) -> None:
    """An error of a host's schedule stops no escalation, and does not count as a gap."""
    assert Recipients((), ("oncall:broken",)) == recipients("oncall:broken", schedules={"broken": broken})


def test_an_error_for_the_whole_program_is_no_fault_of_a_schedule() -> None:
    class Interrupted(Broken):
        def on_call(self, at: datetime) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipients("oncall:x", schedules={"x": Interrupted(None)})


def test_a_schedule_is_asked_once_for_an_instant() -> None:
    """A tick asks for all of its incidents at one instant."""
    asked = []

    class Counted(Broken):
        def on_call(self, at: datetime) -> Any:
            asked.append(at)
            return {"ann"}

    one = OnCall(schedules={"counted": Counted(None)}, people=PEOPLE)
    for at in (NOW, NOW, NOW + HOUR / 2, NOW):
        one.recipients(("oncall:counted",), at)
    assert [NOW, NOW + HOUR / 2] == asked


def test_a_schedule_that_does_not_say_when_it_changes() -> None:
    class Silent(Broken):
        def next_change(self, after: datetime) -> datetime | None:
            raise OSError

    assert OnCall(schedules={"silent": Silent({"ann"})}).next_change("silent", NOW) is None


def test_when_it_changes_next() -> None:
    """Edges of the schedule, of overrides, and the horizon are changes if the people change."""
    schedules = {"primary": shifts("ann", ends=5, horizon=8)}
    quiet = OnCall(schedules=schedules)
    assert [5, 8] == changes(quiet)
    made = [override("ann", begins=1, ends=3), override("bob", begins=2, ends=4), override("ann", begins=7, ends=9)]
    assert [2, 4, 5, 7, 9] == changes(OnCall(schedules=schedules, overrides=made))


def test_a_rotation_of_one_person_never_changes() -> None:
    """The end of the calendar is not a change."""
    layer = Layer(zone="UTC", start=NOW.replace(tzinfo=None), turn=timedelta(days=1), people=["ann"])
    assert OnCall(schedules={"primary": Rotation(layers=[layer])}).next_change("primary", NOW) is None


def test_a_schedule_that_never_stops_changing_ends_the_search() -> None:
    assert OnCall(schedules={"primary": Broken({"ann"}, horizon=NOW + 9 * HOUR)}).next_change("primary", NOW) is None


def changes(on_call: OnCall) -> list[float]:
    """Return the hours of all changes."""
    found: list[float] = []
    at = on_call.next_change("primary", NOW)
    while at is not None:
        found.append((at - NOW) / HOUR)
        at = on_call.next_change("primary", at)
    return found
