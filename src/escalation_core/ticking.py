"""The tick: claim what is due, plan it, record it; one transaction per batch, until a short batch."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

import attrs

from .delivery import NewPage
from .errors import StoreRefused
from .flight import monotonic
from .gate import Gate, Mode, gate
from .model import LOOK_AGAIN, AuditEntry, Claimed, State
from .paging import pages_for
from .plan import Decision, Escalate, Reason, Skip, plan
from .ports import Router, Store, Transaction
from .report import TickReport
from .settings import Settings

log = logging.getLogger("escalation_core")

MAX_UNCONFIGURED = 100
"""How many severities without a window are told apart; a host that invents them without end fills no memory."""


@attrs.frozen
class Batch:
    """What one transaction of a tick did."""

    claimed: Sequence[Claimed]
    decisions: Sequence[Decision]
    pages: Sequence[NewPage] = ()


@attrs.define
class Ticker:
    """Records what is due. ``targets`` are the names that have a notifier."""

    store: Store
    settings: Settings
    router: Router
    targets: frozenset[str]
    batch_size: int
    unconfigured: Counter[str] = attrs.field(factory=Counter)
    _announced: bool = False

    async def tick(self, *, dry_run: bool) -> TickReport:
        """Run one tick and return what it did; in a dry run, what it would have done."""
        self._announce()
        began = monotonic()
        report = TickReport(dry_run=dry_run)
        if dry_run:
            await self.store.read(lambda tx: self._rehearse(tx, report))
        else:
            while await self._batch(report):
                pass
        report.duration = timedelta(seconds=monotonic() - began)
        return report

    async def _batch(self, report: TickReport) -> bool:
        """Run one transaction; return whether there may be more to do."""
        try:
            at, batch = await self.store.transact(self._work(report.at, self._write))
        except StoreRefused as refusal:
            # A host's constraint or trigger refuses a row, and with it the whole batch: find out which.
            log.warning("a batch was refused and is written row by row: %s", refusal)
            at, batch = await self.store.transact(self._work(report.at, self._write_each))
        self._admit(report, at)
        self._count(report, batch)
        return len(batch.claimed) >= self.batch_size

    def _work(self, at: datetime | None, write: "_Write") -> Callable[[Transaction], Awaitable[tuple[datetime, Batch]]]:
        """Return the work of one transaction: claim one batch, decide about each row, and write what was decided."""

        async def work(tx: Transaction) -> tuple[datetime, Batch]:
            # A tick takes its instant once, from the store's clock, for all its batches.
            now = at or await tx.now()
            claimed, decisions = await self._claim(tx, now)
            return now, await write(tx, claimed, decisions, now) if claimed else Batch((), ())

        return work

    async def _claim(self, tx: Transaction, now: datetime) -> tuple[Sequence[Claimed], list[Decision]]:
        held = gate(self.settings, now)
        if not held.claims:
            return (), []
        claimed = await tx.incidents.claim(
            until=_until(held, now), limit=self.batch_size, canary_pct=self.settings.canary_pct
        )
        return claimed, [self._plan(row, now, held) for row in claimed]

    async def _write_each(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write row by row, and put back each one that the store refuses; the others are none the worse for it."""
        written: list[Batch] = []
        for row, decision in zip(claimed, decisions, strict=True):
            try:
                batch = await tx.attempt(partial(self._write, tx, [row], [decision], now))
            except StoreRefused as refusal:
                skip = Skip(reason=Reason.UNREADABLE, incident=None, detail=str(refusal))
                # If even this is refused it is not the row's fault alone, and the tick ends with the refusal.
                batch = await tx.attempt(partial(self._write, tx, [row], [skip], now))
            written.append(batch)
        done = [decision for batch in written for decision in batch.decisions]
        return Batch(claimed, done, [page for batch in written for page in batch.pages])

    async def _write(
        self, tx: Transaction, claimed: Sequence[Claimed], planned: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write event, pages and incident together, in bulk."""
        decisions = await self._reconcile(tx, claimed, list(planned), now)
        pages = self._pages(decisions)
        written = [decision.incident for decision in decisions if decision.incident is not None]
        await tx.incidents.advance(written)
        if pages:
            await tx.outbox.enqueue(pages, now)
        # An open incident without a next instant is at the maximum: one mark, then nothing. Never silent.
        top = [incident for incident in written if incident.next_due_at is None and incident.state is State.OPEN]
        if top:
            await tx.journal.note(
                [
                    AuditEntry(
                        at=now, action="exhausted", incident_key=i.incident_key, episode=i.episode, level=i.level
                    )
                    for i in top
                ]
            )
        unreadable = {
            row.incident_key: decision.detail or "unreadable"
            for row, decision in zip(claimed, decisions, strict=True)
            if isinstance(decision, Skip) and decision.incident is None
        }
        if unreadable:
            await tx.incidents.put_back(unreadable, now)
        return Batch(claimed, decisions, pages)

    async def _reconcile(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: list[Decision], now: datetime
    ) -> list[Decision]:
        """Record the escalations; plan those again that are in the ledger already."""
        rising = [number for number, decision in enumerate(decisions) if isinstance(decision, Escalate)]
        escalations = [decision.escalation for decision in decisions if isinstance(decision, Escalate)]
        if not escalations:
            return decisions
        new = await tx.ledger.record(escalations)
        known = [number for number, fresh in zip(rising, new, strict=True) if not fresh]
        await self._catch_up(tx, claimed, decisions, known, now)
        return decisions

    async def _catch_up(
        self,
        tx: Transaction,
        claimed: Sequence[Claimed],
        decisions: list[Decision],
        known: Sequence[int],
        now: datetime,
    ) -> None:
        episodes = {n: (row.incident_key, row.incident.episode) for n in known if (row := claimed[n]).incident}
        recorded = await tx.ledger.highest(list(episodes.values())) if episodes else {}
        for number, episode in episodes.items():
            again = plan(claimed[number], policy=self.settings.policy, now=now, recorded=recorded.get(episode))
            if isinstance(again, Escalate):
                fault = "escalation_events holds this escalation's unique_hash for another incident"
                again = Skip(reason=Reason.UNREADABLE, incident=None, detail=fault)
            decisions[number] = again

    async def _rehearse(self, tx: Transaction, report: TickReport) -> None:
        """Decide about everything that is due, on a snapshot, each row once, and write nothing."""
        now = await tx.now()
        held = gate(self.settings, now)
        self._admit(report, now)
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
            self._count(report, Batch(claimed, decisions, self._pages(decisions)))
            if len(claimed) < self.batch_size:
                return
            last = claimed[-1]
            after = (last.due_at or LOOK_AGAIN, last.incident_key)

    def _pages(self, decisions: Sequence[Decision]) -> list[NewPage]:
        return [
            page
            for decision in decisions
            if isinstance(decision, Escalate)
            for page in pages_for(
                decision.incident, decision.escalation.unique_hash, router=self.router, served=self.targets
            )
        ]

    def _plan(self, row: Claimed, now: datetime, held: Gate) -> Decision:
        try:
            return plan(row, policy=self.settings.policy, now=now, gate=held)
        except Exception as error:  # noqa: BLE001 - one row that cannot be planned must not hold up its batch
            return Skip(reason=Reason.UNREADABLE, incident=None, detail=f"{type(error).__name__}: {error}")

    def _admit(self, report: TickReport, now: datetime) -> None:
        held = gate(self.settings, now)
        report.at, report.mode, report.paused_until = now, held.mode, held.until

    def _count(self, report: TickReport, batch: Batch) -> None:
        """Count what was committed; a transaction that the database made us repeat counts once."""
        report.batches += 1
        report.count(batch.decisions, [row.incident_key for row in batch.claimed])
        report.pages += len(batch.pages)
        for page in batch.pages:
            if page.born_dead is not None:
                report.dead_pages += 1
                if report.dry_run:
                    continue
                log.error("page is dead: incident %r level %d: %s", page.incident_key, page.level, page.born_dead)
        for decision in batch.decisions:
            if isinstance(decision, Escalate) and not self.settings.policy.configured(decision.incident.severity):
                self._met_unconfigured(report, str(decision.incident.severity))

    def _announce(self) -> None:
        """Warn once of settings that would make pages dead at birth; it is better known before the first one is."""
        if self._announced:
            return
        self._announced = True
        if not self.targets:
            log.warning("this engine has no notifier: escalations are recorded, and their pages are dead")
        named = dict.fromkeys(target for route in self.settings.routes for target in route.targets)
        for target in named:
            if self.targets and target not in self.targets:
                log.warning("a route names the target %r, and no notifier serves it", target)

    def _met_unconfigured(self, report: TickReport, severity: str) -> None:
        if severity not in self.unconfigured:
            if len(self.unconfigured) >= MAX_UNCONFIGURED:
                severity = "(others)"
            if severity not in self.unconfigured:
                log.warning("severity %r has no window of its own: ESC_WARN_ACK_MIN counts for it", severity)
        report.unconfigured[severity] += 1
        self.unconfigured[severity] += 1


_Write = Callable[[Transaction, Sequence[Claimed], Sequence[Decision], datetime], Awaitable[Batch]]


def _until(held: Gate, now: datetime) -> datetime:
    """Return up to which next_due_at rows are claimed: with ESCALATION_V1 off, only those that hosts have marked."""
    return LOOK_AGAIN if held.mode is Mode.V1_OFF else now
