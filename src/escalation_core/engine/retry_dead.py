"""Retry of dead pages: queue them again under the same dedup key, or route them again if they have no target."""

from collections.abc import AsyncIterator, Sequence

import attrs

from ..errors import StoreRefused
from ..model import AuditRange, By, ClaimedPage, NewPage, PageRecord, PageState
from ..ports import Store, Transaction
from ..rules.retry import cancel, cancel_reason, revive
from ..rules.routing import Pager

MAX_NOTES = 1000
"""The most notes of an incident that are read to find an acknowledgement."""
_ACKNOWLEDGED = ("acknowledge", "unacknowledge", "ack_expired")
"""Notes that prove an acknowledgement after a page was recorded: it was recorded while the incident was open."""

BATCH = 500


@attrs.frozen(kw_only=True)
class RetriedDead:
    """The result of a retry of dead pages."""

    queued: int = 0
    """Pages that are pending again."""
    cancelled: int = 0
    """Pages that are not sent: their incident or episode ended, or was acknowledged after they were recorded."""
    left: int = 0
    """Pages that stay dead, because the router names no target or the target has no notifier."""


async def retry_dead(store: Store, ids: Sequence[int] | None, pager: Pager, who: By) -> RetriedDead:
    """Queue dead pages again, or cancel them if their incident has ended: the pages with these ids, or all of them."""
    total = RetriedDead()
    async for chunk in _chunks(store, ids):

        async def work(tx: Transaction, chunk: Sequence[int] = chunk) -> RetriedDead:
            return await _retry(tx, chunk, pager, who)

        done = await store.transact(work)
        total = RetriedDead(
            queued=total.queued + done.queued,
            cancelled=total.cancelled + done.cancelled,
            left=total.left + done.left,
        )
    return total


async def _chunks(store: Store, ids: Sequence[int] | None) -> AsyncIterator[Sequence[int]]:
    if ids is not None:
        for first in range(0, len(ids), BATCH):
            yield list(dict.fromkeys(ids[first : first + BATCH]))
        return
    after = 0
    while True:

        async def work(tx: Transaction, after: int = after) -> Sequence[PageRecord]:
            return await tx.outbox.pages(after=after, limit=BATCH, state=PageState.DEAD)

        found = await store.read(work)
        if not found:
            return
        after = found[-1].id
        yield [record.id for record in found]


async def _retry(tx: Transaction, ids: Sequence[int], pager: Pager, who: By) -> RetriedDead:
    now = await tx.now()
    revived: list[PageRecord] = []
    anew: list[NewPage] = []
    ended: list[PageRecord] = []
    left = 0
    for found in await tx.outbox.lock(ids):
        page = found.page
        if page.state is not PageState.DEAD:
            continue
        why = cancel_reason(page, found.incident) if found.fault is None else None
        if why is None and await _acknowledged_since(tx, page):
            why = "acknowledged"
        if why is not None:
            ended.append(cancel(page, why, now))
            continue
        routed = [] if page.target else _route_again(found, pager)
        if page.target in pager.served:
            revived.append(revive(page, now))
        elif routed:
            anew.extend(routed)
            revived.append(cancel(page, "routed again", now))
        else:
            left += 1
    await tx.outbox.write([*revived, *ended])
    await tx.outbox.enqueue(anew, now)
    if revived or ended:
        what = f"{len(revived)} pages queued, {len(ended)} cancelled"
        await tx.journal.note([who.entry(now, "dead retry", what)])
    return RetriedDead(queued=len(revived), cancelled=len(ended), left=left)


async def _acknowledged_since(tx: Transaction, page: PageRecord) -> bool:
    """Return whether the incident was acknowledged after the page was recorded, although the acknowledgement ended.

    A store that cannot read its audit does not know.
    """
    try:
        noted = await tx.journal.notes(
            AuditRange(since=page.created_at), limit=MAX_NOTES, incident_key=page.incident_key
        )
    except StoreRefused:
        return False
    # Of very many notes the oldest are not read. One of them may be an acknowledgement, so the page is not sent.
    return len(noted) == MAX_NOTES or any(
        note.action in _ACKNOWLEDGED and note.episode == page.episode for _, note in noted
    )


def _route_again(found: ClaimedPage, pager: Pager) -> list[NewPage]:
    """Return the pages that can be delivered to the targets that the router names now, which may be empty."""
    if found.incident is None:
        return []
    risen = attrs.evolve(found.incident, level=found.page.level, episode=found.page.episode)
    pages = pager.pages_for(risen, found.page.dedup_key, first=found.page.level == 1)
    return [page for page in pages if page.undeliverable_reason is None]
