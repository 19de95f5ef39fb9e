"""Settling: write the outcomes of attempts to send pages, without waiting for locked rows."""

import random
from collections.abc import Sequence
from datetime import datetime
from typing import TypeGuard

from ..model import Delivered, Outcome, PageRecord, PageState, Rejected, Retry
from ..ports import Transaction
from ..rules.bundle import halved
from ..rules.fallback import Fallbacks
from ..rules.retry import RetryPolicy, after_attempt, cancel_reason, throttle_for

Finished = tuple[PageRecord, Outcome]
"""A page with the values of its lease, and the outcome of its attempt."""


async def settle(
    tx: Transaction,
    finished: Sequence[Finished],
    policy: RetryPolicy,
    fallbacks: Fallbacks,
    now: datetime,
    *,
    pass_began: datetime,
) -> tuple[list[PageRecord], list[Finished]]:
    """Write the outcomes of pages whose lease this sender still has. Return those pages, and the locked ones.

    A page that will not be delivered is handed over, if its target has a fallback. Of a refused bundle, only pages
    that are settled together are put into new bundles, which are due since ``pass_began``: the same pass sends them.
    This function does not wait for a locked row: a host that acknowledges by SQL locks the incident's pages until its
    transaction ends, and a worker that stands still in a claim locks its targets.
    """
    # Most pages were delivered. That does not depend on the incident's state, so these rows are not read again.
    arrived = [
        after_attempt(leased, outcome, policy=policy, now=now, jitter=0.0, ended=None)
        for leased, outcome in finished
        if isinstance(outcome, Delivered)
    ]
    written = await tx.outbox.settle(arrived) if arrived else frozenset()
    settled = [record for record in arrived if record.id in written]
    others = [(leased, outcome) for leased, outcome in finished if not isinstance(outcome, Delivered)]
    found_others = await tx.outbox.lock([record.id for record, _ in others]) if others else ()
    standing = {found.page.id: found for found in found_others}
    failed: list[PageRecord] = []
    refused: dict[str | None, list[PageRecord]] = {}
    throttled_until: dict[str, datetime] = {}
    jitters: dict[str | None, float] = {}
    for leased, outcome in others:
        found = standing.get(leased.id)
        if found is None or found.page.fence != leased.fence:
            continue
        jitter = random.random()  # noqa: S311 - spreads retries; nothing secret
        if leased.bundle is not None:  # its pages are tried again together
            jitter = jitters.setdefault(leased.bundle, jitter)
        ended = None if found.fault else cancel_reason(found.page, found.incident)
        fallback = fallbacks.of.get(leased.target)
        page = after_attempt(found.page, outcome, policy=policy, now=now, jitter=jitter, ended=ended, fallback=fallback)
        if isinstance(outcome, Rejected) and page.state is PageState.PENDING:
            refused.setdefault(leased.bundle, []).append(page)
        else:
            failed.append(page)
        if _is_throttled(outcome):
            until = now + throttle_for(outcome, policy)
            throttled_until[leased.target] = max(until, throttled_until.get(leased.target, until))
    failed += [page for pages in refused.values() for page in halved(pages, due_at=pass_began)]
    locked = {
        name for name, until in sorted(throttled_until.items()) if not await tx.outbox.throttle_target(name, until)
    }
    # A target whose row is locked is throttled later, and its pages are settled then.
    later = {leased.id for leased, outcome in others if leased.target in locked and _is_throttled(outcome)}
    failed = [page for page in failed if page.id not in later]
    if failed:
        await tx.outbox.write(failed)
    if handed_over := [page for page in failed if page.state is PageState.HANDED_OVER]:
        await tx.outbox.enqueue([fallbacks.page_for(page) for page in handed_over], now)
    decided = (written | standing.keys()) - later
    missing = [(leased, outcome) for leased, outcome in finished if leased.id not in decided]
    fences = await tx.outbox.fences([leased.id for leased, _ in missing]) if missing else {}
    return settled + failed, [each for each in missing if fences.get(each[0].id) == each[0].fence]


def _is_throttled(outcome: Outcome) -> TypeGuard[Retry]:
    return isinstance(outcome, Retry) and outcome.throttled
