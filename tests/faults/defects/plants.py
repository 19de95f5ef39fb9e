"""The planted defects: each breaks the promise in one way, in the worker process that is told so and nowhere else.

A harness that cannot fail proves nothing: ``test_defects`` shows that each of them is caught.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from attrs import evolve
from psycopg import AsyncConnection

from escalation_adapters.postgres import store
from escalation_adapters.postgres.incidents import Incidents
from escalation_adapters.postgres.ledger import Ledger
from escalation_adapters.postgres.outbox import Outbox
from escalation_adapters.postgres.session import Session
from escalation_adapters.postgres.table import IncidentsTable
from escalation_adapters.worker import runner
from escalation_core import Delivered, Escalation, Incident, Outcome, RetryPolicy, StoreRefused
from escalation_core.engine import batch as recording
from escalation_core.engine import deliver as courier
from escalation_core.engine import heartbeat as pulse
from escalation_core.engine import settle as settling
from escalation_core.engine.attempt import Attempt
from escalation_core.engine.deliver import Delivery
from escalation_core.engine.heartbeat import HeartbeatKeeper
from escalation_core.engine.overwritten import Overwritten
from escalation_core.model import Deferral, NewPage, PageRecord, escalation_hash
from escalation_core.ports import Transaction
from escalation_core.rules.policy import EscalationPolicy
from escalation_core.rules.retry import after_attempt
from escalation_core.rules.routing import Pager

Name = Literal[
    "event outside the transaction",
    "no fencing",
    "mark before POST",
    "claim without the acknowledgement check",
    "key without the episode",
    "next_due_at is lost",
    "no time between levels",
    "no wait between claims",
    "a refusal ends the tick",
    "a put-back is insisted on",
    "passed over for ever",
    "a step back is not noticed",
    "pages stay where the clock was",
    "a change of key is not noticed",
    "what no trigger saw stays unseen",
    "pages outlive an acknowledgement",
    "whoever settles waits for hosts",
    "policies hide rows",
    "settings change what is written",
    "undone instants are not noticed",
    "a worker ends",
    "notifiers may raise anything",
]


def plant(name: Name, dsn: str) -> None:
    """Break this process."""
    _PLANTS[name](dsn)


def _put(owner: object, name: str, broken: object) -> None:
    """Put something broken in a thing's place. What types would say of that is the point of it."""
    setattr(owner, name, broken)


def _event_outside(dsn: str) -> None:
    record = Ledger.record

    async def outside(self: Ledger, escalations: Sequence[Escalation]) -> Sequence[bool]:
        async with await AsyncConnection.connect(dsn, autocommit=True) as other:
            session = Session(other, self.session.statements, self.session.table, optimistic=False)
            return await record(Ledger(session), escalations)

    _put(Ledger, "record", outside)


def _no_fencing(dsn: str) -> None:
    fly, settle = Delivery._attempt, settling.settle

    async def whenever(self: Delivery, record: PageRecord, incident: Incident, deadline: float) -> None:
        await fly(self, record, incident, float("inf"))

    async def whoever(
        tx: Transaction, finished: Sequence[settling.Finished], policy: RetryPolicy, now: datetime
    ) -> tuple[list[PageRecord], list[settling.Finished]]:
        standing = {found.page.id: found.page for found in await tx.outbox.lock([page.id for page, _ in finished])}
        blind = [(evolve(page, fence=standing[page.id].fence), outcome) for page, outcome in finished]
        return await settle(tx, blind, policy, now)

    _put(Delivery, "_attempt", whenever)
    _put(courier, "settle", whoever)


def _mark_first(dsn: str) -> None:
    async def marked(self: Delivery, record: PageRecord, incident: Incident, deadline: float) -> None:
        now = datetime.now(UTC)
        sent = after_attempt(record, Delivered(), policy=self.settings.retry, now=now, jitter=0.0, ended=None)
        try:
            await self.store.transact(lambda tx: tx.outbox.settle([sent]))
            await self._send(record, incident)
        finally:
            self._in_flight[record.target] -= 1

    _put(Delivery, "_attempt", marked)


def _unchecked(dsn: str) -> None:
    _put(courier, "cancel_reason", lambda page, incident: None)


def _keyless(dsn: str) -> None:
    pages_for = Pager.pages_for

    def without(self: Pager, incident: Incident, dedup_key: str) -> list[NewPage]:
        return pages_for(self, incident, escalation_hash(incident.incident_key, incident.level, 1))

    _put(Pager, "pages_for", without)


def _forgetful(dsn: str) -> None:
    advance = Incidents.advance

    async def forgotten(self: Incidents, incidents: Sequence[Incident]) -> None:
        risen = [one.moved(level=one.level, last_escalated_at=one.last_escalated_at, next_due_at=None)
                 if one.level else one for one in incidents]  # fmt: skip
        await advance(self, risen)

    _put(Incidents, "advance", forgotten)
    # Workers would find such a row, as one that no trigger saw.
    _unseeing(dsn)


def _hasty(dsn: str) -> None:
    due = EscalationPolicy._due

    def soon(self: EscalationPolicy, incident: Incident, level: int, last: datetime | None) -> datetime | None:
        return due(self, incident, level, None)

    _put(EscalationPolicy, "_due", soon)


def _spinning(dsn: str) -> None:
    async def at_once(self: Delivery, longest: timedelta | None = None) -> None:
        await asyncio.sleep(0)

    _put(Delivery, "wait", at_once)


def _ending(dsn: str) -> None:
    async def refused(tx: Transaction, rows: Sequence[Deferral], now: datetime) -> None:
        if rows:
            raise StoreRefused("as if there were nothing else to be done")

    _put(recording, "defer_or_pass_over", refused)


def _insistent(dsn: str) -> None:
    async def refused(self: Incidents, rows: Sequence[Deferral], now: datetime) -> None:
        raise StoreRefused("as if there were nothing else to be done")

    _put(Incidents, "pass_over", refused)


def _unforgiving(dsn: str) -> None:
    pass_over = Incidents.pass_over

    async def for_ever(self: Incidents, rows: Sequence[Deferral], now: datetime) -> None:
        await pass_over(self, [evolve(row, until=now + timedelta(days=365)) for row in rows], now)

    _put(Incidents, "pass_over", for_ever)


def _steadfast(dsn: str) -> None:
    _put(pulse, "clock_step", lambda latest, now: timedelta())


def _left_behind(dsn: str) -> None:
    async def left(self: Outbox, targets: Sequence[str], **how: Any) -> int:
        return 0

    _put(Outbox, "bring_forward", left)


def _unwatchful(dsn: str) -> None:
    _put(Overwritten, "recognize", lambda self, row: row)


def _mortal(dsn: str) -> None:
    _put(runner, "_for_good", lambda error: True)


def _trusting(dsn: str) -> None:
    async def make(self: Attempt) -> Outcome:
        return await self.notifier.send(self.page)

    _put(Attempt, "make", make)


def _unseeing(dsn: str) -> None:
    async def nothing(self: HeartbeatKeeper) -> None:
        pass

    _put(HeartbeatKeeper, "find_unseen", nothing)


def _rewritten(*changes: tuple[str, str, str]) -> Callable[[str], None]:
    """Return how to change statements of the store: in each of that name what matches a pattern is replaced."""

    def plant(dsn: str) -> None:
        module: Any = store
        statements = module.statements

        def rewritten(table: IncidentsTable) -> Mapping[str, bytes]:
            texts = dict(statements(table))
            for name, pattern, new in changes:
                texts[name], count = re.subn(pattern.encode(), new.encode(), texts[name])
                assert count, f"{name} has no {pattern!r}"
            return texts

        _put(store, "statements", rewritten)

    return plant


def _in_the_database(dsn: str) -> None:
    """Nothing in this process: see ``LAID``."""


_PLANTS: Mapping[Name, Callable[[str], None]] = {
    "event outside the transaction": _event_outside,
    "no fencing": _no_fencing,
    "mark before POST": _mark_first,
    "claim without the acknowledgement check": _unchecked,
    "key without the episode": _keyless,
    "next_due_at is lost": _forgetful,
    "no time between levels": _hasty,
    "no wait between claims": _spinning,
    "a refusal ends the tick": _ending,
    "a put-back is insisted on": _insistent,
    "passed over for ever": _unforgiving,
    "a step back is not noticed": _steadfast,
    "pages stay where the clock was": _left_behind,
    "a change of key is not noticed": _in_the_database,
    "what no trigger saw stays unseen": _unseeing,
    "pages outlive an acknowledgement": _in_the_database,
    "whoever settles waits for hosts": _rewritten(
        ("settle_pages", "SKIP LOCKED", ""), ("lock_pages", "SKIP LOCKED", "")
    ),
    "policies hide rows": _rewritten(
        ("begin", r"row_security_active\([^)]*\)", "false"),
        ("begin", r"set_config\('row_security', 'off', true\)", "NULL"),
        ("look", r"row_security_active\([^)]*\)", "false"),
    ),
    "settings change what is written": _rewritten(("begin", r"set_config\('array_nulls', 'on', true\)", "NULL")),
    "undone instants are not noticed": _unwatchful,
    "a worker ends": _mortal,
    "notifiers may raise anything": _trusting,
}


def _altered(old: str, new: str) -> str:
    """Return what changes the function of the update trigger in one place."""
    return f"""
        DO $do$ DECLARE
            was text := pg_get_functiondef('escalation_host_update()'::regprocedure);
            now text := replace(was, $old${old}$old$, $new${new}$new$);
        BEGIN
            IF now = was THEN RAISE 'the function has no such part'; END IF;
            EXECUTE now;
        END $do$
    """


LAID: Mapping[Name, str] = {
    "a change of key is not noticed": _altered(
        'other_key boolean := NEW."incident_key" IS DISTINCT FROM OLD."incident_key"', "other_key boolean := false"
    ),
    "pages outlive an acknowledgement": _altered("THEN 'acknowledged' END", "THEN NULL END"),
}
"""Defects of the database, each in SQL that a superuser runs there."""
