"""The engine, the library's main class: verbs for incidents, ``tick`` to escalate, ``deliver`` to send, and views."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from uuid import uuid4

import attrs

from ..checks import check_count, check_text
from ..model import By
from ..ports import CalendarReader, Heartbeat, Notifier, Router, ScheduleSource, Store
from ..rules.gate import Mode
from ..rules.policies import Policies
from ..rules.routing import notifiers_by_target
from ..settings import Settings
from .deliver import Delivery
from .health import Observed
from .heartbeat import HeartbeatKeeper
from .incidents import HostTransactions, IncidentVerbs
from .loop_steps import LoopSteps
from .notices import MAX_MAKING_TIME, NoticeMaker
from .operators import OperatorVerbs
from .paging import make_pager
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
"""Rows per transaction of a tick: enough to make round trips cheap, few enough to keep locks short."""
CONCURRENCY = 2
"""How many transactions of a tick run at once, each with its own batch: while one plans, the other writes."""


class Engine(IncidentVerbs, HostTransactions, OperatorVerbs, Views, LoopSteps):
    """Escalates the incidents of one store and pages their responders.

    Any number of engines, in any number of processes, may work on one store. ``router`` defaults to the settings'
    routes, ``schedules`` are sources of who is on call, ``calendars`` reads those of the policies, and ``worker`` names
    this engine in health. After each completed tick it calls ``heartbeat``. It belongs to its first event loop.

    Raises:
        InvalidValue: an argument is not valid, for example two notifiers serve one target or ``batch_size`` is 0.
    """

    def __init__(
        self,
        store: Store,
        *,
        settings: Settings | None = None,
        notifiers: Sequence[Notifier] = (),
        router: Router | None = None,
        policies: Policies | None = None,
        schedules: Sequence[ScheduleSource] = (),
        calendars: CalendarReader | None = None,
        worker: str | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = CONCURRENCY,
        meter_provider: "MeterProvider | None" = None,
        tracer_provider: "TracerProvider | None" = None,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        # Imported here because OpenTelemetry takes half as long to import as the whole package; only engines need it.
        from .telemetry import Telemetry  # noqa: PLC0415

        super().__init__(store, Settings() if settings is None else settings, policies)
        self.worker = check_text(worker, "worker") if worker is not None else uuid4().hex
        by_target = notifiers_by_target(notifiers)
        self._notifiers = tuple(notifiers)
        self._telemetry = Telemetry(meter_provider, tracer_provider)
        self._pager = make_pager(self.settings, by_target, router)
        self._versions.schedule_loader.use_sources(schedules, calendars)
        if policies is not None:
            self.use_policies(policies)
        self._ticker = Ticker(
            store=store,
            settings=self.settings,
            versions=self._versions,
            pager=self._pager,
            batch_size=check_count(batch_size, "batch_size", 1),
            concurrency=check_count(concurrency, "concurrency", 1),
        )
        self._delivery = Delivery(
            store=store,
            settings=self.settings,
            notifiers=by_target,
            telemetry=self._telemetry,
            versions=self._versions,
        )
        self._notices = NoticeMaker(store, self.settings, self._delivery.wanted)
        self._loop_guard = LoopGuard("this engine ticked", "open one for each loop: async with Engine(...)")
        self._dead_mans_switch = heartbeat
        self._switch_calls, self._due = TaskGroup(), TaskGroup()
        self._ticking: SingleFlight[TickReport] = SingleFlight()
        self._delivering: SingleFlight[DeliveryReport] = SingleFlight()
        self._heartbeat_keeper = HeartbeatKeeper(store, self.settings, self._versions, self.worker, self._delivery)
        self._telemetry.observe(self)

    async def __aenter__(self) -> Self:
        """Check that the store is ready. If it is not, close everything, because ``__aexit__`` will not run."""
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
        """Wait for the pages being sent, settle them, and close the notifiers and the store."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.store.aclose)
            for notifier in self._notifiers:
                closing.push_async_callback(notifier.aclose)
            await self.schedule_loader.aclose()
            await self._delivery.finish()
            while self._switch_calls.busy:
                await self._switch_calls.wait()

    # --- the two loops' bodies

    async def tick(self, *, dry_run: bool = False, deliver: bool = True) -> TickReport:
        """Record due escalations, then make one bounded delivery pass. A host with a scheduler needs no other call.

        A second call on one engine joins the running tick; other processes may tick at the same time.
        ``deliver=False`` only records; a call that joins such a tick and wants delivery makes the pass afterwards. A
        dry run, by argument or by the settings, plans and reports; it writes no incident and sends no page.

        Raises:
            StoreUnavailable: the database is out of reach; batches that were committed before stay.
            EscalationError: the engine ticked in another event loop before.
        """
        self._loop_guard.check()
        if dry_run or self.settings.dry_run:
            return await self._tick(dry_run=True)
        if not deliver:
            return await self._ticking.run(self._tick_and_make_notices)
        report = await self._ticking.run(self._tick_and_deliver)
        if report.delivery is None:
            # This call joined a tick that only records. Other callers share its report, so a copy gets the delivery.
            report = attrs.evolve(report, delivery=await self.deliver())
        return report

    async def deliver(self) -> DeliveryReport:
        """Make one pass over the pages that can be claimed: claim, send, settle. It tries each page at most once.

        It stops claiming after one tick interval; the next pass claims the pages that are left.
        """
        self._loop_guard.check()
        return await self._delivering.run(self._deliver)

    async def retry_dead(
        self, ids: Sequence[int] | None = None, *, reason: str | None = None, by: str | None = None
    ) -> RetriedDead:
        """Queue dead pages again under their old dedup keys, all or those in ``ids``. Route unroutable pages again.

        A page whose incident has ended is cancelled instead.
        """
        who = By(by, reason)
        await self.check()
        retried = await retry_dead(self.store, ids, self._pager, who)
        self.wake()
        return retried

    def _count_events(self, events: Sequence[str]) -> None:
        self._telemetry.count_events(Counter(events))

    def _due_at_once(self) -> None:
        self._due.wake()

    def observed_lag(self) -> float | None:
        """Return the seconds since this engine last completed a tick, for metrics; None before the first."""
        return self._heartbeat_keeper.lag()

    def observed_stats(self) -> Observed | None:
        """Return the store's counts from the last heartbeat or health call, for metrics; None if missing or too old."""
        return self._heartbeat_keeper.observed()

    # --- inside

    async def _tick_and_deliver(self) -> TickReport:
        report = await self._tick()
        report.delivery = await self.deliver()  # before notices are made, so that no page waits for them
        if await self._make_notices(report, longest=MAX_MAKING_TIME):
            report.delivery += await self.deliver()
        return report

    async def _tick_and_make_notices(self) -> TickReport:
        report = await self._tick()
        if await self._make_notices(report):
            self.wake()
        return report

    async def _make_notices(self, report: TickReport, longest: timedelta = timedelta()) -> int:
        """Make notices of what happened to paged incidents, and return of how many changes.

        A runner makes one batch in each tick and ticks again at once: no escalation waits for the others.
        """
        if report.dry_run:
            return 0
        made, report.changes = await self._notices.make(changes=report.changes, longest=longest)
        return made

    async def _tick(self, *, dry_run: bool = False) -> TickReport:
        await self.check()
        await self.schedule_loader.keep_loaded(self.store)
        self._due.clear()  # this tick escalates what is due until now
        with self._telemetry.span("escalation.tick", **{"escalation.dry_run": dry_run}) as span:
            report = await self._ticker.tick(dry_run=dry_run)
            span.set_attribute("escalation.escalated", report.escalated)
        await self._follow_up(report)
        return report

    async def _follow_up(self, report: TickReport) -> None:
        """Do the work that follows a tick, in this order.

        Count the tick for metrics and in the log; wake the delivery loop; write the worker heartbeat and advance a
        recalculation; call the dead man's switch; search for rows that no trigger saw and for unheard incidents; take
        the counts for health.
        """
        if self._heartbeat_keeper.first and self._dead_mans_switch is None and self.settings.heartbeat_url is not None:
            log.warning(
                "ESC_HEARTBEAT_URL is set, but this engine has no heartbeat: give it"
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
        if (beaten or report.dead_pages) and not report.dry_run:
            await self._delivery.unheard.find()
        if beaten:
            await self._heartbeat_keeper.take_counts()

    async def _deliver(self) -> DeliveryReport:
        await self.check()
        with self._telemetry.span("escalation.deliver"):
            return await self._delivery.deliver(self.settings.tick_interval)
