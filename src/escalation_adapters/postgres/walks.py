"""The Walks port on the host's table, the ledger and escalation_policies."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import attrs

from escalation_core import Incident
from escalation_core.model import (
    MAX_NAME_CHARS,
    MAX_UNKNOWN_POLICIES,
    WORKER_RUNS,
    By,
    KeptVersion,
    ShiftOverride,
    WalkStats,
    files_of,
)

from .incidents import Incidents
from .journal import Journal
from .session import Session, aware, instant
from .table import read_claimed


@attrs.frozen
class Walks:
    """The walks of incidents, and the versions of policies, in one transaction."""

    session: Session
    incidents: Incidents
    journal: Journal

    async def move(self, incidents: Sequence[Incident]) -> None:
        """Write each row once, in one statement over arrays."""
        if not incidents:
            return
        await self.session.later(
            "move",
            len(incidents),
            keys=[incident.incident_key for incident in incidents],
            levels=[incident.level for incident in incidents],
            episodes=[incident.episode for incident in incidents],
            lasts=[incident.last_escalated_at for incident in incidents],
            dues=[incident.next_due_at for incident in incidents],
            acked=[incident.acknowledged_at for incident in incidents],
            acked_by=[incident.acknowledged_by for incident in incidents],
            pins=[incident.policy_pin for incident in incidents],
            began=[incident.policy_level for incident in incidents],
            since=[incident.policy_since for incident in incidents],
            chars=MAX_NAME_CHARS,
        )
        await self.incidents.heal([incident.incident_key for incident in incidents])

    async def keep(self, texts: Mapping[str, str]) -> None:
        """Insert the texts that are not there yet; a text that another transaction inserts just now is there twice."""
        if texts:
            await self.session.run("keep", digests=list(texts), texts=list(texts.values()), now=self.session.at)

    async def versions(self, digests: Sequence[str]) -> Mapping[str, KeptVersion]:
        """Return kept versions from their index."""
        rows = await self.session.rows("versions", digests=list(digests))
        return {digest: KeptVersion(text, instant(at)) for digest, text, at in rows}

    async def positions(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Mapping[str, int]]:
        """Return the positions from the index of the ledger."""
        rows = await self.session.rows(
            "positions", keys=[key for key, _ in episodes], episodes=[episode for _, episode in episodes]
        )
        found: dict[tuple[str, int], dict[str, int]] = {}
        for key, episode, policy, position in rows:
            found.setdefault((key, episode), {})[policy] = position
        return found

    async def pinned(self, policy: str, *, after: str | None, limit: int) -> Sequence[Incident]:
        """Return readable rows by key: look on while some of a batch cannot be read."""
        found: list[Incident] = []
        while len(found) < limit:
            wanted = limit - len(found)
            rows = [
                read_claimed(row)
                for row in await self.session.rows("pinned", suffix=b"", policy=policy, after=after, limit=wanted)
            ]
            found += [row.incident for row in rows if row.incident is not None]
            if len(rows) < wanted:
                break
            after = rows[-1].incident_key
        return found

    async def record_digest(self, worker: str, digest: str) -> datetime | None:
        """Write the digest into the worker's row, and return the instant of the last request."""
        row = await self.session.row("record_digest", worker=worker, digest=digest)
        return None if row is None else aware(row[0])

    async def request_reload(self, who: By) -> datetime:
        """Write the transaction's instant, and note who asked."""
        now = self.session.at
        assert now is not None  # noqa: S101 - a transaction begins with it
        await self.session.run("request_reload", now=now)
        await self.journal.note([who.entry(now, "reload")])
        return now

    async def add_override(self, override: ShiftOverride) -> None:
        """Insert a row."""
        await self.session.run("add_override", **attrs.asdict(override))

    async def overrides(self, now: datetime) -> Sequence[ShiftOverride]:
        """Return rows by their index."""
        return [ShiftOverride.from_row(row, instant) for row in await self.session.rows("overrides", now=now)]

    async def delete_overrides(self, *, before: datetime) -> int:
        """Delete rows by their index."""
        return await self.session.run("delete_overrides", before=before)

    async def stats(self, now: datetime) -> WalkStats:
        """Count from the index of notes about walks."""
        unknown = await self.session.rows("unknown_policies", chars=MAX_NAME_CHARS, limit=MAX_UNKNOWN_POLICIES)
        row = await self.session.row("walk_counts", suffix=b"", now=now, runs=WORKER_RUNS)
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        off, lately, digests, default, asked = row
        return WalkStats(
            unknown_policies=dict(unknown),
            put_off=off,
            lately=lately or {},
            worker_digests=files_of(digests or {}),
            nobody_on_call=default,
            reload_requested_at=aware(asked),
        )
