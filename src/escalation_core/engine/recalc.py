"""Recalculation: plan every unresolved row again, after the settings or the policies file changed."""

import logging
from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import NEEDS_REPLAN, UNACKNOWLEDGED, By, Candidate, OpenRows, RecalcState
from ..ports import Store, Transaction
from ..rules.plan import MAX_DEFERRAL, defer
from ..rules.planner import Planner
from ..rules.settled import Settled
from .exhausted import note_exhausted
from .refused_rows import defer_or_pass_over, write_apart
from .versions import Versions, log_note, write_notes

log = logging.getLogger("escalation_core")

BATCH = 1000


async def request(tx: Transaction, who: By) -> RecalcState:
    """Request a recalculation. A running one starts over, because the settings may have changed again."""
    state = await tx.journal.recalc()
    now = await tx.now()
    asked = attrs.evolve(state, requested_at=now, cursor=None, visited=0, skipped=False, due_only=False)
    await tx.journal.save_recalc(asked)
    await tx.journal.note([who.entry(now, "recalc")])
    return asked


async def mend(tx: Transaction, state: RecalcState, now: datetime, ahead: datetime) -> RecalcState:
    """Request a recalculation after the store's clock stepped back; ``ahead`` is the latest instant it had shown.

    A recalculation that an operator requested starts over and still visits all open rows.
    """
    due_only = state.requested_at is None or state.due_only
    asked = attrs.evolve(state, requested_at=now, cursor=None, visited=0, skipped=False, due_only=due_only, ahead=ahead)
    await tx.journal.save_recalc(asked)
    await tx.journal.note([By(reason="the store's clock stepped back").entry(now, "recalc")])
    return asked


async def advance(store: Store, versions: Versions, *, wait: bool = False) -> RecalcState:
    """Recalculate the next batch of rows if a recalculation is running; return its state.

    If another worker is busy with a batch, ``wait`` for it, or else return an empty state: nothing to do.
    """

    async def work(tx: Transaction) -> RecalcState:
        state = await tx.journal.recalc() if wait else await tx.journal.recalc_unless_locked()
        if state is None or state.requested_at is None:
            return state or RecalcState()
        now = await tx.now()
        # A recalculation after a step of the clock must not stop at a locked row: it visits that row later.
        # After a step of the clock it may write whole rows.
        labels = state.ahead is not None or (versions.policies is not None and versions.policies.reads_labels)
        walked = await tx.incidents.scan_unresolved(state.cursor, BATCH, wait=not state.due_only, labels=labels)
        rows = walked.rows
        planner = await versions.planner(tx, (row.incident for row in rows))
        moved = [each for row in rows if (each := _recalculated(row, state, planner, now)) is not None]
        await _write(tx, versions, rows, moved, now)
        if state.ahead is not None:
            # An unreadable row was deferred by the clock when it was ahead, so its deferral is too long.
            far = [row for row in rows if row.incident is None and row.due_at and row.due_at > now + MAX_DEFERRAL]
            await defer_or_pass_over(tx, [defer(row, row.fault or "unreadable", now) for row in far], now)
        state = _after(state, walked, versions, now)
        await tx.journal.save_recalc(state)
        return state

    return await store.transact(work)


def _recalculated(row: Candidate, state: RecalcState, planner: Planner, now: datetime) -> Settled | None:
    """Return the incident with its pin and next_due_at by the rule; None if the row does not change.

    It does what a planning does, except an escalation and the expiry of an acknowledgement: ticks do these.
    """
    incident = row.incident
    if incident is None or (state.due_only and incident.next_due_at is None):
        return None
    # A host that takes an acknowledgement back and writes next_due_at leaves a pin for the next tick to look at.
    marked = incident.next_due_at == NEEDS_REPLAN or (incident.policy_pin or "").startswith(UNACKNOWLEDGED)
    if state.ahead is not None and now < incident.first_seen <= state.ahead:
        incident = attrs.evolve(incident, first_seen=now)
    elif incident.next_due_at == NEEDS_REPLAN:
        return None
    last = incident.last_escalated_at
    last = last if last is None else min(last, now)
    if marked:  # the next tick replans the row anyway
        due: datetime | None = NEEDS_REPLAN
        found = Settled(incident, planner.builtin.walk(incident.severity), planner.builtin.tick_interval)
    else:
        found = planner.settle(incident, now)
        due = found.due(now)
    moved = found.incident.moved(level=incident.level, last_escalated_at=last, next_due_at=due)
    return None if moved == row.incident else attrs.evolve(found, incident=moved)


async def _write(
    tx: Transaction, versions: Versions, rows: Sequence[Candidate], moved: Sequence[Settled], now: datetime
) -> None:
    """Write the recalculated incidents. A row that the store refuses does not change, and stops no other row."""
    before = {row.incident_key: row.incident for row in rows if row.incident is not None}

    async def write(some: Sequence[Settled]) -> None:
        born = [one.incident for one in some if one.incident.first_seen != before[one.incident.incident_key].first_seen]
        others = [one.incident for one in some if one.incident not in born]
        await versions.advance(tx, [(before[one.incident_key], one) for one in others])
        await versions.keep(tx, born)
        for one in born:
            await tx.incidents.save(one)
        await note_exhausted(tx, [one.incident for one in some], now)
        await write_notes(tx, [one for one in some if one.notes], now)

    _, refused = await write_apart(tx, moved, write)
    for one in moved:
        for note, said in one.notes:
            log_note(one.incident.incident_key, note, said)
    for one, refusal in refused:
        log.warning(
            "incident %r keeps its next_due_at, because the store refused the write: %s",
            one.incident.incident_key,
            refusal,
        )


def _after(state: RecalcState, walked: OpenRows, versions: Versions, now: datetime) -> RecalcState:
    visited, skipped = state.visited + len(walked.rows), state.skipped or walked.skipped
    if walked.last is not None or skipped:
        # Go on with the next batch. At the end, start again if a batch left out locked rows.
        again = skipped and walked.last is not None
        return attrs.evolve(state, cursor=walked.last, visited=visited, skipped=again)
    # A due_only run leaves out rows without next_due_at, so they still need an operator's recalculation.
    held_before = state.held_before if state.due_only else None
    fingerprint = state.fingerprint if state.due_only else versions.fingerprint()
    return RecalcState(visited=visited, finished_at=now, fingerprint=fingerprint, held_before=held_before)
