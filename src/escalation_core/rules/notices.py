"""The rules of notices: who learns what became of an incident, and what follows an attempt to tell it. Pure."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from ..model import (
    Abilities,
    Arrival,
    Change,
    ChangedIncident,
    Delivered,
    Incident,
    NewNotice,
    Notice,
    NoticeKind,
    NoticeRecord,
    NoticeState,
    Outcome,
    Rejected,
    State,
)
from .retry import RetryPolicy, throttle_for
from .routing import Route

UNSETTLED_NOTICE = (NoticeState.PENDING, NoticeState.LEASED)
OPEN_NOTICE = (*UNSETTLED_NOTICE, NoticeState.DELIVERED)
"""The states of notices that arrived, or may still arrive."""
LOST_NOTICE = (NoticeState.DEAD, NoticeState.EXPIRED)
"""The states of notices that no one will tell."""
MAX_NOTICE_AGE = timedelta(hours=1)
"""A notice that was not delivered for this long after it was made expires."""
MAX_THREAD_AGE = timedelta(days=7)
"""The same of a notice that ends a thread, because a receiver would keep the thread open for ever."""
MAX_CHANGE_AGE = timedelta(days=1)
"""A change that no worker made notices of for this long, for example while all were stopped, only ends threads."""


@attrs.frozen(kw_only=True)
class Wanted:
    """Decides which targets get which notices: by the settings, by the notifiers, and by routes."""

    abilities: Mapping[str, Abilities] = attrs.field(factory=dict)
    """Those of the notifier of each served target."""
    given: Mapping[str, AbstractSet[NoticeKind]] = attrs.field(factory=dict)
    """The kinds that the settings name for a target, in place of those that its notifier asks for."""
    routes: Sequence[Route] = ()

    @property
    def threads(self) -> Collection[str]:
        """The targets whose receiver keeps a thread open until a notice says that the incident is resolved."""
        return {name for name, found in self.abilities.items() if found.threads}

    def ends_thread(self, kind: NoticeKind, target: str) -> bool:
        """Return whether such a notice ends a thread of a served target."""
        return kind is NoticeKind.RESOLVED and target in self.threads

    def max_age(self, notice: NoticeRecord) -> timedelta:
        """Return how long after it was made the notice of a served target is worth telling."""
        return MAX_THREAD_AGE if self.ends_thread(notice.kind, notice.target) else MAX_NOTICE_AGE

    def serves(self, target: str) -> bool:
        """Return whether this engine can decide about a target, because it has the target's notifier."""
        return target in self.abilities

    def wants_record(self, notice: NoticeRecord, incident: Incident | None) -> bool:
        """Return whether a served target gets a notice that perhaps another worker made."""
        if notice.for_threads and not self.ends_thread(notice.kind, notice.target):
            return False
        return self.wants(notice.kind, notice.target, incident, notice.level)

    def wants(self, kind: NoticeKind, target: str, incident: Incident | None, level: int) -> bool:
        """Return whether a served target gets a notice. The incident may be None: then no route matches."""
        can = self.abilities[target]
        if kind not in can.notices:
            return False
        if kind in self.given.get(target, can.asked):
            return True
        return incident is not None and any(
            kind in route.notices and target in route.targets and route.matches(incident, level)
            for route in self.routes
        )

    def warnings(self) -> list[str]:
        """Return a warning for each target of this engine whose settings ask for what its notifier cannot tell.

        And one for each that does not get the notice which would end its threads.
        """
        asked = {name: set(self.given.get(name, can.asked)) for name, can in self.abilities.items()}
        for route in self.routes:
            for name in filter(self.serves, route.targets):
                asked[name] |= route.notices
        beyond = {name: kinds - self.abilities[name].notices for name, kinds in asked.items()}
        unended = sorted(name for name in self.threads if NoticeKind.RESOLVED not in asked[name])
        return [
            *(
                f"{name} gets no notices {', '.join(sorted(kinds))}: its notifier cannot tell them"
                for name, kinds in sorted(beyond.items())
                if kinds
            ),
            *(
                f"{name} gets no notices resolved, so its incidents stay open there: name the kind in ESC_NOTICES"
                for name in unended
            ),
        ]

    def new_notices(self, changed: ChangedIncident, arrivals: Sequence[Arrival], now: datetime) -> list[NewNotice]:
        """Return the notices of a change, for those whose pages of its episode arrived.

        A target with threads learns that an incident is resolved for each episode of which a page may have arrived
        there: a receiver may open a thread and not answer, and a thread that is open for ever is worse than a notice of
        none. What a target of another worker wants, that worker decides once it claims the notice; it also knows
        whether the target has threads.
        """
        change = changed.change
        too_old = change.at <= now - MAX_CHANGE_AGE
        found = list[NewNotice]()
        if is_undone(change.kind, change.episode, changed.incident):
            return []
        for one in arrivals:
            own, served = one.episode == change.episode, self.serves(one.target)
            for_all = own and one.certain and not too_old
            may_end_thread = self.ends_thread(change.kind, one.target) if served else change.kind is NoticeKind.RESOLVED
            if not for_all and not (may_end_thread and one.episode <= change.episode):
                continue
            if not served or self.wants(change.kind, one.target, changed.incident, one.level):
                # When an earlier episode began is not known any more.
                what = change if own else attrs.evolve(change, episode=one.episode, first_seen=None)
                new = NewNotice(change=what, level=one.level, target=one.target, for_threads=not for_all)
                found.append(new)
        return found


def make_change(
    before: Incident, after: Incident, at: datetime, *, by: str | None, expired: bool = False
) -> Change | None:
    """Return the change of a verb or a planning that makes notices; None if it makes none.

    ``expired``: the acknowledgement of ``before`` has ended by itself.
    """
    if expired:
        kind, actor = NoticeKind.ACK_EXPIRED, before.acknowledged_by
    elif after.state is State.RESOLVED and before.state is not State.RESOLVED:
        kind, actor = NoticeKind.RESOLVED, by
    elif after.state is State.ACKNOWLEDGED and before.state is State.OPEN:
        kind, actor = NoticeKind.ACKNOWLEDGED, by
    else:
        return None
    return Change(
        kind=kind,
        incident_key=before.incident_key,
        episode=before.episode,
        at=at,
        actor=actor,
        first_seen=before.first_seen,
    )


def is_undone(kind: NoticeKind, episode: int, incident: Incident | None) -> bool:
    """Return whether an acknowledgement was taken back, so that no receiver may take it as acknowledged."""
    return (
        kind is NoticeKind.ACKNOWLEDGED
        and incident is not None
        and incident.episode == episode
        and incident.state is State.OPEN
    )


def goes_alone(notice: NoticeRecord) -> bool:
    """Return whether a notice is in no bundle: it failed alone, or its receiver refused its bundle."""
    return notice.attempts > 0 and notice.bundle is None


def lease_notice(notice: NoticeRecord, policy: RetryPolicy, now: datetime, bundle: str | None) -> NoticeRecord:
    """Return the notice in state leased. A lease that ended without an outcome counts as an attempt."""
    attempts = notice.attempts + (notice.state is NoticeState.LEASED)
    return _moved(notice, NoticeState.LEASED, now + policy.lease, notice.reason, attempts=attempts, bundle=bundle)


def end_notice(notice: NoticeRecord, now: datetime, reason: str) -> NoticeRecord:
    """Return the notice in state expired."""
    return _moved(notice, NoticeState.EXPIRED, now, reason)


def after_telling(
    notice: NoticeRecord, outcome: Outcome, *, policy: RetryPolicy, max_age: timedelta, now: datetime, jitter: float
) -> NoticeRecord:
    """Return the notice after one attempt to tell it. ``jitter`` lies in [0, 1)."""
    if isinstance(outcome, Delivered):
        return _moved(notice, NoticeState.DELIVERED, now, None, attempts=notice.attempts + 1)
    if isinstance(outcome, Rejected) and notice.bundle is not None and not outcome.whole_target:
        # The fault may lie in one notice of many.
        apart = _moved(notice, NoticeState.PENDING, now, outcome.reason, attempts=notice.attempts + 1)
        return attrs.evolve(apart, bundle=None)
    if isinstance(outcome, Rejected):
        return _moved(notice, NoticeState.DEAD, now, outcome.reason, attempts=notice.attempts + 1)
    attempts = notice.attempts + (not outcome.throttled)
    if outcome.throttled:
        wait = throttle_for(outcome, policy)
    else:
        wait = policy.backoff(attempts, jitter) if outcome.after is None else policy.clamp(outcome.after)
    if now + wait >= notice.created_at + max_age:
        return _moved(notice, NoticeState.EXPIRED, now, f"gave up: {outcome.reason}", attempts=attempts)
    return _moved(notice, NoticeState.PENDING, now + wait, outcome.reason, attempts=attempts)


def make_notice(notice: NoticeRecord, incident: Incident | None) -> Notice:
    """Return the message about a leased notice."""
    return Notice(
        kind=notice.kind,
        incident_key=notice.incident_key,
        episode=notice.episode,
        level=notice.level,
        at=notice.at,
        target=notice.target,
        dedup_key=notice.dedup_key,
        actor=notice.actor,
        lasted=None if notice.first_seen is None else max(notice.at - notice.first_seen, timedelta()),
        incident=incident,
        attempt=notice.attempts + 1,
    )


def _moved(
    notice: NoticeRecord,
    state: NoticeState,
    due_at: datetime,
    reason: str | None,
    *,
    attempts: int | None = None,
    bundle: str | None = None,
) -> NoticeRecord:
    """Return the notice in another state, with its fence raised by 1."""
    return attrs.evolve(
        notice,
        state=state,
        due_at=due_at,
        fence=notice.fence + 1,
        attempts=notice.attempts if attempts is None else attempts,
        reason=reason,
        bundle=bundle if state is NoticeState.LEASED else notice.bundle,
    )
