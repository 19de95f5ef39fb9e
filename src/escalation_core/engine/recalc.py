"""Recalculation: compute next_due_at of every open row again, after the windows or the maximum level changed."""

import logging
from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import NEEDS_REPLAN, By, Candidate, Incident, OpenRows, RecalcState
from ..ports import Store, Transaction
from ..rules.builtin import BuiltinPolicy
from ..rules.plan import MAX_DEFERRAL, defer
from .exhausted import note_exhausted
from .refused_rows import defer_or_pass_over, write_apart

log = logging.getLogger("escalation_core")

BATCH = 1000


async def request(store: Store, who: By) -> RecalcState:
    """Request a recalculation. A running one starts over, because the settings may have changed again."""

    async def work(tx: Transaction) -> RecalcState:
        state = await tx.journal.recalc()
        now = await tx.now()
        asked = attrs.evolve(state, requested_at=now, cursor=None, visited=0, skipped=False, due_only=False)
        await tx.journal.save_recalc(asked)
        await tx.journal.note([who.entry(now, "recalc")])
        return asked

    return await store.transact(work)


async def mend(tx: Transaction, state: RecalcState, now: datetime, ahead: datetime) -> RecalcState:
    """Request a recalculation after the store's clock stepped back; ``ahead`` is the latest instant it had shown.

    A recalculation that an operator requested starts over and still visits all open rows.
    """
    due_only = state.requested_at is None or state.due_only
    asked = attrs.evolve(state, requested_at=now, cursor=None, visited=0, skipped=False, due_only=due_only, ahead=ahead)
    await tx.journal.save_recalc(asked)
    await tx.journal.note([By(reason="the store's clock stepped back").entry(now, "recalc")])
    return asked


async def advance(store: Store, policy: BuiltinPolicy, *, wait: bool = False) -> RecalcState:
    """Recalculate the next batch of rows if a recalculation is running; return its state.

    If another worker is busy with a batch, ``wait`` for it, or else return an empty state: nothing to do.
    """

    async def work(tx: Transaction) -> RecalcState:
        state = await tx.journal.recalc() if wait else await tx.journal.recalc_unless_locked()
        if state is None or state.requested_at is None:
            return state or RecalcState()
        now = await tx.now()
        # A recalculation after a step of the clock must not stop at a locked row: it visits that row later.
        walked = await tx.incidents.scan_open(state.cursor, BATCH, wait=not state.due_only)
        rows = walked.rows
        moved = [due for row in rows if (due := _recalculated(row, state, policy, now)) is not None]
        await _write(tx, rows, moved, now)
        if state.ahead is not None:
            # An unreadable row was deferred by the clock when it was ahead, so its deferral is too long.
            far = [row for row in rows if row.incident is None and row.due_at and row.due_at > now + MAX_DEFERRAL]
            await defer_or_pass_over(tx, [defer(row, row.fault or "unreadable", now) for row in far], now)
        state = _after(state, walked, policy, now)
        await tx.journal.save_recalc(state)
        return state

    return await store.transact(work)


def _recalculated(row: Candidate, state: RecalcState, policy: BuiltinPolicy, now: datetime) -> Incident | None:
    """Return the incident with its new next_due_at; None if the row does not change."""
    incident = row.incident
    if incident is None or (state.due_only and incident.next_due_at is None):
        return None
    marked = incident.next_due_at == NEEDS_REPLAN
    if state.ahead is not None and now < incident.first_seen <= state.ahead:
        incident = attrs.evolve(incident, first_seen=now)
    elif marked:
        # The next tick replans the row anyway.
        return None
    last = incident.last_escalated_at
    moved = incident.moved(
        level=incident.level,
        last_escalated_at=last if last is None else min(last, now),
        next_due_at=NEEDS_REPLAN if marked else policy.next_due_at(incident, now),
    )
    return None if moved == row.incident else moved


async def _write(tx: Transaction, rows: Sequence[Candidate], moved: Sequence[Incident], now: datetime) -> None:
    """Write the recalculated incidents. A row that the store refuses does not change, and stops no other row."""
    born = {row.incident_key: row.incident.first_seen for row in rows if row.incident is not None}

    async def write(some: Sequence[Incident]) -> None:
        await tx.incidents.advance([one for one in some if one.first_seen == born[one.incident_key]])
        for one in some:
            if one.first_seen != born[one.incident_key]:
                await tx.incidents.save(one)
        await note_exhausted(tx, some, now)

    _, refused = await write_apart(tx, moved, write)
    for one, refusal in refused:
        log.warning(
            "incident %r keeps its next_due_at, because the store refused the write: %s", one.incident_key, refusal
        )


def _after(state: RecalcState, walked: OpenRows, policy: BuiltinPolicy, now: datetime) -> RecalcState:
    visited, skipped = state.visited + len(walked.rows), state.skipped or walked.skipped
    if walked.last is not None or skipped:
        # Go on with the next batch. At the end, start again if a batch left out locked rows.
        again = skipped and walked.last is not None
        return attrs.evolve(state, cursor=walked.last, visited=visited, skipped=again)
    # A due_only run leaves out rows without next_due_at, so they still need an operator's recalculation.
    held_before = state.held_before if state.due_only else None
    fingerprint = state.fingerprint if state.due_only else policy.fingerprint()
    return RecalcState(visited=visited, finished_at=now, fingerprint=fingerprint, held_before=held_before)
