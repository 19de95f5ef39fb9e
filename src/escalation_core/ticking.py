"""The tick: claim what is due, plan it, record it; one transaction per batch, for one tick interval at most."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import attrs

from .errors import StoreError, StoreNotReady, StoreRefused, StoreUnavailable
from .flight import monotonic, together
from .gate import Gate, Mode, gate
from .model import LOOK_AGAIN, MOST_LABELS, Claimed
from .pausing import Pause
from .plan import Decision, Escalate, Reason, Skip, plan
from .ports import Store, Transaction
from .recording import Batch, Recorder
from .report import TickReport
from .routes import SettingsRouter
from .settings import Settings

log = logging.getLogger("escalation_core")

UNROUTED = "incidents that no route matches page nobody: set ESC_DEFAULT_TARGET"
"""Warns of routes that leave some incidents without a target."""
MAX_OVERWRITTEN = 10_000
"""How many rows of a tick are known again in the next one."""
MOST_SHOWN = 100
"""Characters of a severity in counts and in the log."""
MAX_UNCONFIGURED = 100
"""How many severities without a window are told apart; a host that invents them without end fills no memory."""


@attrs.define
class Ticker:
    """Brings what is due to the recorder, batch by batch."""

    store: Store
    settings: Settings
    recorder: Recorder
    batch_size: int
    claims: int
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    _announced: bool = False
    _overwritten: dict[str, datetime | None] = attrs.field(factory=dict)
    """The instants that rows had before this tick wrote theirs, by key."""
    _overwritten_before: dict[str, datetime | None] = attrs.field(factory=dict)
    """The same of the tick before."""

    async def tick(self, *, dry_run: bool) -> TickReport:
        """Run one tick and return what it did; in a dry run, what it would have done."""
        self._announce()
        began = monotonic()
        self._overwritten_before, self._overwritten = self._overwritten, {}
        report = TickReport(dry_run=dry_run)
        if dry_run:
            await self.store.read(lambda tx: self._rehearse(tx, report))
        else:
            seen = await self.store.look(canary_pct=self.settings.canary_pct)
            held = self._hold(report, seen.at, seen.pauses)
            due = held.claims and seen.due_at is not None and seen.due_at <= _until(held, seen.at)
            first = await self._batch(report) if due else Batch()
            # More at once only where there is more than one batch.
            if len(first.claimed) >= self.batch_size or _more(first.claimed):
                await self._batches(report, until=began + self.settings.tick_interval.total_seconds())
        report.duration = timedelta(seconds=monotonic() - began)
        return report

    async def _batches(self, report: TickReport, *, until: float) -> None:
        """Run transactions, several at once, until one of them finds nothing any more, or one interval is over.

        A short batch is no end, nor is an empty one beside another that found something: what it looked at may just
        have been taken by that. However much is due, a tick ends: with it comes the heartbeat, and the turn of what
        waits for it.
        """
        more, found = True, 0

        async def one_after_another() -> None:
            nonlocal more, found
            while more:
                if monotonic() >= until:
                    report.behind = True
                    return
                before = found
                batch = await self._batch(report)
                if batch.claimed:
                    found += 1
                    # What it left was locked until now: others found nothing for that.
                    more = more or _more(batch.claimed)
                elif found == before:
                    more = False

        await together(*(one_after_another() for _ in range(self.claims)))

    async def _batch(self, report: TickReport) -> Batch:
        """Run one transaction; return what it did."""
        try:
            batch = await self.store.transact(self._work(report, self.recorder.write))
        except StoreError as refusal:
            # A host's constraint or trigger refuses a row, and with it the whole batch: find out which. A trigger may
            # call its refusal by any name.
            if isinstance(refusal, StoreUnavailable) and not refusal.by_host:
                raise
            if isinstance(refusal, StoreNotReady):
                await self.store.check()
            log.warning("a batch was refused; the rows that it is refused for are put back: %s", refusal)
            try:
                batch = await self.store.transact(self._work(report, self.recorder.write_apart))
            except StoreRefused:
                # The engine's own table refuses as well: it is no row's fault.
                raise refusal from None
        self._count(report, batch)
        return batch

    def _work(self, report: TickReport, write: "_Write") -> Callable[[Transaction], Awaitable[Batch]]:
        """Return the work of one transaction: claim one batch, decide about each row, and write what was decided."""

        async def work(tx: Transaction) -> Batch:
            # A tick takes its instant once, from the store's clock, for all its batches. Each asks if it is paused now.
            clock = await tx.now()
            held = self._hold(report, clock, await tx.operations.pauses(clock))
            # Should the clock step back meanwhile, nothing is due by what it told before.
            now = min(report.at or clock, clock)
            if not held.claims:
                return Batch()
            claimed = await tx.incidents.claim(
                until=_until(held, now), limit=self.batch_size, canary_pct=self.settings.canary_pct
            )
            claimed = [self._seen(row) for row in claimed]
            decisions = [self._plan(row, now, held, clock) for row in claimed]
            return await write(tx, claimed, decisions, now) if claimed else Batch()

        return work

    async def _rehearse(self, tx: Transaction, report: TickReport) -> None:
        """Decide about everything that is due, on a snapshot, each row once, and write nothing."""
        now = await tx.now()
        held = self._hold(report, now, await tx.operations.pauses(now))
        after: tuple[datetime, str] | None = None
        while held.claims:
            claimed = await tx.incidents.peek(
                until=_until(held, now), after=after, limit=self.batch_size, canary_pct=self.settings.canary_pct
            )
            decisions = [self._plan(row, now, held) for row in claimed]
            rising = [number for number, decision in enumerate(decisions) if isinstance(decision, Escalate)]
            episodes = [(row.incident_key, row.incident.episode) for n in rising if (row := claimed[n]).incident]
            recorded = await tx.ledger.highest(episodes) if episodes else {}
            for number, episode in zip(rising, episodes, strict=True):
                if episode in recorded:
                    decisions[number] = plan(
                        claimed[number], policy=self.settings.policy, now=now, recorded=recorded[episode]
                    )
            self._count(report, Batch(claimed, decisions, self.recorder.pages(decisions)))
            if len(claimed) < self.batch_size and not _more(claimed):
                return
            last = claimed[-1]
            after = (last.due_at or LOOK_AGAIN, last.incident_key)

    def _plan(self, row: Claimed, now: datetime, held: Gate, clock: datetime | None = None) -> Decision:
        try:
            return plan(row, policy=self.settings.policy, now=now, gate=held, clock=clock)
        except Exception as error:  # noqa: BLE001 - one row that cannot be planned must not hold up its batch
            return Skip(reason=Reason.UNREADABLE, incident=None, detail=f"{type(error).__name__}: {error}")

    def _seen(self, row: Claimed) -> Claimed:
        """Return the row; one that has the instant again that was overwritten a moment ago is told apart.

        A host may have marked it anew. Or a trigger of the host undoes what the engine writes, and without an end.
        """
        known = self._overwritten if row.incident_key in self._overwritten else self._overwritten_before
        again = row.incident_key in known and known[row.incident_key] == row.due_at
        return attrs.evolve(row, again=True) if again else row

    def _hold(self, report: TickReport, now: datetime, pauses: Sequence[Pause]) -> Gate:
        """Return what holds a transaction back, and note it in the report."""
        held = gate(self.settings, now, pauses)
        report.at = report.at or now
        report.mode, report.paused_until = held.mode, held.until
        return held

    def _count(self, report: TickReport, batch: Batch) -> None:
        """Count what was committed; a transaction that the database made us repeat counts once."""
        report.batches += bool(batch.claimed)
        for row in batch.claimed[: MAX_OVERWRITTEN - len(self._overwritten)] if not report.dry_run else ():
            self._overwritten[row.incident_key] = row.due_at
        report.count(batch.decisions, [row.incident_key for row in batch.claimed])
        report.pages += len(batch.pages)
        for page in batch.pages:
            if page.born_dead is not None:
                report.dead_pages += 1
                if report.dry_run:
                    continue
                log.error("page is dead: incident %r level %d: %s", page.incident_key, page.level, page.born_dead)
        for row, decision in zip(batch.claimed, batch.decisions, strict=True):
            if not isinstance(decision, Escalate):
                continue
            if row.labels_left_out:
                report.labels_left_out += 1
                log.warning(
                    "labels of incident %r take more than %d bytes and are left out: no route that asks for labels"
                    " matches it",
                    row.incident_key,
                    MOST_LABELS,
                )
            if not self.settings.policy.configured(decision.incident.severity):
                self._met_unconfigured(report, str(decision.incident.severity))

    def _announce(self) -> None:
        """Warn once of settings that would make pages dead at birth; it is better known before the first one is."""
        if self._announced:
            return
        self._announced = True
        router, served = self.recorder.router, self.recorder.targets
        if not served:
            log.warning("this engine has no notifier: escalations are recorded, and their pages are dead")
        elif isinstance(router, SettingsRouter):
            for target in router.targets:
                if target not in served:
                    log.warning("a route names the target %r, and no notifier serves it", target)
            if not router.total:
                log.warning(UNROUTED)

    def _met_unconfigured(self, report: TickReport, severity: str) -> None:
        if len(severity) > MOST_SHOWN:
            severity = severity[: MOST_SHOWN - 1] + "…"
        if severity not in self.unconfigured:
            if len(self.unconfigured) >= MAX_UNCONFIGURED:
                severity = "(others)"
            if severity not in self.unconfigured:
                log.warning("severity %r has no window of its own: ESC_WARN_ACK_MIN counts for it", severity)
        report.unconfigured[severity] += 1
        self.unconfigured[severity] += 1


_Write = Callable[[Transaction, Sequence[Claimed], Sequence[Decision], datetime], Awaitable[Batch]]


def _more(claimed: Sequence[Claimed]) -> bool:
    """Tell whether rows were left out of a claim that was not full."""
    return any(row.more for row in claimed)


def _until(held: Gate, now: datetime) -> datetime:
    """Return up to which next_due_at rows are claimed: with ESCALATION_V1 off, only those that hosts have marked."""
    return LOOK_AGAIN if held.mode is Mode.V1_OFF else now
