"""What becomes of a page: pure decisions about sending, trying again and giving up.

::

    pending --claim--> leased --sent--------------> delivered
       ^                 |---- failed -- retry ---> pending
       |                 |---- rejected, too old -> dead
       |                 '-- acknowledged ------> cancelling --sent--> delivered
       '--- dead retry --- dead                       '----- failed ----> cancelled
    pending -- acknowledged, resolved, drained --> cancelled
"""

from datetime import datetime, timedelta

import attrs

from ..errors import InvalidValue
from ..model import MAX_REASON_CHARS, Delivered, Incident, Outcome, PageRecord, PageState, Rejected, Retry, State


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Times of delivery, all settable."""

    lease: timedelta = timedelta(seconds=30)
    """How long a claimed page belongs to its sender."""
    send_timeout: timedelta = timedelta(seconds=10)
    """How long one attempt may take; a page with less than this left of its lease is not sent by that sender."""
    first: timedelta = timedelta(seconds=1)
    """The first back-off; it doubles with each attempt."""
    longest: timedelta = timedelta(seconds=60)
    horizon: timedelta = timedelta(hours=24)
    """A page that was tried for so long is dead."""
    least_after: timedelta = timedelta(seconds=1)
    most_after: timedelta = timedelta(hours=1)
    """A receiver's Retry-After is taken within these two."""
    throttle: timedelta = timedelta(seconds=10)
    """How long a target is held that wants fewer pages and does not say for how long."""
    per_target: int = 32
    """Pages in flight to one target at most: a slow target never keeps another one waiting."""

    def __attrs_post_init__(self) -> None:
        """Refuse what cannot work."""
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
        """How far ahead an unsettled page can be due: what lies beyond was written while the clock ran ahead."""
        return max(self.lease, self.longest, self.most_after, self.throttle)

    def backoff(self, attempts: int, jitter: float) -> timedelta:
        """Return the wait after so many attempts: doubling, capped, and between half and all of it by ``jitter``."""
        return backoff(attempts, first=self.first, longest=self.longest, jitter=jitter)

    def clamp(self, after: timedelta) -> timedelta:
        """Return a receiver's Retry-After within its limits."""
        return min(max(after, self.least_after), self.most_after)


def backoff(attempts: int, *, first: timedelta, longest: timedelta, jitter: float) -> timedelta:
    """Return the wait after so many attempts: doubling, capped, and between half and all of it by ``jitter``."""
    full = min(longest, first * float(2 ** min(attempts - 1, 30)))
    return full * (0.5 + 0.5 * jitter)


def cancel_reason(page: PageRecord, incident: Incident | None) -> str | None:
    """Return why a page that is about to be sent must not be: its incident ended; None when it may go."""
    if page.state is PageState.CANCELLING:
        return page.reason or "ended"
    if incident is None:
        return "deleted"
    if incident.state is not State.OPEN:
        return incident.state.value
    return "episode ended" if incident.episode != page.episode else None


def cancel(page: PageRecord, reason: str, now: datetime) -> PageRecord:
    """Return the page cancelled."""
    return _moved(page, PageState.CANCELLED, now, reason=reason)


def lease(page: PageRecord, policy: RetryPolicy, now: datetime) -> PageRecord:
    """Return the page as it belongs to the sender that claims it now."""
    return _moved(page, PageState.LEASED, now + policy.lease, reason=page.reason)


def mark_dead(page: PageRecord, reason: str, now: datetime) -> PageRecord:
    """Return the page dead."""
    return _moved(page, PageState.DEAD, now, reason=reason)


def revive(page: PageRecord, now: datetime) -> PageRecord:
    """Return a dead page as it is tried again, under the same dedup key."""
    return _moved(page, PageState.PENDING, now, reason=None, attempts=0, tried_for=timedelta())


def after_attempt(
    page: PageRecord, outcome: Outcome, *, policy: RetryPolicy, now: datetime, jitter: float, ended: str | None
) -> PageRecord:
    """Return the page after one attempt.

    ``jitter`` lies in [0, 1). ``ended`` is why the page must not be sent again (``cancel_reason``), None if it may.
    """
    counted = page.attempts if isinstance(outcome, Retry) and outcome.throttled else page.attempts + 1
    if isinstance(outcome, Delivered):
        return _moved(page, PageState.DELIVERED, now, reason=None, attempts=counted)
    if ended is not None:
        return _moved(page, PageState.CANCELLED, now, reason=ended, attempts=counted)
    if isinstance(outcome, Rejected):
        return _moved(page, PageState.DEAD, now, reason=outcome.reason, attempts=counted)
    wait = throttle_for(outcome, policy) if outcome.throttled else _wait(outcome, policy, counted, jitter)
    began = page.due_at - policy.lease
    # No attempt takes longer than its lease: where it seems so, the clock was set meanwhile.
    tried_for = page.tried_for + min(max(now - began, timedelta()), policy.lease) + wait
    if tried_for >= policy.horizon:
        reason = f"gave up after {counted} attempts: {outcome.reason}"
        return _moved(page, PageState.DEAD, now, reason=reason, attempts=counted, tried_for=tried_for)
    return _moved(page, PageState.PENDING, now + wait, reason=outcome.reason, attempts=counted, tried_for=tried_for)


def _moved(
    page: PageRecord,
    state: PageState,
    due_at: datetime,
    *,
    reason: str | None,
    attempts: int | None = None,
    tried_for: timedelta | None = None,
) -> PageRecord:
    """Return the page in another state, one fence further. Each page comes by here twice, and evolve is slow."""
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
    )


def due_after_step(
    page: PageRecord, *, now: datetime, step: timedelta, beyond: datetime, lease_ends: datetime
) -> datetime:
    """Return when an unsettled page is due: earlier if the clock stepped back, or if it lies ``beyond`` what any can.

    The rule of ``Outbox.bring_forward``; a store that has no SQL calls it.
    """
    if page.due_at <= (now if step else beyond):
        return page.due_at
    if page.state is not PageState.PENDING:
        return min(page.due_at, lease_ends)
    never_tried = page.attempts == 0 and page.reason is None
    return now if never_tried or page.due_at > beyond else max(now, page.due_at - step)


def throttled_after_step(until: datetime, *, now: datetime, step: timedelta, beyond: datetime) -> datetime:
    """Return until when a target is throttled, by the same rule."""
    if until <= (now if step else beyond):
        return until
    return now if until > beyond else max(now, until - step)


def parse_outcome(answer: object) -> Outcome:
    """Return a notifier's answer as an outcome that any store can write; any other answer becomes a retry."""
    if isinstance(answer, Delivered):
        return Delivered()
    if isinstance(answer, Rejected):
        return Rejected(_reason(answer.reason))
    if isinstance(answer, Retry):
        after = answer.after if isinstance(answer.after, timedelta) else None
        return Retry(_reason(answer.reason), after, throttled=answer.throttled is True)
    return Retry(f"the notifier answered with {type(answer).__name__}, which is not an outcome")


def _reason(reason: object) -> str:
    text = reason if isinstance(reason, str) else f"no reason, but {type(reason).__name__}"
    return text[:MAX_REASON_CHARS].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def throttle_for(outcome: Retry, policy: RetryPolicy) -> timedelta:
    """Return for how long a target is held after it asked for fewer pages."""
    return policy.throttle if outcome.after is None else policy.clamp(outcome.after)


def _wait(outcome: Retry, policy: RetryPolicy, attempts: int, jitter: float) -> timedelta:
    return policy.backoff(attempts, jitter) if outcome.after is None else policy.clamp(outcome.after)
