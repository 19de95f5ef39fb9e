"""The checks of the invariants with changed keys, unseen rows, and findings of health."""

from collections.abc import Mapping, Sequence

import attrs
import pytest

from escalation_core.testing.invariants import check
from escalation_core.testing.invariants.escalations import expected_hash, owed_until
from escalation_core.testing.invariants.history import (
    Fault,
    HealthSample,
    History,
    HostWrite,
    RecordedEscalation,
    Violation,
)
from escalation_core.testing.invariants.phases import phases

from .test_invariants import (
    ACKNOWLEDGED,
    BACK,
    CANCELLED,
    CLAIMED,
    CLEAN,
    ESCALATION,
    LATER,
    OPENED,
    PAGE,
    REFUSED,
    SAMPLES,
    START,
)

RENAMED = HostWrite(key="k", verb="change_key", began=START + 1.0, ended=START + 1.1, new_key="j")
RENAMED_BACK = HostWrite(key="j", verb="change_key", began=START + 5, ended=START + 5.1, new_key="k")
RESOLVED = HostWrite(key="k", verb="resolve", began=START + 1.0, ended=START + 1.1)
UNSEEN = HostWrite(
    key="k", verb="open", began=START + 2, ended=START + 2.1, severity="critical", first_seen=START + 2, unseen=True
)
FOUND_LATE = Fault(
    kind="unseen write", start=START + 2, end=START + 2.1, recovery=2.0, stops=True, keys=frozenset({"k"})
)
RETRIED = [attrs.evolve(REFUSED, at=START + 0.6), *(attrs.evolve(step, fence_was=n, fence=n + 1, due_was=START + 5.4)
         for n, step in enumerate(LATER, 2))]  # fmt: skip
"""The page waits for a retry, and a worker claims it five seconds later."""
REFUSED_ROW = Fault(kind="refused", start=START + 2, end=START + 4, findings=frozenset({"it"}))


def escalation(key: str, level: int, at: float, episode: int = 1) -> RecordedEscalation:
    """Return an escalation."""
    instant = START + at
    return RecordedEscalation(
        key=key, episode=episode, level=level, created_at=instant, at=instant,
        unique_hash=expected_hash(key, episode, level),
    )  # fmt: skip


def recorded(writes: Sequence[HostWrite], *escalations: RecordedEscalation, faults: Sequence[Fault] = ()) -> History:
    """Return a history of writes and escalations only, which ends 8 s after the start."""
    return History(ended=START + 8, writes=writes, escalations=escalations, faults=faults)


def listing(*at: float, faults: Sequence[Fault] = (REFUSED_ROW,)) -> History:
    """Return a history in which health lists a finding in the samples at these times."""
    health = [
        attrs.evolve(sample, findings=frozenset({"it"} if round(sample.at - START, 3) in at else ()))
        for sample in SAMPLES
    ]
    return attrs.evolve(CLEAN, health=health, faults=faults)


OF_J = (ESCALATION, escalation("j", 1, 1.5), escalation("j", 2, 2.5), escalation("j", 3, 3.5))
OF_K_AGAIN = (escalation("k", 1, 5.5, 2), escalation("k", 2, 6.5, 2), escalation("k", 3, 7.5, 2))
FOUND = (ESCALATION, escalation("k", 1, 4.0, 2), escalation("k", 2, 5.0, 2), escalation("k", 3, 6.0, 2))
VIOLATIONS: Mapping[str, tuple[str, History]] = {
    "claimed after an acknowledgement that was taken back": (
        "I6", attrs.evolve(CLEAN, writes=[OPENED, ACKNOWLEDGED, BACK], changes=[CLAIMED, *RETRIED]),
    ),
    "claimed after its key changed": ("I6", attrs.evolve(CLEAN, writes=[OPENED, RENAMED], changes=[CLAIMED, *RETRIED])),
    "cancelled before its key changed": (
        "I3",
        attrs.evolve(
            CLEAN, writes=[OPENED, RENAMED], requests=[], pages=[attrs.evolve(PAGE, state="cancelled")],
            changes=[CLAIMED, attrs.evolve(CANCELLED, began=START + 0.59, at=START + 0.6)],
        ),
    ),
    "never recorded under its new key": ("I1", recorded([OPENED, RENAMED], ESCALATION)),
    "recorded late under its new key": ("I1", recorded([OPENED, RENAMED], ESCALATION, escalation("j", 1, 4.0))),
    "a level is missing under its new key": ("I2", recorded([OPENED, RENAMED], ESCALATION, escalation("j", 2, 2.5))),
    "recorded under its old key": ("I2", recorded([OPENED, RENAMED], *OF_J, escalation("k", 2, 2.5))),
    "another episode of a key without a history": (
        "I2", recorded([OPENED, RENAMED], ESCALATION, escalation("j", 1, 1.5, 2)),
    ),
    "the same episode of a key with a history": (
        "I2", recorded([OPENED, RENAMED, RENAMED_BACK], *OF_J, escalation("k", 1, 5.5), escalation("k", 2, 6.5)),
    ),
    "never found": ("I1", recorded([OPENED, RESOLVED, UNSEEN], ESCALATION, faults=[FOUND_LATE])),
    "found too late": (
        "I1", recorded([OPENED, RESOLVED, UNSEEN], ESCALATION, escalation("k", 1, 6.5, 2), faults=[FOUND_LATE]),
    ),
    "another incident is late as well": (
        "I1",
        recorded(
            [OPENED, attrs.evolve(OPENED, key="other", began=START + 2, ended=START + 2.1), RESOLVED, UNSEEN],
            *FOUND, escalation("other", 1, 5.5), faults=[FOUND_LATE],
        ),
    ),
    "an ended episode continues": (
        "I2", recorded([OPENED, RESOLVED, UNSEEN], ESCALATION, escalation("k", 2, 4.0), faults=[FOUND_LATE]),
    ),
    "not listed": ("I7", listing()),
    "listed only before the fault": ("I7", listing(1.8)),
    "listed after the fault": ("I7", listing(3.0, 6.4)),
    "listed at the end without a fault": ("I7", listing(9.8, faults=())),
}  # fmt: skip


def found(history: History) -> Sequence[Violation]:
    """Return the violations of a history."""
    return check(history, {}, [])


@pytest.mark.parametrize("case", list(VIOLATIONS))
def test_each_violation_is_found(case: str) -> None:
    """Each history violates its invariant."""
    invariant, history = VIOLATIONS[case]
    assert invariant in {violation.invariant for violation in found(history)}


NO_VIOLATIONS: Mapping[str, tuple[str, History]] = {
    "claimed while it is acknowledged": (
        "I6",
        attrs.evolve(
            CLEAN,
            writes=[OPENED, attrs.evolve(ACKNOWLEDGED, ended=START + 5.6), attrs.evolve(BACK, began=START + 5.7)],
            changes=[CLAIMED, *RETRIED],
        ),
    ),
    "recorded after it was taken back": (
        "I6",
        attrs.evolve(
            CLEAN, writes=[OPENED, ACKNOWLEDGED, BACK], changes=LATER,
            escalations=[attrs.evolve(ESCALATION, created_at=START + 2.2, at=START + 2.2)],
        ),
    ),
    "acknowledged, and no trigger saw it": (
        "I6",
        attrs.evolve(
            CLEAN, writes=[OPENED, attrs.evolve(ACKNOWLEDGED, unseen=True), BACK], changes=[CLAIMED, *RETRIED]
        ),
    ),
    "cancelled as its key changes": (
        "I3",
        attrs.evolve(
            CLEAN, writes=[OPENED, RENAMED], escalations=OF_J[:1], requests=[],
            pages=[attrs.evolve(PAGE, state="cancelled")], changes=[CLAIMED, CANCELLED],
        ),
    ),
    "recorded under its new key": ("I1 I2", recorded([OPENED, RENAMED], *OF_J)),
    "recorded under its old key again": ("I1 I2", recorded([OPENED, RENAMED, RENAMED_BACK], *OF_J, *OF_K_AGAIN)),
    "acknowledged under its old key": ("I1 I2", recorded([OPENED, ACKNOWLEDGED, attrs.evolve(RENAMED, began=START + 2,
                                                          ended=START + 2.1)], ESCALATION)),
    "found in time": ("I1 I2", recorded([OPENED, RESOLVED, UNSEEN], *FOUND, faults=[FOUND_LATE])),
    "listed during the fault": ("I7", listing(2.2, 3.0, 4.0)),
    "listed a little longer": ("I7", listing(3.0, 5.8)),
}  # fmt: skip
"""Histories that are nearly a violation, each with the invariants that it keeps."""


@pytest.mark.parametrize("case", list(NO_VIOLATIONS))
def test_near_violations_pass(case: str) -> None:
    """A history that is not surely wrong keeps its invariants."""
    invariants, history = NO_VIOLATIONS[case]
    assert [] == [violation for violation in found(history) if violation.invariant in invariants.split()]


def test_an_incident_keeps_its_state_under_another_key() -> None:
    """Severity, first_seen and state stay with the row. The new key begins its next episode at level 0."""
    renamed = attrs.evolve(RENAMED, began=START + 2, ended=START + 2.1)
    found = phases(recorded([OPENED, ACKNOWLEDGED, renamed]))
    assert ["open", "acknowledged", "renamed"] == [phase.state for phase in found["k"]]
    [now] = found["j"]
    assert ("acknowledged", "critical", START, 1, 0) == (
        now.state, now.severity, now.first_seen, now.episode, now.base
    )  # fmt: skip


def test_missing_escalations_of_a_renamed_incident() -> None:
    """An escalation is missing under the new key, and none under the old key."""
    assert pytest.approx(START + 1.1 + 2) == owed_until(recorded([OPENED, RENAMED], ESCALATION))


def test_health_may_list_unplannable_rows_at_the_end() -> None:
    """A finding at the end is allowed for a row that the test made unreadable."""
    last = HealthSample(at=START + 20, unhealthy=False, findings=frozenset({"unreadable k"}))
    history = attrs.evolve(CLEAN, health=[*SAMPLES, last])
    assert ["I7"] == [violation.invariant for violation in found(history)]
    assert [] == found(attrs.evolve(history, unplannable=frozenset({"k"})))
