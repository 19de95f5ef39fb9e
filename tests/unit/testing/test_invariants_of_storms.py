"""The checks of delivery in a storm: a clean history passes, and each small change to it violates the right invariant.

An incident is due for two levels. Its first page is handed over to a fallback, and dies there; the second one arrives.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from escalation_core import Budget
from escalation_core.testing.invariants import RunSettings, check
from escalation_core.testing.invariants.escalations import expected_hash
from escalation_core.testing.invariants.history import (
    Fault,
    FinalPage,
    HealthSample,
    History,
    HostWrite,
    PageChange,
    PauseSpan,
    RecordedEscalation,
    RecordedNote,
    Request,
)
from escalation_core.testing.invariants.recovery import busy_loops

START = 1000.0
FIRST, SECOND = START + 0.5, START + 1.6
"""When the two levels are recorded."""
HANDED_OVER = "handed over to boss: not delivered within 2 s"
SUPERSEDED = "superseded by the page of level 2"


def page(number: int, level: int, target: str, state: str, at: float, reason: str | None = None) -> FinalPage:
    """Return a page that was recorded at an instant."""
    key = expected_hash("k", 1, level)
    return FinalPage(
        id=number, key="k", episode=1, level=level, target=target, dedup_key=key, state=state, reason=reason,
        created_at=at,
    )  # fmt: skip


def steps(number: int, *states: tuple[str, float], due: float, worker: str = "w1") -> list[PageChange]:
    """Return the changes of a page: each with the state and the instant. A lease is due after two seconds."""
    was, due_was, found = "pending", due, list[PageChange]()
    for fence, (state, at) in enumerate(states):
        until = at + 2 if state == "leased" else at
        found.append(
            PageChange(page=number, was=was, state=state, due_was=due_was, due=until, fence_was=fence, fence=fence + 1,
                       began=at, at=at + 0.001, worker=worker)
        )  # fmt: skip
        was, due_was = state, until
    return found


def request(level: int, target: str, at: float, *, accepted: bool = True) -> Request:
    """Return a request that was answered at once."""
    key = expected_hash("k", 1, level)
    return Request(dedup_key=key, target=target, worker="w1", at=at, accepted=accepted, answered_at=at)


def noted(level: int, at: float) -> RecordedNote:
    """Return the note that a level is unheard."""
    return RecordedNote(key="k", episode=1, level=level, action="unheard", at=at, written=at + 0.001)


def ending(history: History, unheard: int) -> History:
    """Return the history with another last sample of health."""
    last = HealthSample(at=START + 9, unhealthy=False, unheard=unheard)
    return attrs.evolve(history, health=[*history.health[:-1], last])


ESCALATIONS = [
    RecordedEscalation(key="k", episode=1, level=level, created_at=at, at=at, unique_hash=expected_hash("k", 1, level))
    for level, at in ((1, FIRST), (2, SECOND))
]
PAGES = [
    page(1, 1, "ops", "handed_over", FIRST, "handed over to boss: HTTP 404"),
    page(2, 1, "boss", "dead", FIRST + 0.3, "HTTP 404"),
    page(3, 2, "ops", "delivered", SECOND),
]
CHANGES = [
    *steps(1, ("leased", FIRST + 0.1), ("handed_over", FIRST + 0.3), due=FIRST),
    *steps(2, ("leased", FIRST + 0.4), ("dead", FIRST + 0.5), due=FIRST + 0.3),
    *steps(3, ("leased", SECOND + 0.5), ("delivered", SECOND + 0.6), due=SECOND),
]
NOTE = noted(1, FIRST + 0.8)
ENDED = RecordedNote(key="k", episode=1, level=2, action="exhausted", at=SECOND, written=SECOND)
CLEAN = History(
    ended=START + 30,
    settings=RunSettings(max_level=2, fallbacks={"ops": "boss"}, fallback_after=2.0),
    writes=[HostWrite(key="k", verb="open", began=START, ended=START + 0.01, severity="critical", first_seen=START)],
    escalations=ESCALATIONS,
    pages=PAGES,
    changes=CHANGES,
    requests=[request(2, "ops", SECOND + 0.55)],
    notes=[NOTE, ENDED],
    logged_dead=frozenset({2}),
    health=[
        HealthSample(at=at, unhealthy=False, unheard=count)
        for at, count in ((START, 0), (FIRST + 0.5, 0), (SECOND + 0.4, 1), (SECOND + 1, 1), (START + 9, 0))
    ],
)
UNHEARD = attrs.evolve(
    CLEAN,
    pages=[*PAGES[:2], page(3, 2, "ops", "handed_over", SECOND, HANDED_OVER), page(4, 2, "boss", "dead", SECOND + 2.1)],
    changes=[
        *CHANGES[:4],
        *steps(3, ("leased", SECOND + 0.5), ("pending", SECOND + 0.6), ("handed_over", SECOND + 2.1), due=SECOND),
        *steps(4, ("leased", SECOND + 2.2), ("dead", SECOND + 2.3), due=SECOND + 2.1),
    ],
    requests=[],
    notes=[NOTE, ENDED, noted(2, SECOND + 2.4)],
    logged_dead=frozenset({2, 4}),
    health=[*CLEAN.health[:-1], HealthSample(at=START + 9, unhealthy=False, unheard=1)],
)
"""A history in which no page arrives."""
REPLACED = attrs.evolve(
    CLEAN,
    pages=[page(1, 1, "ops", "superseded", FIRST, SUPERSEDED), PAGES[2]],
    changes=[*steps(1, ("superseded", SECOND + 0.5), due=FIRST), *CHANGES[4:]],
    notes=[ENDED],
    faults=[Fault(kind="held", start=START, end=SECOND + 0.4, workers=frozenset(), stops_claims=True)],
    health=[],
    logged_dead=frozenset(),
)
"""A history in which the second page takes the place of the first one."""


def with_page(history: History, number: int, **how: Any) -> History:
    """Return the history with other values of one page."""
    pages = [attrs.evolve(one, **how) if one.id == number else one for one in history.pages]
    return attrs.evolve(history, pages=pages)


def with_steps(history: History, number: int, *states: tuple[str, float], due: float = FIRST) -> History:
    """Return the history with other changes of one page."""
    others = [one for one in history.changes if one.page != number]
    return attrs.evolve(history, changes=[*others, *steps(number, *states, due=due)])


def busy(rate: float, *, every: float, count: int = 40, burst: int = 2) -> History:
    """Return a history with a budget, and with so many claims of one target."""
    claims = [
        step
        for number in range(10, 10 + count)
        for step in steps(number, ("leased", SECOND + number * every), due=SECOND)
    ]
    pages = [page(number, 2, "storm", "delivered", SECOND) for number in range(10, 10 + count)]
    settings = attrs.evolve(CLEAN.settings, budgets={"storm": Budget(rate=rate, burst=burst)})
    return attrs.evolve(CLEAN, settings=settings, pages=[*PAGES, *pages], changes=[*CHANGES, *claims])


def starved(overtaken: int, starved_after: float) -> History:
    """Return a history in which a page is claimed after so many pages that were due later."""
    claims = steps(10, ("leased", SECOND + 5), due=SECOND)
    for number in range(11, 11 + overtaken):
        claims += steps(number, ("leased", SECOND + 4), due=SECOND + 1)
    pages = [page(number, 2, "storm", "delivered", SECOND) for number in range(10, 11 + overtaken)]
    settings = attrs.evolve(CLEAN.settings, starved_after=starved_after)
    return attrs.evolve(CLEAN, settings=settings, pages=[*PAGES, *pages], changes=[*CHANGES, *claims])


VIOLATIONS: Mapping[str, tuple[str, str, Callable[[], History]]] = {
    "handed over without the fallback's page": (
        "I3", "it paged ['ops']", lambda: attrs.evolve(CLEAN, pages=[PAGES[0], PAGES[2]], changes=CHANGES[:2]),
    ),
    "the fallback has a page that was not handed over": (
        "I3", "it paged", lambda: attrs.evolve(CLEAN, pages=[*PAGES, page(4, 2, "boss", "dead", SECOND)]),
    ),
    "handed over to another target": ("I3", "not to boss", lambda: with_page(CLEAN, 1, reason="HTTP 404")),
    "handed over without a fallback": (
        "I3", "has no fallback", lambda: attrs.evolve(CLEAN, settings=attrs.evolve(CLEAN.settings, fallbacks={})),
    ),
    "handed over early": (
        "I3", "handed it over after 0.30 s", lambda: with_steps(CLEAN, 1, ("handed_over", FIRST + 0.3)),
    ),
    "never handed over": (
        "I7", "did not hand it over", lambda: with_steps(CLEAN, 3, ("leased", SECOND + 4), due=SECOND + 3.5),
    ),
    "handed over while cancelling": (
        "I5", "while it was cancelling",
        lambda: with_steps(
            CLEAN, 1, ("leased", FIRST + 0.1), ("cancelling", FIRST + 0.2), ("handed_over", FIRST + 0.3)
        ),
    ),
    "handed over by another": (
        "I5", "had claimed",
        lambda: attrs.evolve(CLEAN, changes=[CHANGES[0], attrs.evolve(CHANGES[1], worker="w2"), *CHANGES[2:]]),
    ),
    "the fallback's page has another key": ("I4", "dedup key", lambda: with_page(CLEAN, 2, dedup_key="other")),
    "superseded while leased": (
        "I5", "superseded it while it was leased",
        lambda: with_steps(REPLACED, 1, ("leased", FIRST + 0.1), ("superseded", SECOND + 0.5)),
    ),
    "superseded by no page": (
        "I3", "no newer page", lambda: with_page(REPLACED, 1, reason="superseded by the page of level 3"),
    ),
    "superseded by itself": (
        "I3", "no newer page", lambda: with_page(REPLACED, 1, reason="superseded by the page of level 1"),
    ),
    "superseded by a page that was dead": (
        "I3", "which was dead",
        lambda: with_steps(REPLACED, 3, ("leased", SECOND + 0.1), ("dead", SECOND + 0.2), due=SECOND),
    ),
    "unheard and not noted": (
        "I3", "not noted as unheard", lambda: attrs.evolve(UNHEARD, notes=[NOTE, ENDED]),
    ),
    "noted while a page is tried": (
        "I3", "the page was leased",
        lambda: with_steps(CLEAN, 2, ("leased", FIRST + 0.4), ("dead", FIRST + 2.4)),
    ),
    "noted though a page arrived": (
        "I3", "the page was delivered",
        lambda: attrs.evolve(CLEAN, notes=[NOTE, ENDED, noted(2, START + 5)]),
    ),
    "noted after a later level": (
        "I3", "level 2 had been paged",
        lambda: attrs.evolve(CLEAN, notes=[ENDED, noted(1, START + 5)]),
    ),
    "healed without a delivery": (
        "I7", "health counted 0 unheard", lambda: ending(UNHEARD, 0),
    ),
    "never healed": (
        "I7", "health counted 1 unheard", lambda: ending(CLEAN, 1),
    ),
    "more claims than the budget": ("I7", "claims to storm", lambda: busy(2, every=0.25)),
    "starving": ("I7", "went before it", lambda: starved(4, 2.0)),
}  # fmt: skip
"""Each case with the invariant that it violates, a part of the violation's text, and the history."""


@pytest.mark.parametrize("history", [CLEAN, UNHEARD, REPLACED], ids=["heard in the end", "unheard", "superseded"])
def test_invariants_hold_for_clean_histories(history: History) -> None:
    """Pages that others took the place of violate no invariant."""
    assert [] == check(history)


@pytest.mark.parametrize("case", list(VIOLATIONS))
def test_each_violation_is_found(case: str) -> None:
    """Each change violates its invariant, for its reason."""
    invariant, why, history = VIOLATIONS[case]
    assert [one for one in check(history()) if one.invariant == invariant and why in one.why]


def test_requests_keep_to_the_budget_as_well() -> None:
    """Requests that arrive more often than the budget allows are a violation, though their claims were in time."""
    history = busy(2, every=0.6)
    requests = [request(2, "storm", SECOND + 20 + number / 10) for number in range(40)]
    assert not [one for one in check(history) if "storm in" in one.why]
    found = [one for one in check(attrs.evolve(history, requests=requests)) if "requests to storm" in one.why]
    assert ["I7"] == [one.invariant for one in found]


def test_a_stall_displaces_requests() -> None:
    """A worker that stood still sends late what it had claimed before."""
    history = busy(2, every=0.25)
    still = Fault(kind="stall", start=START, end=START + 20, workers=frozenset({"w1"}))
    assert not [one for one in check(attrs.evolve(history, faults=[still])) if "storm in" in one.why]


@pytest.mark.parametrize("history", [starved(3, 2.0), starved(4, 9.0)], ids=["few", "not starved"])
def test_a_page_may_be_overtaken(history: History) -> None:
    """By a few pages, because another transaction may lock its row; and by any number before it has waited for long."""
    assert not [one for one in check(history) if "went before it" in one.why]


def test_pauses_do_not_count_as_waiting() -> None:
    """After a pause a page may be handed over later, so the checks say nothing of it."""
    late = with_steps(CLEAN, 3, ("leased", SECOND + 4), due=SECOND + 3.5)
    pause = PauseSpan(began=SECOND + 1, sure_from=SECOND + 1, sure_to=SECOND + 3, ended=SECOND + 3)
    paused = attrs.evolve(late, pauses=[pause])
    assert not [one for one in check(paused) if "did not hand it over" in one.why]


@pytest.mark.parametrize(("budgets", "busy_slots"), [({}, ["w2"]), ({"storm": Budget(rate=9, burst=100)}, [])])
def test_a_slot_of_a_budget_wakes_each_worker(budgets: Mapping[str, Budget], busy_slots: list[str]) -> None:
    """Workers that lose a slot to another one have sent statements for it."""
    history = busy(9, every=0.05, burst=100)
    statements = [SECOND + number / 200 for number in range(500)]
    settings = attrs.evolve(history.settings, budgets=budgets)
    found = busy_loops(attrs.evolve(history, settings=settings, statements={"w2": statements}))
    assert busy_slots == [violation.incident for violation in found]


@pytest.mark.parametrize("count", [0, 1])
def test_an_unreadable_row_may_count_as_unheard(count: int) -> None:
    """The checks do not know whether the row of an unplannable incident is open."""
    history = attrs.evolve(UNHEARD, unplannable=frozenset({"k"}))
    assert not [one for one in check(ending(history, count)) if "health counted" in one.why]
    assert [one for one in check(ending(history, 2)) if "health counted 2" in one.why]
