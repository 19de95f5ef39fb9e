"""The views: read-only queries of one incident's history, of the audit, of dead pages, and of liveness."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import attrs

from ..checks import check_count, check_instant, check_key, check_span
from ..errors import InvalidValue
from ..model import (
    AuditEntry,
    Deferral,
    Escalation,
    Incident,
    NoticeRecord,
    PageRecord,
    parse_cursor,
)
from ..ports import Transaction, notices_of
from ..rules.next_pages import NextPages
from ..rules.policy import Step
from ..rules.routing import Conditions
from ..rules.upcoming import Upcoming, is_unplanned
from ..version import VERSION
from .access import canonical_key, gate_at
from .audit import read_audit
from .deliver import Delivery
from .health import MIN_INSTANT, Health, build_health, is_healthy
from .heartbeat import HeartbeatKeeper
from .on_call import OnCallVerbs
from .open_incidents import MAX_INCIDENTS, OpenIncidents, Reader, parse_place, step_of
from .outbox_views import MAX_ENTRIES, OutboxViews
from .policies_health import PoliciesHealth
from .tick import Ticker


@attrs.frozen(kw_only=True)
class IncidentHistory:
    """All records of one incident in the store, and its next escalation."""

    incident: Incident | None
    """None if the host deleted the row, if it cannot be read, or if the key never had a row."""
    fault: str | None = None
    """Why the row cannot be read."""
    upcoming: Upcoming
    """The next escalation, or what prevents it, by this engine's settings."""
    step: Step | None = None
    """The place in the incident's policy; None if the row cannot be read."""
    next_pages: NextPages | None = None
    """Whom the next escalation pages, by this engine's router and notifiers; None if no escalation can come."""
    escalations: Sequence[Escalation]
    pages: Sequence[PageRecord]
    audit: Sequence[AuditEntry]
    notices: Sequence[NoticeRecord] = ()
    """What those who were paged learn of it, oldest first."""
    unheard: bool = False
    """The incident is open, no page of its highest level was delivered, and none is tried again."""

    @property
    def known(self) -> bool:
        """Whether the store has any record of the key. If not, the key never existed, or a prune deleted everything."""
        return bool(self.incident or self.fault or self.escalations or self.pages or self.audit)


class Views(OnCallVerbs, OutboxViews):
    """The engine's views. Each reads one snapshot of the store and changes nothing."""

    _heartbeat_keeper: HeartbeatKeeper
    _ticker: Ticker
    _delivery: Delivery

    async def history(self, incident_key: str) -> IncidentHistory:
        """Return the records of one incident, at most 1,000 of each kind, and its next escalation."""
        check_key(incident_key)
        await self._load_due_schedules()

        async def work(tx: Transaction) -> IncidentHistory:
            key = canonical_key(tx, incident_key)
            escalations = await tx.ledger.escalations(limit=1000, incident_key=key)
            incident, fault = None, None
            try:
                incident = await tx.incidents.load(key, lock=False)
            except InvalidValue as error:
                fault = str(error)
            reader = await Reader.begin(tx, self.settings, self._pager, self._versions)
            planner = await reader.planner([incident])
            left_alone = (await tx.incidents.left_alone([key])).get(key)
            if fault is not None and left_alone is None:
                left_alone = Deferral(incident_key=key, fault=fault, attempts=0, until=reader.now)
            audit = await read_audit(tx, since=MIN_INSTANT, limit=1000, incident_key=key)
            unplanned = incident is not None and is_unplanned(incident, reader.recalc, audit)
            return IncidentHistory(
                incident=incident,
                fault=fault,
                upcoming=reader.upcoming(incident, left_alone, planner, unplanned=unplanned),
                step=step_of(incident, planner, reader.now),
                next_pages=reader.next_pages(incident, planner),
                escalations=[escalation for _, escalation in escalations],
                pages=await tx.outbox.pages(limit=1000, incident_key=key),
                notices=await notices.notices(limit=1000, incident_key=key) if (notices := notices_of(tx)) else (),
                audit=audit,
                unheard=bool(await tx.journal.unheard([key])),
            )

        return await self._read(work)

    async def open_incidents(
        self,
        *,
        limit: int = 50,
        after: str | None = None,
        within: timedelta | None = None,
        match: Conditions | None = None,
        unheard: bool = False,
    ) -> OpenIncidents:
        """Return open incidents: what escalates next comes first, and what no longer escalates comes last.

        ``within`` leaves out incidents that escalate later than this span from now, and those that no longer escalate
        because they are exhausted. ``match`` leaves out incidents that do not meet the conditions at their level, but
        no unreadable row. ``unheard`` leaves out all but those of which no page has arrived. To read further incidents,
        give the ``cursor`` of the last one as ``after``.

        Raises:
            InvalidValue: the limit is not between 1 and 1,000, the span is not above zero, or the cursor is not valid.
        """
        check_count(limit, "limit", 1, MAX_INCIDENTS)
        place = None if after is None else parse_place(after)
        if within is not None:
            check_span(within, "within")
        await self._load_due_schedules()

        async def work(tx: Transaction) -> OpenIncidents:
            reader = await Reader.begin(tx, self.settings, self._pager, self._versions)
            return await reader.read(limit=limit, after=place, within=within, match=match, unheard=unheard)

        return await self._read(work)

    async def audit(self, since: datetime, *, limit: int = 1000, after: str | None = None) -> Sequence[AuditEntry]:
        """Return the audit's entries since an instant, newest first: escalations, settled pages, actions of people.

        To read further entries, give the ``cursor`` of the last entry as ``after``.
        """
        since = check_instant(since, "since")
        check_count(limit, "limit", 1, MAX_ENTRIES)
        cursor = None if after is None else parse_cursor(after)
        return await self._read(lambda tx: read_audit(tx, since=since, limit=limit, after=cursor))

    async def health(self) -> Health:
        """Return the state of the engine and its store at one instant, and whether the engine is healthy."""
        await self._load_due_schedules()

        async def work(tx: Transaction) -> Health:
            now = await tx.now()
            # With a canary of 100 percent no row is outside, and counting such rows would scan every due row.
            observed = await self._heartbeat_keeper.count(tx, now, detail=not self.settings.canary.whole)
            return build_health(
                settings=self.settings,
                gate=await gate_at(tx, self.settings.switches, now),
                now=now,
                beat=await tx.journal.last_heartbeat(now),
                stats=observed.stats,
                recalc=await tx.journal.recalc(lock=False),
                served=tuple(self._delivery.notifiers),
                targets=observed.targets,
                notices=observed.notices,
                unconfigured=self._ticker.unconfigured,
                policies=PoliciesHealth(
                    digest=None if self.policies is None else self.policies.digest,
                    fault=self.policies_fault,
                    stats=observed.walks,
                    schedules=self._versions.schedule_loader.health(now),
                    schedule_faults=tuple(self._versions.schedule_loader.faults.values()),
                    missing_schedules=self._missing_schedules(),
                    unread_calendars=self._unread_calendars(),
                    doubled_schedules=self._doubled_schedules(),
                ),
                fingerprint=self._versions.fingerprint(),
                version=VERSION,
            )

        return await self._read(work)

    async def is_healthy(self) -> bool:
        """Return whether the engine is healthy, like ``health`` but without its counts, so that probes cost little.

        It is True if a worker ticked within two tick intervals, or if the engine is disabled or paused. After the
        store's clock stepped back, it is False until the next tick. By the last counts of this engine, it is also False
        while an open incident is unheard, and while a level was put off twice.
        """

        async def work(tx: Transaction) -> bool:
            now = await tx.now()
            gate = await gate_at(tx, self.settings.switches, now)
            alive = is_healthy(self.settings, gate, await tx.journal.last_heartbeat(now), now)
            seen = self._heartbeat_keeper.observed()
            return alive and (seen is None or not (seen.stats.unheard or seen.walks.put_off))

        return await self._read(work)
