"""The Notices port on escalation_changes and escalation_notices."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any

import attrs

from escalation_core import Incident, InvalidValue, NoticeKind
from escalation_core.model import (
    Arrival,
    Change,
    ChangedIncident,
    ClaimedNotice,
    DueTarget,
    NewNotice,
    NoticeRecord,
    NoticeState,
)

from .outbox import read_due_targets
from .session import Session, aware, instant
from .table import read_incident

_COLUMNS = len(attrs.fields(NoticeRecord))


@attrs.frozen
class Notices:
    """The changes and the notices, in one transaction."""

    session: Session

    async def note(self, changes: Sequence[Change]) -> None:
        """Insert in one statement."""
        if changes:
            await self.session.later("note_changes", **_changes(changes))

    async def ready(self, limit: int, now: datetime) -> Sequence[ChangedIncident]:
        """Return changes, locked. Those that others have locked are left out."""
        rows = await self.session.rows("ready_changes", limit=limit, now=now)
        return [ChangedIncident(_change(row[:7]), _incident(row[7], row[8:])) for row in rows]

    async def arrivals(self, keys: Sequence[str]) -> Mapping[str, Sequence[Arrival]]:
        """Return the claimed pages from the index of keys."""
        found: dict[str, list[Arrival]] = {}
        for key, episode, target, level, certain in await self.session.rows("arrivals", keys=list(keys)):
            arrival = Arrival(episode=episode, level=level, target=target, certain=certain)
            found.setdefault(key, []).append(arrival)
        return found

    async def enqueue(self, notices: Sequence[NewNotice], now: datetime) -> None:
        """Insert in one statement."""
        values = _changes([notice.change for notice in notices])
        values |= {
            "levels": [notice.level for notice in notices],
            "targets": [notice.target for notice in notices],
            "dedup_keys": [notice.dedup_key for notice in notices],
            "for_threads": [notice.for_threads for notice in notices],
        }
        await self.session.run("enqueue_notices", now=now, **values)

    async def delete_changes(self, ids: Sequence[int]) -> None:
        """Delete by id."""
        await self.session.run("delete_changes", ids=list(ids))

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Read them in one statement."""
        [[found]] = await self.session.rows("find_due_notices")
        return read_due_targets(found)

    async def claim(self, capacity: Mapping[str, int], *, until: datetime) -> Sequence[ClaimedNotice]:
        """Return notices, locked. Those that others have locked are left out."""
        rows = await self.session.rows(
            "claim_notices", targets=list(capacity), capacities=list(capacity.values()), until=until
        )
        return [
            ClaimedNotice(
                NoticeRecord.from_row(row[:_COLUMNS], instant),
                _incident(row[_COLUMNS + 1], row[_COLUMNS + 2 :]),
                followed=row[_COLUMNS],
            )
            for row in rows
        ]

    async def write(self, notices: Sequence[NoticeRecord]) -> None:
        """Write in one statement."""
        if notices:
            await self.session.later("write_notices", **_written(notices))

    async def settle(self, notices: Sequence[NoticeRecord]) -> AbstractSet[int]:
        """Write notices whose fence is still the one before theirs; return their ids."""
        return {number for (number,) in await self.session.rows("settle_notices", suffix=b"", **_written(notices))}

    async def delete_notices(self, ids: Sequence[int]) -> None:
        """Delete by id."""
        if ids:
            await self.session.later("delete_notices_by_id", ids=list(ids))

    async def expire(self, *, before: datetime, resolved_before: datetime, now: datetime) -> int:
        """Update what no other transaction has locked."""
        return await self.session.run("expire_notices", before=before, resolved_before=resolved_before, now=now)

    async def shift(self, now: datetime, step: timedelta) -> None:
        """Update what no other transaction has locked."""
        await self.session.run("shift_notices", now=now, step=step)

    async def notices(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: NoticeState | None = None,
        target: str | None = None,
        bundle: str | None = None,
    ) -> Sequence[NoticeRecord]:
        """Return notices by id, those of one key from its index."""
        values: dict[str, object] = {"after": after, "limit": limit, "target": target, "bundle": bundle}
        values["state"] = None if state is None else state.value
        if incident_key is None:
            rows = await self.session.rows("notices", suffix=b"", **values)
        else:
            rows = await self.session.rows("notices_of_key", suffix=b"", key=incident_key, **values)
        return [NoticeRecord.from_row(row, instant) for row in rows]

    async def counts(self, *, since: datetime) -> Mapping[NoticeState, int]:
        """Count from the indexes of unsettled and of settled notices."""
        return {NoticeState(state): count for state, count in await self.session.rows("notice_counts", since=since)}

    async def delete(self, *, before: datetime) -> int:
        """Delete notices by their index, and old changes."""
        changes = await self.session.run("delete_old_changes", before=before)
        return changes + await self.session.run("delete_notices", before=before)


def _changes(changes: Sequence[Change]) -> dict[str, object]:
    return {
        "kinds": [change.kind.value for change in changes],
        "keys": [change.incident_key for change in changes],
        "episodes": [change.episode for change in changes],
        "instants": [change.at for change in changes],
        "actors": [change.actor for change in changes],
        "begins": [change.first_seen for change in changes],
    }


def _written(notices: Sequence[NoticeRecord]) -> dict[str, object]:
    return {
        "ids": [notice.id for notice in notices],
        "states": [notice.state.value for notice in notices],
        "dues": [notice.due_at for notice in notices],
        "fences": [notice.fence for notice in notices],
        "attempts": [notice.attempts for notice in notices],
        "reasons": [notice.reason for notice in notices],
        "bundles": [notice.bundle for notice in notices],
    }


def _change(row: Sequence[Any]) -> Change:
    number, kind, key, episode, at, actor, first_seen = row
    return Change(
        id=number,
        kind=NoticeKind(kind),
        incident_key=key,
        episode=episode,
        at=instant(at),
        actor=actor,
        first_seen=aware(first_seen),
    )


def _incident(stands: bool, row: Sequence[Any]) -> Incident | None:
    """Return the incident in a row; None if there is none, or if it cannot be read."""
    if not stands:
        return None
    try:
        return read_incident(row)
    except InvalidValue:
        return None
