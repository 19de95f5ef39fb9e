"""The tick: batches of what is due, one transaction for each, for one tick interval at most."""

import logging
from collections import Counter
from datetime import datetime, timedelta

import attrs

from ..model import MAX_LABELS_BYTES, NEEDS_REPLAN, Candidate
from ..ports import Store, Transaction
from ..rules.gate import Gate
from ..rules.plan import Decision, Escalate
from ..rules.routing import Pager
from ..settings import Settings
from .batch import Batch, BatchRunner, claims_until
from .overwritten import Overwritten
from .report import TickReport
from .tasks import gather, monotonic

log = logging.getLogger("escalation_core")

MAX_SEVERITY_CHARS = 100
"""Characters of a severity in counts and in the log."""
MAX_UNCONFIGURED = 100
"""Severities without a window that are told apart: it caps memory if a host uses unbounded severities."""


@attrs.define
class Ticker:
    """Runs batches until nothing is due, and counts what they did."""

    store: Store
    settings: Settings
    pager: Pager
    batch_size: int
    concurrency: int
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    _announced: bool = False
    _overwritten: Overwritten = attrs.field(factory=Overwritten)
    _batches: BatchRunner = attrs.field(
        default=attrs.Factory(
            lambda self: BatchRunner(
                store=self.store,
                settings=self.settings,
                pager=self.pager,
                limit=self.batch_size,
                overwritten=self._overwritten,
            ),
            takes_self=True,
        )
    )

    async def tick(self, *, dry_run: bool) -> TickReport:
        """Run one tick and return what it did; in a dry run, what it would have done."""
        self._announce()
        began = monotonic()
        self._overwritten.next_tick()
        report = TickReport(dry_run=dry_run)
        if dry_run:
            await self.store.read(lambda tx: self._rehearse(tx, report))
        else:
            seen = await self.store.next_due(canary=self.settings.canary)
            # A tick takes its instant once, from the store's clock, for all its batches.
            report.note(seen.at, gate := Gate.at(self.settings.switches, seen.at, seen.pauses))
            due = gate.may_claim and seen.due_at is not None and seen.due_at <= claims_until(gate, seen.at)
            if due:
                first = await self._batch(report, seen.at)
                # More at once only where there is more than one batch.
                if len(first.claimed) >= self.batch_size or first.more:
                    await self._all(report, seen.at, until=began + self.settings.tick_interval.total_seconds())
        report.duration = timedelta(seconds=monotonic() - began)
        return report

    async def _all(self, report: TickReport, at: datetime, *, until: float) -> None:
        """Run transactions, several at once, until one of them finds nothing any more, or one interval is over.

        A short batch is not the end, nor is an empty one beside one that found something: what it looked at may just
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
                batch = await self._batch(report, at)
                if batch.claimed:
                    found += 1
                    # What it left was locked until now: others found nothing for that.
                    more = more or batch.more
                elif found == before:
                    more = False

        await gather(*(one_after_another() for _ in range(self.concurrency)))

    async def _batch(self, report: TickReport, at: datetime) -> Batch:
        """Run one batch, and count what was committed: a transaction that had to be repeated counts once."""
        gate, batch = await self._batches.run(at)
        report.note(at, gate)
        self._overwritten.keep(batch.claimed)
        self._count(report, batch)
        return batch

    async def _rehearse(self, tx: Transaction, report: TickReport) -> None:
        """Decide about everything that is due, each row once."""
        at, after = await tx.now(), None
        while True:
            gate, batch = await self._batches.rehearse(tx, at=at, after=after)
            report.note(at, gate)
            self._count(report, batch)
            if len(batch.claimed) < self.batch_size and not batch.more:
                return
            last = batch.claimed[-1]
            after = (last.due_at or NEEDS_REPLAN, last.incident_key)

    def _count(self, report: TickReport, batch: Batch) -> None:
        report.batches += bool(batch.claimed)
        report.count(batch.decisions, [row.incident_key for row in batch.claimed])
        report.pages += len(batch.pages)
        for page in batch.pages:
            if page.undeliverable_reason is not None:
                report.dead_pages += 1
                if not report.dry_run:
                    log.error(
                        "page is dead: incident %r level %d: %s",
                        page.incident_key,
                        page.level,
                        page.undeliverable_reason,
                    )
        for row, decision in zip(batch.claimed, batch.decisions, strict=True):
            self._count_oddities(report, row, decision)

    def _count_oddities(self, report: TickReport, row: Candidate, decision: Decision) -> None:
        if not isinstance(decision, Escalate):
            return
        if row.labels_left_out:
            report.labels_left_out += 1
            log.warning(
                "labels of incident %r take more than %d bytes and are left out: no route that asks for labels"
                " matches it",
                row.incident_key,
                MAX_LABELS_BYTES,
            )
        if not self.settings.policy.configured(decision.incident.severity):
            self._count_unconfigured(report, str(decision.incident.severity))

    def _count_unconfigured(self, report: TickReport, severity: str) -> None:
        if len(severity) > MAX_SEVERITY_CHARS:
            severity = severity[: MAX_SEVERITY_CHARS - 1] + "…"
        if severity not in self.unconfigured:
            if len(self.unconfigured) >= MAX_UNCONFIGURED:
                severity = "(others)"
            if severity not in self.unconfigured:
                log.warning("severity %r has no window of its own: ESC_WARN_ACK_MIN counts for it", severity)
        report.unconfigured[severity] += 1
        self.unconfigured[severity] += 1

    def _announce(self) -> None:
        """Warn once of settings that make pages dead at birth, so that the operator learns it before the first one."""
        if not self._announced:
            self._announced = True
            for warning in self.pager.warnings():
                log.warning(warning)
