"""Prune: delete old rows in batches."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import attrs

from ..errors import InvalidValue
from ..model import AuditSource, By
from ..ports import Store, Transaction, notices_of, walks_of
from ..rules.retention import MIN_RETENTION, may_go

BATCH = 2000


@attrs.frozen(kw_only=True)
class Pruned:
    """How many rows a prune deleted."""

    escalations: int = 0
    pages: int = 0
    audit: int = 0
    rest: int = 0
    """Ended pauses, expired ids of signed requests, old overrides and old notices."""


async def prune(store: Store, older_than: timedelta, who: By, progress: Callable[[int], None]) -> Pruned:
    """Delete old rows in batches, except those of open incidents and of each key's highest episode.

    Raises:
        InvalidValue: the span is shorter than a day.
    """
    if not isinstance(older_than, timedelta) or older_than < MIN_RETENTION:
        raise InvalidValue(
            "older_than", "is not a valid span of a day or more", "give a timedelta, for example timedelta(days=400)"
        )
    now = await store.read(lambda tx: tx.now())
    before = now - min(older_than, now - now.min.replace(tzinfo=now.tzinfo))
    gone: dict[AuditSource, int] = dict.fromkeys(AuditSource, 0)
    for source in (AuditSource.ESCALATION, AuditSource.NOTE):
        after: int | None = 0
        while after is not None:
            batch = partial(prune_batch, source=source, before=before, after=after)
            after, count, pages = await store.transact(batch)
            gone[source] += count
            gone[AuditSource.PAGE] += pages
            progress(sum(gone.values()))

    async def rest(tx: Transaction) -> Pruned:
        over = await tx.operations.delete_pauses(before=before) + await tx.requests.delete_expired(now=now)
        walks = walks_of(tx)
        if walks is not None:
            over += await walks.delete_overrides(before=before)
        notices = notices_of(tx)
        if notices is not None:
            over += await notices.delete(before=before)
        done = Pruned(
            escalations=gone[AuditSource.ESCALATION],
            pages=gone[AuditSource.PAGE],
            audit=gone[AuditSource.NOTE],
            rest=over,
        )
        what = f"older than {older_than.days} days: {sum(gone.values())} rows"
        await tx.journal.note([who.entry(now, "prune", what)])
        return done

    return await store.transact(rest)


async def prune_batch(
    tx: Transaction, *, source: AuditSource, before: datetime, after: int, limit: int = BATCH
) -> tuple[int | None, int, int]:
    """Delete the rows of one batch that ``may_go`` allows.

    Return the last id of the batch, None at the end, then the number of deleted rows and of their pages.
    """
    rows = await tx.operations.old(source, before=before, after=after, limit=limit)
    going = [row.id for row in rows if may_go(row, source, before)]
    count, pages = await tx.operations.delete(source, going) if going else (0, 0)
    return (rows[-1].id if rows else None), count, pages
