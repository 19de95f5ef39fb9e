"""The judges themselves: a clean history passes, and each small change to it breaks the invariant that it is about."""

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
)
from escalation_core.testing.invariants.recovery import busy_loops

KEY = expected_hash("k", 1, 1)
BEFORE = 1000.0
"""When everything begins; the incident is due 0.4 s later, and acknowledged another second later."""
CLAIMED = PageChange(
    page=1, was="pending", state="leased", due_was=BEFORE + 0.5, due=BEFORE + 2.5, fence_was=0, fence=1,
    began=BEFORE + 0.51, at=BEFORE + 0.52, worker="w1",
)  # fmt: skip
MARKED = attrs.evolve(
    CLAIMED, was="leased", state="delivered", due_was=BEFORE + 2.5, fence_was=1, fence=2, at=BEFORE + 0.6
)
POST = Request(dedup_key=KEY, target="ops", worker="w1", at=BEFORE + 0.55, accepted=True, answered_at=BEFORE + 0.56)
EVENT = RecordedEscalation(key="k", episode=1, level=1, created_at=BEFORE + 0.5, at=BEFORE + 0.5, unique_hash=KEY)
PAGE = FinalPage(id=1, key="k", episode=1, level=1, target="ops", dedup_key=KEY, state="delivered")
OPENED = HostWrite(key="k", verb="open", began=BEFORE, ended=BEFORE + 0.01, severity="critical", first_seen=BEFORE)
ACKNOWLEDGED = HostWrite(key="k", verb="acknowledge", began=BEFORE + 1.0, ended=BEFORE + 1.1)
LOOKS = [HealthSample(at=BEFORE + n / 5, unhealthy=False) for n in range(50)]
CLEAN = History(
    ended=BEFORE + 60,
    writes=[OPENED, ACKNOWLEDGED],
    escalations=[EVENT],
    pages=[PAGE],
    changes=[CLAIMED, MARKED],
    requests=[POST],
    health=LOOKS,
    statements={"w1": [BEFORE + n / 10 for n in range(500)]},
)
LATER = [attrs.evolve(step, began=step.began + 5, at=step.at + 5) for step in (CLAIMED, MARKED)]
TAKEN = (
    attrs.evolve(
        CLAIMED, was="leased", fence_was=1, fence=2, due_was=BEFORE + 0.8, began=BEFORE + 0.81, at=BEFORE + 0.82,
        worker="w2",
    ),
    attrs.evolve(MARKED, fence_was=2, fence=3, at=BEFORE + 0.9, worker="w2"),
)  # fmt: skip
"""Another worker claims it when the lease has ended, and marks it."""
BY_ANOTHER = attrs.evolve(POST, worker="w2", at=BEFORE + 0.85, answered_at=BEFORE + 0.86)
DEAD = Fault(kind="kill", start=BEFORE + 0.57, end=BEFORE + 0.58, workers=frozenset({"w1"}))
EARLIER = Fault(kind="cut", start=BEFORE, end=BEFORE + 0.54, workers=frozenset({"w1"}))
STALLED = Fault(kind="stall", start=BEFORE + 0.53, end=BEFORE + 3, workers=frozenset({"w1"}))
BACK = HostWrite(key="k", verb="unacknowledge", began=BEFORE + 2, ended=BEFORE + 2.1)
WARNED = HostWrite(key="k", verb="change_severity", began=BEFORE + 0.45, ended=BEFORE + 0.6, severity="warning")
OUTAGE = Fault(kind="outage", start=BEFORE + 2, end=BEFORE + 6, unhealthy=True)
SILENCED = attrs.evolve(DEAD, start=BEFORE + 0.61, end=BEFORE + 0.62)
"""Killed before it could tell."""
AFTER = attrs.evolve(POST, at=BEFORE + 0.65, answered_at=BEFORE + 0.66)
AGAIN = attrs.evolve(POST, at=BEFORE + 0.58)
REFUSED = attrs.evolve(MARKED, state="pending", reason="HTTP 503")
"""It is to be sent once more."""
CANCELLED = attrs.evolve(MARKED, state="cancelled", reason="acknowledged", began=BEFORE + 1.04, at=BEFORE + 1.05)
BURIED = attrs.evolve(MARKED, state="dead", reason="HTTP 404", began=BEFORE + 0.59)
FOLLOWING = (
    attrs.evolve(CLAIMED, fence_was=2, fence=3, due_was=BEFORE + 0.6, began=BEFORE + 0.61, at=BEFORE + 0.62),
    attrs.evolve(MARKED, fence_was=3, fence=4, at=BEFORE + 0.7),
)


def ending(step: PageChange, **how: Any) -> Callable[[History], History]:
    """Return how a history becomes one in which this step, and no answer, settled the page."""

    def broken(history: History) -> History:
        pages = [attrs.evolve(PAGE, state=step.state)]
        return attrs.evolve(history, pages=pages, changes=[CLAIMED, step], requests=[], **how)

    return broken


def looking(unhealthy: Callable[[float], bool], **how: Any) -> Callable[[History], History]:
    """Return how a history becomes one with an outage, and with health red when it is said to be."""

    def seen(history: History) -> History:
        health = [attrs.evolve(look, unhealthy=unhealthy(look.at - BEFORE)) for look in LOOKS]
        return attrs.evolve(history, health=health, **{"faults": [OUTAGE], **how})

    return seen


BREACHES: Mapping[str, tuple[str, Callable[[History], History]]] = {
    "never recorded": (
        "I1", lambda h: attrs.evolve(h, writes=[OPENED], escalations=[], pages=[], changes=[], requests=[]),
    ),
    "recorded late": (
        "I1", lambda h: attrs.evolve(h, writes=[OPENED], escalations=[attrs.evolve(EVENT, at=BEFORE + 4)]),
    ),
    "recorded twice": ("I2", lambda h: attrs.evolve(h, escalations=[EVENT, EVENT])),
    "recorded too early": ("I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(EVENT, created_at=BEFORE + 0.3)])),
    "recorded after the end": (
        "I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(EVENT, created_at=BEFORE + 2, at=BEFORE + 2)]),
    ),
    "a gap": ("I2", lambda h: attrs.evolve(h, escalations=[attrs.evolve(EVENT, level=2)])),
    "recorded in a pause": ("I2", lambda h: attrs.evolve(h, pauses=[PauseSpan(began=BEFORE, sure_from=BEFORE)])),
    "no page": ("I3", lambda h: attrs.evolve(h, pages=[], changes=[], requests=[])),
    "marked and not sent": ("I3", lambda h: attrs.evolve(h, requests=[])),
    "marked before it was sent": ("I3", lambda h: attrs.evolve(h, requests=[AFTER])),
    "marked by one, and sent by another": ("I3", lambda h: attrs.evolve(h, requests=[attrs.evolve(POST, worker="w2")])),
    "the second target is missing": ("I3", lambda h: attrs.evolve(h, targets=("ops", "boss"))),
    "a wrong target": ("I3", lambda h: attrs.evolve(h, pages=[attrs.evolve(PAGE, target="boss")])),
    "a target too many": (
        "I3",
        lambda h: attrs.evolve(
            h,
            targets=("ops", "boss"),
            writes=[attrs.evolve(OPENED, severity="warning"), ACKNOWLEDGED],
            pages=[PAGE, attrs.evolve(PAGE, id=2, target="boss")],
        ),
    ),
    "a page twice": ("I3", lambda h: attrs.evolve(h, pages=[PAGE, attrs.evolve(PAGE, id=2)])),
    "dead in silence": ("I3", ending(BURIED, counted_dead=1)),
    "dead in silence beside another's alarm": ("I3", ending(BURIED, counted_dead=1, logged_dead=frozenset({2}))),
    "dead and not logged, long before the fault": (
        "I3", ending(attrs.evolve(BURIED, began=BEFORE + 0.1, at=BEFORE + 0.2), counted_dead=1, faults=[SILENCED]),
    ),
    "dead and not logged, on a machine that stood still": (
        "I3", ending(BURIED, counted_dead=1, faults=[Fault(kind="machine", start=BEFORE, end=BEFORE + 9, stops=True)]),
    ),
    "dead and neither logged nor counted": ("I3", ending(BURIED, faults=[SILENCED])),
    "cancelled before the end": ("I3", ending(attrs.evolve(CANCELLED, began=BEFORE + 0.59, at=BEFORE + 0.6))),
    "cancelled when the end was taken back": (
        "I3",
        ending(attrs.evolve(CANCELLED, began=BEFORE + 2.2, at=BEFORE + 2.3), writes=[OPENED, ACKNOWLEDGED, BACK]),
    ),
    "left over": ("I3", lambda h: attrs.evolve(h, pages=[attrs.evolve(PAGE, state="leased")])),
    "cancelled for nothing": ("I3", ending(CANCELLED, writes=[OPENED])),
    "a shared key": ("I4", lambda h: attrs.evolve(h, pages=[PAGE, attrs.evolve(PAGE, id=2, episode=2)])),
    "a strange key": ("I4", lambda h: attrs.evolve(h, requests=[POST, attrs.evolve(POST, dedup_key="?")])),
    "a copy for nothing": ("I5", lambda h: attrs.evolve(h, requests=[POST, AGAIN])),
    "two copies on one claim": ("I5", lambda h: attrs.evolve(h, requests=[POST, AGAIN], faults=[DEAD])),
    "a copy for a fault before it was sent": (
        "I5",
        lambda h: attrs.evolve(h, requests=[POST, AFTER], changes=[CLAIMED, REFUSED, *FOLLOWING], faults=[EARLIER]),
    ),
    "a copy while connections come back": (
        "I5",
        lambda h: attrs.evolve(
            h,
            requests=[POST, AFTER],
            changes=[CLAIMED, REFUSED, *FOLLOWING],
            faults=[attrs.evolve(EARLIER, workers=None, recovery=2.0)],
        ),
    ),
    "sent long after it awoke": (
        "I5",
        lambda h: attrs.evolve(h, requests=[attrs.evolve(POST, at=BEFORE + 4)], faults=[STALLED]),
    ),
    "a copy for a reason that is none": (
        "I5",
        lambda h: attrs.evolve(h, requests=[POST, AFTER], changes=[CLAIMED, REFUSED, *FOLLOWING]),
    ),
    "sent after the lease": (
        "I5",
        lambda h: attrs.evolve(h, requests=[attrs.evolve(POST, at=BEFORE + 3, answered_at=BEFORE + 3.1)]),
    ),
    "sent by another": ("I5", lambda h: attrs.evolve(h, requests=[attrs.evolve(POST, worker="w2")])),
    "settled by another": ("I5", lambda h: attrs.evolve(h, changes=[CLAIMED, attrs.evolve(MARKED, worker="w2")])),
    "settled twice": (
        "I5",
        lambda h: attrs.evolve(h, changes=[CLAIMED, MARKED, attrs.evolve(MARKED, was="delivered", at=BEFORE + 3)]),
    ),
    "claimed after the end": ("I6", lambda h: attrs.evolve(h, changes=LATER)),
    "claimed in a pause": ("I6", lambda h: attrs.evolve(h, pauses=[PauseSpan(began=BEFORE, sure_from=BEFORE)])),
    "claimed late": (
        "I7",
        lambda h: attrs.evolve(h, writes=[OPENED], changes=[attrs.evolve(CLAIMED, due_was=BEFORE - 0.75), MARKED]),
    ),
    "a hot loop": ("I7", lambda h: attrs.evolve(h, statements={"w1": [BEFORE + n / 1000 for n in range(5_000)]})),
    "unshown": ("I7", looking(lambda at: False)),
    "red for ever": ("I7", looking(lambda at: at > 2)),
    "red for ever but for a moment": ("I7", looking(lambda at: at > 2 and not 7 < at < 7.5)),
    "red again": ("I7", looking(lambda at: 2 < at < 7 or 8.5 < at < 9)),
    "red in the end, whatever went before": ("I7", looking(lambda at: at > 9.7, faults=[])),
    "nobody looked whether it cleared": (
        "I7", lambda h: attrs.evolve(h, faults=[OUTAGE], health=looking(lambda at: at > 2)(h).health[:31]),
    ),
}  # fmt: skip


def test_invariants_hold_for_a_clean_history() -> None:
    """A history in which everything went as it must breaks nothing."""
    assert [] == check(CLEAN, {}, ["secret"])


@pytest.mark.parametrize("breach", list(BREACHES))
def test_each_breach_is_found(breach: str) -> None:
    """Each way of breaking an invariant is found under its name."""
    invariant, broken = BREACHES[breach]
    assert invariant in {violation.invariant for violation in check(broken(CLEAN), {}, [])}
    assert invariant not in {violation.invariant for violation in check(CLEAN, {}, [])}


def test_secrets_are_found() -> None:
    """A secret in any text is found, and not told again."""
    [violation] = check(CLEAN, {"w1": "fine\nPOST /secret failed"}, ["secret"])
    assert ("I8", "w1") == (violation.invariant, violation.incident)
    assert "secret " not in violation.why.replace("secret 0", "")


def test_excused_copies_pass() -> None:
    """A copy is no breach if the first answer was lost or not waited for, or the sender killed before it could mark."""
    late = attrs.evolve(REFUSED, reason="timed out")
    lost = attrs.evolve(POST, answered_at=None)
    for history in (
        attrs.evolve(CLEAN, requests=[lost, AFTER], changes=[CLAIMED, REFUSED, *FOLLOWING]),
        attrs.evolve(CLEAN, requests=[POST, AFTER], changes=[CLAIMED, late, *FOLLOWING]),
        attrs.evolve(CLEAN, requests=[POST, BY_ANOTHER], changes=[CLAIMED, *TAKEN], faults=[DEAD]),
    ):
        assert [] == check(history, {}, [])


def test_what_may_have_been_in_time_passes() -> None:
    """Whom to page, why to cancel and how to tell of the dead: what is not surely wrong is no breach."""
    acknowledging = attrs.evolve(ACKNOWLEDGED, ended=BEFORE + 1.5)
    both = attrs.evolve(CLEAN, targets=("ops", "boss"), writes=[OPENED, WARNED, ACKNOWLEDGED])
    for history in (
        both,
        attrs.evolve(
            both,
            pages=[PAGE, attrs.evolve(PAGE, id=2, target="boss")],
            changes=[CLAIMED, MARKED, *(attrs.evolve(step, page=2) for step in (CLAIMED, MARKED))],
            requests=[POST, attrs.evolve(POST, target="boss")],
        ),
        ending(CANCELLED)(CLEAN),
        ending(attrs.evolve(CANCELLED, began=BEFORE + 2.05, at=BEFORE + 2.3), writes=[OPENED, acknowledging, BACK])(
            CLEAN
        ),
        ending(BURIED, logged_dead=frozenset({1}))(CLEAN),
        ending(BURIED, counted_dead=1, faults=[SILENCED])(CLEAN),
    ):
        assert [] == [violation for violation in check(history, {}, []) if violation.invariant == "I3"]


def test_what_a_worker_did_is_counted_for_each_of_its_proxies() -> None:
    """Statements that went to the second of several servers are no hot loop if the worker's steps account for them."""
    changes = [attrs.evolve(CLAIMED, page=number, worker="w1-1") for number in range(2, 200)]
    asked = [BEFORE + 0.5 + number / 1000 for number in range(1200)]
    for slot, found in (("w1", []), ("w2", ["w2"])):
        history = attrs.evolve(CLEAN, changes=changes, statements={slot: asked})
        assert found == [violation.incident for violation in busy_loops(history)]


def test_page_that_the_next_look_finds_passes() -> None:
    """What is committed just after a worker has looked is claimed a tick later, and as long as it looks."""
    history = attrs.evolve(CLEAN, writes=[OPENED], changes=[attrs.evolve(CLAIMED, due_was=BEFORE - 0.52), MARKED])
    assert [] == [violation for violation in check(history, {}, []) if violation.invariant == "I7"]


@pytest.mark.parametrize(
    ("start", "found"), [(2.0, [NO_FAULT]), (0.9, [FAULT_BEFORE]), (1.45, []), (1.65, [NO_FAULT])], ids=str
)
def test_lateness_tells_apart_what_a_fault_met(start: float, found: list[str]) -> None:
    """The second level is due 1.5 s after the beginning: a fault may meet it then, or since the first, or not."""
    second = attrs.evolve(EVENT, level=2, created_at=BEFORE + 1.51, at=BEFORE + 1.52)
    fault = Fault(kind="kill", start=BEFORE + start, end=BEFORE + start + 0.01, workers=frozenset({"w1"}))
    history = attrs.evolve(CLEAN, writes=[OPENED], escalations=[EVENT, second], faults=[fault])
    assert [(name, 0.02) for name in found] == [(name, round(late, 6)) for name, late in lateness(history)]


def test_lateness_is_not_told_by_a_snooze_that_came_after() -> None:
    """When an escalation was due, the stretch tells that it was recorded in."""
    second = attrs.evolve(EVENT, level=2, created_at=BEFORE + 1.51, at=BEFORE + 1.52)
    snoozed = HostWrite(key="k", verb="snooze", began=BEFORE + 2, ended=BEFORE + 2.1, until=BEFORE + 9)
    history = attrs.evolve(CLEAN, writes=[OPENED, snoozed], escalations=[EVENT, second])
    assert [0.02] == [round(late, 6) for _, late in lateness(history)]


def test_health_that_clears_passes() -> None:
    """A fault may show until two ticks after it; a look without an answer tells nothing then, nor one in a fault."""
    cleared = looking(lambda at: 2 < at < 7.9)(CLEAN)
    unanswered = [*LOOKS[:45], HealthSample(at=BEFORE + 9, unhealthy=True, answered=False), *LOOKS[45:]]
    again = Fault(kind="outage", start=BEFORE + 8.4, end=BEFORE + 8.9)
    for history in (
        cleared,
        attrs.evolve(cleared, health=[*cleared.health[:45], *unanswered[45:]]),
        looking(lambda at: 2 < at < 7.9 or 8.4 < at < 9, faults=[OUTAGE, again])(CLEAN),
    ):
        assert [] == check(history, {}, [])


def test_what_is_owed_is_known_from_the_writes_alone() -> None:
    """The end of a run waits for two ticks after the next level was due; nothing is owed of what has ended."""
    rising = attrs.evolve(CLEAN, writes=[OPENED])
    assert pytest.approx(BEFORE + 0.4 + 2) == owed_until(attrs.evolve(rising, escalations=[]))
    assert pytest.approx(BEFORE + 0.5 + 1 + 2) == owed_until(rising)
    assert 0.0 == owed_until(CLEAN)
    assert 0.0 == owed_until(attrs.evolve(rising, settings=RunSettings(max_level=1)))
    assert 0.0 == owed_until(attrs.evolve(rising, pauses=[PauseSpan(began=BEFORE, sure_from=BEFORE)]))


def test_every_invariant_is_judged() -> None:
    """Each of the eight has a breach that shows it."""
    assert set(INVARIANTS) == {invariant for invariant, _ in BREACHES.values()} | {"I8"}
