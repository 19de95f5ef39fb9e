"""The last attempts to each target: this engine keeps them in memory, and its next heartbeat writes them together."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import attrs

from ..errors import StoreError
from ..model import Delivered, LastAttempts
from ..ports import Store, Transaction
from .settle import Finished

log = logging.getLogger("escalation_core")


@attrs.define
class AttemptLog:
    """Keeps when the last attempts to each target ended, so that no page costs a write to its target's row."""

    _latest: dict[str, LastAttempts] = attrs.field(factory=dict)

    def add(self, finished: Iterable[Finished], at: datetime | None) -> None:
        """Keep the outcomes of pages. ``at`` is the store's instant at which they were settled."""
        # Attempts that are settled together have one instant, so each target's last arrival and last failure count.
        last = {(page.target, isinstance(outcome, Delivered)): outcome for page, outcome in finished}
        for (target, _), outcome in last.items():
            if isinstance(outcome, Delivered):
                one = LastAttempts(target=target, delivered_at=at)
            else:
                one = LastAttempts(target=target, failed_at=at, error=outcome.reason)
            self._latest[target] = self._latest.get(target, one).later(one)

    def unwritten(self) -> Mapping[str, LastAttempts]:
        """Return the last attempts that no heartbeat has written."""
        return dict(self._latest)

    def written(self, latest: Mapping[str, LastAttempts]) -> None:
        """Forget these, unless another attempt has ended since."""
        for target, one in latest.items():
            if self._latest.get(target) is one:
                del self._latest[target]

    async def write(self, store: Store) -> None:
        """Write what no heartbeat will write, because the engine closes. If the store is down, they are lost."""
        latest = self.unwritten()
        if not latest:
            return

        async def work(tx: Transaction) -> None:
            await record(tx, latest, now=await tx.now(), step=timedelta())

        try:
            await store.transact(work)
        except StoreError as error:
            log.info("the last attempts to %d targets could not be written: %s", len(latest), error)
        self.written(latest)


async def record(tx: Transaction, latest: Mapping[str, LastAttempts], *, now: datetime, step: timedelta) -> None:
    """Write the last attempts. After the clock stepped back, correct the instants of all targets."""
    if latest or step:
        moved = [one.moved_back(now, step) for one in latest.values()]
        await tx.journal.record_attempts(moved, now=now, step=step)
