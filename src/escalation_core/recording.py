"""What a tick records of the rows that it claimed: event, pages and incident together, in bulk."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial

import attrs

from .delivery import NewPage
from .errors import StoreRefused
from .model import AuditEntry, Claimed, State
from .paging import pages_for
from .plan import Decision, Escalate, Reason, Skip, plan
from .policy import EscalationPolicy
from .ports import Router, Transaction


@attrs.frozen
class Batch:
    """What one transaction of a tick did."""

    claimed: Sequence[Claimed]
    decisions: Sequence[Decision]
    pages: Sequence[NewPage] = ()


@attrs.frozen
class Recorder:
    """Writes what was decided. ``targets`` are the names that have a notifier."""

    policy: EscalationPolicy
    router: Router
    targets: AbstractSet[str]

    async def write_each(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write row by row, and put back each one that the store refuses; the others are none the worse for it."""
        written: list[Batch] = []
        for row, decision in zip(claimed, decisions, strict=True):
            try:
                batch = await tx.attempt(partial(self.write, tx, [row], [decision], now))
            except StoreRefused as refusal:
                skip = Skip(reason=Reason.UNREADABLE, incident=None, detail=str(refusal))
                # If even this is refused it is not the row's fault alone, and the tick ends with the refusal.
                batch = await tx.attempt(partial(self.write, tx, [row], [skip], now))
            written.append(batch)
        done = [decision for batch in written for decision in batch.decisions]
        return Batch(claimed, done, [page for batch in written for page in batch.pages])

    async def write(
        self, tx: Transaction, claimed: Sequence[Claimed], planned: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write event, pages and incident together, in bulk."""
        decisions = await self._reconcile(tx, claimed, list(planned), now)
        pages = self.pages(decisions)
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
        if not episodes:
            return
        recorded, clock = await tx.ledger.highest(list(episodes.values())), await tx.now()
        for number, episode in episodes.items():
            again = plan(claimed[number], policy=self.policy, now=now, recorded=recorded.get(episode), clock=clock)
            if isinstance(again, Escalate):
                fault = "escalation_events holds this escalation's unique_hash for another incident"
                again = Skip(reason=Reason.UNREADABLE, incident=None, detail=fault)
            decisions[number] = again

    def pages(self, decisions: Sequence[Decision]) -> list[NewPage]:
        """Return the pages that these decisions make."""
        return [
            page
            for decision in decisions
            if isinstance(decision, Escalate)
            for page in pages_for(
                decision.incident, decision.escalation.unique_hash, router=self.router, served=self.targets
            )
        ]
