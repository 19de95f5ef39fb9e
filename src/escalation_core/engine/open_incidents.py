"""The list of open incidents: each with its next escalation, and the pages of its present episode."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta

import attrs

from ..checks import check_text
from ..errors import InvalidValue
from ..model import Candidate, Deferral, Incident, PageRecord, Pause, RecalcState
from ..model.micros import from_micros, to_micros
from ..ports import Transaction
from ..rules.next_pages import NextPages, next_pages
from ..rules.planner import Planner
from ..rules.policy import Step
from ..rules.routing import Conditions, Pager
from ..rules.upcoming import Upcoming, plans_every_row, upcoming
from ..settings import Settings
from .versions import Versions

MAX_INCIDENTS = 1000
"""How many incidents one call returns at most."""
SCANNED = 2000
"""How many rows are read at once if some of them may not match."""
_ALTCHARS = b"-_"

Place = tuple[datetime | None, str]
"""The place of a row in the list: its next_due_at and its key."""


@attrs.frozen(kw_only=True)
class OpenIncident:
    """An open incident of the list."""

    incident_key: str
    incident: Incident | None
    """None if the row cannot be read. A long summary is cut, and labels that are too long are left out."""
    fault: str | None = None
    """Why the row cannot be read."""
    upcoming: Upcoming
    """The next escalation, or what prevents it, by this engine's settings."""
    step: Step | None
    """The place in the incident's policy; None if the row cannot be read."""
    next_pages: NextPages | None
    """Whom the next escalation pages; None if no escalation can come."""
    pages: Sequence[PageRecord]
    """The pages of the present episode, sorted by id."""
    unheard: bool = False
    """No page of its highest level was delivered, and none is tried again."""
    cursor: str
    """The place in the list. Give it as ``after`` to read on behind this incident."""


@attrs.frozen(kw_only=True)
class OpenIncidents:
    """A part of the list of open incidents."""

    at: datetime
    """The store's instant at which the list was read."""
    incidents: Sequence[OpenIncident]
    """What escalates next comes first. Incidents that no longer escalate come last, sorted by key."""
    more: bool
    """Whether further incidents follow behind the last one."""


@attrs.define
class Reader:
    """Reads the list in one transaction, with what concerns all incidents."""

    tx: Transaction
    settings: Settings
    pager: Pager
    versions: Versions
    now: datetime
    pauses: Sequence[Pause]
    recalc: RecalcState

    @classmethod
    async def begin(cls, tx: Transaction, settings: Settings, pager: Pager, versions: Versions) -> "Reader":
        """Read the instant and what concerns all incidents."""
        now = await tx.now()
        pauses, recalc = await tx.operations.pauses(now), await tx.journal.recalc(lock=False)
        return cls(tx, settings, pager, versions, now, pauses, recalc)

    async def planner(self, incidents: Iterable[Incident | None]) -> Planner:
        """Return what decides about these incidents."""
        planner = await self.versions.planner(self.tx, incidents)
        return await self.versions.with_on_call(self.tx, planner, self.now)

    def upcoming(
        self, incident: Incident | None, left_alone: Deferral | None, planner: Planner, *, unplanned: bool
    ) -> Upcoming:
        """Return the next escalation of a row; see ``rules.upcoming``."""
        return upcoming(
            incident,
            left_alone,
            planner=planner,
            switches=self.settings.switches,
            dry_run=self.settings.dry_run,
            canary=self.settings.canary,
            pauses=self.pauses,
            unplanned=unplanned,
            now=self.now,
        )

    def next_pages(self, incident: Incident | None, planner: Planner) -> NextPages | None:
        """Return whom the next escalation of a row pages."""
        return next_pages(incident, planner=planner, pager=self.pager, now=self.now)

    async def read(
        self,
        *,
        limit: int,
        after: Place | None,
        within: timedelta | None,
        match: Conditions | None,
        unheard: bool = False,
    ) -> OpenIncidents:
        """Return the part of the list behind ``after``."""
        until = None if within is None else self._at_most(within)
        only = await self.tx.journal.unheard() if unheard else None
        found: list[tuple[Candidate, Upcoming]] = []
        more, scanning = only is None or bool(only), False
        while more and len(found) <= limit:  # one more than the limit shows whether any follow
            size = limit + 1 if match is None and only is None and not scanning else SCANNED
            scanning = True  # rows that were left out may be many: no small parts of them
            rows = await self.tx.incidents.list_open(after=after, limit=size, until=until)
            matching = [row for row in rows if _matches(row, match) and (only is None or row.incident_key in only)]
            unplanned = await self._unplanned(rows, matching, after)
            deferred = await self._deferred(matching)
            planner = await self.planner(row.incident for row in matching)
            coming = [
                (
                    row,
                    self.upcoming(
                        row.incident, deferred.get(row.incident_key), planner, unplanned=row.incident_key in unplanned
                    ),
                )
                for row in matching
            ]
            found += [
                (row, one) for row, one in coming if until is None or one.at is None or one.held_by or one.at <= until
            ]
            more = len(rows) == size
            if rows:
                after = rows[-1].due_at, rows[-1].incident_key
        shown = found[:limit]
        planner = await self.planner(row.incident for row, _ in shown)
        pages = await self._pages([row for row, _ in shown])
        silent = await self.tx.journal.unheard([row.incident_key for row, _ in shown]) if only is None else only
        return OpenIncidents(
            at=self.now,
            incidents=[
                self._one(row, coming, planner, pages.get(row.incident_key, []), unheard=row.incident_key in silent)
                for row, coming in shown
            ],
            more=len(found) > limit,
        )

    def _at_most(self, within: timedelta) -> datetime:
        try:
            return self.now + within
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    async def _deferred(self, rows: Sequence[Candidate]) -> Mapping[str, Deferral]:
        deferred = {
            row.incident_key: Deferral(incident_key=row.incident_key, fault=row.fault, attempts=0, until=self.now)
            for row in rows
            if row.fault is not None
        }
        # Usually no row was ever deferred.
        keys = [row.incident_key for row in rows if row.attempts]
        return deferred | dict(await self.tx.incidents.left_alone(keys)) if keys else deferred

    async def _unplanned(
        self, rows: Sequence[Candidate], matching: Sequence[Candidate], after: Place | None
    ) -> AbstractSet[str]:
        """Return the rows without next_due_at that no worker will plan. ``unseen`` reads them in the same order."""
        undue = [row.incident_key for row in rows if row.due_at is None]
        if plans_every_row(self.recalc) or all(row.due_at is not None for row in matching):
            return frozenset()
        begin = after[1] if after is not None and after[0] is None else None
        seen = await self.tx.incidents.unseen(begin, limit=len(undue), held_before=self.recalc.held_before, lock=False)
        return set(undue) - set(seen.keys)

    async def _pages(self, rows: Sequence[Candidate]) -> Mapping[str, list[PageRecord]]:
        episodes = [(row.incident_key, row.incident.episode) for row in rows if row.incident is not None]
        pages: dict[str, list[PageRecord]] = {}
        for page in await self.tx.outbox.pages_of(episodes) if episodes else ():
            pages.setdefault(page.incident_key, []).append(page)
        return pages

    def _one(
        self, row: Candidate, coming: Upcoming, planner: Planner, pages: Sequence[PageRecord], *, unheard: bool
    ) -> OpenIncident:
        return OpenIncident(
            incident_key=row.incident_key,
            incident=row.incident,
            fault=row.fault,
            upcoming=coming,
            step=step_of(row.incident, planner, self.now),
            next_pages=self.next_pages(row.incident, planner),
            pages=pages,
            unheard=unheard,
            cursor=_cursor(row),
        )


def step_of(incident: Incident | None, planner: Planner, now: datetime) -> Step | None:
    """Return the place of an incident in its policy; None for a row that cannot be read."""
    if incident is None:
        return None
    found = planner.settle(incident, now)
    return found.policy.step(found.incident)


def _matches(row: Candidate, match: Conditions | None) -> bool:
    # An unreadable row may be any incident, so conditions do not hide it.
    return match is None or row.incident is None or match.matches(row.incident, row.incident.level)


def _cursor(row: Candidate) -> str:
    due = "-" if row.due_at is None else str(to_micros(row.due_at))
    # Printable ASCII alone, whatever the key: people copy it from a terminal.
    return f"{due}.{b64encode(row.incident_key.encode(), _ALTCHARS).decode()}"


def parse_place(cursor: str) -> Place:
    """Return the place that a cursor stands for.

    Raises:
        InvalidValue: the value is not a valid cursor.
    """
    match = re.fullmatch(r"(-|-?[0-9]{1,18})\.([A-Za-z0-9_=-]+)", cursor) if isinstance(cursor, str) else None
    try:
        if match is not None:
            due = None if match[1] == "-" else from_micros(int(match[1]))
            # A host may write a key that the engine refuses; the list goes on behind it.
            return due, check_text(b64decode(match[2], _ALTCHARS, validate=True).decode(), "after")
    except (OverflowError, ValueError, InvalidValue):
        pass
    raise InvalidValue("after", "is not a valid cursor", "give the cursor of the last incident that you have")
