"""The engine: the public face. Verbs for incidents, ``tick`` to escalate, ``deliver`` to send, and views to look at."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import attrs

from ..checks import check_count, check_text
from ..errors import InvalidValue
from ..model import By
from ..ports import Heartbeat, Notifier, Router, Store, Transaction
from ..rules.gate import Gate, Mode
from ..rules.routing import Pager, SettingsRouter, notifiers_by_target
from ..rules.sleep import until_next_claim, until_next_tick
from ..settings import Settings
from ..version import VERSION
from .access import gate_at
from .deliver import SETTLE_AGAIN, Delivery
from .health import Health, Observed, build_health
from .heartbeat import HeartbeatKeeper
from .incidents import IncidentVerbs
from .operators import OperatorVerbs
from .report import DeliveryReport, TickReport
from .retry_dead import RetriedDead, retry_dead
from .tasks import LoopGuard, SingleFlight, TaskGroup
from .tick import Ticker
from .views import Views

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

log = logging.getLogger("escalation_core")

BATCH_SIZE = 1000
"""Rows per transaction of a tick: enough to make the round trips cheap, few enough to hold locks for moments."""
CONCURRENCY = 2
"""Transactions of a tick at once, each with a batch of its own: while one is planned the other is written."""


class Engine(IncidentVerbs, OperatorVerbs, Views):
    """Escalates the incidents of one store and pages people about them.

    Any number of engines, in any number of processes, may work on one store. ``router`` defaults to the settings'
    routes, ``worker`` names this engine in health. ``heartbeat`` is told of each tick that ran to its end; the URL in
    the settings alone makes none. An engine belongs to the event loop that it first ticks in.

    Raises:
        InvalidValue: the settings or a notifier is not valid, two of these serve one target, or a batch size below 1.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings | None = None,
        notifiers: Sequence[Notifier] = (),
        router: Router | None = None,
        worker: str | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = CONCURRENCY,
        meter_provider: "MeterProvider | None" = None,
        tracer_provider: "TracerProvider | None" = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        # OpenTelemetry takes half as long to import as everything here: who makes an engine waits for it, nobody else.
        from .telemetry import Telemetry  # noqa: PLC0415

        if settings is not None and not isinstance(settings, Settings):
            raise InvalidValue("settings", f"is {type(settings).__name__}", "give Settings(...), or Settings.from_env")
        super().__init__(store, settings or Settings())
        self.worker = check_text(worker, "worker") if worker is not None else uuid4().hex
        by_target = notifiers_by_target(notifiers)
        self._notifiers = tuple(notifiers)
        default = self.settings.default_target
        if default is None and len(by_target) == 1:
            default = next(iter(by_target))
        self._telemetry = Telemetry(meter_provider, tracer_provider)
        self._pager = Pager(router or SettingsRouter(self.settings.routes, default), frozenset(by_target))
        self._ticker = Ticker(
            store=store,
            settings=self.settings,
            pager=self._pager,
            batch_size=check_count(batch_size, "batch_size", 1),
            concurrency=check_count(concurrency, "concurrency", 1),
        )
        self._delivery = Delivery(store=store, settings=self.settings, notifiers=by_target, telemetry=self._telemetry)
        self._loop_guard = LoopGuard("this engine ticked", "open one for each loop: async with Engine(...)")
        self._dead_mans_switch = heartbeat
        self._switch_calls = TaskGroup()
        self._ticking: SingleFlight[TickReport] = SingleFlight()
        self._delivering: SingleFlight[DeliveryReport] = SingleFlight()
        self._heartbeat_keeper = HeartbeatKeeper(store, self.settings, self.worker, tuple(by_target))
        self._telemetry.observe(self)

    async def __aenter__(self) -> Self:
        """Check that the store is ready; if it is not, everything is closed, since nobody else would."""
        try:
            await self.check()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish and close, as ``aclose`` does."""
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the pages in flight, settle them, and close the notifiers and the store."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.aclose)
            for notifier in self._notifiers:
                closing.push_async_callback(notifier.aclose)
            await self._delivery.finish()
            while self._switch_calls.busy:
                await self._switch_calls.wait()

    # --- the two loops' bodies

    async def tick(self, *, dry_run: bool = False, deliver: bool = True) -> TickReport:
        """Record what is due, then make one bounded delivery pass: all that a host with a scheduler needs to call.

        A second call on one engine joins the one in flight; other processes may tick at the same time.
        ``deliver=False`` records only; a call that joins such a tick and wants delivery makes the pass after it. A dry
        run, asked for here or set, decides and reports, and changes nothing.

        Raises:
            StoreUnavailable: the database is out of reach; whole batches that were committed stand.
            EscalationError: the engine ticked in another event loop before.
        """
        self._loop_guard.check()
        if dry_run or self.settings.dry_run:
            return await self._tick(dry_run=True)
        if not deliver:
            return await self._ticking.run(self._tick)
        report = await self._ticking.run(self._tick_and_deliver)
        if report.delivery is None:
            # It joined a tick that only records, whose report is not this caller's alone: the pass goes into a copy.
            report = attrs.evolve(report, delivery=await self.deliver())
        return report

    async def deliver(self) -> DeliveryReport:
        """Make one pass over the pages that can be claimed: claim, send, settle. Each is tried at most once.

        Claiming stops after one tick interval; what is left is for the next pass.
        """
        self._loop_guard.check()
        return await self._delivering.run(self._deliver)

    async def retry_dead(
        self, ids: Sequence[int] | None = None, *, reason: str | None = None, by: str | None = None
    ) -> RetriedDead:
        """Queue dead pages again, all or those named, under their old dedup keys; route unroutable ones anew.

        Those whose incidents have ended are cancelled instead.
        """
        who = By(by, reason)
        await self.check()
        retried = await retry_dead(self.store, ids, self._pager, who)
        self.wake()
        return retried

    async def health(self) -> Health:
        """Return one picture of the engine and its store, and whether the engine is healthy."""

        async def work(tx: Transaction) -> Health:
            now = await tx.now()
            # The whole canary has no outside, and to count it would look at every due row.
            stats = await self._heartbeat_keeper.count(tx, now, detail=not self.settings.canary.whole)
            return build_health(
                settings=self.settings,
                gate=await gate_at(tx, self.settings.switches, now),
                now=now,
                beat=await tx.journal.last_heartbeat(now),
                stats=stats,
                recalc=await tx.journal.recalc(lock=False),
                served=tuple(self._delivery.notifiers),
                unconfigured=self._ticker.unconfigured,
                version=VERSION,
            )

        return await self._read(work)

    # --- for a runner

    async def next_tick_in(self, report: TickReport) -> timedelta:
        """Return how long to wait after a tick before the next one is worth while."""
        if report.recalculating:
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
        seen = await self.store.next_due(canary=self.settings.canary, targets=tuple(self._delivery.capacity()))
        gate = Gate.at(self.settings.switches, seen.at, seen.pauses)
        earliest = None if self.settings.dry_run else seen.page_due_at
        wait = until_next_claim(earliest=earliest, now=seen.at, gate=gate, longest=self.settings.tick_interval)
        return min(wait, SETTLE_AGAIN) if self._delivery.owes else wait

    async def start_pages(self) -> bool:
        """Settle the pages whose attempts have ended, and start to send those that are due, up to the capacity.

        Returns:
            Whether there may be more to start at once.
        """
        self._loop_guard.check()
        await self.check()
        started = await self._delivery.start_due()
        return bool(started.leased or started.ended)

    async def wait_for_pages(self, longest: timedelta) -> None:
        """Wait until an attempt ends or ``wake`` is called, at most for ``longest``."""
        await self._delivery.wait(longest)

    def wake(self) -> None:
        """Wake the delivery loop: there may be pages to send."""
        self._delivery.tasks.wake()

    async def finish_pages(self) -> None:
        """Wait for the pages in flight, and settle them. Each send has its time limit, so this has one."""
        await self._delivery.finish()

    async def abandon_pages(self) -> None:
        """Cancel the pages in flight. They may have arrived or not; they go again when their leases end."""
        await self._delivery.abandon()

    def take_delivery_report(self) -> DeliveryReport:
        """Return what became of pages since the last report."""
        return self._delivery.take_report()

    def observed_lag(self) -> float | None:
        """Return the seconds since this engine last completed a tick, for metrics; None before the first."""
        return self._heartbeat_keeper.lag()

    def observed_stats(self) -> Observed | None:
        """Return the store's counts, as this engine's last beat or health took them, for metrics; None once old."""
        return self._heartbeat_keeper.observed()

    # --- inside

    async def _tick_and_deliver(self) -> TickReport:
        report = await self._tick()
        report.delivery = await self.deliver()
        return report

    async def _tick(self, *, dry_run: bool = False) -> TickReport:
        await self.check()
        with self._telemetry.span("escalation.tick", **{"escalation.dry_run": dry_run}) as span:
            report = await self._ticker.tick(dry_run=dry_run)
            span.set_attribute("escalation.escalated", report.escalated)
        await self._follow_up(report)
        return report

    async def _follow_up(self, report: TickReport) -> None:
        """Do what follows a tick, in this order.

        Count it for metrics and in the log; wake the delivery loop; write the worker heartbeat, with a recalculation's
        share; call the dead man's switch; look for rows that no trigger saw; take the counts for health.
        """
        if self._heartbeat_keeper.first and self._dead_mans_switch is None and self.settings.heartbeat_url is not None:
            log.warning(
                "ESC_HEARTBEAT_URL is set and this engine calls nobody: make it with"
                " heartbeat=HttpHeartbeat(settings.heartbeat_url), as escalation_adapters.worker.app.open_engine does"
            )
        self._heartbeat_keeper.tick()
        self._telemetry.ticked(report)
        if report.behind:
            log.warning("incidents fall due faster than this worker escalates them; more workers share the work")
        fields = report.log_fields()
        log.info("tick %s", " ".join(f"{name}={value}" for name, value in fields.items()), extra={"tick": fields})
        if report.pages > report.dead_pages and not report.dry_run:
            self.wake()
        beaten = await self._heartbeat_keeper.after(report)
        if self._dead_mans_switch is not None and not self._switch_calls.busy:
            self._switch_calls.start(self._dead_mans_switch.beat())
        if beaten and not report.dry_run and report.mode in (Mode.OPEN, Mode.V1_OFF):
            await self._heartbeat_keeper.find_unseen()
        if beaten:
            await self._heartbeat_keeper.take_counts()

    async def _deliver(self) -> DeliveryReport:
        await self.check()
        with self._telemetry.span("escalation.deliver"):
            return await self._delivery.deliver(self.settings.tick_interval)
