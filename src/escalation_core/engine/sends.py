"""What one message tells of: a page alone, or a bundle. Claimed pages are put together here, and leased."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from ..model import ClaimedPage, Incident, PageRecord, PageState
from ..model.keys import bundle_key
from ..ports import Transaction
from ..rules.bundle import MAX_BUNDLE, bundle_order, is_fresh
from ..rules.retry import RetryPolicy, cancel, cancel_reason, lease, mark_dead, supersede
from .shares import Share

Leased = Sequence[tuple[PageRecord, Incident]]
"""The leased pages of one message, worst first, with their incidents."""


@attrs.define
class Packer:
    """Puts claimed pages into messages, at most as many as each target's share allows, and leases them.

    Pages for which no slot is left stay as they are.
    """

    tx: Transaction
    shares: Mapping[str, Share]
    policy: RetryPolicy
    now: datetime
    packed: list[Leased] = attrs.field(factory=list)
    ended: list[PageRecord] = attrs.field(factory=list)
    """Pages that are not sent, in their new state."""
    _seen: set[int] = attrs.field(factory=set)

    async def pack(self, found: Sequence[ClaimedPage]) -> None:
        """Put pages into messages. They are those of a claim, in its order."""
        slots = {name: share.slots for name, share in self.shares.items()}
        for one in found:
            target = one.page.target
            if self._may_go(one) and slots[target]:
                slots[target] -= 1
                self._lease(*await self._with_others(one, found))

    async def _with_others(
        self, one: ClaimedPage, found: Sequence[ClaimedPage]
    ) -> tuple[Sequence[ClaimedPage], str | None]:
        """Return the pages that go with this one, and the key of their bundle; None if it goes alone."""
        page, share = one.page, self.shares[one.page.target]
        if page.bundle is not None and share.can_bundle:
            members, all_of_it = await self.tx.outbox.lock_bundle(page.bundle)
            held = {other.page.id for other in members if _is_held(other.page, self.now)}
            members = [one for one in members if one.page.id not in held and self._may_go(one)]
            if all_of_it and not held:
                return members, page.bundle
        elif share.crowded and is_fresh(page):
            members = [
                other
                for other in found
                if other.page.target == page.target and is_fresh(other.page) and self._may_go(other)
            ][:MAX_BUNDLE]
            # What has waited for long is in the first bundles, but the worst pages are the ones that are named.
            members.sort(key=lambda other: bundle_order(other.page))
        else:
            return [one], None
        key = bundle_key(page.target, [other.page.dedup_key for other in members])
        return members, key if len(members) > 1 else None

    def _may_go(self, one: ClaimedPage) -> bool:
        """Return whether a page may be sent and is in no message yet. If it may never be sent, end it."""
        page = one.page
        if page.id in self._seen:
            return False
        over = ended(one, self.now)
        if over is not None:
            self._seen.add(page.id)
            self.ended.append(over)
        return over is None

    def _lease(self, members: Sequence[ClaimedPage], bundle: str | None) -> None:
        pages = [
            (lease(one.page, self.policy, self.now, bundle), one.incident)
            for one in members
            if one.incident is not None
        ]
        self._seen.update(page.id for page, _ in pages)
        self.packed.append(pages)


def _is_held(page: PageRecord, now: datetime) -> bool:
    """Return whether a sender still has the page."""
    return page.state is not PageState.PENDING and page.due_at > now


def ended(found: ClaimedPage, now: datetime) -> PageRecord | None:
    """Return a page that must not be sent to anyone in its new state; None if it may be sent."""
    page = found.page
    if found.fault is not None:
        return mark_dead(page, f"unrenderable: {found.fault}", now)
    if (why := cancel_reason(page, found.incident)) is not None:
        return cancel(page, why, now)
    if found.newer is not None and page.state is PageState.PENDING:
        return supersede(page, found.newer, now)
    return None
