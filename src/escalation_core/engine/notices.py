"""Notices: make them of what happened to paged incidents, claim them after the pages, and settle them."""

import logging
import random
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import attrs

from ..errors import StoreError, StoreRefused
from ..model import ClaimedNotice, NoticeBundle, NoticeRecord, Outcome, Retry
from ..model.keys import bundle_key
from ..ports import Notices, Store, Transaction, notices_of
from ..rules.bundle import MAX_BUNDLE
from ..rules.notices import (
    MAX_NOTICE_AGE,
    MAX_THREAD_AGE,
    Wanted,
    after_telling,
    end_notice,
    goes_alone,
    is_undone,
    lease_notice,
    make_notice,
)
from ..rules.retry import RetryPolicy, throttle_for
from ..settings import Settings
from .access import gate_at
from .messages import Send
from .shares import Share, Shares
from .tasks import monotonic

log = logging.getLogger("escalation_core")

BATCH = 1000
"""Of how many changes one transaction makes notices."""
MAX_MAKING_TIME = timedelta(seconds=5)
"""How long one call of ``tick`` makes notices at most. The next tick makes the others."""
EXPIRES_EVERY = timedelta(minutes=10)
"""How often a worker looks for notices that are too old and that no worker claims."""

REFUSED_WAIT = timedelta(minutes=1)
"""How long a worker claims no notice to a target after the store has refused to."""

FinishedNotice = tuple[NoticeRecord, Outcome]
"""A notice with the values of its lease, and the outcome of its attempt."""


@attrs.define
class NoticeMaker:
    """Makes notices of saved changes, in batches, each in a transaction of its own."""

    store: Store
    settings: Settings
    wanted: Wanted
    _expired_at: float | None = None
    _announced: bool = False

    async def make(self, *, changes: bool, longest: timedelta = timedelta()) -> tuple[int, bool]:
        """Make notices if there are ``changes``, in batches for about ``longest``, and at least one batch.

        Return of how many changes, and whether there may be more. If the store fails, the next tick tries again: the
        tick itself is complete.
        """
        if not self._announced:
            self._announced = True
            for warning in self.wanted.warnings():
                log.warning(warning)
        now = monotonic()
        if self._expired_at is None and not changes:
            self._expired_at = now
        # A process of one tick, for example of cron, looks at its first changes.
        late = self._expired_at is None or now - self._expired_at >= EXPIRES_EVERY.total_seconds()
        if self.settings.dry_run or not (changes or late):
            return 0, False
        total, batch = 0, partial(self._batch, expire=late)
        try:
            while (made := await self.store.transact(batch)) == BATCH:
                total += made
                if monotonic() - now >= longest.total_seconds():
                    return total, True
        except StoreError as error:
            log.warning("notices could not be made, and the next tick tries again: %s", error)
            return total, False
        if late:
            self._expired_at = now
        return total + made, False

    async def _batch(self, tx: Transaction, *, expire: bool) -> int:
        notices, now = notices_of(tx), await tx.now()
        if notices is None or not (await gate_at(tx, self.settings.switches, now)).may_escalate:
            return 0
        ready = await notices.ready(BATCH, now)
        if ready:
            arrivals = await notices.arrivals(sorted({one.change.incident_key for one in ready}))
            new = [
                notice
                for one in ready
                for notice in self.wanted.new_notices(one, arrivals.get(one.change.incident_key, ()), now)
            ]
            if new:
                await notices.enqueue(new, now)
            await notices.delete_changes([one.change.id for one in ready])
        if expire:
            await notices.expire(before=now - MAX_NOTICE_AGE, resolved_before=now - MAX_THREAD_AGE, now=now)
        return len(ready)


async def claim_notices(
    tx: Transaction,
    shares: Shares,
    wanted: Wanted,
    policy: RetryPolicy,
    *,
    but: Collection[str],
    until: datetime,
    now: datetime,
) -> tuple[list[Send], list[NoticeRecord], int]:
    """Claim notices that were due at ``until``, for what the budgets leave, and put them into messages.

    Leave out the targets of ``but``, to which pages wait. Delete notices that their targets do not get: another worker
    made them, which does not know what this one's notifiers ask for. Return the messages, the notices that
    have ended, and how many were deleted.
    """
    notices = notices_of(tx)
    found = {} if notices is None else await notices.due_targets()
    due = {name: one for name, one in found.items() if name not in but}
    targets = await shares.claimable_notices(tx, due, until=until, now=now) if due else {}
    if notices is None or not targets:
        return [], [], 0
    try:
        return await tx.savepoint(partial(_claim, tx, notices, targets, shares, wanted, policy, until, now))
    except StoreRefused as error:  # no page waits for what is wrong with notices
        log.warning("notices cannot be claimed, and are claimed again after %s: %s", REFUSED_WAIT, error)
        for name in targets:
            shares.hold_notices(name, now, REFUSED_WAIT)
        return [], [], 0


async def _claim(
    tx: Transaction,
    notices: Notices,
    targets: Mapping[str, Share],
    shares: Shares,
    wanted: Wanted,
    policy: RetryPolicy,
    until: datetime,
    now: datetime,
) -> tuple[list[Send], list[NoticeRecord], int]:
    capacity = {name: share.slots if share.most_apart is None else MAX_BUNDLE for name, share in targets.items()}
    ended, unwanted, going = list[NoticeRecord](), list[int](), dict[str, list[ClaimedNotice]]()
    for one in await notices.claim(capacity, until=until):
        record = one.notice
        if not wanted.wants_record(record, one.incident):
            unwanted.append(record.id)
        elif record.created_at <= now - (longest := wanted.max_age(record)):
            ended.append(end_notice(record, now, f"not delivered within {longest}"))
        elif is_undone(record.kind, record.episode, one.incident):
            ended.append(end_notice(record, now, "the incident is not acknowledged any more"))
        elif record.attempts and one.followed:
            ended.append(end_notice(record, now, f"a newer notice follows; {record.reason}"))
        else:
            going.setdefault(record.target, []).append(one)
    sends = [send for name, some in going.items() for send in _messages(some, targets[name], policy, now)]
    leased = [record for send in sends for record in send.records if isinstance(record, NoticeRecord)]
    await notices.write([*ended, *leased])
    await notices.delete_notices(unwanted)
    await shares.take(tx, targets, [send.target for send in sends], now)
    return sends, ended, len(unwanted)


def _messages(found: Sequence[ClaimedNotice], share: Share, policy: RetryPolicy, now: datetime) -> list[Send]:
    """Return the messages about notices to one target: one each, or one for all if they are too many for its budget.

    Notices whose bundle was refused go alone. Notices for which no slot is left stay as they are.
    """
    apart = [one for one in found if goes_alone(one.notice)]
    rest = [one for one in found if not goes_alone(one.notice)]
    if share.most_apart is None or len(rest) <= share.most_apart:
        apart, rest = [*apart, *rest], []
    alone = [(lease_notice(one.notice, policy, now, None), one.incident) for one in apart[: share.slots]]
    sends = [Send(make_notice(record, incident), [record]) for record, incident in alone]
    return [*sends, _bundle(rest, policy, now)] if rest and len(sends) < share.slots else sends


def _bundle(found: Sequence[ClaimedNotice], policy: RetryPolicy, now: datetime) -> Send:
    """Return one message about all these notices, which are to one target."""
    target = found[0].notice.target
    key = bundle_key(target, [one.notice.dedup_key for one in found])
    records = [lease_notice(one.notice, policy, now, key) for one in found]
    told = [make_notice(record, one.incident) for record, one in zip(records, found, strict=True)]
    attempt = max(notice.attempt for notice in told)
    return Send(NoticeBundle(target=target, dedup_key=key, notices=told, attempt=attempt), records)


async def settle_notices(
    tx: Transaction,
    finished: Sequence[FinishedNotice],
    shares: Shares,
    wanted: Wanted,
    policy: RetryPolicy,
    now: datetime,
) -> list[NoticeRecord]:
    """Write the outcomes of notices whose lease this sender still has, and return them.

    A receiver that throttles a notice gets no other one from this worker for as long as it asks. Its pages are not
    held: it may refuse notices and take pages. If it throttles both, a page finds that out.
    """
    notices = notices_of(tx)
    if not finished or notices is None:
        return []
    jitter = random.random()  # noqa: S311 - spreads retries; nothing secret
    after = [
        after_telling(record, outcome, policy=policy, max_age=wanted.max_age(record), now=now, jitter=jitter)
        for record, outcome in finished
    ]
    for record, outcome in finished:
        if isinstance(outcome, Retry) and outcome.throttled:
            shares.hold_notices(record.target, now, throttle_for(outcome, policy))
    try:
        written = await tx.savepoint(partial(notices.settle, after))
    except StoreRefused as error:
        log.warning("%d notices cannot be settled, and are sent again when their leases end: %s", len(after), error)
        return []
    return [record for record in after if record.id in written]
