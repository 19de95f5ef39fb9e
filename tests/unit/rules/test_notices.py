"""The rules of notices: who learns what became of an incident, and what follows an attempt to tell it."""

from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_core import (
    Abilities,
    Delivered,
    Incident,
    NoticeKind,
    Rejected,
    Retry,
    RetryPolicy,
    Route,
    idempotency_key,
)
from escalation_core.model import EVERY_KIND, Arrival, Change, ChangedIncident, NoticeRecord, NoticeState, notice_key
from escalation_core.rules.notices import (
    MAX_CHANGE_AGE,
    MAX_NOTICE_AGE,
    MAX_THREAD_AGE,
    Wanted,
    after_telling,
    end_notice,
    goes_alone,
    is_undone,
    lease_notice,
    make_change,
    make_notice,
)

from ..kit import MINUTE, START, incident

SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
POLICY = RetryPolicy()
ALL = Abilities(notices=EVERY_KIND, asked=EVERY_KIND)


def change(kind: NoticeKind = NoticeKind.RESOLVED, **fields: Any) -> Change:
    values: dict[str, Any] = {
        "incident_key": "k",
        "episode": 2,
        "at": START,
        "actor": "ann",
        "first_seen": START - HOUR,
    }
    return Change(kind=kind, **values | fields)


def record(**fields: Any) -> NoticeRecord:
    values: dict[str, Any] = {
        "id": 7, "kind": NoticeKind.RESOLVED, "incident_key": "k", "episode": 2, "level": 3, "target": "ops",
        "dedup_key": "d", "at": START, "actor": "ann", "first_seen": START - HOUR, "state": NoticeState.PENDING,
        "created_at": START, "due_at": START,
    }  # fmt: skip
    return NoticeRecord(**values | fields)


# --- who gets a notice


@pytest.mark.parametrize(
    ("abilities", "given", "expected"),
    [
        (Abilities(), None, False),
        (Abilities(), EVERY_KIND, False),
        (Abilities(notices=EVERY_KIND), None, False),
        (Abilities(notices=EVERY_KIND), frozenset({NoticeKind.RESOLVED}), True),
        (Abilities(notices=EVERY_KIND), frozenset({NoticeKind.ACKNOWLEDGED}), False),
        (ALL, None, True),
        (ALL, frozenset(), False),
    ],
)
def test_who_wants_a_notice(abilities: Abilities, given: Any, expected: bool) -> None:
    """What the settings name for a target takes the place of what its notifier asks for."""
    wanted = Wanted(abilities={"ops": abilities}, given={} if given is None else {"ops": given})
    assert expected is wanted.wants(NoticeKind.RESOLVED, "ops", None, 1)


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        (Route(targets=["ops"], notices={"resolved"}), True),
        (Route(targets=["ops"], notices={"acknowledged"}), False),
        (Route(targets=["other"], notices={"resolved"}), False),
        (Route(targets=["ops"], notices={"resolved"}, severity="critical"), True),
        (Route(targets=["ops"], notices={"resolved"}, severity="warning"), False),
        (Route(targets=["ops"], notices={"resolved"}, min_level=3), False),
    ],
)
def test_a_route_asks_for_its_targets(route: Route, expected: bool) -> None:
    """About incidents that it matches, at the level of which the target was paged."""
    wanted = Wanted(abilities={"ops": Abilities(notices=EVERY_KIND)}, routes=[route])
    assert expected is wanted.wants(NoticeKind.RESOLVED, "ops", incident(severity="critical"), 2)
    assert not wanted.wants(NoticeKind.RESOLVED, "ops", None, 2)


def test_those_whose_pages_arrived_in_the_episode_get_a_notice() -> None:
    """A target without a notifier here is another worker's, which decides later."""
    wanted = Wanted(abilities={"ops": ALL, "unsure": ALL, "quiet": Abilities()})
    arrivals = [
        Arrival(episode=1, level=1, target="ops"),
        Arrival(episode=2, level=2, target="ops"),
        Arrival(episode=2, level=1, target="quiet"),
        Arrival(episode=2, level=1, target="elsewhere"),
        Arrival(episode=2, level=1, target="unsure", certain=False),
        Arrival(episode=3, level=1, target="ops"),
    ]
    found = wanted.new_notices(ChangedIncident(change(), None), arrivals, START)
    assert [("ops", 2, 2), ("elsewhere", 1, 2)] == [(one.target, one.level, one.change.episode) for one in found]
    assert not any(one.for_threads for one in found)
    assert {notice_key(NoticeKind.RESOLVED, "k", 2, START)} == {one.dedup_key for one in found}


def test_threads_end_with_the_incident() -> None:
    """A target with threads learns of each earlier episode, with a key of its own, that it is resolved."""
    wanted = Wanted(abilities={"pager": attrs.evolve(ALL, threads=True)})
    arrivals = [Arrival(episode=episode, level=1, target="pager", certain=episode == 2) for episode in (1, 2, 3)]
    changed = ChangedIncident(change(), None)
    found = wanted.new_notices(changed, arrivals, START)
    assert [1, 2] == [one.change.episode for one in found]
    assert [None, START - HOUR] == [one.change.first_seen for one in found]
    assert 2 == len({one.dedup_key for one in found})
    for kind in (NoticeKind.ACKNOWLEDGED, NoticeKind.ACK_EXPIRED):
        other = attrs.evolve(changed, change=change(kind))
        assert [2] == [one.change.episode for one in wanted.new_notices(other, arrivals, START)]


def test_another_workers_target_may_have_threads() -> None:
    """The worker that serves it decides: a target without threads gets no notice that only ends a thread."""
    arrivals = [Arrival(episode=episode, level=1, target="there", certain=episode == 2) for episode in (1, 2, 3)]
    found = Wanted().new_notices(ChangedIncident(change(), None), arrivals, START)
    assert [(1, True), (2, False)] == [(one.change.episode, one.for_threads) for one in found]
    old = Wanted().new_notices(ChangedIncident(change(), None), arrivals[1:2], START + MAX_CHANGE_AGE)
    assert [True] == [one.for_threads for one in old]
    other = ChangedIncident(change(NoticeKind.ACKNOWLEDGED), None)
    assert [False] == [one.for_threads for one in Wanted().new_notices(other, arrivals, START)]
    for threads, for_threads, expected in ((True, True, True), (False, True, False), (False, False, True)):
        wanted = Wanted(abilities={"there": attrs.evolve(ALL, threads=threads)})
        assert expected is wanted.wants_record(record(target="there", for_threads=for_threads), None)


def test_an_old_change_only_ends_threads() -> None:
    """For example after all workers were stopped for days: the receiver still shows the thread as open."""
    wanted = Wanted(abilities={"ops": ALL, "pager": attrs.evolve(ALL, threads=True)})
    arrivals = [Arrival(episode=2, level=1, target=name) for name in ("ops", "pager")]
    for kind in NoticeKind:
        changed = ChangedIncident(change(kind), None)
        young = wanted.new_notices(changed, arrivals, START + MAX_CHANGE_AGE - SECOND)
        assert ["ops", "pager"] == [one.target for one in young]
        old = wanted.new_notices(changed, arrivals, START + MAX_CHANGE_AGE)
        assert (["pager"] if kind is NoticeKind.RESOLVED else []) == [one.target for one in old]


def test_threads_that_never_end_are_said() -> None:
    """The settings may leave out ``resolved``, or the notifier may not ask for it. A route may ask for it."""
    threads, resolved = attrs.evolve(ALL, threads=True), frozenset({NoticeKind.RESOLVED})
    abilities = {
        **dict.fromkeys(("pager", "other", "routed"), threads),
        "chat": ALL,
        "mute": attrs.evolve(threads, asked=frozenset()),
    }
    given = {name: frozenset({NoticeKind.ACKNOWLEDGED}) for name in ("pager", "chat", "routed", "elsewhere")}
    routes = [Route(targets=("routed", "elsewhere"), notices=resolved)]
    assert [
        f"{name} gets no notices resolved, so its incidents stay open there: name the kind in ESC_NOTICES"
        for name in ("mute", "pager")
    ] == Wanted(abilities=abilities, given=given, routes=routes).warnings()


def test_what_a_notifier_cannot_tell_is_said() -> None:
    """A target of another worker is that worker's."""
    can = Abilities(notices=frozenset({NoticeKind.RESOLVED}))
    wanted = Wanted(
        abilities={"a": can, "b": can, "c": Abilities(), "d": can},
        given={"a": frozenset({NoticeKind.RESOLVED}), "b": EVERY_KIND, "elsewhere": EVERY_KIND},
        routes=[Route(targets=("c", "d"), notices=frozenset({NoticeKind.RESOLVED}))],
    )
    assert [
        "b gets no notices ack_expired, acknowledged: its notifier cannot tell them",
        "c gets no notices resolved: its notifier cannot tell them",
    ] == wanted.warnings()


# --- changes


ACKED = incident(acknowledged_at=START, acknowledged_by="ann")


@pytest.mark.parametrize(
    ("before", "after", "expired", "expected"),
    [
        (incident(), ACKED, False, ("acknowledged", "bob")),
        (incident(), incident(resolved_at=START), False, ("resolved", "bob")),
        (ACKED, attrs.evolve(ACKED, resolved_at=START), False, ("resolved", "bob")),
        (ACKED, ACKED, True, ("ack_expired", "ann")),
        (ACKED, incident(), False, None),
        (incident(), incident(severity="info"), False, None),
        (incident(resolved_at=START), incident(episode=2), False, None),
        (attrs.evolve(ACKED, resolved_at=START), ACKED, False, None),
    ],
)
def test_what_makes_notices(before: Incident, after: Incident, expired: bool, expected: Any) -> None:
    found = make_change(before, after, START, by="bob", expired=expired)
    assert expected == (None if found is None else (found.kind.value, found.actor))
    if found is not None:
        assert (before.incident_key, before.episode, START, before.first_seen) == (
            found.incident_key, found.episode, found.at, found.first_seen,
        )  # fmt: skip


# --- attempts


@pytest.mark.parametrize(
    ("outcome", "state", "due", "attempts", "reason"),
    [
        (Delivered(), "delivered", START, 1, None),
        (Rejected("no"), "dead", START, 1, "no"),
        (Rejected("no", whole_target=True), "dead", START, 1, "no"),
        (Retry("busy"), "pending", START + 0.5 * SECOND, 1, "busy"),
        (Retry("busy", 7 * SECOND), "pending", START + 7 * SECOND, 1, "busy"),
        (Retry("busy", 7 * SECOND, throttled=True), "pending", START + 7 * SECOND, 0, "busy"),
        (Retry("busy", throttled=True), "pending", START + POLICY.throttle, 0, "busy"),
        (Retry("busy", 100 * HOUR), "expired", START, 1, "gave up: busy"),
    ],
)
def test_after_an_attempt(outcome: Any, state: str, due: Any, attempts: int, reason: str | None) -> None:
    leased = lease_notice(record(), POLICY, START, None)
    after = after_telling(leased, outcome, policy=POLICY, max_age=HOUR, now=START, jitter=0.0)
    assert (state, due, attempts, reason, leased.fence + 1) == (
        after.state.value, after.due_at, after.attempts, after.reason, after.fence,
    )  # fmt: skip


def test_after_a_bundle_was_refused_each_of_its_notices_goes_alone() -> None:
    """The fault may lie in one of them; unless the receiver refuses whatever this target gets."""
    leased = lease_notice(record(), POLICY, START, "b" * 64)
    after = after_telling(leased, Rejected("no"), policy=POLICY, max_age=HOUR, now=START, jitter=0.0)
    assert (NoticeState.PENDING, START, None, 1, "no") == (
        after.state, after.due_at, after.bundle, after.attempts, after.reason,
    )  # fmt: skip
    assert goes_alone(after)
    assert not goes_alone(record())
    busy = after_telling(leased, Retry("busy"), policy=POLICY, max_age=HOUR, now=START, jitter=0.0)
    assert not goes_alone(busy)
    gone = after_telling(
        leased, Rejected("gone", whole_target=True), policy=POLICY, max_age=HOUR, now=START, jitter=0.0
    )
    assert NoticeState.DEAD is gone.state


@pytest.mark.parametrize(
    ("kind", "about", "expected"),
    [
        (NoticeKind.ACKNOWLEDGED, incident(episode=2), True),
        (NoticeKind.ACKNOWLEDGED, incident(episode=3), False),
        (NoticeKind.ACKNOWLEDGED, incident(episode=2, acknowledged_at=START), False),
        (NoticeKind.ACKNOWLEDGED, incident(episode=2, resolved_at=START), False),
        (NoticeKind.ACKNOWLEDGED, None, False),
        (NoticeKind.RESOLVED, incident(episode=2), False),
        (NoticeKind.ACK_EXPIRED, incident(episode=2), False),
    ],
)
def test_an_acknowledgement_that_was_taken_back_makes_no_notice(kind: Any, about: Any, expected: bool) -> None:
    """The incident escalates, and a receiver that shows it as acknowledged would call no one."""
    assert expected is is_undone(kind, 2, about)
    found = Wanted(abilities={"ops": ALL}).new_notices(
        ChangedIncident(change(kind), about), [Arrival(episode=2, level=1, target="ops")], START
    )
    assert expected is (not found)


def test_a_lease_belongs_to_its_sender() -> None:
    """A lease that ended without an outcome counts as an attempt; the row keeps its last bundle."""
    first = lease_notice(record(), POLICY, START, "b")
    assert ("leased", START + POLICY.lease, 1, 0, "b") == (
        first.state.value, first.due_at, first.fence, first.attempts, first.bundle,
    )  # fmt: skip
    again = lease_notice(first, POLICY, START + MINUTE, None)
    assert (2, 1, None) == (again.fence, again.attempts, again.bundle)
    sent = after_telling(first, Delivered(), policy=POLICY, max_age=HOUR, now=START, jitter=0.0)
    assert "b" == sent.bundle
    ended = end_notice(first, START, "late")
    assert ("expired", START, 2, "late") == (ended.state.value, ended.due_at, ended.fence, ended.reason)


def test_how_long_a_notice_is_worth_telling() -> None:
    """An hour; and a week if it ends a thread, which the receiver would keep open for ever."""
    wanted = Wanted(abilities={"ops": ALL, "pager": attrs.evolve(ALL, threads=True)})
    assert (timedelta(hours=1), timedelta(days=7)) == (MAX_NOTICE_AGE, MAX_THREAD_AGE)
    for kind in NoticeKind:
        for_thread = MAX_THREAD_AGE if kind is NoticeKind.RESOLVED else MAX_NOTICE_AGE
        assert for_thread == wanted.max_age(record(kind=kind, target="pager"))
        assert MAX_NOTICE_AGE == wanted.max_age(record(kind=kind))
    retried = after_telling(record(), Retry("down"), policy=POLICY, max_age=MAX_THREAD_AGE, now=START + HOUR, jitter=0)
    assert NoticeState.PENDING is retried.state


def test_what_a_notice_says() -> None:
    """How long the episode lasted, never less than no time; unknown if its beginning is."""
    about = incident(summary="Disk full")
    notice = make_notice(record(attempts=2), about)
    assert (HOUR, 3, "Disk full", about) == (notice.lasted, notice.attempt, notice.title, notice.incident)
    assert idempotency_key("k", 0, 2) == notice.thread_key
    assert timedelta() == make_notice(record(first_seen=START + HOUR), about).lasted
    unknown = make_notice(record(first_seen=None), None)
    assert (None, "k") == (unknown.lasted, unknown.title)
