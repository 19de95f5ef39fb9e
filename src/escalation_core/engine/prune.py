"""What is kept, and for how long."""

from collections.abc import Callable
from datetime import timedelta

import attrs

from ..errors import InvalidValue
from ..model import AuditSource, By
from ..ports import Store, Transaction

MIN_RETENTION = timedelta(days=1)
"""The shortest retention: what is younger may still be needed to tell a duplicate."""
BATCH = 2000


@attrs.frozen(kw_only=True)
class Pruned:
    """How many rows a prune removed."""

    escalations: int = 0
    pages: int = 0
    audit: int = 0
    rest: int = 0
    """Pauses that are over, ids of requests that have expired, and limits that nobody knocks at any more."""


async def prune(store: Store, older_than: timedelta, who: By, progress: Callable[[int], None]) -> Pruned:
    """Remove what is older, batch by batch: never of an open incident, never of a key's highest episode.

    Raises:
        InvalidValue: the span is shorter than a day.
    """
    if not isinstance(older_than, timedelta) or older_than < MIN_RETENTION:
        raise InvalidValue("older_than", "is no span of a day or more", "give a timedelta, such as timedelta(days=400)")
    now = await store.read(lambda tx: tx.now())
    before = now - min(older_than, now - now.min.replace(tzinfo=now.tzinfo))
    gone: dict[AuditSource, int] = dict.fromkeys(AuditSource, 0)
    for source in (AuditSource.ESCALATION, AuditSource.NOTE):
        after: int | None = 0
        while after is not None:

            async def batch(
                tx: Transaction, source: AuditSource = source, after: int = after
            ) -> tuple[int | None, int, int]:
                return await tx.operations.prune(source, before=before, after=after, limit=BATCH)

            after, count, pages = await store.transact(batch)
            gone[source] += count
            gone[AuditSource.PAGE] += pages
            progress(sum(gone.values()))

    async def rest(tx: Transaction) -> Pruned:
        forgotten = await tx.operations.delete_expired(before=before, now=now)
        done = Pruned(
            escalations=gone[AuditSource.ESCALATION],
            pages=gone[AuditSource.PAGE],
            audit=gone[AuditSource.NOTE],
            rest=forgotten,
        )
        what = f"older than {older_than.days} days: {sum(gone.values())} rows"
        await tx.journal.note([who.entry(now, "prune", what)])
        return done

    return await store.transact(rest)
