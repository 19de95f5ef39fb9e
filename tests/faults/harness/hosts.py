"""Hosts that open, acknowledge, snooze, resolve and reopen incidents at random, by the API and by SQL."""

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
RESOLVE_ALL = """
UPDATE incidents SET resolved_at = now() WHERE incident_key LIKE %s AND resolved_at IS NULL RETURNING incident_key
"""
UNSEEN = "SET LOCAL session_replication_role = replica"
"""Keeps the engine's triggers from seeing the further writes of a transaction."""
NEXT: dict[str, Sequence[Verb]] = {
    "open": ("acknowledge", "acknowledge", "resolve", "change_severity", "snooze"),
    "acknowledged": ("resolve", "resolve", "unacknowledge"),
    "resolved": ("open",),
}
"""The verbs that may follow, by the state of the incident."""
RENAME_SHARE = 0.4
"""The share of changes that change the key, if an incident may be renamed."""
Unseen = Literal["replica", "off"]
"""Why the triggers do not see a write: its transaction writes as a replica, or the triggers are off."""
STATES: dict[Verb, str] = {
    "open": "open", "acknowledge": "acknowledged", "unacknowledge": "open", "resolve": "resolved"
}  # fmt: skip


def instant(seconds: float) -> datetime:
    """Return an instant with the precision of a database."""
    return datetime.fromtimestamp(seconds, UTC)


@attrs.define
class Hosts:
    """Writes to the incidents, by ``engine`` or by SQL, and keeps a log of the committed writes."""

    dsn: str
    engine: Engine
    random: Random
    writes: list[HostWrite] = attrs.field(factory=list)
    names: list[str] = attrs.field(factory=list)
    """The name of each write in the database, in the order of ``writes``."""
    severities: Sequence[str] = ("critical", "warning")
    """The severities that the host gives its incidents at random."""
    may_lose_writes: bool = False
    """Whether the database may lose committed writes. Then it may also refuse a verb that follows a lost write."""
    errors: list[str] = attrs.field(factory=list)
    """The error of each write that failed. The host then looks up whether the write was committed."""
    _count: int = 0

    async def life_cycle(self, key: str, *, steps: int = 4, pace: float = 0.8, renamed: bool = False) -> None:
        """Open one incident, and change it up to ``steps`` times, with at most ``pace`` seconds between two changes.

        If ``renamed``, some changes give the incident another key, or the key that it had before.
        """
        former = f"{key}, renamed"
        while not await self.do("open", key):
            pass  # the write was not committed, and the database answers again
        state = "open"
        for _ in range(self.random.randint(0, steps)):
            await asyncio.sleep(self.random.random() * pace)
            if renamed and self.random.random() < RENAME_SHARE:
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
        """Write by the API, by SQL, or (without ``sql``) at random by one of them. Return whether it was committed.

        If the write fails, look up in the database whether it was committed.

        Args:
            verb: the change.
            key: the incident key.
            sql: whether to write by SQL.
            unseen: why the engine's triggers do not see a write by SQL.
            open_for: seconds for which a transaction of SQL stays open before its commit.
            values: further fields of ``HostWrite``.
        """
        self._count += 1
        name = f"op-{self._count}"
        now = time()
        if verb in ("open", "change_severity"):
            values.setdefault("severity", self.random.choice(self.severities))
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
            if not self.may_lose_writes:
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

    async def resolve_all(self, prefix: str = "") -> None:
        """Resolve every incident whose key begins so, with one statement."""
        began = time()
        async with await AsyncConnection.connect(self.dsn) as connection:
            cursor = await connection.execute(RESOLVE_ALL, (f"{prefix}%",))
            keys = [key for (key,) in await cursor.fetchall()]
        ended = time()
        for key in keys:
            self._count += 1
            self.names.append(f"op-{self._count}")
            self.writes.append(HostWrite(key=key, verb="resolve", began=began, ended=ended))

    async def _was_done(self, name: str) -> bool:
        """Return whether a write was committed, as soon as the database answers.

        A primary that is cut off may show commits that a failover loses, but it cannot commit the insert of this
        question. The failed write may still be running, so wait until all earlier transactions have ended.
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
