"""The judges once more: of keys that change, rows that no trigger saw, and what health tells."""

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
    BEFORE,
    CANCELLED,
    CLAIMED,
    CLEAN,
    EVENT,
    LATER,
    LOOKS,
    OPENED,
    PAGE,
    REFUSED,
)

RENAMED = HostWrite(key="k", verb="change_key", began=BEFORE + 1.0, ended=BEFORE + 1.1, new_key="j")
BACK_AGAIN = HostWrite(key="j", verb="change_key", began=BEFORE + 5, ended=BEFORE + 5.1, new_key="k")
RESOLVED = HostWrite(key="k", verb="resolve", began=BEFORE + 1.0, ended=BEFORE + 1.1)
UNSEEN = HostWrite(
    key="k", verb="open", began=BEFORE + 2, ended=BEFORE + 2.1, severity="critical", first_seen=BEFORE + 2, unseen=True
)
FOUND_LATE = Fault(
    kind="unseen write", start=BEFORE + 2, end=BEFORE + 2.1, recovery=2.0, stops=True, keys=frozenset({"k"})
)
AGAIN = [attrs.evolve(REFUSED, at=BEFORE + 0.6), *(attrs.evolve(step, fence_was=n, fence=n + 1, due_was=BEFORE + 5.4)
         for n, step in enumerate(LATER, 2))]  # fmt: skip
"""The page is to be tried again, and is, five seconds later."""
TOLD = Fault(kind="refused", start=BEFORE + 2, end=BEFORE + 4, findings=frozenset({"it"}))


def event(key: str, level: int, at: float, episode: int = 1) -> RecordedEscalation:
    """Return an escalation."""
    instant = BEFORE + at
    return RecordedEscalation(
        key=key, episode=episode, level=level, created_at=instant, at=instant,
        unique_hash=expected_hash(key, episode, level),
    )  # fmt: skip


def recorded(writes: Sequence[HostWrite], *escalations: RecordedEscalation, faults: Sequence[Fault] = ()) -> History:
    """Return a history of nothing but writes and escalations, which ends 8 s after the beginning."""
    return History(ended=BEFORE + 8, writes=writes, escalations=escalations, faults=faults)


def telling(*at: float, faults: Sequence[Fault] = (TOLD,)) -> History:
    """Return a history in which health tells of something at some of its looks."""
    health = [
        attrs.evolve(look, findings=frozenset({"it"} if round(look.at - BEFORE, 3) in at else ())) for look in LOOKS
    ]
    return attrs.evolve(CLEAN, health=health, faults=faults)


RENAMED_EVENTS = (EVENT, event("j", 1, 1.5), event("j", 2, 2.5), event("j", 3, 3.5))
AND_BACK = (event("k", 1, 5.5, 2), event("k", 2, 6.5, 2), event("k", 3, 7.5, 2))
UNSEEN_EVENTS = (EVENT, event("k", 1, 4.0, 2), event("k", 2, 5.0, 2), event("k", 3, 6.0, 2))
BREACHES: Mapping[str, tuple[str, History]] = {
    "claimed after an acknowledgement that was taken back": (
        "I6", attrs.evolve(CLEAN, writes=[OPENED, ACKNOWLEDGED, BACK], changes=[CLAIMED, *AGAIN]),
    ),
    "claimed after its key changed": ("I6", attrs.evolve(CLEAN, writes=[OPENED, RENAMED], changes=[CLAIMED, *AGAIN])),
    "cancelled before its key changed": (
        "I3",
        attrs.evolve(
            CLEAN, writes=[OPENED, RENAMED], requests=[], pages=[attrs.evolve(PAGE, state="cancelled")],
            changes=[CLAIMED, attrs.evolve(CANCELLED, began=BEFORE + 0.59, at=BEFORE + 0.6)],
        ),
    ),
    "never recorded under its new key": ("I1", recorded([OPENED, RENAMED], EVENT)),
    "recorded late under its new key": ("I1", recorded([OPENED, RENAMED], EVENT, event("j", 1, 4.0))),
    "a level is left out under its new key": ("I2", recorded([OPENED, RENAMED], EVENT, event("j", 2, 2.5))),
    "recorded under its old key": ("I2", recorded([OPENED, RENAMED], *RENAMED_EVENTS, event("k", 2, 2.5))),
    "another episode of a key without a history": ("I2", recorded([OPENED, RENAMED], EVENT, event("j", 1, 1.5, 2))),
    "the same episode of a key with a history": (
        "I2", recorded([OPENED, RENAMED, BACK_AGAIN], *RENAMED_EVENTS, event("k", 1, 5.5), event("k", 2, 6.5)),
    ),
    "never found": ("I1", recorded([OPENED, RESOLVED, UNSEEN], EVENT, faults=[FOUND_LATE])),
    "found too late": ("I1", recorded([OPENED, RESOLVED, UNSEEN], EVENT, event("k", 1, 6.5, 2), faults=[FOUND_LATE])),
    "another is late as well": (
        "I1",
        recorded(
            [OPENED, attrs.evolve(OPENED, key="other", began=BEFORE + 2, ended=BEFORE + 2.1), RESOLVED, UNSEEN],
            *UNSEEN_EVENTS, event("other", 1, 5.5), faults=[FOUND_LATE],
        ),
    ),
    "the episode goes on that was over": (
        "I2", recorded([OPENED, RESOLVED, UNSEEN], EVENT, event("k", 2, 4.0), faults=[FOUND_LATE]),
    ),
    "not told of": ("I7", telling()),
    "told of before": ("I7", telling(1.8)),
    "told of when it is over": ("I7", telling(3.0, 6.4)),
    "told of in the end": ("I7", telling(9.8, faults=())),
}  # fmt: skip


def found(history: History) -> Sequence[Violation]:
    """Return what the judges find."""
    return check(history, {}, [])


@pytest.mark.parametrize("breach", list(BREACHES))
def test_each_breach_beneath_is_found(breach: str) -> None:
    """Each way of breaking an invariant is found under its name."""
    invariant, history = BREACHES[breach]
    assert invariant in {violation.invariant for violation in found(history)}


NEARLY: Mapping[str, tuple[str, History]] = {
    "claimed while it is acknowledged": (
        "I6",
        attrs.evolve(
            CLEAN,
            writes=[OPENED, attrs.evolve(ACKNOWLEDGED, ended=BEFORE + 5.6), attrs.evolve(BACK, began=BEFORE + 5.7)],
            changes=[CLAIMED, *AGAIN],
        ),
    ),
    "recorded after it was taken back": (
        "I6",
        attrs.evolve(
            CLEAN, writes=[OPENED, ACKNOWLEDGED, BACK], changes=LATER,
            escalations=[attrs.evolve(EVENT, created_at=BEFORE + 2.2, at=BEFORE + 2.2)],
        ),
    ),
    "acknowledged, and no trigger saw it": (
        "I6",
        attrs.evolve(CLEAN, writes=[OPENED, attrs.evolve(ACKNOWLEDGED, unseen=True), BACK], changes=[CLAIMED, *AGAIN]),
    ),
    "cancelled as its key changes": (
        "I3",
        attrs.evolve(
            CLEAN, writes=[OPENED, RENAMED], escalations=RENAMED_EVENTS[:1], requests=[],
            pages=[attrs.evolve(PAGE, state="cancelled")], changes=[CLAIMED, CANCELLED],
        ),
    ),
    "recorded under its new key": ("I1 I2", recorded([OPENED, RENAMED], *RENAMED_EVENTS)),
    "recorded under its old key again": ("I1 I2", recorded([OPENED, RENAMED, BACK_AGAIN], *RENAMED_EVENTS, *AND_BACK)),
    "acknowledged under its old key": ("I1 I2", recorded([OPENED, ACKNOWLEDGED, attrs.evolve(RENAMED, began=BEFORE + 2,
                                                          ended=BEFORE + 2.1)], EVENT)),
    "found in time": ("I1 I2", recorded([OPENED, RESOLVED, UNSEEN], *UNSEEN_EVENTS, faults=[FOUND_LATE])),
    "told of while it lasts": ("I7", telling(2.2, 3.0, 4.0)),
    "told of a little longer": ("I7", telling(3.0, 5.8)),
}  # fmt: skip
"""What comes near to a breach, and is none of these invariants."""


@pytest.mark.parametrize("case", list(NEARLY))
def test_what_comes_near_to_a_breach_passes(case: str) -> None:
    """What is not surely wrong is no breach."""
    invariants, history = NEARLY[case]
    assert [] == [violation for violation in found(history) if violation.invariant in invariants.split()]


def test_an_incident_stays_what_it_is_under_another_key() -> None:
    """Severity, first_seen and state go with the row; the episode is the new key's next one, from level 0 on."""
    renamed = attrs.evolve(RENAMED, began=BEFORE + 2, ended=BEFORE + 2.1)
    stretches = phases(recorded([OPENED, ACKNOWLEDGED, renamed]))
    assert ["open", "acknowledged", "renamed"] == [stretch.state for stretch in stretches["k"]]
    [now] = stretches["j"]
    assert ("acknowledged", "critical", BEFORE, 1, 0) == (
        now.state, now.severity, now.first_seen, now.episode, now.base
    )  # fmt: skip


def test_what_is_owed_of_a_renamed_incident_is_waited_for() -> None:
    """The end of a run waits for the new key, and for nothing of the old one."""
    assert pytest.approx(BEFORE + 1.1 + 2) == owed_until(recorded([OPENED, RENAMED], EVENT))


def test_poison_may_be_told_of_in_the_end() -> None:
    """A row that cannot be planned at all is listed for good."""
    last = HealthSample(at=BEFORE + 20, unhealthy=False, findings=frozenset({"unreadable k"}))
    history = attrs.evolve(CLEAN, health=[*LOOKS, last])
    assert ["I7"] == [violation.invariant for violation in found(history)]
    assert [] == found(attrs.evolve(history, unplannable=frozenset({"k"})))
