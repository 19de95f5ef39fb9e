"""The checks know policies: a clean night passes, and each small change to it violates the right invariant."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import attrs
import pytest

from escalation_core import InvalidValue, Policies, Settings
from escalation_core.testing.invariants import RunSettings, check
from escalation_core.testing.invariants.escalations import expected_hash, owed_until
from escalation_core.testing.invariants.history import (
    History,
    HostWrite,
    NewFile,
    PageChange,
    PauseSpan,
    RecordedEscalation,
    RecordedNote,
    Verb,
)
from escalation_core.testing.invariants.ladders import Ladder, ladders_of

from .sent import Sent

START = 1000.0
OPS = Ladder(
    name="ops",
    gaps=(1.0, 1.0, 2.0, 1.0),
    targets=(("ops",), ("boss", "ops")) * 2,
    ack_timeout=2.0,
    version="a",
)
DAYS = Ladder(name="days", gaps=(1.0, 1.0), ack_timeout=2.0, restarts=True, version="b")
SETTINGS = RunSettings(ladders={"critical": OPS, "warning": DAYS})


def write(verb: Verb, at: float, **values: object) -> HostWrite:
    """Return a write of a host that takes 20 ms."""
    return HostWrite(key="k", verb=verb, began=START + at, ended=START + at + 0.02, **values)  # type: ignore[arg-type]


def step(level: int, at: float, position: int, policy: str = "ops", episode: int = 1) -> RecordedEscalation:
    """Return an escalation."""
    return RecordedEscalation(
        key="k", episode=episode, level=level, created_at=START + at, at=START + at + 0.01,
        unique_hash=expected_hash("k", episode, level), policy=policy, position=position,
    )  # fmt: skip


def note(action: str, at: float, level: int, episode: int = 1) -> RecordedNote:
    """Return a note of the engine."""
    return RecordedNote(key="k", episode=episode, level=level, action=action, at=START + at, written=START + at + 0.01)


def night(
    writes: Sequence[HostWrite], escalations: Sequence[RecordedEscalation], notes: Sequence[RecordedNote]
) -> History:
    """Return a history with a page that is sent at once to each target that the policy names, else to the first."""
    sent = Sent()
    for each in escalations:
        for target in OPS.targets_at(each.position or 0) if each.policy == "ops" else ("ops",):
            sent.add(each, target)
    return History(
        ended=START + 60,
        settings=SETTINGS,
        targets=("ops", "boss"),
        writes=writes,
        escalations=escalations,
        notes=notes,
        pages=sent.pages,
        changes=sent.changes,
        requests=sent.requests,
    )


OPENED = write("open", 0.0, severity="critical", first_seen=START)
ACKNOWLEDGED = write("acknowledge", 1.5)
EXPIRED = note("ack_expired", 3.6, 1)
"""The acknowledgement expires, and in the same tick the second level is recorded."""
OVER = note("exhausted", 6.8, 4)
STEPS = [step(1, 1.1, 1), step(2, 3.6, 2), step(3, 5.7, 3), step(4, 6.8, 4)]
RESUMED = night([OPENED, ACKNOWLEDGED], STEPS, [EXPIRED, OVER])
AGAIN = night(
    [OPENED, ACKNOWLEDGED, write("acknowledge", 8.0)],
    [*STEPS, *(step(4 + n, at, n, episode=2) for n, at in enumerate((11.1, 12.2, 14.3, 15.4), 1))],
    [EXPIRED, OVER, note("ack_expired", 10.1, 4, 2), note("restart", 10.1, 4, 2), note("exhausted", 15.4, 8, 2)],
)
"""The walk is over when the second acknowledgement expires, so it begins again in another episode."""
TAKEN_BACK = night(
    [OPENED, ACKNOWLEDGED, write("acknowledge", 8.0), write("unacknowledge", 8.5)],
    [*STEPS, *(step(4 + n, at, n, episode=2) for n, at in enumerate((9.6, 10.7, 12.8, 13.9), 1))],
    [EXPIRED, OVER, note("restart", 8.51, 4, 2), note("exhausted", 13.9, 8, 2)],
)
FLAPS = [
    write("change_severity", 1.5 + 0.4 * number, severity=("warning", "critical")[number % 2]) for number in range(20)
]
FLAPPED = night(
    [OPENED, *FLAPS],
    [step(1, 1.1, 1), step(2, 2.2, 2), step(3, 3.3, 1, "days"), step(4, 4.8, 2, "days")],
    [note("exhausted", 4.8, 4)],
)
FLAPPED = attrs.evolve(FLAPPED, ended=START + 5)
"""Each policy goes on where it was, and another one begins with the escalation before."""
CLEAN: Mapping[str, History] = {
    "resumed": RESUMED,
    "begun again": AGAIN,
    "taken back": TAKEN_BACK,
    "flapped": FLAPPED,
    "kept later": attrs.evolve(
        night([OPENED, ACKNOWLEDGED], [STEPS[0], step(2, 4.6, 2), step(3, 6.7, 3), step(4, 7.8, 4)],
              [note("ack_expired", 4.6, 1), note("exhausted", 7.8, 4)]),
        kept={"a": START + 2.5},
    ),
    "another file": attrs.evolve(
        RESUMED,
        files=[NewFile(began=START + 2, ended=START + 2.1, ladders={"critical": attrs.evolve(OPS, gaps=(9.0,))})],
    ),
}  # fmt: skip
EARLIER = note("ack_expired", 3.0, 1)
LATE_CLAIM = PageChange(
    page=1, was="pending", state="leased", due_was=START + 1.1, due=START + 9, fence_was=0, fence=1,
    began=START + 3.7, at=START + 3.7, worker="w1",
)  # fmt: skip
VIOLATIONS: Mapping[str, tuple[str, Callable[[], History]]] = {
    "an acknowledgement never expires": ("I1", lambda: night([OPENED, ACKNOWLEDGED], STEPS[:1], [])),
    "it expires late": (
        "I1",
        lambda: night([OPENED, ACKNOWLEDGED], [STEPS[0], step(2, 6.0, 2)], [note("ack_expired", 6.0, 1)]),
    ),
    "it expires, and the walk is forgotten": ("I1", lambda: night([OPENED, ACKNOWLEDGED], STEPS[:1], [EXPIRED])),
    "a walk that was over does not begin again": (
        "I1", lambda: attrs.evolve(AGAIN, escalations=STEPS, notes=[EXPIRED, OVER, note("ack_expired", 10.1, 4)]),
    ),
    "nor if it is taken back": ("I1", lambda: attrs.evolve(TAKEN_BACK, escalations=STEPS, notes=[EXPIRED, OVER])),
    "a walk that restarts does not begin again": (
        "I1",
        lambda: night(
            [attrs.evolve(OPENED, severity="warning"), ACKNOWLEDGED],
            [step(1, 1.1, 1, "days"), step(2, 3.6, 2, "days")],
            [EXPIRED, note("exhausted", 3.6, 2)],
        ),
    ),
    "a severity that flaps delays a level": (
        "I1", lambda: attrs.evolve(FLAPPED, escalations=FLAPPED.escalations[:1], notes=[], ended=START + 9),
    ),
    "it expires too early": ("I2", lambda: attrs.evolve(RESUMED, notes=[EARLIER, OVER])),
    "it expires without an acknowledgement": ("I2", lambda: attrs.evolve(RESUMED, writes=[OPENED])),
    "it expires in a pause": (
        "I2",
        lambda: attrs.evolve(RESUMED, pauses=[PauseSpan(began=START + 3.5, sure_from=START + 3.55)]),
    ),
    "it expires before the version was kept for so long": (
        "I2", lambda: attrs.evolve(RESUMED, kept={"a": START + 2.5}),
    ),
    "a walk begins again without a reason": (
        "I2", lambda: attrs.evolve(RESUMED, notes=[EXPIRED, note("restart", 4.5, 2, 2), OVER]),
    ),
    "a wrong position": ("I2", lambda: attrs.evolve(RESUMED, escalations=[*STEPS[:1], step(2, 3.6, 1), *STEPS[2:]])),
    "another policy": (
        "I2", lambda: attrs.evolve(RESUMED, escalations=[*STEPS[:1], step(2, 3.6, 2, "days"), *STEPS[2:]]),
    ),
    "the policy of a file is left out": (
        "I2",
        lambda: attrs.evolve(RESUMED, escalations=[attrs.evolve(one, policy=None, position=None) for one in STEPS]),
    ),
    "more levels than the policy has": (
        "I2", lambda: attrs.evolve(RESUMED, escalations=[*STEPS, step(5, 8.0, 5)]),
    ),
    "before the gap of the round": (
        "I2", lambda: attrs.evolve(RESUMED, escalations=[*STEPS[:2], step(3, 4.7, 3), STEPS[3]]),
    ),
    "targets of another level": ("I3", lambda: attrs.evolve(RESUMED, pages=[
        attrs.evolve(page, target="boss") if page.id == 1 else page for page in RESUMED.pages
    ])),
    "targets of a later file": ("I3", lambda: attrs.evolve(RESUMED, settings=RunSettings(
        ladders={"critical": attrs.evolve(OPS, targets=(("boss",),) * 4)}
    ))),
    "the end of a walk is not noted": ("I3", lambda: attrs.evolve(RESUMED, notes=[EXPIRED])),
    "an end is noted too early": (
        "I3", lambda: attrs.evolve(RESUMED, notes=[EXPIRED, note("exhausted", 5.7, 3), OVER]),
    ),
    "claimed while the acknowledgement stands": ("I6", lambda: attrs.evolve(RESUMED, changes=[
        attrs.evolve(LATE_CLAIM, began=START + 2, at=START + 2)
    ])),
    "claimed after the expiry of an acknowledgement that no trigger saw": ("I6", lambda: attrs.evolve(
        RESUMED, writes=[OPENED, attrs.evolve(ACKNOWLEDGED, unseen=True)], changes=[LATE_CLAIM]
    )),
    "claimed in the episode after a restart": ("I6", lambda: attrs.evolve(AGAIN, changes=[
        attrs.evolve(LATE_CLAIM, began=START + 10.5, at=START + 10.5)
    ])),
}  # fmt: skip
"""Each case with the invariant that it violates, and a history."""


@pytest.mark.parametrize("case", list(CLEAN))
def test_a_clean_night_passes(case: str) -> None:
    """Incidents that walk through their policies violate no invariant."""
    assert [] == check(CLEAN[case])


@pytest.mark.parametrize("case", list(VIOLATIONS))
def test_each_violation_is_found(case: str) -> None:
    """Each change of a clean night violates its invariant."""
    invariant, broken = VIOLATIONS[case]
    assert invariant in {violation.invariant for violation in check(broken())}


def test_a_standing_acknowledgement_is_work_that_is_left() -> None:
    """A run is not over before an acknowledgement has expired, and before the level that follows it is recorded."""
    standing = night([OPENED, ACKNOWLEDGED], STEPS[:1], [])
    assert pytest.approx(START + 1.52 + 2 + 2) == owed_until(standing)
    assert pytest.approx(START + 3.61 + 2) == owed_until(attrs.evolve(standing, notes=[EXPIRED]))
    assert 0.0 == owed_until(RESUMED)


FILE = {
    "policies": {
        "ops": {"levels": [{"after": "0s"}, {"after": "5m", "to": ["boss"]}], "repeat": {"times": 1, "after": "1h"},
                "ack_timeout": "1h", "on_ack_expiry": "restart"},
        "slow": {"levels": [{"after": "1h"}], "min_gap": "2h"},
    },
    "assign": [{"severity": " Critical ", "policy": "ops"}, {"severity": "low", "policy": "slow"},
               {"severity": "info", "policy": "slow"}, {"severity": "info", "policy": "builtin"}],
}  # fmt: skip


def test_the_settings_of_a_run_have_the_policies_of_its_file() -> None:
    """The checks know the gaps of all rounds. Without MAX_ESC_LEVEL the built-in policy has its 7 levels."""
    policies = Policies.from_mapping(FILE)
    run = RunSettings.from_settings(Settings(tick_interval=timedelta(seconds=30)), policies)
    assert {"critical", "low"} == set(run.ladders)
    ops = run.ladder("CRITICAL ")
    assert (0.0, 300.0, 3600.0, 300.0) == ops.gaps
    assert ((), ("boss",), (), ("boss",)) == ops.targets
    assert (3600.0, True, policies.policies["ops"].digest) == (ops.ack_timeout, ops.restarts, ops.version)
    assert 7200.0 == run.ladder("low").min_gap
    assert 7 == run.max_level == run.ladder("info").total == run.ladder(None).total
    assert 3 == RunSettings.from_settings(Settings(max_level=3)).ladder("critical").total


@pytest.mark.parametrize(
    ("policy", "more"),
    [
        ({"anchor": "first_seen"}, {}),
        ({"clock": "office"}, {"hours": {"office": {"zone": "UTC", "windows": [
            {"days": "mon-fri", "from": "09:00", "to": "17:00"}]}}}),
        ({}, {"assign": [{"labels": {"team": "db"}, "policy": "ops"}]}),
    ],
    ids=["first_seen", "clock", "labels"],
)  # fmt: skip
def test_what_the_checks_do_not_know_is_refused(policy: Mapping[str, object], more: Mapping[str, object]) -> None:
    """A file that the checks would judge wrongly is refused."""
    ops = {"levels": [{"after": "1m"}], **policy}
    file = {"policies": {"ops": ops}, "assign": [{"severity": "critical", "policy": "ops"}], **more}
    with pytest.raises(InvalidValue, match="policies"):
        ladders_of(Policies.from_mapping(file))
