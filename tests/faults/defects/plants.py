"""The planted defects. Each defect breaks the promise in one way, in one worker process or in the run's database.

``test_defects`` shows that the checks find each of them: checks that cannot fail would prove nothing.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from attrs import evolve
from psycopg import AsyncConnection

from escalation_adapters.postgres import installation, outbox
from escalation_adapters.postgres.incidents import Incidents
from escalation_adapters.postgres.ledger import Ledger
from escalation_adapters.postgres.outbox import Outbox
from escalation_adapters.postgres.session import Session
from escalation_adapters.postgres.table import IncidentsTable
from escalation_adapters.postgres.walks import Walks
from escalation_adapters.worker import runner
from escalation_core import Delivered, Escalation, Incident, Outcome, RetryPolicy, Settings, StoreRefused
from escalation_core.engine import batch, exchange, heartbeat, sends, settle
from escalation_core.engine.attempt import Attempt
from escalation_core.engine.deliver import Delivery
from escalation_core.engine.heartbeat import HeartbeatKeeper
from escalation_core.engine.messages import Send
from escalation_core.engine.overwritten import Overwritten
from escalation_core.engine.refused_rows import defer_or_pass_over
from escalation_core.engine.sends import Packer
from escalation_core.engine.versions import Versions
from escalation_core.model import (
    Candidate,
    ClaimedPage,
    Deferral,
    DueTarget,
    NewPage,
    Pace,
    PageRecord,
    PageState,
    Pin,
    ShiftOverride,
    State,
    escalation_hash,
)
from escalation_core.ports import Transaction
from escalation_core.rules.bundle import is_fresh
from escalation_core.rules.fallback import Fallbacks
from escalation_core.rules.on_call import OnCall, Recipients
from escalation_core.rules.plan import Decision, Escalate, Reason, Reschedule
from escalation_core.rules.plan import plan as decide
from escalation_core.rules.planner import Planner
from escalation_core.rules.policy import Policy
from escalation_core.rules.retry import after_attempt, newer_level, supersede
from escalation_core.rules.routing import Pager
from escalation_core.rules.settled import Note, Settled

from . import notice_plants

Name = Literal[
    "escalation outside the transaction",
    "no fencing",
    "settled before the request",
    "claim without the acknowledgement check",
    "dedup key without the episode",
    "next_due_at is lost",
    "no time between levels",
    "no wait between claims",
    "a refused row ends the tick",
    "a refused row is not passed over",
    "a refused row is passed over for ever",
    "a clock step is not noticed",
    "pages wait for the old clock",
    "a change of key is not noticed",
    "unseen rows are not found",
    "an acknowledgement does not cancel pages",
    "settling waits for locked rows",
    "hidden rows are not noticed",
    "settings of the role are used",
    "an undone next_due_at is not noticed",
    "any error ends the worker",
    "an error of a notifier is not caught",
    "an expiry forgets the walk",
    "a version is taken from the file",
    "an acknowledged row is not looked at again",
    "each change of policy begins a walk",
    "pages outlive an expiry",
    "stale taken for empty",
    "resolved again at delivery",
    "a passed level without an event",
    "a digest of another schedule",
    "overrides are read once",
    "a budget per worker",
    "the fallback's page has another key",
    "a priority that starves",
    "a pending page counts as heard",
    "handed over without the fallback's page",
    "superseded while leased",
    "a bundle is settled before it is sent",
    "a bundle grows between its tries",
    "a notice without its page",
    "one notice key for two incidents",
    "a notice before its page",
    "a resolve under another key",
    "pages wait for notices",
]


ROUTED = Recipients()
"""Stands for a level that names no one: the router decides."""


def plant(name: Name, dsn: str) -> None:
    """Plant a defect in this process. Defects of the database and of hosts change nothing here."""
    if name not in (*IN_DATABASE, *IN_HOST):
        _PLANTS[name](dsn)


def _put(owner: object, name: str, broken: object) -> None:
    """Replace an attribute of a module or class with a broken one.

    Raises:
        LookupError: the owner has no attribute of that name, for example because the library renamed it.
    """
    if not hasattr(owner, name):
        raise LookupError(f"{owner!r} has no attribute {name!r} to replace with a defect")
    setattr(owner, name, broken)


def _escalation_outside(dsn: str) -> None:
    record = Ledger.record

    async def record_outside(self: Ledger, escalations: Sequence[Escalation]) -> Sequence[bool]:
        async with await AsyncConnection.connect(dsn, autocommit=True) as other:
            session = Session(other, self.session.statements, self.session.table, optimistic=False)
            return await record(Ledger(session), escalations)

    _put(Ledger, "record", record_outside)


def _no_fencing(dsn: str) -> None:
    attempt, settle_fenced = Delivery._attempt, settle.settle

    async def attempt_without_deadline(self: Delivery, send: Send, deadline: float) -> None:
        await attempt(self, send, float("inf"))

    async def settle_without_fence(
        tx: Transaction,
        finished: Sequence[settle.Finished],
        policy: RetryPolicy,
        fallbacks: Fallbacks,
        now: datetime,
        *,
        pass_began: datetime,
    ) -> tuple[list[PageRecord], list[settle.Finished]]:
        standing = {found.page.id: found.page for found in await tx.outbox.lock([page.id for page, _ in finished])}
        refenced = [(evolve(page, fence=standing[page.id].fence), outcome) for page, outcome in finished]
        return await settle_fenced(tx, refenced, policy, fallbacks, now, pass_began=pass_began)

    _put(Delivery, "_attempt", attempt_without_deadline)
    _put(exchange, "settle", settle_without_fence)


def _settled_before_request(dsn: str) -> None:
    async def settle_and_send(self: Delivery, send: Send, deadline: float) -> None:
        now, policy = datetime.now(UTC), self.settings.retry
        sent = [
            after_attempt(record, Delivered(), policy=policy, now=now, jitter=0.0, ended=None)
            for record in send.records
            if isinstance(record, PageRecord)
        ]
        try:
            await self.store.transact(lambda tx: tx.outbox.settle(sent))
            await self._send(send)
        finally:
            self.senders.ended(send)

    _put(Delivery, "_attempt", settle_and_send)


def _claim_without_check(dsn: str) -> None:
    _put(sends, "cancel_reason", lambda page, incident: None)


def _dedup_key_without_episode(dsn: str) -> None:
    pages_for = Pager.pages_for

    def pages_of_first_episode(
        self: Pager, incident: Incident, dedup_key: str, named: Recipients = ROUTED, *, first: bool = False
    ) -> Sequence[NewPage]:
        return pages_for(self, incident, escalation_hash(incident.incident_key, incident.level, 1), named, first=first)

    _put(Pager, "pages_for", pages_of_first_episode)


def _next_due_at_lost(dsn: str) -> None:
    advance = Incidents.advance

    async def advance_without_instant(self: Incidents, incidents: Sequence[Incident]) -> None:
        risen = [one.moved(level=one.level, last_escalated_at=one.last_escalated_at, next_due_at=None)
                 if one.level else one for one in incidents]  # fmt: skip
        await advance(self, risen)

    _put(Incidents, "advance", advance_without_instant)
    # Otherwise the workers would find the row, because a row without next_due_at is an unseen row.
    _unseen_rows_not_found(dsn)


def _no_time_between_levels(dsn: str) -> None:
    due = Policy.next_due_at

    def due_at_once(
        self: Policy, incident: Incident, level: int, last: datetime | None, tick_interval: timedelta
    ) -> datetime | None:
        return due(self, incident, level, None, tick_interval)

    _put(Policy, "next_due_at", due_at_once)


def _no_wait_between_claims(dsn: str) -> None:
    async def wait(self: Delivery, longest: timedelta | None = None) -> None:
        await asyncio.sleep(0)

    _put(Delivery, "wait", wait)


def _refused_row_ends_tick(dsn: str) -> None:
    async def refuse(
        tx: Transaction, rows: Sequence[Deferral], now: datetime, altered: Sequence[Deferral] = ()
    ) -> None:
        if rows:
            raise StoreRefused("planted: a refused row is not deferred")
        await defer_or_pass_over(tx, rows, now, altered)

    _put(batch, "defer_or_pass_over", refuse)


def _refused_row_not_passed_over(dsn: str) -> None:
    async def refuse(self: Incidents, rows: Sequence[Deferral], now: datetime) -> None:
        raise StoreRefused("planted: a refused row is not passed over")

    _put(Incidents, "pass_over", refuse)


def _passed_over_for_ever(dsn: str) -> None:
    pass_over = Incidents.pass_over

    async def pass_over_for_ever(self: Incidents, rows: Sequence[Deferral], now: datetime) -> None:
        await pass_over(self, [evolve(row, until=now + timedelta(days=365)) for row in rows], now)

    _put(Incidents, "pass_over", pass_over_for_ever)


def _clock_step_not_noticed(dsn: str) -> None:
    _put(heartbeat, "clock_step", lambda latest, now: timedelta())


def _pages_wait_for_old_clock(dsn: str) -> None:
    async def bring_none_forward(self: Outbox, targets: Sequence[str], **instants: Any) -> int:
        return 0

    _put(Outbox, "bring_forward", bring_none_forward)


def _undone_instant_not_noticed(dsn: str) -> None:
    _put(Overwritten, "recognize", lambda self, row: row)


def _any_error_ends_worker(dsn: str) -> None:
    _put(runner, "_for_good", lambda error: True)


def _notifier_error_not_caught(dsn: str) -> None:
    async def make(self: Attempt) -> Outcome:
        return await self._answer()

    _put(Attempt, "make", make)


def _expiry_forgets_walk(dsn: str) -> None:
    def plan(claimed: Candidate, **how: Any) -> Decision:
        decision = decide(claimed, **how)
        happened = () if decision.settled is None else decision.settled.notes
        if decision.settled is None or not any(note is Note.ACK_EXPIRED for note, _ in happened):
            return decision
        ended = decision.settled.incident
        still = ended.moved(level=ended.level, last_escalated_at=ended.last_escalated_at, next_due_at=None)
        return Reschedule(incident=still, reason=Reason.NOT_DUE, settled=decision.settled)

    _put(batch, "plan", plan)


def _version_from_file(dsn: str) -> None:
    pinned = Planner._pinned

    def by_name(self: Planner, incident: Incident, pin: Pin | None, now: datetime) -> Settled:
        found = pinned(self, incident, pin, now)
        own = None if self.policies is None or pin is None else self.policies.policies.get(pin.policy)
        return found if own is None else evolve(found, policy=own)

    _put(Planner, "_pinned", by_name)


def _acknowledged_row_left_alone(dsn: str) -> None:
    rule = Settled.rule

    def rule_of_open_rows(self: Settled, clock: datetime) -> datetime | None:
        return None if self.incident.state is State.ACKNOWLEDGED else rule(self, clock)

    _put(Settled, "rule", rule_of_open_rows)


def _each_change_begins_walk(dsn: str) -> None:
    change = Planner._change

    def begin(self: Planner, found: Settled, pin: Pin | None, policy: Policy, now: datetime) -> Settled:
        changed = change(self, found, pin, policy, now)
        if pin is None:
            return changed
        level = changed.incident.level
        return evolve(changed, incident=evolve(changed.incident, policy_level=level, policy_since=now))

    _put(Planner, "_change", begin)


def _pages_outlive_expiry(dsn: str) -> None:
    _put(Settled, "cancel", None)


def _stale_taken_for_empty(dsn: str) -> None:
    on_call = OnCall.on_call

    def empty(self: OnCall, schedule: str, at: datetime) -> tuple[frozenset[str] | None, str]:
        people, digest = on_call(self, schedule, at)
        return people or frozenset(), digest

    _put(OnCall, "on_call", empty)


def _resolved_again_at_delivery(dsn: str) -> None:
    with_on_call, send = Versions.with_on_call, Delivery._send
    known: list[OnCall] = []

    async def remember(self: Versions, tx: Transaction, planner: Planner, now: datetime) -> Planner:
        found = await with_on_call(self, tx, planner, now)
        known.append(found.on_call)
        return found

    async def send_to_present(self: Delivery, one: Send) -> Outcome:
        [record], page = one.records, one.message
        assert isinstance(record, PageRecord)
        via = (record.via,) if record.via else ()
        present = [one.target for on_call in known[-1:] for one in on_call.recipients(via, datetime.now(UTC)).known]
        if not present:
            return await send(self, one)
        return await send(self, Send(evolve(page, target=present[0]), [evolve(record, target=present[0])]))

    _put(Versions, "with_on_call", remember)
    _put(Delivery, "_send", send_to_present)


def _passed_level_without_event(dsn: str) -> None:
    async def record_last(tx: Transaction, decisions: Sequence[Escalate]) -> None:
        await tx.ledger.record([one.escalation for one in decisions])

    _put(batch, "_record_all", record_last)


def _digest_of_another_schedule(dsn: str) -> None:
    on_call = OnCall.on_call
    digests: dict[datetime, str] = {}

    def kept_by_instant(self: OnCall, schedule: str, at: datetime) -> tuple[frozenset[str] | None, str]:
        people, digest = on_call(self, schedule, at)
        return people, digests.setdefault(at, digest)

    _put(OnCall, "on_call", kept_by_instant)


def _overrides_read_once(dsn: str) -> None:
    overrides = Walks.overrides
    known: list[Sequence[ShiftOverride]] = []

    async def remember(self: Walks, now: datetime) -> Sequence[ShiftOverride]:
        if not known:
            known.append(await overrides(self, now))
        return known[0]

    _put(Walks, "overrides", remember)


def _budget_per_worker(dsn: str) -> None:
    own: dict[str, Pace] = {}

    async def know_own(self: Outbox, targets: Sequence[str]) -> Mapping[str, Pace]:
        return {target: own.get(target, Pace(target=target)) for target in targets}

    async def keep_own(self: Outbox, paces: Sequence[Pace]) -> None:
        own.update({pace.target: pace for pace in paces})

    _put(Outbox, "lock_targets", know_own)
    _put(Outbox, "write_paces", keep_own)


def _fallback_with_another_key(dsn: str) -> None:
    page_for = Fallbacks.page_for

    def page_with_another_key(self: Fallbacks, page: PageRecord) -> NewPage:
        made = page_for(self, page)
        return evolve(made, dedup_key=escalation_hash(f"{made.incident_key}/{made.target}", made.level, made.episode))

    _put(Fallbacks, "page_for", page_with_another_key)


def _priority_starves(dsn: str) -> None:
    _put(outbox, "STARVED_AFTER", timedelta(days=1))


def _handed_over_to_nobody(dsn: str) -> None:
    page_for, enqueue = Fallbacks.page_for, Outbox.enqueue
    lost: list[NewPage] = []

    def remember(self: Fallbacks, page: PageRecord) -> NewPage:
        lost.append(page_for(self, page))
        return lost[-1]

    async def enqueue_others(self: Outbox, pages: Sequence[NewPage], now: datetime) -> None:
        await enqueue(self, [page for page in pages if page not in lost], now)

    _put(Fallbacks, "page_for", remember)
    _put(Outbox, "enqueue", enqueue_others)


def _bundle_grows(dsn: str) -> None:
    with_others = Packer._with_others

    async def with_fresh_ones(
        self: Packer, one: ClaimedPage, found: Sequence[ClaimedPage]
    ) -> tuple[Sequence[ClaimedPage], str | None]:
        members, bundle = await with_others(self, one, found)
        if one.page.bundle is None or bundle is None:
            return members, bundle
        fresh = [other for other in found if is_fresh(other.page) and self._may_go(other)]
        return [*members, *fresh], bundle

    _put(Packer, "_with_others", with_fresh_ones)


def _superseded_while_leased(dsn: str) -> None:
    hand_over = exchange._hand_over

    async def supersede_too(
        tx: Transaction, due: Mapping[str, DueTarget], settings: Settings, now: datetime
    ) -> list[PageRecord]:
        pages = await tx.outbox.pages(limit=1000)
        newer = [(page, newer_level(page, pages)) for page in pages if page.state is PageState.LEASED]
        over = [supersede(page, level, now) for page, level in newer if level is not None]
        await tx.outbox.write(over)
        return [*over, *await hand_over(tx, due, settings, now)]

    _put(exchange, "_hand_over", supersede_too)


def _unseen_rows_not_found(dsn: str) -> None:
    async def find_none(self: HeartbeatKeeper) -> None:
        pass

    _put(HeartbeatKeeper, "find_unseen", find_none)


def _rewritten(*changes: tuple[str, str, str]) -> Callable[[str], None]:
    """Return a plant that changes statements of the store.

    Args:
        changes: the name of a statement, a pattern, and the text that replaces each match.
    """

    def plant(dsn: str) -> None:
        module: Any = installation
        statements = module.statements

        def rewritten(table: IncidentsTable) -> Mapping[str, bytes]:
            texts = dict(statements(table))
            for name, pattern, new in changes:
                texts[name], count = re.subn(pattern.encode(), new.encode(), texts[name])
                assert count, f"the statement {name} does not match {pattern!r}"
            return texts

        _put(installation, "statements", rewritten)

    return plant


_PLANTS: Mapping[Name, Callable[[str], None]] = {
    "escalation outside the transaction": _escalation_outside,
    "no fencing": _no_fencing,
    "settled before the request": _settled_before_request,
    "claim without the acknowledgement check": _claim_without_check,
    "dedup key without the episode": _dedup_key_without_episode,
    "next_due_at is lost": _next_due_at_lost,
    "no time between levels": _no_time_between_levels,
    "no wait between claims": _no_wait_between_claims,
    "a refused row ends the tick": _refused_row_ends_tick,
    "a refused row is not passed over": _refused_row_not_passed_over,
    "a refused row is passed over for ever": _passed_over_for_ever,
    "a clock step is not noticed": _clock_step_not_noticed,
    "pages wait for the old clock": _pages_wait_for_old_clock,
    "unseen rows are not found": _unseen_rows_not_found,
    "settling waits for locked rows": _rewritten(
        ("settle_pages", "SKIP LOCKED", ""), ("lock_pages", "SKIP LOCKED", "")
    ),
    "hidden rows are not noticed": _rewritten(
        ("begin", r"row_security_active\([^)]*\)", "false"),
        ("begin", r"set_config\('row_security', 'off', true\)", "NULL"),
        ("look", r"row_security_active\([^)]*\)", "false"),
    ),
    "settings of the role are used": _rewritten(("begin", r"set_config\('array_nulls', 'on', true\)", "NULL")),
    "an undone next_due_at is not noticed": _undone_instant_not_noticed,
    "any error ends the worker": _any_error_ends_worker,
    "an error of a notifier is not caught": _notifier_error_not_caught,
    "an expiry forgets the walk": _expiry_forgets_walk,
    "a version is taken from the file": _version_from_file,
    "an acknowledged row is not looked at again": _acknowledged_row_left_alone,
    "each change of policy begins a walk": _each_change_begins_walk,
    "pages outlive an expiry": _pages_outlive_expiry,
    "stale taken for empty": _stale_taken_for_empty,
    "resolved again at delivery": _resolved_again_at_delivery,
    "a passed level without an event": _passed_level_without_event,
    "a digest of another schedule": _digest_of_another_schedule,
    "overrides are read once": _overrides_read_once,
    "a budget per worker": _budget_per_worker,
    "the fallback's page has another key": _fallback_with_another_key,
    "a priority that starves": _priority_starves,
    "handed over without the fallback's page": _handed_over_to_nobody,
    "superseded while leased": _superseded_while_leased,
    "a bundle is settled before it is sent": _settled_before_request,
    "a bundle grows between its tries": _bundle_grows,
    "a notice without its page": _rewritten(("arrivals", r"bool_or\(p.state = 'delivered'\)", "true")),
    "one notice key for two incidents": lambda dsn: notice_plants.key_without_incident(_put),
    "a notice before its page": _rewritten(
        ("ready_changes", "p.state = 'cancelling'", "false"),
        ("arrivals", r"bool_or\(p.state = 'delivered'\)", "true"),
    ),
    "a resolve under another key": lambda dsn: notice_plants.resolve_under_level_key(_put),
    "pages wait for notices": lambda dsn: notice_plants.notices_first(_put),
}
"""Defects of a worker process, each as a function that plants it. Its argument is the run's DSN."""


def _altered(*changes: tuple[str, str]) -> str:
    """Return SQL that replaces texts in the function of the update trigger."""
    each = "".join(
        f"""
            now := replace(was, $old${old}$old$, $new${new}$new$);
            IF now = was THEN RAISE 'the function does not contain the old text'; END IF;
            was := now;"""
        for old, new in changes
    )
    return f"""
        DO $do$ DECLARE
            was text := pg_get_functiondef('escalation_host_update()'::regprocedure);
            now text;
        BEGIN{each}
            EXECUTE now;
        END $do$
    """


IN_DATABASE: Mapping[Name, str] = {
    "a change of key is not noticed": _altered(
        ('other_key boolean := NEW."incident_key" IS DISTINCT FROM OLD."incident_key"', "other_key boolean := false")
    ),
    # The end of an acknowledgement cancels the pages as well.
    "an acknowledgement does not cancel pages": _altered(
        ("was_acknowledged THEN 'acknowledged'", "was_acknowledged THEN NULL"),
        ("THEN 'unacknowledged'", "THEN NULL"),
    ),
}
"""Defects of the database, each as SQL that a superuser runs in it."""
IN_HOST: Mapping[Name, Callable[[str], None]] = {
    "a pending page counts as heard": _rewritten(
        ("stats", r"p\.state = 'delivered'\)\)", "p.state IN ('pending', 'leased', 'delivered')))")
    ),
}
"""Defects of the host's process, which reads health, each as a function that plants it."""


@contextmanager
def planted_in_host(name: Name | None) -> Iterator[None]:
    """Plant a defect of the host in the test's own process, and take it out again."""
    module: Any = installation
    statements = module.statements
    try:
        if name is not None and name in IN_HOST:
            IN_HOST[name]("")
        yield
    finally:
        module.statements = statements
