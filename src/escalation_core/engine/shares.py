"""The shares of targets in a delivery transaction: by capacity, budget and throttle. Only due targets cost anything."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..model import Budget, DueTarget, NextDue, Pace
from ..ports import Transaction
from ..rules.bundle import MAX_BUNDLE, most_apart
from ..rules.fallback import Fallbacks
from ..rules.pace import after_taking, in_force, may_send_at

SPARE = 32
"""How many pages beyond the slots of a budget to claim."""


@attrs.frozen(kw_only=True)
class Share:
    """What a worker may claim for a target now."""

    slots: int
    """How many messages it may send."""
    pace: Pace | None = None
    """The locked row of a target with a limited rate."""
    can_bundle: bool = False
    crowded: bool = False
    """More pages wait than the budget takes in time, so they are bundled."""
    most_apart: int | None = None
    """How many messages the budget takes in time; None if the target has no budget, or gets no bundles."""

    @property
    def pages(self) -> int:
        """How many pages to claim.

        Of a target whose row is locked a few more than may be sent: those that are superseded or cancelled take no
        slot, and each would cost a transaction. No other worker claims pages of such a target meanwhile.
        """
        if self.crowded:
            return MAX_BUNDLE
        return self.slots if self.pace is None else self.slots + SPARE


@attrs.frozen(kw_only=True)
class Shares:
    """Decides how many pages a worker may claim for each target, and when the next one may be sent."""

    budgets: Mapping[str, Budget]
    """The budgets of targets that have one."""
    bundling: Collection[str]
    """The targets whose notifier can send bundles."""
    bundle_after: timedelta
    fallbacks: Fallbacks
    capacity: Callable[[str], int]
    """Returns how many more messages about pages to a target this worker can send now."""
    notice_capacity: Callable[[str], int]
    """Returns how many more notices to a target this worker can send now."""
    _notices_held: dict[str, tuple[datetime, datetime]] = attrs.field(factory=dict, init=False)
    """Since when and until when this worker sends no notice to a target, because its receiver throttled one."""

    async def claimable(
        self, tx: Transaction, targets: Mapping[str, DueTarget], *, until: datetime, now: datetime
    ) -> Mapping[str, Share]:
        """Return the share of each target that can get a message now. Lock the rows of those with a limited rate.

        If another worker has locked a target's row, it takes the slots now, and this one leaves the target to it.
        """
        shares = await self._shares(tx, targets, self.capacity, until=until, now=now)
        most = {name: share.most_apart for name, share in shares.items() if share.most_apart is not None}
        if not most:
            return shares
        waiting = await tx.outbox.count_waiting({name: count + 1 for name, count in most.items()}, until=until)
        crowded = [name for name, count in most.items() if waiting.get(name, 0) > count]
        return {**shares, **{name: attrs.evolve(shares[name], crowded=True) for name in crowded}}

    async def claimable_notices(
        self, tx: Transaction, targets: Mapping[str, DueTarget], *, until: datetime, now: datetime
    ) -> Mapping[str, Share]:
        """Return the share of each target that can get a notice now. Half of each burst stays free for pages."""
        free = {name: one for name, one in targets.items() if self._held_until(name, now) <= now}
        return await self._shares(tx, free, self.notice_capacity, until=until, now=now, spare=True)

    def hold_notices(self, target: str, now: datetime, wait: timedelta) -> None:
        """Claim no notice to a target for a while."""
        self._notices_held[target] = now, max(now + wait, self._held_until(target, now))

    def _held_until(self, target: str, now: datetime) -> datetime:
        """Return until when notices to a target are held; ``now`` if they are not.

        A hold that began later than now began before the clock stepped back, and has ended.
        """
        since, until = self._notices_held.get(target, (now, now))
        return until if since <= now else now

    async def _shares(
        self,
        tx: Transaction,
        targets: Mapping[str, DueTarget],
        capacity: Callable[[str], int],
        *,
        until: datetime,
        now: datetime,
        spare: bool = False,
    ) -> Mapping[str, Share]:
        due = {name: one for name, one in targets.items() if one.due_at <= until and not one.is_throttled(now)}
        shares = {
            name: Share(slots=count, can_bundle=name in self.bundling) for name in due if (count := capacity(name)) > 0
        }
        limited = sorted(name for name in shares if self._is_limited(name, due[name].pace))
        paces = await tx.outbox.lock_targets(limited) if limited else {}
        for name in limited:
            if (pace := paces.get(name)) is None:
                shares[name] = attrs.evolve(shares[name], slots=0)
                continue
            budget, slots, apart = in_force(self.budgets.get(name), pace, now), shares[name].slots, None
            if budget is not None:
                slots = min(slots, max(budget.slots(pace.free_at, now) - (budget.spare if spare else 0), 0))
                apart = most_apart(budget, self.bundle_after) if name in self.bundling else None
            shares[name] = attrs.evolve(shares[name], slots=slots, pace=pace, most_apart=apart)
        return {name: share for name, share in shares.items() if share.slots}

    async def take(self, tx: Transaction, shares: Mapping[str, Share], sent_to: Sequence[str], now: datetime) -> None:
        """Take a slot for each message. If this worker dies, they are lost, and no page is."""
        taken = [
            after_taking(self.budgets.get(name), pace, count, now)
            for name, count in Counter(sent_to).items()
            if (pace := shares[name].pace) is not None
        ]
        if taken:
            await tx.outbox.write_paces(taken)

    def next_page_at(self, seen: NextDue) -> datetime | None:
        """Return when the next page may be sent or handed over, or the next notice told; None if there is none."""
        late = (one.hand_over_at for name, one in seen.targets.items() if name in self.fallbacks.of)
        notices = [
            max(may_send_at(self.budgets.get(name), one, seen.at, spare=True), self._held_until(name, seen.at))
            for name, one in seen.notices.items()
            if self.notice_capacity(name) and not _is_due(seen.targets.get(name), seen.at)
        ]
        return min([*self._sendable(seen.targets, seen.at), *filter(None, late), *notices], default=None)

    def next_slot_in(self, seen: NextDue, until: datetime) -> timedelta | None:
        """Return how long a page that was due at ``until`` waits for a slot of its budget; None if none waits."""
        due = {name: one for name, one in seen.targets.items() if one.due_at <= until and not one.is_throttled(seen.at)}
        waits = (at - seen.at for at in self._sendable(due, seen.at))
        return min((wait for wait in waits if wait > timedelta()), default=None)

    def _is_limited(self, target: str, pace: Pace | None) -> bool:
        return target in self.budgets or (pace is not None and pace.slowed)

    def _sendable(self, due: Mapping[str, DueTarget], now: datetime) -> Sequence[datetime]:
        return [may_send_at(self.budgets.get(name), one, now) for name, one in due.items() if self.capacity(name)]


def _is_due(target: DueTarget | None, now: datetime) -> bool:
    """Return whether pages to a target wait. Its notices wait until none does."""
    return target is not None and target.due_at <= now
