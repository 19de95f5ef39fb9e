"""What a tick records of the rows that it claimed: event, pages and incident together, in bulk."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime

import attrs

from .apart import write_apart
from .delivery import NewPage
from .errors import StoreRefused
from .exhausted import note_exhausted
from .model import Claimed
from .paging import pages_for
from .plan import Decision, Escalate, Reason, Skip, plan, put_back
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

        Rows that were put back before are written apart: the database may refuse them again, and no other row is to
        pay for that.
        """
        suspects = [number for number, row in enumerate(claimed) if row.attempts]
        if not suspects:
            return await self._write(tx, claimed, decisions, now)
        usual = [number for number, row in enumerate(claimed) if not row.attempts]
        batch = await self._write(tx, [claimed[n] for n in usual], [decisions[n] for n in usual], now)
        return batch + await self.write_apart(tx, [claimed[n] for n in suspects], [decisions[n] for n in suspects], now)

    async def write_apart(
        self, tx: Transaction, claimed: Sequence[Claimed], decisions: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write behind savepoints: of what is refused each half by itself, down to the row, which is put back."""
        written = Batch()

        async def write(pairs: Sequence[tuple[Claimed, Decision]]) -> Batch:
            return await self._write(tx, [row for row, _ in pairs], [decision for _, decision in pairs], now)

        async def refused(pair: tuple[Claimed, Decision], refusal: StoreRefused) -> Batch:
            return await self._put_back(tx, pair[0], str(refusal), now)

        for batch in await write_apart(tx, list(zip(claimed, decisions, strict=True)), write, refused):
            written += batch
        return written

    async def _put_back(self, tx: Transaction, row: Claimed, fault: str, now: datetime) -> Batch:
        """Put back a row that the store refuses to write; where even that is refused, let everybody pass it over."""
        rows = [put_back(row, fault, now)]
        try:
            await tx.attempt(lambda: tx.incidents.put_back(rows, now))
        except StoreRefused:
            # If our own table refuses it as well it is no row's fault, and that is told.
            await tx.attempt(lambda: tx.incidents.pass_over(rows, now))
        return Batch([row], [Skip(reason=Reason.UNREADABLE, incident=None, detail=fault)])

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
