"""The shares of targets in a delivery transaction: by capacity, budget and throttle. Only due targets cost anything."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..model import DueTarget, NextDue, Pace, PageRecord
from ..ports import Transaction
from ..rules.fallback import Fallbacks
from ..rules.pace import Budget, after_taking, in_force, may_send_at


@attrs.frozen
class Shares:
    """Decides how many pages a worker may claim for each target, and when the next one may be sent."""

    budgets: Mapping[str, Budget]
    """The budgets of targets that have one."""
    capacity: Callable[[str], int]
    """Returns how many more pages to a target this worker can send now."""
    fallbacks: Fallbacks

    async def claimable(
        self, tx: Transaction, targets: Mapping[str, DueTarget], *, until: datetime, now: datetime
    ) -> tuple[Mapping[str, int], Mapping[str, Pace]]:
        """Return the number of pages to claim for each target, and the locked rows of targets with a limited rate.

        If another worker has locked a target's row, it takes the slots now, and this one leaves the target to it.
        """
        due = {name: one for name, one in targets.items() if one.due_at <= until}
        counts = {name: self.capacity(name) for name, one in due.items() if not one.held(now)}
        limited = sorted(name for name, count in counts.items() if count and self._is_limited(name, due[name].pace))
        paces = await tx.outbox.lock_targets(limited) if limited else {}
        for name in limited:
            budget = in_force(self.budgets.get(name), paces.get(name), now)
            if name not in paces:
                counts[name] = 0
            elif budget is not None:
                counts[name] = min(counts[name], budget.slots(paces[name].free_at, now))
        return {name: count for name, count in counts.items() if count}, paces

    async def take(
        self, tx: Transaction, paces: Mapping[str, Pace], leased: Sequence[PageRecord], now: datetime
    ) -> None:
        """Take the slots of claimed pages. If this worker dies, they are lost, and no page is."""
        taken = Counter(page.target for page in leased if page.target in paces)
        if taken:
            await tx.outbox.write_paces(
                [after_taking(self.budgets.get(name), paces[name], count, now) for name, count in taken.items()]
            )

    def next_page_at(self, seen: NextDue) -> datetime | None:
        """Return when the next page may be sent or handed over; None if there is none."""
        late = (one.hand_over_at for name, one in seen.targets.items() if name in self.fallbacks.of)
        return min([*self._sendable(seen.targets, seen.at), *filter(None, late)], default=None)

    def next_slot_in(self, seen: NextDue, until: datetime) -> timedelta | None:
        """Return how long a page that was due at ``until`` waits for a slot of its budget; None if none waits."""
        due = {name: one for name, one in seen.targets.items() if one.due_at <= until and not one.held(seen.at)}
        waits = (at - seen.at for at in self._sendable(due, seen.at))
        return min((wait for wait in waits if wait > timedelta()), default=None)

    def _is_limited(self, target: str, pace: Pace | None) -> bool:
        return target in self.budgets or (pace is not None and pace.slowed)

    def _sendable(self, due: Mapping[str, DueTarget], now: datetime) -> Sequence[datetime]:
        return [may_send_at(self.budgets.get(name), one, now) for name, one in due.items() if self.capacity(name)]
