"""The one transaction of delivery: settle pages whose attempts have ended, and claim pages to send."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from ..model import DueTarget, NoticeRecord, PageRecord
from ..ports import Transaction
from ..rules.fallback import waiting_since
from ..rules.notices import Wanted
from ..rules.retry import hand_over
from ..settings import Settings
from .access import gate_at
from .messages import Messages, Send
from .notices import FinishedNotice, claim_notices, settle_notices
from .sends import Leased, Packer
from .sends import ended as ended_page
from .settle import Finished, settle
from .shares import Shares
from .versions import Versions

LATE_BATCH = 1000
"""How many pages one transaction hands over at most."""


@attrs.frozen(kw_only=True)
class Exchange:
    """The result of one delivery transaction."""

    settled: Sequence[PageRecord] = ()
    """Pages whose attempt had ended, in their new state."""
    told: Sequence[NoticeRecord] = ()
    """Notices whose attempt had ended, in their new state."""
    untold: Sequence[NoticeRecord] = ()
    """Claimed notices that are not sent: they have ended."""
    unwanted: int = 0
    """How many notices were deleted, because their targets do not get them."""
    sends: Sequence[Send] = ()
    """Claimed pages to send."""
    ended: Sequence[PageRecord] = ()
    """Claimed pages that are not sent: they are cancelled, superseded, handed over or dead now."""
    locked: Sequence[Finished] = ()
    """Pages whose attempt had ended and that are not settled yet, because other transactions lock their rows."""
    at: datetime | None = None

    @property
    def more(self) -> bool:
        """Whether more pages may be ready to start now."""
        return bool(self.sends or self.ended or self.untold or self.unwanted)


@attrs.frozen(kw_only=True)
class Exchanger:
    """Runs the transaction of a delivery."""

    settings: Settings
    versions: Versions
    shares: Shares
    wanted: Wanted

    async def exchange(
        self,
        tx: Transaction,
        finished: Sequence[Finished],
        notices: Sequence[FinishedNotice],
        until: datetime | None,
        *,
        claim: bool,
        tell: bool,
    ) -> Exchange:
        """Settle what was sent, and claim pages that were due at ``until``; None means now.

        If there is no page to send, claim notices, if ``tell`` allows it.
        """
        now, settings = await tx.now(), self.settings
        # If the clock stepped back within this pass, ``until`` lies in the future: claim only pages that are due now.
        until = min(until or now, now)
        settled, locked = await settle(tx, finished, settings.retry, settings.fallback, now, pass_began=until)
        told = await settle_notices(tx, notices, self.shares, self.wanted, settings.retry, now)
        if not claim or not (await gate_at(tx, settings.switches, now)).may_escalate:
            return Exchange(settled=settled, told=told, locked=locked, at=now)
        due = await tx.outbox.due_targets()
        ended = await _hand_over(tx, due, settings, now)
        targets = await self.shares.claimable(tx, due, until=until, now=now)
        packer = Packer(tx, targets, settings.retry, now)
        if targets:
            counts = {name: share.pages for name, share in targets.items()}
            await packer.pack(await tx.outbox.claim(counts, now=now, until=until))
        leased = [record for pages in packer.packed for record, _ in pages]
        if leased or packer.ended:
            await tx.outbox.write([*leased, *packer.ended])
        sends = await self._sends(tx, packer.packed, now)
        await self.shares.take(tx, targets, [send.target for send in sends], now)
        ended += packer.ended
        untold, unwanted = list[NoticeRecord](), 0
        if tell and not (sends or ended):
            busy = {name for name, one in due.items() if one.due_at <= until}
            sends, untold, unwanted = await claim_notices(
                tx, self.shares, self.wanted, settings.retry, but=busy, until=until, now=now
            )
        return Exchange(
            settled=settled,
            told=told,
            untold=untold,
            unwanted=unwanted,
            locked=locked,
            sends=sends,
            ended=ended,
            at=now,
        )

    async def _sends(self, tx: Transaction, packed: Sequence[Leased], now: datetime) -> list[Send]:
        if not packed:
            return []
        messages = await Messages.read(tx, self.versions, packed, now)
        return [messages.send(pages) for pages in packed]


async def _hand_over(
    tx: Transaction, due: Mapping[str, DueTarget], settings: Settings, now: datetime
) -> list[PageRecord]:
    """Hand over the pages that wait for too long, also those of targets that are throttled. Return all that have ended.

    A pause does not count as waiting. A page that has waited for less without it is looked at again later.
    """
    fallbacks = settings.fallback
    late = [name for name, one in due.items() if name in fallbacks.of and one.is_late(now)]
    found = await tx.outbox.claim_late(late, now=now, limit=LATE_BATCH) if late else ()
    if not found:
        return []
    pauses = await tx.operations.pauses(min(one.page.created_at for one in found))
    since = waiting_since(now, fallbacks.after, settings.switches, pauses)
    ended, handed_over, kept = list[PageRecord](), list[PageRecord](), list[PageRecord]()
    for one in found:
        page = one.page
        if (over := ended_page(one, now)) is not None:
            ended.append(over)
        elif page.created_at <= since or page.created_at > now:  # recorded while the clock was ahead
            why = f"not delivered within {fallbacks.after}" + (f"; {page.reason}" if page.reason else "")
            handed_over.append(hand_over(page, fallbacks.of[page.target], why, now))
        else:
            kept.append(attrs.evolve(page, hand_over_at=now + min(page.created_at - since, fallbacks.after)))
    await tx.outbox.write([*ended, *handed_over, *kept])
    await tx.outbox.enqueue([fallbacks.page_for(page) for page in handed_over], now)
    return [*ended, *handed_over]
