"""The steps of a runner's two loops: how long to wait, and what to start, settle and finish."""

from datetime import datetime, timedelta

from ..rules.gate import Gate, Mode
from ..rules.sleep import until_next_claim, until_next_tick
from .access import StoreAccess
from .deliver import SETTLE_AGAIN, Delivery
from .heartbeat import HeartbeatKeeper
from .report import DeliveryReport, TickReport
from .tasks import LoopGuard, TaskGroup


class LoopSteps(StoreAccess):
    """What a runner calls between ticks, for example ``escalation_adapters.worker.runner``."""

    _delivery: Delivery
    _due: TaskGroup
    _heartbeat_keeper: HeartbeatKeeper
    _loop_guard: LoopGuard

    async def next_tick_in(self, report: TickReport) -> timedelta:
        """Return how long to wait after a tick before the next one may find work."""
        if report.recalculating or report.changes:
            return timedelta()
        await self.check()
        seen = await self.store.next_due(canary=self.settings.canary)
        gate = Gate.at(self.settings.switches, seen.at, seen.pauses)
        return until_next_tick(
            earliest=None if report.dry_run else seen.due_at,
            now=seen.at,
            gate=gate,
            longest=self.settings.tick_interval,
            ticked_until=(report.at or seen.at) if report.mode is Mode.OPEN else None,
            changed=report.changed,
        )

    async def next_claim_in(self) -> timedelta:
        """Return how long to wait before another page can be claimed."""
        await self.check()
        seen = await self.store.next_due(canary=self.settings.canary, pages=True)
        gate = Gate.at(self.settings.switches, seen.at, seen.pauses)
        earliest = None if self.settings.dry_run else self._delivery.shares.next_page_at(seen)
        wait = until_next_claim(earliest=earliest, now=seen.at, gate=gate, longest=self.settings.tick_interval)
        return min(wait, SETTLE_AGAIN) if self._delivery.owes else wait

    async def start_pages(self) -> bool:
        """Settle the pages whose attempts have ended, and start to send pages that are due, up to the capacity.

        Return whether more pages may be ready to start now.
        """
        self._loop_guard.check()
        await self.check()
        return (await self._delivery.start_due()).more

    async def wait_for_pages(self, longest: timedelta) -> None:
        """Wait until an attempt ends or ``wake`` is called, at most for ``longest``."""
        await self._delivery.wait(longest)

    def wake(self) -> None:
        """Wake the delivery loop, because there may be pages to send."""
        self._delivery.tasks.wake()

    async def wait_for_due(self) -> None:
        """Wait until ``open`` of this engine leaves an incident that is due, and no tick has begun since."""
        await self._due.wait()

    async def finish_pages(self) -> None:
        """Wait for the pages being sent, and settle them. Each send has a time limit, and so has this wait."""
        await self._delivery.finish()

    async def abandon_pages(self) -> None:
        """Cancel the running sends. Their pages may have arrived or not; they are sent again when the leases end."""
        await self._delivery.abandon()

    def take_delivery_report(self) -> DeliveryReport:
        """Return the counts of the deliveries since the last report."""
        return self._delivery.take_report()

    @property
    def reload_requested_at(self) -> datetime | None:
        """When an operator last asked the workers to read their policies file again, as of the last heartbeat."""
        return self._heartbeat_keeper.reload_requested_at
