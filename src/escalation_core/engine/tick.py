"""The tick: claim and escalate due incidents in batches, one transaction each, for at most one tick interval."""

import logging
from collections import Counter
from datetime import datetime, timedelta

import attrs

from ..model import BUILTIN, MAX_LABELS_BYTES, NEEDS_REPLAN, Candidate, LevelOutcome
from ..ports import Store, Transaction
from ..rules.gate import Gate
from ..rules.plan import Escalate
from ..rules.routing import Pager
from ..rules.settled import Note
from ..settings import Settings
from .batch import Batch, BatchRunner, claims_until
from .overwritten import Overwritten
from .report import TickReport
from .tasks import gather, monotonic
from .versions import Versions, log_note

log = logging.getLogger("escalation_core")

MAX_SEVERITY_CHARS = 100
"""How many characters of a severity appear in counts and in the log."""
MAX_UNCONFIGURED = 100
"""How many severities without a window are counted apart. It caps memory if a host uses unbounded severities."""


_UNKNOWN_REMEDY = (
    "it escalates by its last policy, or by the built-in one; add the policy to the file, or correct the row"
)


@attrs.define
class Ticker:
    """Runs batches until nothing is due, and counts what they did."""

    store: Store
    settings: Settings
    versions: Versions
    pager: Pager
    batch_size: int
    concurrency: int
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    _unknown_policies: set[str | None] = attrs.field(factory=set)
    _announced: bool = False
    _overwritten: Overwritten = attrs.field(factory=Overwritten)
    _batches: BatchRunner = attrs.field(
        default=attrs.Factory(
            lambda self: BatchRunner(
                store=self.store,
                settings=self.settings,
                versions=self.versions,
                pager=self.pager,
                limit=self.batch_size,
                overwritten=self._overwritten,
            ),
            takes_self=True,
        )
    )

    async def tick(self, *, dry_run: bool) -> TickReport:
        """Run one tick and return its report. A dry run reports what a tick would have done."""
        self._announce()
        began = monotonic()
        self._overwritten.next_tick()
        report = TickReport(dry_run=dry_run)
        if dry_run:
            await self.store.read(lambda tx: self._rehearse(tx, report))
        else:
            seen = await self.store.next_due(canary=self.settings.canary)
            # A tick reads its instant once, from the store's clock, and uses it for all of its batches.
            report.note(seen.at, gate := Gate.at(self.settings.switches, seen.at, seen.pauses))
            report.changes = seen.changes
            due = gate.may_claim and seen.due_at is not None and seen.due_at <= claims_until(gate, seen.at)
            if due:
                first = await self._batch(report, seen.at)
                # Start several transactions only if there is more than one batch.
                if len(first.claimed) >= self.batch_size or first.more:
                    await self._all(report, seen.at, until=began + self.settings.tick_interval.total_seconds())
        report.duration = timedelta(seconds=monotonic() - began)
        return report

    async def _all(self, report: TickReport, at: datetime, *, until: float) -> None:
        """Run several transactions at once, until one finds no row or the tick interval has passed.

        A short batch does not end the tick. An empty batch does not either if another batch found rows meanwhile: that
        batch may have locked the rows. The time limit is needed because the heartbeat and other work wait for the end
        of the tick.
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
                    # This batch had locked the rows that it left out, so another batch may have found no row.
                    more = more or batch.more
                elif found == before:
                    more = False

        await gather(*(one_after_another() for _ in range(self.concurrency)))

    async def _batch(self, report: TickReport, at: datetime) -> Batch:
        """Run one batch, and count it once after the commit, also if the store repeated the transaction."""
        gate, batch = await self._batches.run(at)
        report.note(at, gate)
        self._overwritten.keep(batch.claimed)
        self._count(report, batch)
        return batch

    async def _rehearse(self, tx: Transaction, report: TickReport) -> None:
        """Plan every due row once, without a write."""
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
        report.count(batch.decisions, [row.incident_key for row in batch.claimed], batch.pages)
        report.pages += len(batch.pages)
        for page in batch.pages:
            if page.in_place_of is not None:
                report.in_place += 1
                log.error(
                    "incident %r level %d: %s of its policy cannot be paged; %r is paged instead",
                    page.incident_key,
                    page.level,
                    page.in_place_of,
                    page.target,
                )
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
            if isinstance(decision, Escalate):
                self._count_oddities(report, row, decision)
                if decision.passed or decision.escalation.outcome is not None:
                    self._count_gaps(report, row.incident_key, decision)
            if decision.settled is not None:
                report.changes = report.changes or (decision.settled.ack_expired and not report.dry_run)
                for note, said in decision.settled.notes:
                    self._count_note(report, row.incident_key, note, said)

    def _count_oddities(self, report: TickReport, row: Candidate, decision: Escalate) -> None:
        if row.labels_left_out:
            report.labels_left_out += 1
            log.warning(
                "labels of incident %r take more than %d bytes and are left out: no route with labels"
                " matches the incident",
                row.incident_key,
                MAX_LABELS_BYTES,
            )
        if decision.escalation.policy in (None, BUILTIN) and not self.settings.policy.configured(
            decision.incident.severity
        ):
            self._count_unconfigured(report, str(decision.incident.severity))

    def _count_gaps(self, report: TickReport, key: str, decision: Escalate) -> None:
        """Count the levels whose schedules name no one."""
        if decision.passed:
            report.happened["passed_over"] += len(decision.passed)
        if decision.escalation.outcome is not LevelOutcome.DEFAULT:
            return
        report.happened["nobody_on_call"] += 1
        if not report.dry_run:
            names = ", ".join(decision.recipients.gaps)
            passed = len(decision.passed)
            before = f", nor for the {passed} level{'s' if passed > 1 else ''} before" if passed else ""
            level = decision.escalation.level
            log.error("incident %r level %d: no one is on call for %s%s", key, level, names, before)

    def _count_note(self, report: TickReport, key: str, note: Note, said: str | None) -> None:
        report.happened[note.value] += 1
        if report.dry_run:
            return
        if note is Note.UNKNOWN_POLICY:
            # A row with an unknown policy is planned again and again until the host or the file is corrected.
            if said not in self._unknown_policies and len(self._unknown_policies) < MAX_UNCONFIGURED:
                self._unknown_policies.add(said)
                log.error(
                    "incident %r names policy %r, which this engine does not know; %s", key, said, _UNKNOWN_REMEDY
                )
            return
        log_note(key, note, said)

    def _count_unconfigured(self, report: TickReport, severity: str) -> None:
        if len(severity) > MAX_SEVERITY_CHARS:
            severity = severity[: MAX_SEVERITY_CHARS - 1] + "…"
        if severity not in self.unconfigured:
            if len(self.unconfigured) >= MAX_UNCONFIGURED:
                severity = "(others)"
            if severity not in self.unconfigured:
                log.warning("severity %r has no window of its own: it gets the window ESC_WARN_ACK_MIN", severity)
        report.unconfigured[severity] += 1
        self.unconfigured[severity] += 1

    def _announce(self) -> None:
        """Warn once of settings that make pages undeliverable, so that the operator knows before the first page."""
        if not self._announced:
            self._announced = True
            for warning in self.pager.warnings():
                log.warning(warning)
