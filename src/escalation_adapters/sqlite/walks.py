"""The Walks port: the walks of incidents, the versions of policies, and the workers' policies files."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from escalation_core import Incident
from escalation_core.model import (
    BUILTIN,
    LATELY,
    MAX_NAME_CHARS,
    MAX_UNKNOWN_POLICIES,
    UNACKNOWLEDGED,
    WORKER_RUNS,
    By,
    KeptVersion,
    ShiftOverride,
    WalkStats,
    files_of,
)

from .codec import SELECTED, Row, instant, micros, optional_instant, optional_micros, read_claimed
from .incidents import heal
from .journal import Journal
from .session import Session

_MOVE = f"""
UPDATE incidents SET
    escalation_level = ?, episode = ?, last_escalated_at = ?, next_due_at = ?, acknowledged_at = ?,
    acknowledged_by = CASE WHEN substr(acknowledged_by, 1, {MAX_NAME_CHARS}) = ?6 THEN acknowledged_by ELSE ?6 END,
    policy_pin = ?, policy_level = ?, policy_since = ?
WHERE incident_key = ?
"""
_PIN = f"ltrim(i.policy_pin, '{UNACKNOWLEDGED}')"
_PINNED = f"""
SELECT {SELECTED}, 0 FROM incidents i
WHERE (:after IS NULL OR i.incident_key > :after) AND i.resolved_at IS NULL AND i.policy_pin IS NOT NULL
    AND substr({_PIN}, 1, length(:policy) + 1) = :policy || '@' AND {_PIN} LIKE '%@%@%'
ORDER BY i.incident_key LIMIT :limit
"""
_PINNED_TO = "substr(ltrim(i.policy_pin, '!'), 1, instr(ltrim(i.policy_pin, '!'), '@') - 1)"
_UNKNOWN = f"""
SELECT substr(i.policy, 1, {MAX_NAME_CHARS}) AS name, count(DISTINCT i.incident_key)
FROM escalation_audit a JOIN incidents i ON i.incident_key = a.incident_key AND i.episode = a.episode
WHERE a.action = 'unknown_policy' AND i.resolved_at IS NULL AND a.reason = substr(i.policy, 1, {MAX_NAME_CHARS})
    AND {_PINNED_TO} IS NOT i.policy
GROUP BY name ORDER BY 2 DESC, name LIMIT {MAX_UNKNOWN_POLICIES}
"""
_PUT_OFF = f"""
SELECT count(*) FROM (
    SELECT 1 FROM escalation_audit a
    JOIN incidents i ON i.incident_key = a.incident_key AND i.episode = a.episode AND i.escalation_level = a.level
    WHERE a.action = 'put_off' AND i.acknowledged_at IS NULL AND i.resolved_at IS NULL AND a.reason IS {_PINNED_TO}
    GROUP BY i.incident_key HAVING count(*) > 1)
"""
_LATELY = f"""
SELECT action, count(*) FROM escalation_audit
WHERE action IN ({", ".join(f"'{action}'" for action in LATELY)}) AND at > ? GROUP BY action
"""
_DAY = timedelta(days=1)


@attrs.frozen
class Walks:
    """The walks of incidents, and the versions of policies, in one transaction."""

    session: Session

    async def move(self, incidents: Sequence[Incident]) -> None:
        """Write each row once."""
        values = [
            (
                i.level,
                i.episode,
                optional_micros(i.last_escalated_at),
                optional_micros(i.next_due_at),
                optional_micros(i.acknowledged_at),
                i.acknowledged_by,
                i.policy_pin,
                i.policy_level,
                optional_micros(i.policy_since),
                i.incident_key,
            )
            for i in incidents
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_MOVE, values)
            heal(connection, [incident.incident_key for incident in incidents])

        await self.session.in_thread(write)

    async def keep(self, texts: Mapping[str, str]) -> None:
        """Insert the texts that are not there yet."""
        now = micros(self.session.clock())
        await self.session.run_many(
            "INSERT INTO escalation_policies (digest, text, kept_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(digest, text, now) for digest, text in texts.items()],
        )

    async def versions(self, digests: Sequence[str]) -> Mapping[str, KeptVersion]:
        """Return kept versions by the primary key."""
        statement = "SELECT digest, text, kept_at FROM escalation_policies WHERE digest = ?"

        def find(connection: sqlite3.Connection) -> list[Row]:
            return [row for digest in digests for row in connection.execute(statement, (digest,))]

        return {row[0]: KeptVersion(row[1], instant(row[2])) for row in await self.session.in_thread(find)}

    async def positions(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Mapping[str, int]]:
        """Return the positions from the unique index of escalations."""
        statement = (
            f"SELECT coalesce(policy, '{BUILTIN}'), coalesce(position, level) FROM escalation_events"
            " WHERE incident_key = ? AND episode = ? ORDER BY level"
        )

        def find(connection: sqlite3.Connection) -> dict[tuple[str, int], dict[str, int]]:
            # The highest level of each policy comes last, and so its position stays.
            return {episode: dict(connection.execute(statement, episode).fetchall()) for episode in episodes}

        return {episode: found for episode, found in (await self.session.in_thread(find)).items() if found}

    async def pinned(self, policy: str, *, after: str | None, limit: int) -> Sequence[Incident]:
        """Return readable rows by key: look on while some of a batch cannot be read."""
        found: list[Incident] = []
        while len(found) < limit:
            values = {"policy": policy, "after": after, "limit": limit - len(found)}
            rows = [read_claimed(row) for row in await self.session.rows(_PINNED, values)]
            found += [row.incident for row in rows if row.incident is not None]
            if len(rows) < values["limit"]:  # type: ignore[operator]
                break
            after = rows[-1].incident_key
        return found

    async def record_digest(self, worker: str, digest: str) -> datetime | None:
        """Write the digest into the worker's row, and return the instant of the last request."""
        await self.session.run("UPDATE escalation_workers SET policies = ? WHERE worker = ?", (digest, worker))
        return await self._requested()

    async def request_reload(self, who: By) -> datetime:
        """Write the instant, and note who asked."""
        now = self.session.clock()
        await self.session.run("UPDATE escalation_recalc SET reload_requested_at = ?", (micros(now),))
        await Journal(self.session).note([who.entry(now, "reload")])
        return now

    async def add_override(self, override: ShiftOverride) -> None:
        """Insert a row."""
        spans = [micros(at) for at in (override.starts_at, override.ends_at, override.made_at)]
        await self.session.run(
            "INSERT INTO escalation_overrides (schedule, person, starts_at, ends_at, made_at, actor, reason)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (override.schedule, override.person, *spans, override.actor, override.reason),
        )

    async def overrides(self, now: datetime) -> Sequence[ShiftOverride]:
        """Return rows by their index."""
        rows = await self.session.rows(
            # As bytes: a text that another program wrote may not be UTF-8, and must not stop the escalations.
            "SELECT CAST(schedule AS BLOB), CAST(person AS BLOB), starts_at, ends_at, made_at, CAST(actor AS BLOB),"
            " CAST(reason AS BLOB) FROM escalation_overrides WHERE ends_at > ? ORDER BY id",
            (micros(now),),
        )
        return [ShiftOverride.from_row([_text(value) for value in row], instant) for row in rows]

    async def delete_overrides(self, *, before: datetime) -> int:
        """Delete rows by their index."""
        return await self.session.run("DELETE FROM escalation_overrides WHERE ends_at < ?", (micros(before),))

    async def stats(self, now: datetime) -> WalkStats:
        """Count from the index of notes about walks."""
        day = micros(now - _DAY)
        off = await self.session.row(_PUT_OFF)
        assert off is not None  # noqa: S101 - an aggregate has one row
        digests = await self.session.rows(
            "SELECT coalesce(policies, ''), count(*) FROM escalation_workers WHERE ticked_at > ? GROUP BY 1",
            (micros(now - WORKER_RUNS),),
        )
        default = await self.session.row(
            "SELECT count(*) FROM escalation_events WHERE outcome = 'default' AND created_at > ?", (day,)
        )
        assert default is not None  # noqa: S101 - an aggregate has one row
        return WalkStats(
            unknown_policies=dict(await self.session.rows(_UNKNOWN)),
            put_off=off[0],
            lately=dict(await self.session.rows(_LATELY, (day,))),
            worker_digests=files_of(dict(digests)),
            nobody_on_call=default[0],
            reload_requested_at=await self._requested(),
        )

    async def _requested(self) -> datetime | None:
        row = await self.session.row("SELECT reload_requested_at FROM escalation_recalc")
        return None if row is None else optional_instant(row[0])


def _text(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
