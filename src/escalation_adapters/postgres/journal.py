"""The Journal port: audit, heartbeats, health's counts and the recalculation's cursor."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import attrs

from escalation_core import AuditEntry
from escalation_core.model import (
    AuditRange,
    Canary,
    LastAttempts,
    Pace,
    RecalcState,
    Stats,
    TargetRecord,
    WorkerHeartbeat,
)

from .drift import Found, find_faults
from .session import Session, aware, instant


@attrs.frozen
class Journal:
    """The audit, heartbeats and counts, in one transaction."""

    session: Session

    async def note(self, entries: Sequence[AuditEntry]) -> None:
        """Insert in one statement. An ``exhausted`` entry that is there already is not written again."""
        await self.session.run(
            "note",
            instants=[entry.at for entry in entries],
            actions=[entry.action for entry in entries],
            keys=[entry.incident_key for entry in entries],
            episodes=[entry.episode for entry in entries],
            levels=[entry.level for entry in entries],
            actors=[entry.actor for entry in entries],
            reasons=[entry.reason for entry in entries],
            targets=[entry.target for entry in entries],
        )

    async def notes(
        self, reach: AuditRange, *, limit: int, incident_key: str | None = None
    ) -> Sequence[tuple[int, AuditEntry]]:
        """Return audit entries from their index, newest first."""
        rows = await self.session.rows("notes", limit=limit, key=incident_key, **attrs.asdict(reach))
        return [(row[0], AuditEntry.from_row(row[1:], instant)) for row in rows]

    async def record_heartbeat(
        self, worker: str, version: str, *, tolerance: timedelta
    ) -> tuple[datetime, datetime | None]:
        """Write this worker's row, and return its instant and the latest one that was there before."""
        clock = self.session.clock
        at = None if clock is None else clock()
        ((now, latest),) = await self.session.rows(
            "record_heartbeat", worker=worker, at=at, version=version, tolerance=tolerance
        )
        return instant(now), aware(latest)

    async def last_heartbeat(self, now: datetime) -> WorkerHeartbeat:
        """Return the heartbeat of all workers together."""
        row = await self.session.row("last_heartbeat", now=now)
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        since, last, workers = row
        return WorkerHeartbeat(since=instant(since), last=aware(last), workers=workers)

    async def stats(self, *, now: datetime, canary: Canary, detail: bool = False) -> Stats:
        """Count incidents and pages for health."""
        within: dict[str, object] = {} if canary.whole else {"buckets": canary.buckets}
        name = "stats_canary" if within else "stats"
        rows = await self.session.passing_rows(name, now=now, **within)
        overdue, oldest, marked, keyless, exhausted, oldest_page, dead, unheard, unreadable, version = rows[0]
        (standing,) = await self.session.rows("installation", suffix=b"")
        faults = find_faults(self.session.table, Found.from_row(standing), keyless=keyless)
        outside = await self.session.row("outside_canary", now=now, percent=canary.percent) if detail else None
        return Stats(
            overdue=overdue,
            oldest_due=aware(oldest),
            marked=marked,
            outside_canary=0 if outside is None else outside[0],
            exhausted=exhausted,
            backlog=dict(await self.session.rows("backlog")),
            oldest_page=aware(oldest_page),
            dead=dead,
            unheard=unheard,
            unreadable=unreadable,
            unreadable_examples=[(key, fault) for key, fault in await self.session.rows("unreadable")],
            faults=[str(fault) for fault in faults],
            schema_version=str(version),
        )

    async def unheard(self, keys: Sequence[str] | None = None) -> AbstractSet[str]:
        """Begin at the notes, by their index."""
        rows = await self.session.rows("find_still_unheard", keys=None if keys is None else list(keys))
        return {key for (key,) in rows}

    async def record_attempts(self, latest: Sequence[LastAttempts], *, now: datetime, step: timedelta) -> None:
        """Write in one statement."""
        if step:
            await self.session.later("move_attempts_back", now=now, step=step)
        if latest:
            await self.session.later(
                "record_attempts",
                targets=[one.target for one in latest],
                delivered=[one.delivered_at for one in latest],
                failed=[one.failed_at for one in latest],
                errors=[one.error for one in latest],
            )

    async def targets(self) -> Sequence[TargetRecord]:
        """Read all rows, and count the unsettled pages by their index."""
        return [
            TargetRecord(
                target=target,
                pace=Pace(target=target, held_until=aware(held), free_at=aware(free), rate=rate, refused=refused),
                attempts=LastAttempts(
                    target=target, delivered_at=aware(delivered), failed_at=aware(failed), error=error
                ),
                backlog=backlog,
                oldest_page=aware(oldest),
            )
            for target, held, free, rate, refused, delivered, failed, error, backlog, oldest in (
                await self.session.rows("targets")
            )
        ]

    async def recalc(self, *, lock: bool = True) -> RecalcState:
        """Return how far the recalculation is."""
        row = await self.session.row("recalc", suffix=b" FOR UPDATE" if lock else b"")
        assert row is not None  # noqa: S101 - the migration inserts this one row
        return RecalcState.from_row(row, instant)

    async def recalc_unless_locked(self) -> RecalcState | None:
        """Return how far the recalculation is, or None if another transaction has locked it."""
        row = await self.session.row("recalc", suffix=b" FOR UPDATE SKIP LOCKED")
        return None if row is None else RecalcState.from_row(row, instant)

    async def save_recalc(self, state: RecalcState) -> None:
        """Write how far the recalculation is."""
        await self.session.run("save_recalc", **attrs.asdict(state))
