"""The audit: escalations, settled pages and notes, read newest first and merged."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from ..model import AuditCursor, AuditEntry, AuditRange, AuditSource, Escalation, LevelOutcome, PageRecord
from ..ports import Transaction

_Placed = tuple[AuditCursor, AuditEntry]

_OUTCOMES = {
    LevelOutcome.NOBODY: "no one is on call: the next level follows at once",
    LevelOutcome.DEFAULT: "no one is on call: the default target, or the router's, is paged",
}


async def read_audit(
    tx: Transaction,
    *,
    since: datetime,
    limit: int,
    incident_key: str | None = None,
    after: AuditCursor | None = None,
) -> Sequence[AuditEntry]:
    """Return the entries since ``since``, each with its cursor. ``after`` leaves out the entries up to that cursor."""

    def reach(source: AuditSource) -> AuditRange:
        return AuditRange(since=since) if after is None else after.range(source, since)

    escalations = await tx.ledger.recent(reach(AuditSource.ESCALATION), limit=limit, incident_key=incident_key)
    pages = await tx.outbox.settled(reach(AuditSource.PAGE), limit=limit, incident_key=incident_key)
    notes = await tx.journal.notes(reach(AuditSource.NOTE), limit=limit, incident_key=incident_key)
    placed: list[_Placed] = [
        *(_placed(AuditSource.ESCALATION, number, _of_escalation(one)) for number, one in escalations),
        *(_placed(AuditSource.PAGE, page.id, _of_page(page)) for page in pages),
        *(_placed(AuditSource.NOTE, number, note) for number, note in notes),
    ]
    # Newest first. Two stable sorts, because a datetime cannot be negated for a single key.
    placed.sort(key=lambda one: (one[0].source, one[0].id))
    placed.sort(key=lambda one: one[0].at, reverse=True)
    return [attrs.evolve(entry, cursor=place.cursor) for place, entry in placed[:limit]]


def _placed(source: AuditSource, number: int, entry: AuditEntry) -> _Placed:
    return AuditCursor(entry.at, source, number), entry


def _of_escalation(one: Escalation) -> AuditEntry:
    return AuditEntry(
        at=one.created_at,
        action="escalate",
        incident_key=one.incident_key,
        episode=one.episode,
        level=one.level,
        reason=None if one.outcome is None else _OUTCOMES[one.outcome],
    )


def _of_page(page: PageRecord) -> AuditEntry:
    return AuditEntry(
        at=page.due_at,
        action=f"page {page.state.value}",
        incident_key=page.incident_key,
        episode=page.episode,
        level=page.level,
        reason="; ".join(filter(None, (page.reason, page.via and f"via {page.via}", _in_bundle(page)))) or None,
        target=page.target,
    )


def _in_bundle(page: PageRecord) -> str | None:
    return None if page.bundle is None else f"in bundle {page.bundle}"
