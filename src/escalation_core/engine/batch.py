"""One transaction of a tick: claim rows, plan, record escalations, replan recorded ones, write incidents and pages.

If the store refuses a batch, the engine runs the batch again with savepoints. It splits the batch in halves until it
has found the refused rows. A dry run takes the same steps, but uses ``peek`` for ``claim`` and writes nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial

import attrs

from ..errors import StoreError, StoreNotReady, StoreRefused, StoreUnavailable
from ..model import NEEDS_REPLAN, Candidate, Deferral, Escalation, NewPage
from ..ports import Store, Transaction
from ..rules.gate import Gate, Mode
from ..rules.plan import Decision, Escalate, Reason, Skip, caught_up, defer, defer_altered, plan
from ..rules.planner import Planner
from ..rules.routing import Pager
from ..settings import Settings
from .access import gate_at
from .exhausted import note_exhausted
from .overwritten import Overwritten
from .refused_rows import defer_or_pass_over, write_apart
from .versions import Versions

log = logging.getLogger("escalation_core")


_FOREIGN_HASH = Skip(
    reason=Reason.UNREADABLE,
    incident=None,
    detail="escalation_events holds this escalation's unique_hash for another incident",
)


@attrs.frozen(kw_only=True)
class Batch:
    """The result of one transaction of a tick: the claimed rows, a decision for each, and the pages."""

    claimed: Sequence[Candidate] = ()
    decisions: Sequence[Decision] = ()
    pages: Sequence[NewPage] = ()

    @property
    def more(self) -> bool:
        """Whether a claim left out rows below its limit, because of the length of their labels."""
        return any(row.more for row in self.claimed)

    def __add__(self, other: "Batch") -> "Batch":
        """Return one batch with the content of both."""
        return Batch(
            claimed=[*self.claimed, *other.claimed],
            decisions=[*self.decisions, *other.decisions],
            pages=[*self.pages, *other.pages],
        )


@attrs.frozen(kw_only=True)
class BatchRunner:
    """Escalates due incidents, one batch in each transaction."""

    store: Store
    settings: Settings
    pager: Pager
    versions: Versions
    limit: int
    """The most rows of one batch."""
    overwritten: Overwritten

    async def run(self, at: datetime) -> tuple[Gate, Batch]:
        """Escalate one batch of the rows that are due at ``at``, the tick's instant by the store's clock.

        Returns:
            The gate, and what the batch did.
        """
        try:
            return await self.store.transact(partial(self._escalate, at=at, apart=False))
        except StoreError as refusal:
            # A constraint or trigger of the host refuses a row, which undoes the whole batch: find that row. A trigger
            # may raise any error, so StoreUnavailable can be a refusal too.
            if isinstance(refusal, StoreUnavailable) and not refusal.by_host:
                raise
            if isinstance(refusal, StoreNotReady):
                await self.store.check()
            log.warning("the store refused a batch; the engine defers the rows that it refuses: %s", refusal)
            try:
                return await self.store.transact(partial(self._escalate, at=at, apart=True))
            except StoreRefused:
                # The store also refuses to write the engine's own table, so the rows are not the cause.
                raise refusal from None

    async def _escalate(self, tx: Transaction, *, at: datetime, apart: bool) -> tuple[Gate, Batch]:
        clock = await tx.now()
        gate = await gate_at(tx, self.settings.switches, clock)
        # If the clock stepped back within this tick, the earlier instant decides which rows are due.
        now = min(at, clock)
        if not gate.may_claim:
            return gate, Batch()
        claimed = await tx.incidents.claim(until=claims_until(gate, now), limit=self.limit, canary=self.settings.canary)
        claimed = [self.overwritten.recognize(row) for row in claimed]
        planner = await self.versions.planner(tx, (row.incident for row in claimed))
        planner = await self.versions.with_on_call(tx, planner, now)
        decisions = [_plan(row, planner, now, gate, clock) for row in claimed]
        # The store may refuse a row again that was deferred before, or that has its old instant again. Such rows are
        # written apart, so that a refusal does not undo the other rows.
        suspects = [n for n, row in enumerate(claimed) if apart or row.attempts or row.again]
        usual = [n for n, row in enumerate(claimed) if not (apart or row.attempts or row.again)]
        batch = Batch()
        if usual:
            batch += await self._write(tx, [claimed[n] for n in usual], [decisions[n] for n in usual], now)
        if suspects:
            batch += await self._write_apart(tx, [(claimed[n], decisions[n]) for n in suspects], now)
        return gate, batch

    async def _record(
        self, tx: Transaction, claimed: Sequence[Candidate], planned: Sequence[Decision], now: datetime
    ) -> list[Decision]:
        """Record the escalations, each exactly once. Replan the rows whose escalation the ledger already has."""
        decisions = list(planned)
        await self._record_passes(tx, claimed, decisions, now)
        rising = [n for n, decision in enumerate(decisions) if isinstance(decision, Escalate) and not decision.passed]
        escalations = [one.escalation for one in decisions if isinstance(one, Escalate) and not one.passed]
        if escalations:
            new = await tx.ledger.record(escalations)
            known = {number: one for number, one, fresh in zip(rising, escalations, new, strict=True) if not fresh}
            for number, again in (await self._plan_again(tx, claimed, known, now)).items():
                decisions[number] = _FOREIGN_HASH if isinstance(again, Escalate) else again
        return decisions

    async def _record_passes(
        self, tx: Transaction, claimed: Sequence[Candidate], decisions: list[Decision], now: datetime
    ) -> None:
        """Record the escalations of rows that pass over levels: those of a row all, or none."""
        passes = {n: one for n, one in enumerate(decisions) if isinstance(one, Escalate) and one.passed}
        if not passes:
            return
        first = {n: one.passed[0] for n, one in passes.items()}
        recorded = await tx.ledger.highest([(one.incident_key, one.episode) for one in first.values()])
        known = {
            n: one
            for n, one in first.items()
            if (highest := recorded.get((one.incident_key, one.episode))) is not None and highest.level >= one.level
        }
        for number, again in (await self._plan_again(tx, claimed, known, now)).items():
            decisions[number] = _FOREIGN_HASH if isinstance(again, Escalate) else again
        groups = [[n for n in passes if n not in known]]
        while groups:
            group = groups.pop()
            try:
                await tx.savepoint(partial(_record_all, tx, [passes[n] for n in group]))
            except _AlreadyThere:
                # The ledger has an escalation of some row for another incident: find the row.
                if len(group) > 1:
                    groups += [[n] for n in group]
                else:
                    decisions[group[0]] = _FOREIGN_HASH

    async def _plan_again(
        self, tx: Transaction, claimed: Sequence[Candidate], escalated: Mapping[int, Escalation], now: datetime
    ) -> dict[int, Decision]:
        """Replan rows with the highest level that the ledger has for their escalations' episodes. The ledger wins."""
        if not escalated:
            return {}
        episodes = {number: (one.incident_key, one.episode) for number, one in escalated.items()}
        recorded, clock = await tx.ledger.highest(list(episodes.values())), await tx.now()
        found = {number: recorded.get(episode) for number, episode in episodes.items()}
        # The policies' positions are those of the recorded level.
        at_level = [
            attrs.evolve(caught_up(row.incident, known, clock), episode=episodes[number][1])
            for number, known in found.items()
            if known is not None and (row := claimed[number]).incident is not None
        ]
        planner = await self.versions.planner(tx, at_level, changing=True)
        planner = await self.versions.with_on_call(tx, planner, now)
        return {
            number: plan(claimed[number], policy=planner, now=now, recorded=known, clock=clock)
            for number, known in found.items()
        }

    def _pages(self, decisions: Sequence[Decision]) -> list[NewPage]:
        return [
            page
            for decision in decisions
            if isinstance(decision, Escalate)
            for page in self.pager.pages_for(
                decision.incident, decision.escalation.unique_hash, decision.recipients, first=decision.first
            )
        ]

    async def _write(
        self, tx: Transaction, claimed: Sequence[Candidate], planned: Sequence[Decision], now: datetime
    ) -> Batch:
        """Write escalations, pages and incidents together, in bulk."""
        decisions = await self._record(tx, claimed, planned, now)
        pages = self._pages(decisions)
        await self.versions.write(tx, claimed, decisions, now)
        if pages:
            await tx.outbox.enqueue(pages, now)
        await note_exhausted(tx, [one.incident for one in decisions if one.incident is not None], now)
        unreadable = [
            defer(row, decision.detail or "unreadable", now)
            for row, decision in zip(claimed, decisions, strict=True)
            if isinstance(decision, Skip) and decision.incident is None
        ]
        if unreadable:
            await tx.incidents.defer_unreadable(unreadable, now)
        return Batch(claimed=claimed, decisions=decisions, pages=pages)

    async def _write_apart(self, tx: Transaction, pairs: Sequence[tuple[Candidate, Decision]], now: datetime) -> Batch:
        """Write the rows with savepoints, and defer the rows that the store refuses."""

        async def write(some: Sequence[tuple[Candidate, Decision]]) -> Batch:
            return await self._write(tx, [row for row, _ in some], [decision for _, decision in some], now)

        batches, refused = await write_apart(tx, pairs, write)
        written = sum(batches, Batch())
        altered = await _altered(tx, written, now)
        await defer_or_pass_over(tx, [defer(row, fault, now) for (row, _), fault in refused], now, altered)
        return written + Batch(
            claimed=[row for (row, _), _ in refused],
            decisions=[Skip(reason=Reason.UNREADABLE, incident=None, detail=fault) for _, fault in refused],
        )

    async def rehearse(
        self, tx: Transaction, *, at: datetime, after: tuple[datetime, str] | None
    ) -> tuple[Gate, Batch]:
        """Plan the next batch of rows beyond ``after`` on a snapshot, and write nothing."""
        gate = await gate_at(tx, self.settings.switches, at)
        if not gate.may_claim:
            return gate, Batch()
        claimed = await tx.incidents.peek(
            until=claims_until(gate, at), after=after, limit=self.limit, canary=self.settings.canary
        )
        planner = await self.versions.planner(tx, (row.incident for row in claimed))
        planner = await self.versions.with_on_call(tx, planner, at)
        decisions = [_plan(row, planner, at, gate, at) for row in claimed]
        rising = {n: decision.escalation for n, decision in enumerate(decisions) if isinstance(decision, Escalate)}
        for number, again in (await self._plan_again(tx, claimed, rising, at)).items():
            decisions[number] = again
        return gate, Batch(claimed=claimed, decisions=decisions, pages=self._pages(decisions))


class _AlreadyThere(Exception):
    """Raised to undo the escalations of a row: the ledger has one of them for another incident."""


async def _record_all(tx: Transaction, decisions: Sequence[Escalate]) -> None:
    """Record all escalations of rows that pass over levels, or none."""
    if not all(await tx.ledger.record([one for each in decisions for one in (*each.passed, each.escalation)])):
        raise _AlreadyThere


def _plan(row: Candidate, planner: Planner, now: datetime, gate: Gate, clock: datetime) -> Decision:
    try:
        return plan(row, policy=planner, now=now, gate=gate, clock=clock)
    except Exception as error:  # noqa: BLE001 - one row that cannot be planned must not stop its batch
        return Skip(reason=Reason.UNREADABLE, incident=None, detail=f"{type(error).__name__}: {error}")


def claims_until(gate: Gate, now: datetime) -> datetime:
    """Return the latest next_due_at to claim: ``now``, or ``NEEDS_REPLAN`` while ESCALATION_V1 is off."""
    return NEEDS_REPLAN if gate.mode is Mode.V1_OFF else now


async def _altered(tx: Transaction, batch: Batch, now: datetime) -> list[Deferral]:
    """Return a deferral for each row whose next_due_at is not what the engine wrote: a host's trigger changes it.

    Without the deferral, workers would claim the row again and again, or never.
    """
    decided = list(zip(batch.claimed, batch.decisions, strict=True))
    meant = {row.incident_key: decision.incident for row, decision in decided if decision.incident is not None}
    altered: list[Deferral] = []
    found = await tx.incidents.dues(list(meant))
    for row in batch.claimed:
        incident = meant.get(row.incident_key)
        if incident is not None and found.get(row.incident_key, incident.next_due_at) != incident.next_due_at:
            altered.append(defer_altered(row, incident, now))
    return altered
