"""The report of a tick."""

import json
from collections import Counter
from datetime import timedelta

import attrs
from hypothesis import given
from hypothesis import strategies as st

from escalation_core import DeliveryReport, Engine, Escalate, Escalation, Reschedule, Skip, TickReport
from escalation_core.engine.report import MAX_EXAMPLES, DeliveryCount, Example
from escalation_core.model import NewPage, PageState
from escalation_core.rules.gate import Mode
from escalation_core.rules.plan import Decision, Reason
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import MINUTE, SECOND, START, incident

RISEN = incident(level=1, last_escalated_at=START)


def risen(*, lateness: timedelta | None = None, exhausted: bool = False) -> Escalate:
    """Return a decision to escalate."""
    escalation = Escalation(incident_key="k", episode=1, level=1, created_at=START)
    return Escalate(incident=RISEN, escalation=escalation, lateness=lateness, exhausted=exhausted)


DECISIONS: st.SearchStrategy[Decision] = st.one_of(
    st.builds(risen, lateness=st.none() | st.timedeltas(timedelta(), MINUTE), exhausted=st.booleans()),
    st.builds(Reschedule, incident=st.just(incident()), reason=st.sampled_from([Reason.NOT_DUE, Reason.V1_OFF])),
    st.builds(
        Skip,
        incident=st.just(incident()),
        reason=st.sampled_from([Reason.ACKNOWLEDGED, Reason.RESOLVED, Reason.EXHAUSTED, Reason.ALREADY_RECORDED]),
    ),
    st.builds(Skip, incident=st.none(), reason=st.just(Reason.UNREADABLE), detail=st.text(max_size=5)),
)


@given(st.lists(st.lists(DECISIONS, max_size=10), max_size=5))
def test_counts_add_up(batches: list[list[Decision]]) -> None:
    """The report counts every decision once, as an escalation or under its reason."""
    report = TickReport()
    for batch in batches:
        report.count(batch, [f"k{number}" for number in range(len(batch))])
    decisions = [decision for batch in batches for decision in batch]
    assert len(decisions) == report.escalated + report.rescheduled.total() + report.skipped.total()
    rising = [decision for decision in decisions if isinstance(decision, Escalate)]
    rest = [decision for decision in decisions if not isinstance(decision, Escalate)]
    assert (len(rising), sum(decision.exhausted for decision in rising)) == (report.escalated, report.exhausted)
    assert Counter(decision.reason.value for decision in rest) == report.skipped + report.rescheduled
    assert max((d.lateness for d in rising if d.lateness is not None), default=None) == report.latest
    assert report.skipped["already_recorded"] == report.skipped_idempotent
    assert bool(decisions) == report.changed
    assert len(decisions) == len(report.examples)


def test_examples_tell_what_happened() -> None:
    """An example holds key, outcome, episode and level, and the fault of an unreadable row."""
    report = TickReport()
    decisions: list[Decision] = [
        risen(),
        Reschedule(incident=incident(level=2), reason=Reason.NOT_DUE),
        Skip(incident=incident(episode=3), reason=Reason.RESOLVED),
        Skip(incident=None, reason=Reason.UNREADABLE, detail="level: is NoneType"),
    ]
    report.count(decisions, "abcd")
    assert [
        Example(incident_key="a", outcome="escalate", episode=1, level=1),
        Example(incident_key="b", outcome="not_due", episode=1, level=2),
        Example(incident_key="c", outcome="resolved", episode=3, level=0),
        Example(incident_key="d", outcome="unreadable", detail="level: is NoneType"),
    ] == report.examples


def test_examples_name_the_targets() -> None:
    """An example has the targets that get a page, and says of the others why they get none."""
    report = TickReport()

    def page(key: str, target: str, undeliverable_reason: str | None = None) -> NewPage:
        return NewPage(
            incident_key=key,
            episode=1,
            level=1,
            target=target,
            dedup_key="d",
            undeliverable_reason=undeliverable_reason,
        )

    pages = [page("a", "ops"), page("a", "old", "unroutable: x"), page("a", "leads"), page("b", "", "unroutable: y")]
    report.count([risen(), risen()], "ab", pages)
    assert [(("ops", "leads"), "old: unroutable: x"), ((), "unroutable: y")] == [
        (example.targets, example.detail) for example in report.examples
    ]


def test_examples_are_bounded() -> None:
    """A report holds the first 1,000 examples; its counts cover all decisions."""
    report = TickReport()
    report.count([risen()] * 700, [f"a{number}" for number in range(700)])
    report.count([risen()] * 700, [f"b{number}" for number in range(700)])
    assert 1400 == report.escalated
    assert 1000 == len(report.examples)
    assert MAX_EXAMPLES == 1000
    assert "b299" == report.examples[-1].incident_key


async def test_long_tick_keeps_its_report_small(store: MemoryStore, clock: ManualClock) -> None:
    """A tick over 1,001 rows counts all of them in several batches, and keeps 1,000 examples."""
    engine = Engine(store, batch_size=400)
    for number in range(1001):
        await engine.open(f"k{number}", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick()
    assert 1001 == report.escalated
    assert 1000 == len(report.examples)
    assert 3 == report.batches
    assert 1001 == len(store.ledger)


def test_report_of_nothing_changed_nothing() -> None:
    """An empty report and a report of a dry run say that nothing changed."""
    assert [False, True, False] == [
        TickReport().changed,
        TickReport(escalated=1).changed,
        TickReport(escalated=1, dry_run=True).changed,
    ]


def test_report_has_the_replaced_workers_names() -> None:
    """The JSON has the replaced worker's names, instants as text, and spans in milliseconds."""
    report = TickReport(
        at=START,
        mode=Mode.PAUSED,
        paused_until=START + MINUTE,
        latest=1.5 * SECOND,
        duration=timedelta(microseconds=1234),
        unconfigured=Counter(high=1),
        pages=2,
        dead_pages=1,
        in_place=1,
        happened=Counter(ack_expired=2),
        delivery=DeliveryReport(sent=1),
    )
    report.count([risen(exhausted=True), Skip(incident=RISEN, reason=Reason.ALREADY_RECORDED)], "ab")
    expected = {
        "escalations": 1,
        "at": "2025-01-01T00:00:00+00:00",
        "mode": "paused",
        "paused_until": "2025-01-01T00:01:00+00:00",
        "dry_run": False,
        "exhausted": 1,
        "rescheduled": {},
        "skipped": {"already_recorded": 1},
        "skipped_idempotent": 1,
        "pages": 2,
        "dead_pages": 1,
        "in_place": 1,
        "happened": {"ack_expired": 2},
        "labels_left_out": 0,
        "unconfigured": {"high": 1},
        "behind": False,
        "latest_ms": 1500.0,
        "escalation_tick_ms": 1.234,
        "examples": [
            {"incident_key": "a", "outcome": "escalate", "episode": 1, "level": 1, "targets": [], "detail": None},
            {
                "incident_key": "b",
                "outcome": "already_recorded",
                "episode": 1,
                "level": 1,
                "targets": [],
                "detail": None,
            },
        ],
        "delivery": attrs.asdict(DeliveryReport(sent=1)),
    }
    assert expected == json.loads(json.dumps(report.as_dict()))
    assert report.escalated == report.escalations


def test_delivery_report_counts_by_outcome() -> None:
    """A page that is pending again counts as retried; the other states count under their names."""
    outcomes = Counter(
        {PageState.DELIVERED: 4, PageState.PENDING: 3, PageState.DEAD: 2, PageState.CANCELLED: 1, PageState.LEASED: 9}
    )
    expected = DeliveryReport(sent=10, delivered=4, retried=3, dead=2, cancelled=1, stale=5)
    assert expected == DeliveryCount(sent=10, stale=5, outcomes=outcomes).report()
