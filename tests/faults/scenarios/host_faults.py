"""Scenarios with faults that hosts, operators and clocks cause in the tables of the engine and of the host."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from time import time

from escalation_adapters.postgres import migrate
from escalation_core.testing.invariants.history import Verb

from ..harness.hosts import Unseen
from ..harness.receiver import BROKEN, OK, Answer
from ..harness.rules import SECURED, Rules
from ..harness.run import Run
from ..harness.workers import Worker
from ..record.watcher import DRIFT, STEP
from .busy import claimed_pages, until_sending
from .refusals import REFUSALS, REFUSED

Scenario = Callable[[Run], Awaitable[None]]
RULES = Rules(defer=(1.0, 2.0))
"""Rules with a short back-off for refused rows."""
REFUSES_FOR = 3.0
"""Seconds for which a host refuses rows."""
OPEN_FOR = 3.0
"""Seconds for which a host's transaction stays open: longer than a lease."""
SLOWLY_BROKEN = Answer(status=503, accepts=False, delay=0.3)
THROTTLED = Answer(status=429, accepts=False)
DAYS, MINUTES = "2 days", "5 minutes"
STEPPED = """
BEGIN;
LOCK TABLE incidents, escalation_pages IN SHARE ROW EXCLUSIVE MODE;
SET LOCAL session_replication_role = replica;
UPDATE escalation_workers SET ticked_at = ticked_at + interval '{step}';
UPDATE escalation_targets SET held_until = held_until + interval '{step}';
UPDATE escalation_pages SET due_at = due_at + interval '{step}' WHERE state IN ('pending', 'leased', 'cancelling');
UPDATE incidents SET last_escalated_at = last_escalated_at + interval '{step}' WHERE next_due_at IS NOT NULL;
UPDATE incidents SET next_due_at = next_due_at + interval '{step}' WHERE next_due_at > to_timestamp(0);
UPDATE incidents SET first_seen = first_seen + interval '{step}' WHERE incident_key = 'meanwhile';
COMMIT
"""
"""Changes the database as if the clock of its server had been ahead, and had then stepped back by this interval."""
TRIGGERS_OFF = {
    "disabled": ("ALTER TABLE incidents DISABLE TRIGGER {trigger}", "ALTER TABLE incidents ENABLE TRIGGER {trigger}"),
    "dropped": ("DROP TRIGGER {trigger} ON incidents", None),
}
"""SQL that turns a trigger off, and SQL that turns it on again. None: ``migrate`` creates the trigger again."""
ENGINE_TRIGGERS = ("zz_escalation_host_insert", "zz_escalation_host_update")


async def due(run: Run, *keys: str, sql: bool = True) -> None:
    """Open critical incidents that are due at once."""
    for key in keys:
        await run.hosts.do("open", key, sql=sql, severity="critical", first_seen=round(time() - 1, 6))


async def listed(run: Run, finding: str) -> bool:
    """Return whether health has listed a finding."""
    return any(finding in sample.findings for sample in run.watcher.samples)


def refused(name: str) -> Scenario:
    """Return a scenario in which the host's table refuses to change two old rows, until the host drops the cause."""

    async def scenario(run: Run) -> None:
        refusal = REFUSALS[name]
        keys = [f"{REFUSED}-{number}" for number in range(2)]
        await due(run, *keys)
        kind = "row refused" if refusal.refuses == "escalations" else "row refused, and its deferral"
        findings = frozenset(f"unreadable {key}" for key in keys)
        recovery = run.rules.defer[-1] + run.rules.tick
        with run.disturbance(kind, stops=True, keys=frozenset(keys), findings=findings, recovery=recovery):
            await run.execute(refusal.add)
            await run.start_workers(2)
            run.start_incidents(12, over=REFUSES_FOR - 1)
            await asyncio.sleep(REFUSES_FOR)
            await run.execute(refusal.drop)

    return scenario


def stepped_back(step: str) -> Scenario:
    """Return a scenario in which the server's clock steps back by ``step``.

    At that moment pages wait for a retry, for a throttled target, and for the lease of a worker that is then killed.
    """

    async def scenario(run: Run) -> None:
        workers = await run.start_workers(2)
        run.receiver.answers = lambda number: THROTTLED if number == 3 else (SLOWLY_BROKEN, BROKEN)[number % 2]
        await due(run, *(f"k{number}" for number in range(4)))
        run.start_incidents(6, over=0.5)
        await run.until_requests(6)
        assert await run.until(partial(_waiting, run, workers[0])), "no page waits for a retry or for a settlement"
        # The engine replaces instants in the future by now. So the next level follows one gap after the repair.
        recovery = 2 * run.rules.tick + run.rules.gap
        with run.fault("clock stepped back", *workers, stops=True, findings=frozenset({STEP}), recovery=recovery):
            for worker in workers:
                worker.signal(signal.SIGSTOP)
            run.note_locks()
            # An incident that is opened by the wrong clock counts as opened at the repair.
            await due(run, "meanwhile")
            await run.execute(STEPPED.replace("{step}", step))
            assert await run.until(partial(listed, run, STEP), 1.0)
            run.receiver.answers = lambda number: OK
            await run.kill(workers[0])
            workers[1].resume()
        await run.start_worker("w1")

    return scenario


async def _waiting(run: Run, worker: Worker) -> bool:
    """Return whether more than one page waits for a retry, and the worker has claimed at least one."""
    [[pending]] = await run.execute("SELECT count(*) FROM escalation_pages WHERE state = 'pending'")
    return pending > 1 and await claimed_pages(run, worker) > 0


async def renamed(run: Run) -> None:
    """The key of an incident changes while its page waits for a retry, or is being sent, and later changes back."""
    workers = await run.start_workers(2)
    with run.disturbance("key changed"):
        run.receiver.answers = lambda number: BROKEN
        await due(run, "waiting")
        await run.until_requests(2)
        await run.hosts.do("change_key", "waiting", sql=True, new_key="waited")
        run.receiver.answers = lambda number: SLOWLY_BROKEN
        await due(run, "sending")
        await until_sending(run, workers)
        await run.hosts.do("change_key", "sending", sql=True, new_key="sent")
        run.receiver.answers = lambda number: OK
        run.start_incidents(10, over=2, renamed=True)
        await run.finish_incidents()
        # By now both keys have recorded escalations.
        await run.hosts.do("change_key", "waited", sql=True, new_key="waiting")


def unseen(how: Unseen, off: str | None = None) -> Scenario:
    """Return a scenario in which hosts open, reopen and unacknowledge incidents, and no trigger sees the writes.

    ``off`` names an entry of ``TRIGGERS_OFF``; without it the hosts write as replicas.
    """

    async def scenario(run: Run) -> None:
        await run.start_workers(2)
        await due(run, "seen", "ended", sql=False)
        await run.hosts.do("open", "later", severity="warning", sql=False)
        await run.hosts.do("acknowledge", "later")
        await run.until_requests(4)
        await run.hosts.do("resolve", "ended")
        if off is None:
            await _write_unseen(run, how)
            return
        with run.disturbance("triggers off", findings=frozenset({DRIFT})):
            for trigger in ENGINE_TRIGGERS:
                await run.execute(TRIGGERS_OFF[off][0].replace("{trigger}", trigger))
            await _write_unseen(run, how)
            await run.until(partial(listed, run, DRIFT))
            await asyncio.sleep(2 * run.rules.tick)
            if (on := TRIGGERS_OFF[off][1]) is None:
                await migrate.up(run.dsn)
            else:
                for trigger in ENGINE_TRIGGERS:
                    await run.execute(on.replace("{trigger}", trigger))

    return scenario


async def _write_unseen(run: Run, how: Unseen) -> None:
    """Write rows that the search after the next heartbeat must find."""
    writes: Sequence[tuple[Verb, str]] = (("open", "new"), ("open", "ended"), ("unacknowledge", "later"))
    for verb, key in writes:
        # The search after a heartbeat sets next_due_at so that the next tick replans the row: two ticks in total.
        with run.disturbance("unseen write", stops=True, keys=frozenset({key}), recovery=2 * run.rules.tick):
            await run.hosts.do(verb, key, sql=True, unseen=how)


def acknowledged_in_a_wait(answer: Answer) -> Scenario:
    """Return a scenario in which a host acknowledges by SQL and takes the acknowledgement back while pages wait.

    The answer decides what the pages wait for: a throttled target, a retry, or a slow answer.
    """

    async def scenario(run: Run) -> None:
        workers = await run.start_workers(2)
        keys = [f"k{number}" for number in range(4)]
        with run.disturbance("acknowledged while pages wait"):
            run.receiver.answers = lambda number: answer
            await due(run, *keys)
            await run.until_requests(2)
            await until_sending(run, workers) if answer.delay else None
            for key in keys:
                await run.hosts.do("acknowledge", key, sql=True)
                await run.hosts.do("unacknowledge", key, sql=True)
            run.receiver.answers = lambda number: OK

    return scenario


async def acknowledged_in_a_long_transaction(run: Run) -> None:
    """A host acknowledges while pages are being sent, and its transaction stays open for longer than a lease."""
    # One worker only: if it waited for the transaction, all pages would be late.
    workers = await run.start_workers(1)
    run.receiver.answers = lambda number: Answer(delay=0.2)
    await due(run, "slowly")
    await until_sending(run, workers)
    with run.disturbance("acknowledging transaction open", stops=True, keys=frozenset({"slowly"})):
        acknowledging = asyncio.create_task(run.hosts.do("acknowledge", "slowly", sql=True, open_for=OPEN_FOR))
        await due(run, *(f"k{number}" for number in range(4)))
        run.start_incidents(10, over=OPEN_FOR - 1)
        await acknowledging


async def rows_hidden(run: Run) -> None:
    """Row level security hides all rows from the workers' role while pages wait: the workers refuse to run."""
    workers = await run.start_workers(2)
    run.receiver.answers = lambda number: BROKEN
    await due(run, *(f"k{number}" for number in range(4)))
    await run.until_requests(4)
    with run.fault(SECURED, *workers, stops=True, unhealthy=True):
        await run.execute("ALTER TABLE incidents ENABLE ROW LEVEL SECURITY")
        run.receiver.answers = lambda number: OK
        await asyncio.sleep(3 * run.rules.tick)
        await run.execute("ALTER TABLE incidents DISABLE ROW LEVEL SECURITY")
        for worker in await _ended(workers):
            await run.start_worker(worker.name.partition("-")[0])


async def _ended(workers: Sequence[Worker]) -> list[Worker]:
    return [worker for worker in workers if not worker.alive]


HOST_FAULTS: Mapping[str, Scenario] = {
    **{name: refused(name) for name in REFUSALS},
    "clock back by two days": stepped_back(DAYS),
    "clock back by five minutes": stepped_back(MINUTES),
    "key changed": renamed,
    "written as a replica": unseen("replica"),
    "written with triggers disabled": unseen("off", "disabled"),
    "written with triggers dropped": unseen("off", "dropped"),
    "acknowledged while a target is throttled": acknowledged_in_a_wait(THROTTLED),
    "acknowledged between two attempts": acknowledged_in_a_wait(BROKEN),
    "acknowledged while it is sent": acknowledged_in_a_wait(SLOWLY_BROKEN),
    "acknowledged in a long transaction": acknowledged_in_a_long_transaction,
    "rows are hidden": rows_hidden,
}
