"""The checks of notices: a clean history passes, and each small change to it violates I9.

An incident is paged to three targets, and resolved. Two of them ask for that: ``ops``, and ``pager``, with threads.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from escalation_core import NoticeKind
from escalation_core.model import notice_key
from escalation_core.model.micros import from_micros
from escalation_core.testing.invariants import RunSettings, check
from escalation_core.testing.invariants.escalations import expected_hash
from escalation_core.testing.invariants.history import (
    Fault,
    FinalPage,
    HealthSample,
    History,
    HostWrite,
    PageChange,
    RecordedEscalation,
    Request,
)
from escalation_core.testing.invariants.notice_records import FinalNotice, NoticeClaim, Told

START = 1000.0
PAGED, RESOLVED = START + 0.5, START + 1.0
TARGETS = ("boss", "ops", "pager")
THREAD = hashlib.sha256(b"k|0").hexdigest()
KEY = notice_key(NoticeKind.RESOLVED, "k", 1, from_micros(int(RESOLVED * 1_000_000)))


def pages() -> list[FinalPage]:
    key = expected_hash("k", 1, 1)
    return [
        FinalPage(
            id=number, key="k", episode=1, level=1, target=target, dedup_key=key, state="delivered", created_at=PAGED
        )
        for number, target in enumerate(TARGETS, 1)
    ]


def changes() -> list[PageChange]:
    common: dict[str, Any] = {"due_was": PAGED, "worker": "w1"}
    return [
        change
        for number in range(1, 4)
        for change in (
            PageChange(page=number, was="pending", state="leased", due=PAGED + 2, fence_was=0, fence=1, began=PAGED,
                       at=PAGED + 0.001, **common),
            PageChange(page=number, was="leased", state="delivered", due=PAGED + 0.1, fence_was=1, fence=2,
                       began=PAGED + 0.1, at=PAGED + 0.1, **common),
        )
    ]  # fmt: skip


def notice(number: int, target: str, **fields: Any) -> FinalNotice:
    values: dict[str, Any] = {
        "id": number, "kind": "resolved", "key": "k", "episode": 1, "level": 1, "target": target, "dedup_key": KEY,
        "state": "delivered", "at_micros": int(RESOLVED * 1_000_000), "created_at": RESOLVED + 0.5,
    }  # fmt: skip
    return FinalNotice(**values | fields)


def told(target: str, key: str, at: float = RESOLVED + 0.6, **fields: Any) -> Told:
    values: dict[str, Any] = {"dedup_key": key, "target": target, "worker": "w1", "at": at, "accepted": True}
    return Told(**values | fields)


CLEAN = History(
    ended=START + 9,
    settings=RunSettings(
        max_level=1,
        notices={"ops": ("acknowledged", "resolved"), "pager": ("resolved",)},
        threads={"pager"},
    ),
    targets=TARGETS,
    writes=[
        HostWrite(key="k", verb="open", began=START, ended=START + 0.01, severity="critical", first_seen=START),
        HostWrite(key="k", verb="resolve", began=RESOLVED, ended=RESOLVED + 0.01),
    ],
    escalations=[
        RecordedEscalation(
            key="k", episode=1, level=1, created_at=PAGED, at=PAGED, unique_hash=expected_hash("k", 1, 1)
        )
    ],
    pages=pages(),
    changes=changes(),
    requests=[
        Request(dedup_key=expected_hash("k", 1, 1), target=target, worker="w1", at=PAGED + 0.05, accepted=True,
                answered_at=PAGED + 0.06)
        for target in TARGETS
    ],
    notices=[notice(1, "ops"), notice(2, "pager")],
    notice_claims=[NoticeClaim(notice=number, at=RESOLVED + 0.55, worker="w1") for number in (1, 2)],
    told=[told("ops", KEY), told("pager", THREAD, kind="resolved")],
    health=[HealthSample(at=START + 9, unhealthy=False, unheard=0)],
)  # fmt: skip


def with_field(history: History, field: str, records: Sequence[Any]) -> History:
    values: dict[str, Any] = {field: records}
    return attrs.evolve(history, **values)


def replaced(field: str, index: int, **values: Any) -> Callable[[History], History]:
    """Return a change of one record."""

    def change(history: History) -> History:
        records = list(getattr(history, field))
        records[index] = attrs.evolve(records[index], **values)
        return with_field(history, field, records)

    return change


def without(field: str, index: int) -> Callable[[History], History]:
    """Return a change that leaves a record out."""

    def change(history: History) -> History:
        records = list(getattr(history, field))
        del records[index]
        return with_field(history, field, records)

    return change


def added(field: str, record: object) -> Callable[[History], History]:
    """Return a change that adds a record."""
    return lambda history: with_field(history, field, [*getattr(history, field), record])


def test_a_clean_history_passes() -> None:
    assert [] == check(CLEAN)
    assert [] == check(attrs.evolve(CLEAN, notices=None, notice_claims=(), told=()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (replaced("notices", 0, dedup_key="d" * 64), "resolved to ops has another key"),
        (replaced("notices", 0, episode=2), "has another key"),
        (added("notices", notice(3, "lead")), "resolved to lead, where no page of its episode arrived"),
        (replaced("pages", 1, state="cancelled", reason="resolved"), "to ops, where no page of its episode arrived"),
        (replaced("changes", 3, at=RESOLVED + 0.9), "resolved to ops was claimed before a page was settled"),
        (added("notices", notice(3, "ops")), "ops learned twice that the episode is resolved"),
        (added("told", told("ops", KEY, RESOLVED + 0.9)), "ops got a second copy of a notice"),
        (added("told", told("pager", THREAD, RESOLVED + 0.9, kind="resolved")), "pager got a second copy of a notice"),
        (without("notices", 0), "ops did not learn that episode 1 is resolved"),
        (replaced("notices", 1, state="expired"), "pager did not learn that episode 1 is resolved"),
        (replaced("told", 1, dedup_key=KEY), "pager got a notice of a thread without a page"),
        (replaced("notice_claims", 0, at=RESOLVED + 1.8), ""),
    ],
)
def test_a_change_violates_the_invariant(change: Callable[[History], History], why: str) -> None:
    violations = [one for one in check(change(CLEAN)) if one.invariant == "I9"]
    assert bool(why) is bool(violations), violations
    assert any(why in one.why for one in violations) or not why, violations


def test_a_page_must_not_wait_for_a_notice() -> None:
    """A page that was recorded long ago is claimed after a notice to its target."""
    late = attrs.evolve(
        CLEAN,
        notice_claims=[NoticeClaim(notice=1, at=PAGED + 1.5, worker="w1")],
        changes=[
            attrs.evolve(change, at=change.at + 2, began=change.began + 2) if change.page == 2 else change
            for change in CLEAN.changes
        ],
    )
    assert any("page 2 to ops had waited for 1.50 s when a notice was claimed" in one.why for one in check(late))
    excused = attrs.evolve(late, faults=[Fault(kind="stall", start=PAGED, end=PAGED + 2)])
    assert not any("had waited" in one.why for one in check(excused))


@pytest.mark.parametrize(
    "change",
    [
        added("faults", Fault(kind="kill", start=RESOLVED + 0.65, end=RESOLVED + 0.7)),
        replaced("told", 0, accepted=False),
        replaced("told", 0, answered=False),
    ],
)
def test_a_second_copy_has_a_reason(change: Callable[[History], History]) -> None:
    """A fault between both, or the first one was not accepted, or not answered."""
    again = added("told", told("ops", KEY, RESOLVED + 0.9))
    assert not any("second copy" in one.why for one in check(change(again(CLEAN))))


def test_a_thread_may_have_been_opened_without_an_answer() -> None:
    """A page that was claimed and then cancelled may have opened a thread, so its notice is right, and asked for."""
    cancelled = replaced("pages", 2, state="cancelled", reason="resolved")(CLEAN)
    assert not [one for one in check(cancelled) if one.invariant == "I9"]
    silent = without("notices", 1)(cancelled)
    assert any("pager did not learn" in one.why for one in check(silent))
