"""What a tick records of the rows that it claimed: event, pages and incident together, in bulk."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

import attrs

from .apart import put_back_or_pass_over, write_apart
from .delivery import NewPage
from .exhausted import note_exhausted
from .model import Claimed, PutBack
from .paging import pages_for
from .plan import ALTERED, MAX_PUT_BACK, Decision, Escalate, Reason, Skip, plan, put_back
from .policy import EscalationPolicy
from .ports import Router, Transaction


@attrs.frozen
class Batch:
    """What one transaction of a tick did."""

    claimed: Sequence[Claimed] = ()
    decisions: Sequence[Decision] = ()
    pages: Sequence[NewPage] = ()

    def __add__(self, other: "Batch") -> "Batch":
        """Return both."""
        return Batch([*self.claimed, *other.claimed], [*self.decisions, *other.decisions], [*self.pages, *other.pages])


@attrs.frozen
class Recorder:
    """Writes what was decided. ``targets`` are the names that have a notifier."""

    policy: EscalationPolicy
    router: Router
    targets: AbstractSet[str]

    async def write(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write event, pages and incident together, in bulk.

        Rows that were put back before, or came again, are written apart: the database may refuse them again, and no
        other row is to pay for that.
        """
        suspects = [number for number, row in enumerate(claimed) if row.attempts or row.again]
        if not suspects:
            return await self._write(tx, claimed, decisions, now)
        usual = [number for number, row in enumerate(claimed) if not (row.attempts or row.again)]
        batch = await self._write(tx, [claimed[n] for n in usual], [decisions[n] for n in usual], now)
        return batch + await self.write_apart(tx, [claimed[n] for n in suspects], [decisions[n] for n in suspects], now)

    async def write_apart(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write behind savepoints, and put back the rows that are refused."""

        async def write(pairs: Sequence[tuple[Claimed, Decision]]) -> Batch:
            return await self._write(tx, [row for row, _ in pairs], [decision for _, decision in pairs], now)

        batches, refused = await write_apart(tx, list(zip(claimed, decisions, strict=True)), write)
        # As they were written: what is in the ledger already was planned again.
        pairs = [pair for batch in batches for pair in zip(batch.claimed, batch.decisions, strict=True)]
        altered = await self._altered(tx, pairs, now)
        await put_back_or_pass_over(tx, [put_back(row, fault, now) for (row, _), fault in refused], now, altered)
        written = Batch(
            [row for (row, _), _ in refused],
            [Skip(reason=Reason.UNREADABLE, incident=None, detail=fault) for _, fault in refused],
        )
        for batch in batches:
            written += batch
        return written

    async def _altered(
        self, tx: Transaction, written: Sequence[tuple[Claimed, Decision]], now: datetime
    ) -> list[PutBack]:
        """Return rows whose instant is not the one that was written, until that comes: a host's trigger changes it.

        They would be claimed again at once, and again, or never.
        """
        meant = {row.incident_key: decision.incident for row, decision in written if decision.incident is not None}
        altered: list[PutBack] = []
        held = await tx.incidents.dues(list(meant))
        for row, _ in written:
            incident = meant.get(row.incident_key)
            if incident is not None and held.get(row.incident_key, incident.next_due_at) != incident.next_due_at:
                until = incident.next_due_at or now + MAX_PUT_BACK
                altered.append(
                    PutBack(incident_key=row.incident_key, fault=ALTERED, attempts=row.attempts + 1, until=until)
                )
        return altered

    async def _write(
        self, tx: Transaction, claimed: Sequence[Claimed], planned: Sequence[Decision], now: datetime
    ) -> Batch:
        decisions = await self._reconcile(tx, claimed, list(planned), now)
        pages = self.pages(decisions)
        written = [decision.incident for decision in decisions if decision.incident is not None]
        await tx.incidents.advance(written)
        if pages:
            await tx.outbox.enqueue(pages, now)
        await note_exhausted(tx, written, now)
        unreadable = [
            put_back(row, decision.detail or "unreadable", now)
            for row, decision in zip(claimed, decisions, strict=True)
            if isinstance(decision, Skip) and decision.incident is None
        ]
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
