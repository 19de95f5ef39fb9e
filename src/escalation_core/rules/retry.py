"""The retry rules decide the next state of a page: sent, to be tried again, cancelled or dead. Pure functions.

::

    pending --claim--> leased --sent--------------> delivered
       ^                 |---- failed -- retry ---> pending
       |                 |---- rejected, too old -> dead, or handed over if the target has a fallback
       |                 '-- acknowledged ------> cancelling --sent--> delivered
       '--- dead retry --- dead                       '----- failed ----> cancelled
    pending -- acknowledged, resolved, drained --> cancelled
    pending -- a newer level to the same target -> superseded
    pending -- not delivered in time ------------> handed over
    leased  -- its bundle was rejected ----------> pending, in a bundle of half the size
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

import attrs

from ..errors import InvalidValue
from ..model import MAX_REASON_CHARS, Delivered, Incident, Outcome, PageRecord, PageState, Rejected, Retry, State


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """The times and limits of delivery. A host may set each of them."""

    lease: timedelta = timedelta(seconds=30)
    """How long a claimed page belongs to its sender."""
    send_timeout: timedelta = timedelta(seconds=10)
    """How long one attempt may take. A sender does not start an attempt if less than this is left of the lease."""
    first: timedelta = timedelta(seconds=1)
    """The first back-off; it doubles with each attempt."""
    longest: timedelta = timedelta(seconds=60)
    """The longest back-off."""
    horizon: timedelta = timedelta(hours=24)
    """A page is dead once attempts and waits have taken this long."""
    least_after: timedelta = timedelta(seconds=1)
    """The shortest Retry-After that the engine accepts; it raises a shorter one to this."""
    most_after: timedelta = timedelta(hours=1)
    """The longest Retry-After that the engine accepts; it cuts a longer one to this."""
    throttle: timedelta = timedelta(seconds=10)
    """How long a target is throttled if the receiver asks for fewer messages and gives no time."""
    per_target: int = 32
    """How many messages an engine sends to one target at once, so that a slow target does not delay other targets.

    It begins with 8 of them, and sends more at once as they arrive.
    """

    def __attrs_post_init__(self) -> None:
        """Refuse values that cannot work."""
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if field.name == "per_target":
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise InvalidValue("per_target", f"is {value!r}", "give a whole number of at least 1")
            elif not isinstance(value, timedelta) or value <= timedelta():
                raise InvalidValue(field.name, f"is {value!r}", "give a timedelta above zero")
        if self.send_timeout >= self.lease:
            raise InvalidValue("send_timeout", "is not shorter than the lease", "give less than the lease")

    @property
    def furthest(self) -> timedelta:
        """How far in the future an unsettled page can be due. A later ``due_at`` comes from a step of the clock."""
        return max(self.lease, self.longest, self.most_after, self.throttle)

    def backoff(self, attempts: int, jitter: float) -> timedelta:
        """Return the wait after this many attempts: see the function ``backoff``."""
        return backoff(attempts, first=self.first, longest=self.longest, jitter=jitter)

    def clamp(self, after: timedelta) -> timedelta:
        """Return a receiver's Retry-After, limited to ``least_after`` and ``most_after``."""
        return min(max(after, self.least_after), self.most_after)


def backoff(attempts: int, *, first: timedelta, longest: timedelta, jitter: float) -> timedelta:
    """Return the wait after this many attempts. It doubles up to ``longest``.

    ``jitter`` lies in [0, 1): 0 gives half of the wait, and 1 would give all of it.
    """
    full = min(longest, first * float(2 ** min(attempts - 1, 30)))
    return full * (0.5 + 0.5 * jitter)


def cancel_reason(page: PageRecord, incident: Incident | None) -> str | None:
    """Return why a page must not be sent, because its incident or episode ended; None if it may be sent."""
    if page.state is PageState.CANCELLING:
        return page.reason or "ended"
    if incident is None:
        return "deleted"
    if incident.state is not State.OPEN:
        return incident.state.value
    return "episode ended" if incident.episode != page.episode else None


def cancel(page: PageRecord, reason: str, now: datetime) -> PageRecord:
    """Return the page in state cancelled."""
    return _moved(page, PageState.CANCELLED, now, reason=reason)


def lease(page: PageRecord, policy: RetryPolicy, now: datetime, bundle: str | None = None) -> PageRecord:
    """Return the page in state leased. Its lease begins now and belongs to the sender that claims the page.

    ``bundle`` is the key of the bundle in which it is sent; None if it goes alone. A lease that ended without an
    outcome counts as an attempt: the page may have arrived.
    """
    attempts = page.attempts + (page.state is PageState.LEASED)
    page = _moved(page, PageState.LEASED, now + policy.lease, reason=page.reason, attempts=attempts)
    return page if page.bundle == bundle else attrs.evolve(page, bundle=bundle)


REFUSED = "refused in a bundle"
"""The beginning of the reason of a page whose bundle was refused for good."""
SUPERSEDING = (PageState.PENDING, PageState.LEASED, PageState.DELIVERED)
"""The states in which a page takes the place of older ones of its incident to the same target."""


def newer_level(page: PageRecord, others: Iterable[PageRecord]) -> int | None:
    """Return the highest level of a page that takes the place of this one; None if there is none.

    This is the rule of ``ClaimedPage.newer``. A store without SQL calls this function.
    """
    same = (page.incident_key, page.episode, page.target)
    levels = (
        one.level
        for one in others
        if one.level > page.level and one.state in SUPERSEDING and (one.incident_key, one.episode, one.target) == same
    )
    return max(levels, default=None)


def supersede(page: PageRecord, newer: int, now: datetime) -> PageRecord:
    """Return the page in state superseded: the page of the level ``newer`` takes its place."""
    return _moved(page, PageState.SUPERSEDED, now, reason=f"superseded by the page of level {newer}")


def hand_over(page: PageRecord, fallback: str, why: str, now: datetime) -> PageRecord:
    """Return the page in state handed over: the target ``fallback`` gets the escalation's page."""
    return _moved(page, PageState.HANDED_OVER, now, reason=_handed_over(fallback, why))


def mark_dead(page: PageRecord, reason: str, now: datetime) -> PageRecord:
    """Return the page in state dead."""
    return _moved(page, PageState.DEAD, now, reason=reason)


def revive(page: PageRecord, now: datetime) -> PageRecord:
    """Return a dead page in state pending, with the same dedup key and no attempts. It is in no bundle.

    It is not handed over by time, because that time is over.
    """
    page = attrs.evolve(page, hand_over_at=None, bundle=None)
    return _moved(page, PageState.PENDING, now, reason=None, attempts=0, tried_for=timedelta())


def after_attempt(
    page: PageRecord,
    outcome: Outcome,
    *,
    policy: RetryPolicy,
    now: datetime,
    jitter: float,
    ended: str | None,
    fallback: str | None = None,
) -> PageRecord:
    """Return the page after one attempt to send it.

    ``jitter`` lies in [0, 1). ``ended`` is the result of ``cancel_reason``: why the page must not be sent again, or
    None if it may. ``fallback`` is the target that gets the page in place of its death; None without one. A page whose
    bundle was refused for good is pending afterwards, and in no bundle.
    """
    counted = page.attempts if isinstance(outcome, Retry) and outcome.throttled else page.attempts + 1
    if isinstance(outcome, Delivered):
        return _moved(page, PageState.DELIVERED, now, reason=None, attempts=counted)
    if ended is not None:
        return _moved(page, PageState.CANCELLED, now, reason=ended, attempts=counted)
    if isinstance(outcome, Rejected) and page.bundle is not None and not outcome.whole_target:
        # The fault may be that of one page: see ``rules.bundle.halved``. All refusals of its bundles count as one
        # attempt, so that the back-off of a good page does not grow by the search for a bad one.
        reason = f"{REFUSED}: {outcome.reason}"[:MAX_REASON_CHARS]
        page = attrs.evolve(page, bundle=None)
        return _moved(page, PageState.PENDING, now, reason=reason, attempts=max(page.attempts, 1))
    if isinstance(outcome, Rejected):
        return _given_up(page, outcome.reason, fallback, now, attempts=counted)
    wait = throttle_for(outcome, policy) if outcome.throttled else _wait(outcome, policy, counted, jitter)
    began = page.due_at - policy.lease
    # An attempt cannot take longer than its lease. If it seems longer, the store's clock was changed meanwhile.
    tried_for = page.tried_for + min(max(now - began, timedelta()), policy.lease) + wait
    if tried_for >= policy.horizon:
        reason = f"gave up after {counted} attempts: {outcome.reason}"
        return _given_up(page, reason, fallback, now, attempts=counted, tried_for=tried_for)
    return _moved(page, PageState.PENDING, now + wait, reason=outcome.reason, attempts=counted, tried_for=tried_for)


def _given_up(
    page: PageRecord,
    reason: str,
    fallback: str | None,
    now: datetime,
    *,
    attempts: int,
    tried_for: timedelta | None = None,
) -> PageRecord:
    if fallback is None:
        return _moved(page, PageState.DEAD, now, reason=reason, attempts=attempts, tried_for=tried_for)
    reason = _handed_over(fallback, reason)
    return _moved(page, PageState.HANDED_OVER, now, reason=reason, attempts=attempts, tried_for=tried_for)


def _handed_over(fallback: str, why: str) -> str:
    return f"handed over to {fallback}: {why}"[:MAX_REASON_CHARS]


def _moved(
    page: PageRecord,
    state: PageState,
    due_at: datetime,
    *,
    reason: str | None,
    attempts: int | None = None,
    tried_for: timedelta | None = None,
) -> PageRecord:
    """Return the page in another state, with its fence raised by 1.

    It avoids ``attrs.evolve``, which is slow: delivery calls this twice for each page.
    """
    return PageRecord(
        id=page.id,
        incident_key=page.incident_key,
        episode=page.episode,
        level=page.level,
        target=page.target,
        dedup_key=page.dedup_key,
        state=state,
        created_at=page.created_at,
        due_at=due_at,
        fence=page.fence + 1,
        attempts=page.attempts if attempts is None else attempts,
        tried_for=page.tried_for if tried_for is None else tried_for,
        reason=reason,
        via=page.via,
        schedule_digest=page.schedule_digest,
        priority=page.priority,
        hand_over_at=page.hand_over_at,
        bundle=page.bundle,
    )


def due_after_step(
    page: PageRecord, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
) -> datetime:
    """Return the new ``due_at`` of an unsettled page after the store's clock stepped back by ``step``.

    The result is earlier than before, or the same. ``beyond`` is the latest instant at which a page can be due.
    This is the rule of ``Outbox.bring_forward``. A store without SQL calls this function.
    """
    if page.due_at <= (now if step else beyond):
        return page.due_at
    if page.state is not PageState.PENDING:
        return min(page.due_at, lease_ends)
    never_tried = page.attempts == 0 and page.reason is None
    return now if never_tried or page.due_at > beyond else max(now, page.due_at - step)


def throttled_after_step(until: datetime, *, now: datetime, step: timedelta, beyond: datetime) -> datetime:
    """Return the new end of a target's throttling after a step of the clock: see ``due_after_step``."""
    if until <= (now if step else beyond):
        return until
    return now if until > beyond else max(now, until - step)


def parse_outcome(answer: object) -> Outcome:
    """Return a notifier's answer as an outcome that every store can write. An answer of another type becomes Retry."""
    if isinstance(answer, Delivered):
        return Delivered()
    if isinstance(answer, Rejected):
        return Rejected(_reason(answer.reason), whole_target=answer.whole_target is True)
    if isinstance(answer, Retry):
        after = answer.after if isinstance(answer.after, timedelta) else None
        return Retry(
            _reason(answer.reason), after, throttled=answer.throttled is True, unanswered=answer.unanswered is True
        )
    return Retry(f"the notifier answered with {type(answer).__name__}, which is not an outcome")


def _reason(reason: object) -> str:
    text = reason if isinstance(reason, str) else f"no reason, but {type(reason).__name__}"
    return text[:MAX_REASON_CHARS].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def throttle_for(outcome: Retry, policy: RetryPolicy) -> timedelta:
    """Return how long a target is throttled after its receiver asked for fewer messages."""
    return policy.throttle if outcome.after is None else policy.clamp(outcome.after)


def _wait(outcome: Retry, policy: RetryPolicy, attempts: int, jitter: float) -> timedelta:
    return policy.backoff(attempts, jitter) if outcome.after is None else policy.clamp(outcome.after)
