"""The Incidents port on the host's table."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs
from psycopg.types.json import Json

from escalation_core import Incident, InvalidValue
from escalation_core.model import Canary, Candidate, Deferral, OpenRows, Unseen

from .mapping import COLUMNS
from .session import Attached, Row, Session, aware, instant
from .table import FIRST, LAST, TEXTS, read_claimed, read_incident

_LOCK = b" FOR NO KEY UPDATE OF i"

_KEY = list(COLUMNS).index("incident_key")


@attrs.define
class Incidents:
    """Rows of the host's table, in one transaction."""

    session: Session
    _were_unreadable: set[str] = attrs.field(factory=set)
    _loaded: dict[str, Incident] = attrs.field(factory=dict)

    def canonical_key(self, incident_key: str) -> str:
        """Return the key as PostgreSQL writes it: a uuid has several spellings."""
        return self.session.table.canonical_key(incident_key)

    async def load(self, incident_key: str, *, lock: bool = True) -> Incident | None:
        """Return one incident. The lock blocks other writers, but not foreign keys that refer to the row."""
        if not self.session.table.legal_key(incident_key):
            return None
        row = await self.session.row("load", suffix=_LOCK if lock else b"", key=incident_key)
        if row is None:
            return None
        incident = read_incident(row)
        self._loaded[incident_key] = incident
        return incident

    async def insert(self, incident: Incident) -> bool:
        """Insert a row unless its key is taken."""
        if not self.session.table.legal_key(incident.incident_key):
            kind = self.session.table.types["incident_key"]
            raise InvalidValue(
                "incident_key", f"is not a valid {kind}, the type of the host's column", f"give a {kind}"
            )
        await self._check_severity(incident)
        return await self.session.row("insert", **_values(incident)) is not None

    async def save(self, incident: Incident) -> None:
        """Write the columns that differ from the row as it was loaded: the others are the host's to write."""
        before = self._loaded.get(incident.incident_key)
        changed = [name for name in COLUMNS if before is None or getattr(before, name) != getattr(incident, name)]
        self._loaded[incident.incident_key] = incident
        if changed:
            if "severity" in changed:
                await self._check_severity(incident)
            await self.session.save(changed, incident.state, **_values(incident))

    async def _check_severity(self, incident: Incident) -> None:
        """Refuse a severity that the enum of the host's column does not have."""
        kind = self.session.table.types["severity"]
        found = () if kind in TEXTS else await self.session.rows("severity_words")
        for is_same, words in found:
            if not is_same:
                raise Attached  # The host has given the column another type: the store reads the types again.
            if words and incident.severity not in words:
                raise InvalidValue(
                    "severity",
                    f"{incident.severity!r} is not a word of {kind}, the type of the host's column",
                    f"give one of {', '.join(map(repr, words))}",
                )

    async def claim(self, *, until: datetime, limit: int, canary: Canary) -> Sequence[Candidate]:
        """Return due rows, locked. Rows that another transaction has locked are left out."""
        name, within = ("claim", {}) if canary.whole else ("claim_canary", {"buckets": canary.buckets})
        rows = await self.session.passing_rows(name, until=until, limit=limit, **within)
        claimed = _claims(rows)
        self._were_unreadable.update(found.incident_key for found in claimed if found.attempts)
        if claimed:
            # A host's trigger may wait for a lock. The timeout makes that an error of one row, so that only this row is
            # deferred.
            await self.session.later("lock_timeout")
        return claimed

    async def peek(
        self, *, until: datetime, after: tuple[datetime, str] | None, limit: int, canary: Canary
    ) -> Sequence[Candidate]:
        """Return due rows without a lock."""
        due, key = after or (None, None)
        rows = await self.session.passing_rows(
            "peek", until=until, after_due=due, after_key=key, limit=limit, percent=canary.percent
        )
        return _claims(rows)

    async def advance(self, incidents: Sequence[Incident]) -> None:
        """Write level and instants in one statement over arrays."""
        if not incidents:
            return
        keys = [incident.incident_key for incident in incidents]
        await self.session.later(
            "advance",
            len(keys),
            keys=keys,
            levels=[incident.level for incident in incidents],
            lasts=[incident.last_escalated_at for incident in incidents],
            dues=[incident.next_due_at for incident in incidents],
        )
        await self.heal(keys)

    async def heal(self, keys: Sequence[str]) -> None:
        """Delete the deferrals of rows that were planned. Few rows were ever unreadable, and a claim has said which."""
        healed = [key for key in keys if key in self._were_unreadable]
        if healed:
            await self.session.run("readable", keys=healed)

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Set next_due_at of rows, and record each one's fault and attempts."""
        await self.session.write("defer_unreadable", len(rows), now=now, **_deferred(rows))

    async def dues(self, keys: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return next_due_at of rows, as a host's triggers left it."""
        return {key: aware(due) for key, due in await self.session.rows("dues", suffix=b"", keys=list(keys))}

    async def left_alone(self, keys: Sequence[str]) -> Mapping[str, Deferral]:
        """Return the rows' entries in escalation_unreadable."""
        rows = await self.session.rows("left_alone", keys=list(keys))
        return {row[0]: Deferral.from_row(row, instant) for row in rows}

    async def list_open(
        self, *, after: tuple[datetime | None, str] | None, limit: int, until: datetime | None = None
    ) -> Sequence[Candidate]:
        """Return open rows by their index on next_due_at; then those without it, by their index on the key."""
        due, key = after or (None, None)
        rows: list[Row] = []
        if after is None or due is not None:
            # Rows beyond Python's calendar are read as its first or last instant (ADR 0011).
            end = None if due is None else {FIRST: "-infinity", LAST: "infinity"}.get(due)
            begin = "-infinity" if due is None or due == FIRST else due
            rows += await self.session.rows(
                "list_due", until=until, begin=begin, after_due=due, after_key=key, end=end, limit=limit
            )
            key = None
        if until is None and len(rows) < limit:
            rows += await self.session.rows("list_not_due", after=key, limit=limit - len(rows))
        return [read_claimed(row) for row in rows]

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        """Record the instant in escalation_unreadable, and leave the rows alone."""
        await self.session.run("pass_over", now=now, **_deferred(rows))

    async def scan_unresolved(
        self, after: str | None, limit: int, *, wait: bool = True, labels: bool = False
    ) -> OpenRows:
        """Return unresolved rows by key, locked.

        With ``wait``, a row that another transaction locks for more than a second fails the transaction. Without it,
        locked rows are left out.
        """
        form = "_labels" if labels else ""
        if wait:
            await self.session.run("lock_timeout")
            rows = await self.session.rows(f"scan_unresolved{form}", suffix=b"", after=after, limit=limit)
            keys = [row[_KEY] for row in rows]
        else:
            keys = [key for (key,) in await self.session.rows("scan_keys", suffix=b"", after=after, limit=limit)]
            rows = await self.session.rows(f"scan_unlocked{form}", suffix=b"", keys=keys)
        claimed = _claims(rows)
        # Each row ends with the number of picked rows, if the labels may have left out some of them.
        skipped = max(len(rows), rows[0][-1] if rows else 0) < len(keys)
        if claimed and claimed[-1].more:
            return OpenRows(claimed, claimed[-1].incident_key, skipped=skipped)
        return OpenRows(claimed, keys[-1] if len(keys) == limit else None, skipped=skipped)

    async def end_passing(self, beyond: datetime) -> None:
        """Clear each ``passed_until`` that lies after ``beyond``."""
        await self.session.run("end_passing", beyond=beyond)

    async def unseen(self, after: str | None, *, limit: int, held_before: datetime | None, lock: bool = True) -> Unseen:
        """Read a batch of open rows without next_due_at, by key, from their index."""
        ((count, last, keys),) = await self.session.rows(
            "unseen", suffix=b"", after=after, limit=limit, held_before=held_before, at=self.session.at
        )
        if keys and lock:
            keys = [key for (key,) in await self.session.rows("lock_unseen", suffix=b"", keys=keys)]
        return Unseen(keys or [], last if count == limit else None)

    async def mark_unseen(self, keys: Sequence[str]) -> None:
        """Set next_due_at of rows to the epoch (needs replan), in one statement."""
        await self.session.write("mark_unseen", len(keys), keys=list(keys))


def _claims(rows: Sequence[Row]) -> list[Candidate]:
    """Return the candidates. Each row ends with the number of picked rows: if fewer came, the last says ``more``."""
    claimed = [read_claimed(row) for row in rows]
    if rows and rows[0][-1] > len(rows):
        claimed[-1] = attrs.evolve(claimed[-1], more=True)
    return claimed


def _deferred(rows: Sequence[Deferral]) -> dict[str, Any]:
    return {
        "keys": [row.incident_key for row in rows],
        "attempts": [row.attempts for row in rows],
        "faults": [row.fault for row in rows],
        "untils": [row.until for row in rows],
    }


def _values(incident: Incident) -> dict[str, Any]:
    values = {name: getattr(incident, name) for name in COLUMNS}
    return values | {"labels": Json(dict(incident.labels), dumps=_dumps)}


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
