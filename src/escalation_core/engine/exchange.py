"""The one transaction of delivery: settle pages whose attempts have ended, and claim pages to send."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import Incident, PageRecord
from ..ports import Transaction
from ..rules.retry import cancel, cancel_reason, lease, mark_dead
from ..settings import Settings
from .access import gate_at
from .settle import Finished, settle
from .shares import Shares


@attrs.frozen(kw_only=True)
class Exchange:
    """The result of one delivery transaction."""

    settled: Sequence[PageRecord] = ()
    """Pages whose attempt had ended, in their new state."""
    leased: Sequence[tuple[PageRecord, Incident]] = ()
    """Claimed pages to send."""
    ended: Sequence[PageRecord] = ()
    """Claimed pages that must not be sent: they are cancelled or dead now."""
    locked: Sequence[Finished] = ()
    """Pages whose attempt had ended and that are not settled yet, because other transactions lock their rows."""
    at: datetime | None = None


async def exchange(
    tx: Transaction,
    finished: Sequence[Finished],
    until: datetime | None,
    *,
    claim: bool,
    settings: Settings,
    shares: Shares,
) -> Exchange:
    """Settle pages whose attempts have ended and claim pages that were due at ``until``; None means now."""
    now = await tx.now()
    settled, locked = await settle(tx, finished, settings.retry, now)
    if not claim or not (await gate_at(tx, settings.switches, now)).may_escalate:
        return Exchange(settled=settled, locked=locked, at=now)
    leased: list[tuple[PageRecord, Incident]] = []
    ended: list[PageRecord] = []
    # If the clock stepped back within this pass, ``until`` lies in the future: claim only pages that are due now.
    until = min(until or now, now)
    counts, paces = await shares.claimable(tx, until=until, now=now)
    for found in await tx.outbox.claim(counts, now=now, until=until) if counts else ():
        if found.fault is not None:
            ended.append(mark_dead(found.page, f"unrenderable: {found.fault}", now))
        elif (why := cancel_reason(found.page, found.incident)) is not None or found.incident is None:
            ended.append(cancel(found.page, why or "deleted", now))
        else:
            leased.append((lease(found.page, settings.retry, now), found.incident))
    if leased or ended:
        await tx.outbox.write([*(record for record, _ in leased), *ended])
    await shares.take(tx, paces, [record for record, _ in leased], now)
    return Exchange(settled=settled, locked=locked, leased=leased, ended=ended, at=now)
