"""Hosts: they open, acknowledge, snooze, resolve and open again, with the API and with SQL of their own, at random."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from time import time
from typing import Any, Literal

import attrs
import psycopg
from psycopg import AsyncConnection

from escalation_core import Engine, StoreUnavailable, TransitionRefused
from escalation_core.testing.invariants.history import HostWrite, Verb

DONE = """
SELECT EXISTS (SELECT FROM faults.done WHERE op = %(op)s)
    OR EXISTS (SELECT FROM escalation_audit WHERE actor = %(op)s)
"""
ASK = "INSERT INTO faults.asked VALUES (%s) RETURNING pg_current_xact_id()::text::bigint"
OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint > %s"
SQL: dict[Verb, str] = {
    "open": """
        INSERT INTO incidents (incident_key, severity, first_seen) VALUES (%(key)s, %(severity)s, %(first_seen)s)
        ON CONFLICT (incident_key) DO UPDATE SET
            resolved_at = NULL, first_seen = excluded.first_seen, severity = excluded.severity
    """,
    "acknowledge": "UPDATE incidents SET acknowledged_at = now() WHERE incident_key = %(key)s",
    "unacknowledge": "UPDATE incidents SET acknowledged_at = NULL WHERE incident_key = %(key)s",
    "resolve": "UPDATE incidents SET resolved_at = now() WHERE incident_key = %(key)s",
    "change_severity": "UPDATE incidents SET severity = %(severity)s WHERE incident_key = %(key)s",
    "snooze": "UPDATE incidents SET snoozed_until = %(until)s WHERE incident_key = %(key)s",
    "change_key": "UPDATE incidents SET incident_key = %(new_key)s WHERE incident_key = %(key)s",
}
UNSEEN = "SET LOCAL session_replication_role = replica"
"""Lets no trigger of ours see what the rest of a transaction writes."""
NEXT: dict[str, Sequence[Verb]] = {
    "open": ("acknowledge", "acknowledge", "resolve", "change_severity", "snooze"),
    "acknowledged": ("resolve", "resolve", "unacknowledge"),
    "resolved": ("open",),
}
"""What may follow, by state."""
RENAMED = 0.4
"""How often an incident that may be renamed is, instead of anything else."""
Unseen = Literal["replica", "off"]
"""Why triggers do not see a write: its transaction goes round them, or there are none at work."""
STATES: dict[Verb, str] = {
    "open": "open", "acknowledge": "acknowledged", "unacknowledge": "open", "resolve": "resolved"
}  # fmt: skip


def instant(seconds: float) -> datetime:
    """Return an instant as databases keep it."""
    return datetime.fromtimestamp(seconds, UTC)


@attrs.define
class Hosts:
    """Writes, and a log of what was committed. ``engine`` is for those that use the API."""

    dsn: str
    engine: Engine
    random: Random
    writes: list[HostWrite] = attrs.field(factory=list)
    names: list[str] = attrs.field(factory=list)
    """What their writes are called in the database, in the same order."""
    forgotten: bool = False
    """Whether the database may forget what they were told: then it may refuse what follows from that."""
    errors: list[str] = attrs.field(factory=list)
    """What they were told when the database did not take a write: whether it did was looked up afterwards."""
    _count: int = 0

    async def live(self, key: str, *, steps: int = 4, pace: float = 0.8, renamed: bool = False) -> None:
        """Let one incident live: it opens, and so many things happen to it, that long after each other at most.

        One that is ``renamed`` is given another key at times, or the one that it had before.
        """
        former = f"{key}, renamed"
        while not await self.do("open", key):
            pass  # the database did not take it, and answers again
        state = "open"
        for _ in range(self.random.randint(0, steps)):
            await asyncio.sleep(self.random.random() * pace)
            if renamed and self.random.random() < RENAMED:
                if await self.do("change_key", key, sql=True, new_key=former):
                    key, former = former, key
                continue
            verb = self.random.choice(NEXT[state])
            if await self.do(verb, key):
                state = STATES.get(verb, state)

    async def do(
        self,
        verb: Verb,
        key: str,
        *,
        sql: bool | None = None,
        unseen: Unseen | None = None,
        open_for: float = 0.0,
        **values: Any,
    ) -> bool:
        """Write, by the API or by SQL; return whether it was committed, which is found out if it is not told.

        What is ``unseen``, by SQL, no trigger of ours sees: as a replica writes, or because they are off anyway. A
        transaction of SQL stays ``open_for`` seconds before it commits.
        """
        self._count += 1
        name = f"op-{self._count}"
        now = time()
        if verb in ("open", "change_severity"):
            values.setdefault("severity", self.random.choice(["critical", "warning"]))
        if verb == "open":
            values.setdefault("first_seen", instant(now - self.random.random() * 1.5).timestamp())
        if verb == "snooze":
            values.setdefault("until", instant(now + self.random.random() * 1.5).timestamp())
        by_sql = self.random.random() < 0.5 if sql is None else sql
        committed = True
        try:
            if by_sql and verb in SQL:
                await self._by_sql(verb, key, name, values, as_replica=unseen == "replica", open_for=open_for)
            else:
                await self._by_api(verb, key, name, values)
        except TransitionRefused:
            if not self.forgotten:
                raise
            return False
        except (StoreUnavailable, psycopg.Error, TimeoutError) as error:
            self.errors.append(str(error))
            committed = await self._was_done(name)
        if committed:
            self.names.append(name)
            self.writes.append(
                HostWrite(key=key, verb=verb, began=now, ended=time(), unseen=unseen is not None, **values)
            )
        return committed

    async def _by_sql(
        self, verb: Verb, key: str, name: str, values: dict[str, Any], *, as_replica: bool, open_for: float
    ) -> None:
        given: dict[str, Any] = {at: instant(values[at]) for at in ("first_seen", "until") if at in values}
        async with await AsyncConnection.connect(self.dsn) as connection:
            if as_replica:
                await connection.execute(UNSEEN.encode())
            await connection.execute(SQL[verb].encode(), {"key": key, **values, **given})
            await connection.execute("INSERT INTO faults.done VALUES (%s)", [name])
            await asyncio.sleep(open_for)

    async def _by_api(self, verb: Verb, key: str, name: str, values: dict[str, Any]) -> None:
        call: Callable[..., Awaitable[Any]] = getattr(self.engine, verb)
        if verb == "open":
            first_seen = instant(values["first_seen"])
            await call(key, severity=values["severity"], first_seen=first_seen, summary="Disk full", by=name)
        elif verb == "change_severity":
            await call(key, values["severity"], by=name)
        elif verb == "snooze":
            await call(key, instant(values["until"]), by=name)
        else:
            await call(key, by=name)

    async def _was_done(self, name: str) -> bool:
        """Ask, as soon as the database answers, whether a write was committed.

        A primary that is cut off may still show what is not to outlive it, but can commit nothing. And what was given
        up may still be on its way to its commit: whatever was begun before the question has to be over.
        """
        while True:
            with suppress(psycopg.Error):
                async with await AsyncConnection.connect(self.dsn, autocommit=True) as connection:
                    asked = await (await connection.execute(ASK.encode(), [name])).fetchone()
                    while True:
                        over = await (await connection.execute(OVER.encode(), asked)).fetchone()
                        if over == (True,):
                            break
                        await asyncio.sleep(0.02)
                    cursor = await connection.execute(DONE.encode(), {"op": name})
                    row = await cursor.fetchone()
                    return bool(row and row[0])
            await asyncio.sleep(0.05)
