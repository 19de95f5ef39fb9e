"""The checks know who is on call: a clean night passes, and each small change to it violates the right invariant."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from escalation_core import Engine, InvalidValue, Policies, Schedule, Settings, Shift, Shifts
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.invariants import Recorder, RunSettings, check
from escalation_core.testing.invariants.escalations import NO_FAULT, expected_hash, lateness
from escalation_core.testing.invariants.history import (
    History,
    HostWrite,
    OverrideSpan,
    RecordedEscalation,
    RecordedNote,
)
from escalation_core.testing.invariants.ladders import Ladder, Roster
from escalation_core.testing.invariants.recipients import recipients

from .sent import Sent

START = 1000.0
OPS = Ladder(
    name="ops",
    gaps=(1.0,) * 8,
    targets=(("oncall:gap",), ("oncall:quick",), ("oncall:ends", "lead"), ("oncall:gap",)) * 2,
    round_length=4,
    version="a",
)
SETTINGS = RunSettings(
    ladders={"critical": OPS},
    rosters={
        "gap": Roster(shifts=[("ann", 0.0, START), ("ann", START + 90, START + 99)]),
        "quick": Roster(
            shifts=[("ann", START, START + 3), ("bob", START + 3, START + 90), ("cid", START, START + 90)], digest="q1"
        ),
        "ends": Roster(shifts=[("ann", START, START + 90)], horizon=START + 4),
    },
    people={"ann": "slack:ann", "bob": "slack:bob"},
    default_target="default",
)


def step(level: int, at: float, outcome: str | None = None) -> RecordedEscalation:
    """Return an escalation."""
    return RecordedEscalation(
        key="k", episode=1, level=level, created_at=START + at, at=START + at + 0.01, began=START + at - 0.01,
        unique_hash=expected_hash("k", 1, level), policy="ops", position=level, outcome=outcome,
    )  # fmt: skip


STEPS = [
    step(1, 1.1, "nobody"), step(2, 1.1), step(3, 2.2), step(4, 3.3, "default"),
    step(5, 4.4, "nobody"), step(6, 4.4), step(7, 5.5), step(8, 6.6, "default"),
]  # fmt: skip
PAGED = {
    2: ["slack:ann", "default"],  # cid has no target
    3: ["slack:ann", "lead"],
    4: ["default"],
    6: ["slack:bob", "default"],
    7: ["default", "lead"],  # the schedule has ended
    8: ["default"],
}
Said = Mapping[tuple[int, str], tuple[str | None, str | None]]
SAID: Said = {
    (2, "slack:ann"): ("oncall:quick", "q1"),
    (3, "slack:ann"): ("oncall:ends", "any"),
    (6, "slack:bob"): ("oncall:quick", "q1"),
}
"""What pages say of the schedule that named their person, by level and target."""


def night(
    steps: list[RecordedEscalation] = STEPS, paged: Mapping[int, list[str]] = PAGED, said: Said = SAID
) -> History:
    """Return a history with pages that are sent at once."""
    sent = Sent()
    for each in steps:
        for target in paged.get(each.level, []):
            via, digest = said.get((each.level, target), (None, None))
            sent.add(each, target, via=via, digest=digest)
    return History(
        ended=START + 60,
        settings=SETTINGS,
        targets=("ops", "boss"),
        writes=[
            HostWrite(key="k", verb="open", began=START, ended=START + 0.02, severity="critical", first_seen=START)
        ],
        escalations=steps,
        notes=[
            RecordedNote(key="k", episode=1, level=8, action="exhausted", at=START + 6.6, written=START + 6.61)
        ],
        pages=sent.pages,
        changes=sent.changes,
        requests=sent.requests,
    )  # fmt: skip


def replaced(level: int, **values: object) -> list[RecordedEscalation]:
    """Return the steps with one that has other values."""
    return [attrs.evolve(each, **values) if each.level == level else each for each in STEPS]  # type: ignore[arg-type]


def on_call(**rosters: Roster) -> History:
    """Return the night with other people on call."""
    return attrs.evolve(night(), settings=attrs.evolve(SETTINGS, rosters={**SETTINGS.rosters, **rosters}))


def override(
    schedule: str = "ends",
    person: str = "bob",
    *,
    start: float = 2,
    end: float = 5,
    began: float = 2,
    ended: float = 2.1,
) -> OverrideSpan:
    """Return an override that covers level 3, and that was committed before the transaction of level 3 began."""
    return OverrideSpan(
        schedule=schedule, person=person, start=START + start, end=START + end, began=START + began,
        ended=START + ended,
    )  # fmt: skip


def overridden(*overrides: OverrideSpan, level: int = 3, digest: str = "override") -> History:
    """Return the night in which bob is paged at a level, by an override."""
    paged = {**PAGED, level: ["slack:bob", "lead"]}
    said: Said = {**SAID, (level, "slack:bob"): ("oncall:ends", digest)}
    return attrs.evolve(night(STEPS, paged, said), overrides=overrides)


def ignored(*overrides: OverrideSpan) -> History:
    """Return the night in which the engine obeys no override."""
    return attrs.evolve(night(), overrides=overrides)


MEANWHILE = override(ended=2.2)
"""An override that was committed while the transaction of level 3 ran."""
OBEYED: Mapping[str, Callable[[], History]] = {
    "obeyed": lambda: overridden(override()),
    "made meanwhile, and known": lambda: overridden(MEANWHILE),
    "made meanwhile, and not known": lambda: ignored(MEANWHILE),
    "one that was made before counts, if the last one is not known": lambda: overridden(
        override(), attrs.evolve(MEANWHILE, person="ann")
    ),
    "begins in the past": lambda: ignored(override(began=2.3, ended=2.4)),
    "begins later": lambda: ignored(override(start=2.3)),
    "ends at the tick": lambda: ignored(override(end=2.2)),
    "begins at the tick": lambda: overridden(override(start=2.2)),
    "while the schedule is not known": lambda: overridden(override(start=5, end=6), level=7),
    "the last of two counts": lambda: overridden(override(person="ann"), override()),
    "made just after the tick's instant, and known": lambda: overridden(
        override(start=2.205, began=2.205, ended=2.206)
    ),
    "made just after the tick's instant, and not known": lambda: ignored(
        override(start=2.205, began=2.205, ended=2.206)
    ),
    "of another schedule": lambda: ignored(override("other")),
}
"""Nights with overrides that violate nothing."""
ALWAYS = [("ann", 0.0, START + 90)]
VIOLATIONS: Mapping[str, tuple[str, Callable[[], History]]] = {
    "the level after a pass is lost": ("I1", lambda: attrs.evolve(night(STEPS[:1]), ended=START + 1.2)),
    "it is recorded by a later tick": (
        "I1", lambda: night([STEPS[0], *(attrs.evolve(each, created_at=each.created_at + 1) for each in STEPS[1:])]),
    ),
    "it is recorded in another transaction": ("I1", lambda: night(replaced(2, began=START + 1.105))),
    "a passed level without an event": ("I2", lambda: night(STEPS[1:])),
    "a level with a person is passed over": ("I2", lambda: on_call(gap=Roster(shifts=ALWAYS))),
    "a stale schedule is taken for an empty one": ("I2", lambda: on_call(gap=Roster(horizon=START))),
    "an unknown schedule is taken for an empty one": ("I2", lambda: attrs.evolve(
        night(), settings=attrs.evolve(SETTINGS, rosters={name: SETTINGS.rosters[name] for name in ("quick", "ends")})
    )),
    "a pass leaves its round": ("I2", lambda: night(replaced(4, outcome="nobody"), {**PAGED, 4: []})),
    "a pass ends before its round": ("I2", lambda: night(replaced(1, outcome="default"), {**PAGED, 1: ["default"]})),
    "an empty level has no outcome": ("I2", lambda: night(replaced(4, outcome=None))),
    "a level with people has one": ("I2", lambda: night(replaced(6, outcome="default"))),
    "a passed level pages": ("I3", lambda: night(paged={**PAGED, 1: ["default"]})),
    "a pass pages no one": ("I3", lambda: night(paged={**PAGED, 4: []})),
    "a pass pages another target": ("I3", lambda: night(paged={**PAGED, 4: ["ops"]})),
    "the router's target if there is none": ("I3", lambda: attrs.evolve(
        night(), settings=attrs.evolve(SETTINGS, default_target=None)
    )),
    "the person of the shift before": ("I3", lambda: night(paged={**PAGED, 6: ["slack:ann", "default"]})),
    "not everyone who is on call": ("I3", lambda: night(paged={**PAGED, 3: ["lead"]})),
    "no one for a person without a target": ("I3", lambda: night(paged={**PAGED, 2: ["slack:ann"]})),
    "no one for a schedule that has ended": ("I3", lambda: night(paged={**PAGED, 7: ["lead"]})),
    "the person of a schedule that has ended": ("I3", lambda: night(paged={**PAGED, 7: ["slack:ann", "lead"]})),
    "a page without its schedule": ("I3", lambda: night(said={**SAID, (2, "slack:ann"): (None, None)})),
    "a page with another schedule": ("I3", lambda: night(said={**SAID, (2, "slack:ann"): ("oncall:ends", "q1")})),
    "a page with another digest": ("I3", lambda: night(said={**SAID, (2, "slack:ann"): ("oncall:quick", "q2")})),
    "a page without a digest": ("I3", lambda: night(said={**SAID, (3, "slack:ann"): ("oncall:ends", None)})),
    "a target of the level with a schedule": ("I3", lambda: night(said={**SAID, (3, "lead"): ("oncall:ends", "any")})),
    "a default target with a schedule": ("I3", lambda: night(said={**SAID, (4, "default"): ("oncall:gap", "any")})),
    "an override is not obeyed": ("I3", lambda: ignored(override())),
    "it is not obeyed in a gap": ("I2", lambda: ignored(override("gap", start=0, end=3, began=0, ended=0.1))),
    "it is obeyed after its end": ("I3", lambda: overridden(override(end=2.2))),
    "it is obeyed before its start": ("I3", lambda: overridden(override(start=2.3))),
    "it is obeyed before it is made": ("I3", lambda: overridden(override(began=2.3, ended=2.4))),
    "the first of two counts": ("I3", lambda: overridden(override(), override(person="ann"))),
    "an override with the digest of the schedule": ("I3", lambda: overridden(override(), digest="any")),
    "a schedule with the digest of an override": ("I3", lambda: night(
        said={**SAID, (2, "slack:ann"): ("oncall:quick", "override")}
    )),
    "a target of the level with a digest": ("I3", lambda: night(said={**SAID, (3, "lead"): (None, "any")})),
}  # fmt: skip
"""Each case with the invariant that it violates, and a history."""


def test_a_clean_night_passes() -> None:
    """Gaps, a hand-over, a person without a target and the end of a schedule violate no invariant."""
    assert [] == check(night())


@pytest.mark.parametrize("case", list(OBEYED))
def test_an_obeyed_override_passes(case: str) -> None:
    """An override counts from its start until its end, for each transaction that began after its commit."""
    assert [] == check(OBEYED[case]())


@pytest.mark.parametrize("case", list(VIOLATIONS))
def test_each_violation_is_found(case: str) -> None:
    """Each change of a clean night violates its invariant."""
    invariant, broken = VIOLATIONS[case]
    assert invariant in {violation.invariant for violation in check(broken())}


def test_the_level_after_a_pass_has_no_lateness() -> None:
    """Lateness is measured for levels that fall due by themselves."""
    found = lateness(night())
    assert [NO_FAULT] * 5 == [name for name, _ in found]
    assert [0.11] * 5 == pytest.approx([wait for _, wait in found])


def test_a_shift_ends_at_its_end_and_a_schedule_at_its_horizon() -> None:
    """The person of a shift is on call at its start, and not at its end; at the horizon nothing is known."""
    quick, ends = SETTINGS.rosters["quick"], SETTINGS.rosters["ends"]
    assert ["ann cid", "bob cid", ""] == [_names(quick, at) for at in (2.999, 3, 90)]
    assert ["ann", None] == [_names(ends, at) for at in (3.999, 4)]
    late = attrs.evolve(ends, known_from=START + 1)
    assert [None, "ann"] == [_names(late, at) for at in (0.999, 1)]
    assert recipients(("oncall:gap",), START + 1, SETTINGS).empty
    assert not recipients(("oncall:gap", "oncall:ends"), START + 5, SETTINGS).empty
    assert not recipients((), START + 1, SETTINGS).empty


def test_the_first_mention_of_a_target_counts() -> None:
    """A target that a level names itself and by a schedule, or by two schedules, has what is named first."""
    ann, at = ("oncall:quick", "q1"), START + 1
    named = [
        recipients(to, at, SETTINGS).targets["slack:ann"]
        for to in [("oncall:quick", "slack:ann"), ("slack:ann", "oncall:quick"), ("oncall:quick", "oncall:ends")]
    ]
    assert [ann, None, ann] == named


def _names(roster: Roster, at: float) -> str | None:
    people = roster.people(START + at)
    return None if people is None else " ".join(sorted(people))


FILE = {
    "policies": {
        "ops": {"levels": [{"after": "1m", "to": ["oncall:primary"]}, {"after": "1m"}], "repeat": {"times": 1}},
    },
    "assign": [{"severity": "critical", "policy": "ops"}],
    "schedules": {"primary": {"rotation": {
        "zone": "Europe/Berlin", "start": "2026-01-05T09:00", "turn": "7d", "people": ["ann", "bob"],
    }}},
    "people": {"ann": "slack:ann", "bob": "slack:bob"},
}  # fmt: skip


def test_the_settings_of_a_run_have_its_people() -> None:
    """The checks take people, rounds and default target from the file and the settings, and schedules as spans."""
    policies = Policies.from_mapping(FILE)
    settings = Settings(tick_interval=timedelta(seconds=30), default_target="default")
    run = RunSettings.from_settings(settings, policies, {"primary": Roster(shifts=ALWAYS)})
    assert ({"ann": "slack:ann", "bob": "slack:bob"}, "default") == (run.people, run.default_target)
    assert [False, True, False, True] == [run.ladder("critical").ends_round(position) for position in range(1, 5)]
    assert {"slack:ann": ("oncall:primary", None)} == recipients(
        run.ladder("critical").targets_at(1), START, run
    ).targets
    with pytest.raises(InvalidValue, match="rosters"):
        RunSettings.from_settings(settings, policies)


class Source:
    """A source with a schedule that no one has a shift of, and one of ann's."""

    async def load(self) -> Mapping[str, Schedule]:
        start = datetime(2026, 1, 5, tzinfo=UTC)
        end = start + timedelta(days=9)
        return {
            "gap": Shifts(shifts=[], horizon=end),
            "primary": Shifts(shifts=[Shift(person="ann", start=start, end=end)], horizon=end),
        }


ON_CALL = {
    "policies": {"ops": {"levels": [
        {"after": "1m", "to": [f"oncall:{name}"]} for name in ("gap", "primary", "gap", "gap")
    ]}},
    "assign": [{"severity": "critical", "policy": "ops"}],
    "people": {"ann": "slack:ann"},
}  # fmt: skip


@pytest.mark.parametrize("right", [True, False])
async def test_an_engine_keeps_the_invariants(right: bool) -> None:
    """The recorder records what an engine passed over: the checks agree with it, or do not if others were on call."""
    clock = ManualClock(datetime(2026, 1, 6, tzinfo=UTC))
    store = MemoryStore(clock)
    settings, policies = Settings(max_level=4, default_target="default"), Policies.from_mapping(ON_CALL)
    rosters = {"gap": Roster(), "primary": Roster(shifts=[("ann", 0.0, clock().timestamp() + 999)])}
    run = RunSettings.from_settings(settings, policies, rosters if right else {})
    recorder = Recorder(store, settings=run, targets=["default"], clock=clock)
    engine = Engine(
        recorder.store("w1", store),
        settings=settings,
        policies=policies,
        schedules=[Source()],
        notifiers=[recorder.notifier("w1", RecordingNotifier("default", "slack:ann"))],
        worker="w1",
    )
    async with recorder.writing("open", "k", severity="critical"):
        await engine.open("k", severity="critical")
    for _ in range(2):
        clock.advance(timedelta(minutes=1))
        await engine.tick()
    history = await recorder.history()
    assert ["nobody", None, "nobody", "default"] == [each.outcome for each in history.escalations]
    assert ["slack:ann", "default"] == [page.target for page in history.pages]
    assert ([] == check(history)) is right
    await engine.aclose()
