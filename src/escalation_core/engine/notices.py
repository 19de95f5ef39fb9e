"""Notices: make them of what happened to paged incidents, claim them after the pages, and settle them."""

import logging
import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import attrs

from ..errors import StoreError
from ..model import ClaimedNotice, NoticeBundle, NoticeRecord, Outcome, Retry
from ..model.keys import bundle_key
from ..ports import Store, Transaction, notices_of
from ..rules.bundle import MAX_BUNDLE
from ..rules.notices import (
    WORTH_MAKING,
    WORTH_TELLING,
    Wanted,
    after_telling,
    end_notice,
    is_over,
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
MAKES_FOR = timedelta(seconds=5)
"""How long a tick makes notices at most. The next tick makes the others."""
EXPIRES_EVERY = timedelta(minutes=10)
"""How often a worker looks for notices that are too old and that no worker claims."""

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

    async def make(self, *, changes: bool) -> int:
        """Make notices if there are ``changes``, and return of how many changes.

        If the store fails, the next tick tries again: the tick itself is complete.
        """
        if not self._announced:
            self._announced = True
            for warning in self.wanted.warnings():
                log.warning(warning)
        now = monotonic()
        self._expired_at = now if self._expired_at is None else self._expired_at
        late = now - self._expired_at >= EXPIRES_EVERY.total_seconds()
        if self.settings.dry_run or not (changes or late):
            return 0
        total = 0
        try:
            while (made := await self.store.transact(self._batch)) == BATCH:
                total += made
                if monotonic() - now >= MAKES_FOR.total_seconds():
                    return total
        except StoreError as error:
            log.warning("notices could not be made, and the next tick tries again: %s", error)
            return total
        self._expired_at = now
        return total + made

    async def _batch(self, tx: Transaction) -> int:
        notices, now = notices_of(tx), await tx.now()
        if notices is None or not (await gate_at(tx, self.settings.switches, now)).may_escalate:
            return 0
        ready = await notices.ready(BATCH)
        if ready:
            fresh = [one for one in ready if one.change.at > now - WORTH_MAKING]
            arrivals = await notices.arrivals(sorted({one.change.incident_key for one in fresh}))
            new = [
                notice
                for one in fresh
                for notice in self.wanted.notices_of(one, arrivals.get(one.change.incident_key, ()))
            ]
            if new:
                await notices.enqueue(new, now)
            await notices.delete_changes([one.change.id for one in ready])
        await notices.expire(before=now - WORTH_TELLING, now=now)
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
) -> tuple[list[Send], list[NoticeRecord]]:
    """Claim notices that were due at ``until``, for what the budgets leave, and put them into messages.

    Leave out the targets of ``but``, to which pages wait. Return the messages, and the notices that are too old or that
    their targets do not get.
    """
    notices = notices_of(tx)
    found = {} if notices is None else await notices.due_targets()
    due = {name: one for name, one in found.items() if name not in but}
    targets = await shares.claimable_notices(tx, due, until=until, now=now) if due else {}
    if notices is None or not targets:
        return [], []
    capacity = {name: share.slots if share.most_apart is None else MAX_BUNDLE for name, share in targets.items()}
    ended, going = list[NoticeRecord](), dict[str, list[ClaimedNotice]]()
    for one in await notices.claim(capacity, until=until):
        record = one.notice
        if is_over(record, now):
            ended.append(end_notice(record, now, "it was not delivered within an hour"))
        elif not wanted.wants(record.kind, record.target, one.incident, record.level):
            ended.append(end_notice(record, now, "the target is not told of this"))
        else:
            going.setdefault(record.target, []).append(one)
    sends = [send for name, some in going.items() for send in _messages(some, targets[name], policy, now)]
    leased = [record for send in sends for record in send.records if isinstance(record, NoticeRecord)]
    await notices.write([*ended, *leased])
    await shares.take(tx, targets, [send.target for send in sends], now)
    return sends, ended


def _messages(found: Sequence[ClaimedNotice], share: Share, policy: RetryPolicy, now: datetime) -> list[Send]:
    """Return the messages about notices to one target: one each, or one for all if they are too many for its budget.

    Notices for which no slot is left stay as they are.
    """
    if share.most_apart is None or len(found) <= share.most_apart:
        alone = [(lease_notice(one.notice, policy, now, None), one.incident) for one in found[: share.slots]]
        return [Send(make_notice(record, incident), [record]) for record, incident in alone]
    target = found[0].notice.target
    key = bundle_key(target, [one.notice.dedup_key for one in found])
    records = [lease_notice(one.notice, policy, now, key) for one in found]
    told = [make_notice(record, one.incident) for record, one in zip(records, found, strict=True)]
    attempt = max(notice.attempt for notice in told)
    return [Send(NoticeBundle(target=target, dedup_key=key, notices=told, attempt=attempt), records)]


async def settle_notices(
    tx: Transaction, finished: Sequence[FinishedNotice], policy: RetryPolicy, now: datetime
) -> list[NoticeRecord]:
    """Write the outcomes of notices whose lease this sender still has, and return them."""
    notices = notices_of(tx)
    if not finished or notices is None:
        return []
    jitter = random.random()  # noqa: S311 - spreads retries; nothing secret
    after = [after_telling(record, outcome, policy=policy, now=now, jitter=jitter) for record, outcome in finished]
    throttled = {
        record.target: now + throttle_for(outcome, policy)
        for record, outcome in finished
        if isinstance(outcome, Retry) and outcome.throttled
    }
    for target, until in sorted(throttled.items()):
        await tx.outbox.throttle_target(target, until)
    written = await notices.settle(after)
    return [record for record in after if record.id in written]
