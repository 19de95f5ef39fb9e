"""The checks of the invariants: a clean history passes, and each small change to it violates the right invariant."""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from escalation_core.testing.invariants import INVARIANTS, RunSettings, check
from escalation_core.testing.invariants.escalations import FAULT_BEFORE, NO_FAULT, expected_hash, lateness, owed_until
from escalation_core.testing.invariants.history import (
    Fault,
    FinalPage,
    HealthSample,
    History,
    HostWrite,
    PageChange,
    PauseSpan,
    RecordedEscalation,
    Request,
    Verb,
)
from escalation_core.testing.invariants.notice_records import NoticeClaim
from escalation_core.testing.invariants.recovery import busy_loops

KEY = expected_hash("k", 1, 1)
START = 1000.0
"""The start of the run. The incident is due 0.4 s later, escalates after 0.5 s and is acknowledged after 1 s."""
CLAIMED = PageChange(
    page=1, was="pending", state="leased", due_was=START + 0.5, due=START + 2.5, fence_was=0, fence=1,
    began=START + 0.51, at=START + 0.52, worker="w1",
)  # fmt: skip
SETTLED = attrs.evolve(
    CLAIMED, was="leased", state="delivered", due_was=START + 2.5, fence_was=1, fence=2, at=START + 0.6
)
REQUEST = Request(dedup_key=KEY, target="ops", worker="w1", at=START + 0.55, accepted=True, answered_at=START + 0.56)
ESCALATION = RecordedEscalation(key="k", episode=1, level=1, created_at=START + 0.5, at=START + 0.5, unique_hash=KEY)
PAGE = FinalPage(id=1, key="k", episode=1, level=1, target="ops", dedup_key=KEY, state="delivered")
OPENED = HostWrite(key="k", verb="open", began=START, ended=START + 0.01, severity="critical", first_seen=START)
ACKNOWLEDGED = HostWrite(key="k", verb="acknowledge", began=START + 1.0, ended=START + 1.1)
SAMPLES = [HealthSample(at=START + n / 5, unhealthy=False) for n in range(50)]
CLEAN = History(
    ended=START + 60,
    writes=[OPENED, ACKNOWLEDGED],
    escalations=[ESCALATION],
    pages=[PAGE],
    changes=[CLAIMED, SETTLED],
    requests=[REQUEST],
    health=SAMPLES,
    statements={"w1": [START + n / 10 for n in range(500)]},
)
LATER = [attrs.evolve(step, began=step.began + 5, at=step.at + 5) for step in (CLAIMED, SETTLED)]
RECLAIMED = (
    attrs.evolve(
        CLAIMED, was="leased", fence_was=1, fence=2, due_was=START + 0.8, began=START + 0.81, at=START + 0.82,
        worker="w2",
    ),
    attrs.evolve(SETTLED, fence_was=2, fence=3, at=START + 0.9, worker="w2"),
)  # fmt: skip
"""Another worker claims the page after the end of the lease, and settles it."""
REQUEST_OF_W2 = attrs.evolve(REQUEST, worker="w2", at=START + 0.85, answered_at=START + 0.86)
KILLED = Fault(kind="kill", start=START + 0.57, end=START + 0.58, workers=frozenset({"w1"}))
CUT = Fault(kind="cut", start=START, end=START + 0.54, workers=frozenset({"w1"}))
STALLED = Fault(kind="stall", start=START + 0.53, end=START + 3, workers=frozenset({"w1"}))
BACK = HostWrite(key="k", verb="unacknowledge", began=START + 2, ended=START + 2.1)
LOWERED = HostWrite(key="k", verb="change_severity", began=START + 0.45, ended=START + 0.6, severity="warning")
OUTAGE = Fault(kind="outage", start=START + 2, end=START + 6, unhealthy=True)
KILLED_LATER = attrs.evolve(KILLED, start=START + 0.61, end=START + 0.62)
"""The worker is killed before it could log the dead page."""
RETRY = attrs.evolve(REQUEST, at=START + 0.65, answered_at=START + 0.66)
COPY = attrs.evolve(REQUEST, at=START + 0.58)
REFUSED = attrs.evolve(SETTLED, state="pending", reason="HTTP 503")
"""The worker will send the page again."""
CANCELLED = attrs.evolve(SETTLED, state="cancelled", reason="acknowledged", began=START + 1.04, at=START + 1.05)
DIED = attrs.evolve(SETTLED, state="dead", reason="HTTP 404", began=START + 0.59)
SECOND_TRY = (
    attrs.evolve(CLAIMED, fence_was=2, fence=3, due_was=START + 0.6, began=START + 0.61, at=START + 0.62),
    attrs.evolve(SETTLED, fence_was=3, fence=4, at=START + 0.7),
)


def settled_as(step: PageChange, **how: Any) -> Callable[[History], History]:
    """Return a function that changes a history: this change settles the page, and no request was made."""

    def broken(history: History) -> History:
        pages = [attrs.evolve(PAGE, state=step.state)]
        return attrs.evolve(history, pages=pages, changes=[CLAIMED, step], requests=[], **how)

    return broken


def with_health(unhealthy: Callable[[float], bool], **how: Any) -> Callable[[History], History]:
    """Return a function that changes a history: it has an outage, and ``unhealthy`` decides each sample of health."""

    def changed(history: History) -> History:
        health = [attrs.evolve(sample, unhealthy=unhealthy(sample.at - START)) for sample in SAMPLES]
        return attrs.evolve(history, health=health, **{"faults": [OUTAGE], **how})

    return changed


VIOLATIONS: Mapping[str, tuple[str, Callable[[History], History]]] = {
    "never recorded": (
        "I1", lambda h: attrs.evolve(h, writes=[OPENED], escalations=[], pages=[], changes=[], requests=[]),
    ),
    "recorded late": (
        "I1", lambda h: attrs.evolve(h, writes=[OPENED], escalations=[attrs.evolve(ESCALATION, at=START + 4)]),
    ),
    "recorded twice": ("I2", lambda h: attrs.evolve(h, escalations=[ESCALATION, ESCALATION])),
    "recorded too early": (
        "I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(ESCALATION, created_at=START + 0.3)]),
    ),
    "recorded after the end": (
        "I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(ESCALATION, created_at=START + 2, at=START + 2)]),
    ),
    "a gap": ("I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(ESCALATION, level=2)])),
    "recorded in a pause": ("I2", lambda h: attrs.evolve(h, pauses=[PauseSpan(began=START, sure_from=START)])),
    "no page": ("I3", lambda h: attrs.evolve(h, pages=[], changes=[], requests=[])),
    "settled and not sent": ("I3", lambda h: attrs.evolve(h, requests=[])),
    "settled before it was sent": ("I3", lambda h: attrs.evolve(h, requests=[RETRY])),
    "settled by one worker, and sent by another": (
        "I3", lambda h: attrs.evolve(h, requests=[attrs.evolve(REQUEST, worker="w2")]),
    ),
    "the second target is missing": ("I3", lambda h: attrs.evolve(h, targets=("ops", "boss"))),
    "a wrong target": ("I3", lambda h: attrs.evolve(h, pages=[attrs.evolve(PAGE, target="boss")])),
    "one target too many": (
        "I3",
        lambda h: attrs.evolve(
            h,
            targets=("ops", "boss"),
            writes=[attrs.evolve(OPENED, severity="warning"), ACKNOWLEDGED],
            pages=[PAGE, attrs.evolve(PAGE, id=2, target="boss")],
        ),
    ),
    "a page twice": ("I3", lambda h: attrs.evolve(h, pages=[PAGE, attrs.evolve(PAGE, id=2)])),
    "dead and not logged": ("I3", settled_as(DIED, counted_dead=1)),
    "dead and not logged, and another page logged": (
        "I3", settled_as(DIED, counted_dead=1, logged_dead=frozenset({2})),
    ),
    "dead and not logged, long before the fault": (
        "I3", settled_as(attrs.evolve(DIED, began=START + 0.1, at=START + 0.2), counted_dead=1, faults=[KILLED_LATER]),
    ),
    "dead and not logged, on a machine that stood still": (
        "I3", settled_as(DIED, counted_dead=1, faults=[Fault(kind="machine", start=START, end=START + 9, stops=True)]),
    ),
    "dead and neither logged nor counted": ("I3", settled_as(DIED, faults=[KILLED_LATER])),
    "cancelled before the end": ("I3", settled_as(attrs.evolve(CANCELLED, began=START + 0.59, at=START + 0.6))),
    "cancelled after the acknowledgement was taken back": (
        "I3",
        settled_as(attrs.evolve(CANCELLED, began=START + 2.2, at=START + 2.3), writes=[OPENED, ACKNOWLEDGED, BACK]),
    ),
    "still leased at the end": ("I3", lambda h: attrs.evolve(h, pages=[attrs.evolve(PAGE, state="leased")])),
    "cancelled without a reason": ("I3", settled_as(CANCELLED, writes=[OPENED])),
    "a shared key": ("I4", lambda h: attrs.evolve(h, pages=[PAGE, attrs.evolve(PAGE, id=2, episode=2)])),
    "an unknown key": ("I4", lambda h: attrs.evolve(h, requests=[REQUEST, attrs.evolve(REQUEST, dedup_key="?")])),
    "a copy without a new claim": ("I5", lambda h: attrs.evolve(h, requests=[REQUEST, COPY])),
    "two copies on one claim": ("I5", lambda h: attrs.evolve(h, requests=[REQUEST, COPY], faults=[KILLED])),
    "a copy after a fault before the request": (
        "I5",
        lambda h: attrs.evolve(h, requests=[REQUEST, RETRY], changes=[CLAIMED, REFUSED, *SECOND_TRY], faults=[CUT]),
    ),
    "a copy while workers reconnect": (
        "I5",
        lambda h: attrs.evolve(
            h,
            requests=[REQUEST, RETRY],
            changes=[CLAIMED, REFUSED, *SECOND_TRY],
            faults=[attrs.evolve(CUT, workers=None, recovery=2.0)],
        ),
    ),
    "sent long after a stall": (
        "I5",
        lambda h: attrs.evolve(h, requests=[attrs.evolve(REQUEST, at=START + 4)], faults=[STALLED]),
    ),
    "a copy without a reason": (
        "I5",
        lambda h: attrs.evolve(h, requests=[REQUEST, RETRY], changes=[CLAIMED, REFUSED, *SECOND_TRY]),
    ),
    "sent after the lease": (
        "I5",
        lambda h: attrs.evolve(h, requests=[attrs.evolve(REQUEST, at=START + 3, answered_at=START + 3.1)]),
    ),
    "sent by another": ("I5", lambda h: attrs.evolve(h, requests=[attrs.evolve(REQUEST, worker="w2")])),
    "settled by another": ("I5", lambda h: attrs.evolve(h, changes=[CLAIMED, attrs.evolve(SETTLED, worker="w2")])),
    "settled twice": (
        "I5",
        lambda h: attrs.evolve(h, changes=[CLAIMED, SETTLED, attrs.evolve(SETTLED, was="delivered", at=START + 3)]),
    ),
    "claimed after the end": ("I6", lambda h: attrs.evolve(h, changes=LATER)),
    "claimed in a pause": ("I6", lambda h: attrs.evolve(h, pauses=[PauseSpan(began=START, sure_from=START)])),
    "claimed late": (
        "I7",
        lambda h: attrs.evolve(h, writes=[OPENED], changes=[attrs.evolve(CLAIMED, due_was=START - 0.75), SETTLED]),
    ),
    "a busy loop": ("I7", lambda h: attrs.evolve(h, statements={"w1": [START + n / 1000 for n in range(5_000)]})),
    "never unhealthy": ("I7", with_health(lambda at: False)),
    "unhealthy for ever": ("I7", with_health(lambda at: at > 2)),
    "unhealthy for ever but for a moment": ("I7", with_health(lambda at: at > 2 and not 7 < at < 7.5)),
    "unhealthy again": ("I7", with_health(lambda at: 2 < at < 7 or 8.5 < at < 9)),
    "unhealthy at the end without a fault": ("I7", with_health(lambda at: at > 9.7, faults=[])),
    "no sample after the fault": (
        "I7", lambda h: attrs.evolve(h, faults=[OUTAGE], health=with_health(lambda at: at > 2)(h).health[:31]),
    ),
}  # fmt: skip
"""Each case with the invariant that it violates, and a function that changes the clean history."""


def test_invariants_hold_for_a_clean_history() -> None:
    """The clean history violates no invariant."""
    assert [] == check(CLEAN, {}, ["secret"])


@pytest.mark.parametrize("case", list(VIOLATIONS))
def test_each_violation_is_found(case: str) -> None:
    """Each change of the clean history violates its invariant."""
    invariant, broken = VIOLATIONS[case]
    assert invariant in {violation.invariant for violation in check(broken(CLEAN), {}, [])}
    assert invariant not in {violation.invariant for violation in check(CLEAN, {}, [])}


def test_secrets_are_found() -> None:
    """A secret in any text is a violation, and the violation does not repeat the secret."""
    [violation] = check(CLEAN, {"w1": "fine\nPOST /secret failed"}, ["secret"])
    assert ("I8", "w1") == (violation.invariant, violation.incident)
    assert "secret " not in violation.why.replace("secret 0", "")


def test_excused_copies_pass() -> None:
    """A copy is allowed if the first answer was lost or too late, or the sender was killed before the settlement."""
    late = attrs.evolve(REFUSED, reason="timed out")
    lost = attrs.evolve(REQUEST, answered_at=None)
    for history in (
        attrs.evolve(CLEAN, requests=[lost, RETRY], changes=[CLAIMED, REFUSED, *SECOND_TRY]),
        attrs.evolve(CLEAN, requests=[REQUEST, RETRY], changes=[CLAIMED, late, *SECOND_TRY]),
        attrs.evolve(CLEAN, requests=[REQUEST, REQUEST_OF_W2], changes=[CLAIMED, *RECLAIMED], faults=[KILLED]),
    ):
        assert [] == check(history, {}, [])


def test_doubtful_targets_cancellations_and_dead_pages_pass() -> None:
    """A target list, a cancellation or a dead page is a violation only if it is surely wrong."""
    acknowledging = attrs.evolve(ACKNOWLEDGED, ended=START + 1.5)
    both = attrs.evolve(CLEAN, targets=("ops", "boss"), writes=[OPENED, LOWERED, ACKNOWLEDGED])
    for history in (
        both,
        attrs.evolve(
            both,
            pages=[PAGE, attrs.evolve(PAGE, id=2, target="boss")],
            changes=[CLAIMED, SETTLED, *(attrs.evolve(step, page=2) for step in (CLAIMED, SETTLED))],
            requests=[REQUEST, attrs.evolve(REQUEST, target="boss")],
        ),
        settled_as(CANCELLED)(CLEAN),
        settled_as(attrs.evolve(CANCELLED, began=START + 2.05, at=START + 2.3), writes=[OPENED, acknowledging, BACK])(
            CLEAN
        ),
        settled_as(DIED, logged_dead=frozenset({1}))(CLEAN),
        settled_as(DIED, counted_dead=1, faults=[KILLED_LATER])(CLEAN),
    ):
        assert [] == [violation for violation in check(history, {}, []) if violation.invariant == "I3"]


def test_work_of_all_workers_of_a_slot_explains_its_statements() -> None:
    """Many statements of a slot are not a busy loop if the slot's workers changed enough pages."""
    changes = [attrs.evolve(CLAIMED, page=number, worker="w1-1") for number in range(2, 200)]
    statements = [START + 0.5 + number / 1000 for number in range(1200)]
    for slot, found in (("w1", []), ("w2", ["w2"])):
        history = attrs.evolve(CLEAN, changes=changes, statements={slot: statements})
        assert found == [violation.incident for violation in busy_loops(history)]


def test_saved_changes_explain_statements() -> None:
    """A worker deletes the saved change of each acknowledgement, also if no target asks for a notice of it."""
    statements = [START + 0.5 + number / 1000 for number in range(600)]
    cases: list[tuple[Verb, list[str]]] = [("snooze", ["w2"]), ("acknowledge", [])]
    for verb, found in cases:
        writes = [HostWrite(key="k", verb=verb, began=START, ended=START + 0.1)] * 40
        history = attrs.evolve(CLEAN, writes=writes, statements={"w2": statements})
        assert found == [violation.incident for violation in busy_loops(history)]


def test_notices_explain_statements() -> None:
    """A worker tells the notices of many incidents for longer than their changes are saved."""
    statements = [START + 0.5 + number / 1000 for number in range(600)]
    for worker, found in (("w2-4", []), ("w1-4", ["w2"])):
        claims = [NoticeClaim(notice=number, at=START + 1, worker=worker) for number in range(40)]
        history = attrs.evolve(CLEAN, notice_claims=claims, statements={"w2": statements})
        assert found == [violation.incident for violation in busy_loops(history)]


def test_a_start_explains_statements() -> None:
    """The worker that follows a killed one checks the tables first. A kill in another slot explains nothing."""
    statements = [START + 0.5 + number / 1000 for number in range(300)]
    for slot, found in (("w1", []), ("w2", ["w2"])):
        killed = Fault(kind="kill", start=START, end=START + 0.1, workers=frozenset({"w1-3"}))
        history = attrs.evolve(CLEAN, faults=[killed], statements={slot: statements})
        assert found == [violation.incident for violation in busy_loops(history)]


def test_page_that_the_next_search_finds_passes() -> None:
    """A page that is committed during a worker's search may be claimed a tick and a search later."""
    history = attrs.evolve(CLEAN, writes=[OPENED], changes=[attrs.evolve(CLAIMED, due_was=START - 0.52), SETTLED])
    assert [] == [violation for violation in check(history, {}, []) if violation.invariant == "I7"]


@pytest.mark.parametrize(
    ("start", "found"), [(2.0, [NO_FAULT]), (0.9, [FAULT_BEFORE]), (1.45, []), (1.65, [NO_FAULT])], ids=str
)
def test_lateness_depends_on_the_time_of_a_fault(start: float, found: list[str]) -> None:
    """The second level is due after 1.5 s. A fault occurs then, or after the first level, or at another time."""
    second = attrs.evolve(ESCALATION, level=2, created_at=START + 1.51, at=START + 1.52)
    fault = Fault(kind="kill", start=START + start, end=START + start + 0.01, workers=frozenset({"w1"}))
    history = attrs.evolve(CLEAN, writes=[OPENED], escalations=[ESCALATION, second], faults=[fault])
    assert [(name, 0.02) for name in found] == [(name, round(late, 6)) for name, late in lateness(history)]


def test_a_later_snooze_does_not_change_the_lateness() -> None:
    """The lateness depends on the phase in which the escalation was recorded."""
    second = attrs.evolve(ESCALATION, level=2, created_at=START + 1.51, at=START + 1.52)
    snoozed = HostWrite(key="k", verb="snooze", began=START + 2, ended=START + 2.1, until=START + 9)
    history = attrs.evolve(CLEAN, writes=[OPENED, snoozed], escalations=[ESCALATION, second])
    assert [0.02] == [round(late, 6) for _, late in lateness(history)]


def test_health_that_clears_passes() -> None:
    """Health may show a fault until two ticks after it. A later sample needs an answer and no fault."""
    cleared = with_health(lambda at: 2 < at < 7.9)(CLEAN)
    unanswered = [*SAMPLES[:45], HealthSample(at=START + 9, unhealthy=True, answered=False), *SAMPLES[45:]]
    again = Fault(kind="outage", start=START + 8.4, end=START + 8.9)
    for history in (
        cleared,
        attrs.evolve(cleared, health=[*cleared.health[:45], *unanswered[45:]]),
        with_health(lambda at: 2 < at < 7.9 or 8.4 < at < 9, faults=[OUTAGE, again])(CLEAN),
    ):
        assert [] == check(history, {}, [])


def test_missing_escalations_follow_from_the_writes_alone() -> None:
    """The deadline is two ticks after the next level is due. Without an open incident there is no deadline."""
    rising = attrs.evolve(CLEAN, writes=[OPENED])
    assert pytest.approx(START + 0.4 + 2) == owed_until(attrs.evolve(rising, escalations=[]))
    assert pytest.approx(START + 0.5 + 1 + 2) == owed_until(rising)
    assert 0.0 == owed_until(CLEAN)
    assert 0.0 == owed_until(attrs.evolve(rising, settings=RunSettings(max_level=1)))
    assert 0.0 == owed_until(attrs.evolve(rising, pauses=[PauseSpan(began=START, sure_from=START)]))


def test_every_invariant_has_a_case() -> None:
    """Each invariant has a case that violates it; those of I9 are in test_invariants_of_notices."""
    assert set(INVARIANTS) == {invariant for invariant, _ in VIOLATIONS.values()} | {"I8", "I9"}
