"""Recalculation: give every open row its true next_due_at after the windows or the maximum changed."""

import logging
from collections.abc import Sequence
from datetime import datetime
from functools import partial

import attrs

from .errors import StoreRefused
from .health import RecalcState
from .model import LOOK_AGAIN, AuditEntry, Incident
from .policy import EscalationPolicy
from .ports import Store, Transaction

log = logging.getLogger("escalation_core")

BATCH = 1000


async def request(store: Store, by: str | None, reason: str | None) -> RecalcState:
    """Ask for a recalculation; one that is under way starts over, since the settings may have changed again."""

    async def work(tx: Transaction) -> RecalcState:
        state = await tx.journal.recalc()
        now = await tx.now()
        asked = attrs.evolve(state, requested_at=now, cursor=None, visited=0)
        await tx.journal.save_recalc(asked)
        await tx.journal.note([AuditEntry(at=now, action="recalc", actor=by, reason=reason)])
        return asked

    return await store.transact(work)


async def advance(store: Store, policy: EscalationPolicy) -> RecalcState:
    """Visit the next batch, if a recalculation is under way; return how far it is."""

    async def work(tx: Transaction) -> RecalcState:
        state = await tx.journal.recalc()
        if state.requested_at is None:
            return state
        now = await tx.now()
        rows = await tx.incidents.walk(state.cursor, BATCH)
        moved = []
        for row in rows:
            # A marked row is planned anew by the next tick anyway; an unreadable one has no instant to give it.
            if row.incident is None or row.incident.next_due_at == LOOK_AGAIN:
                continue
            due = policy.next_due_at(row.incident, now)
            if due != row.incident.next_due_at:
                moved.append(attrs.evolve(row.incident, next_due_at=due))
        await _write(tx, moved)
        state = _after(state, len(rows), rows[-1].incident_key if rows else None, policy, now)
        await tx.journal.save_recalc(state)
        return state

    return await store.transact(work)


async def _write(tx: Transaction, moved: Sequence[Incident]) -> None:
    """Write the instants; a row that a host's constraint refuses stays as it is, and stops no other."""
    try:
        await tx.attempt(lambda: tx.incidents.advance(moved))
    except StoreRefused:
        for one in moved:
            try:
                await tx.attempt(partial(tx.incidents.advance, [one]))
            except StoreRefused as refusal:
                log.warning("incident %r keeps its instant: %s", one.incident_key, refusal)


def _after(state: RecalcState, visited: int, last: str | None, policy: EscalationPolicy, now: datetime) -> RecalcState:
    if visited == BATCH:
        return attrs.evolve(state, cursor=last, visited=state.visited + visited)
    return RecalcState(visited=state.visited + visited, finished_at=now, fingerprint=policy.fingerprint())
