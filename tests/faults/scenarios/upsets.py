"""What hosts, operators and clocks do to the tables beneath the engine: each upset as a scenario that can be judged."""

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
from ..record.watcher import STEP, TRIGGERS
from .busy import holds, sending
from .refusals import REFUSALS, REFUSED

Scenario = Callable[[Run], Awaitable[None]]
RULES = Rules(defer=(1.0, 2.0))
"""What is refused is tried again soon."""
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
"""What a server leaves behind whose clock was ahead for a while, and is not any more."""
OFF = {
    "disabled": ("ALTER TABLE incidents DISABLE TRIGGER {trigger}", "ALTER TABLE incidents ENABLE TRIGGER {trigger}"),
    "dropped": ("DROP TRIGGER {trigger} ON incidents", None),
}
"""How triggers come to be off, and how they are back again; None for what migrate does."""
OURS = ("zz_escalation_host_insert", "zz_escalation_host_update")


async def due(run: Run, *keys: str, sql: bool = True) -> None:
    """Open critical incidents that are due at once."""
    for key in keys:
        await run.hosts.do("open", key, sql=sql, severity="critical", first_seen=round(time() - 1, 6))


async def _told(run: Run, word: str) -> bool:
    return any(word in look.findings for look in run.watcher.samples)


def refused(name: str) -> Scenario:
    """Two old rows among others that a host's table refuses to change, until the host has thought better of it."""

    async def scenario(run: Run) -> None:
        refusal = REFUSALS[name]
        keys = [f"{REFUSED}-{number}" for number in range(2)]
        await due(run, *keys)
        kind = "row refused" if refusal.how == "escalating" else "row refused, and its put-back"
        findings = frozenset(f"unreadable {key}" for key in keys)
        recovery = run.rules.defer[-1] + run.rules.tick
        with run.trial(kind, stops=True, keys=frozenset(keys), findings=findings, recovery=recovery):
            await run.execute(refusal.added)
            await run.team(2)
            run.live(12, over=REFUSES_FOR - 1)
            await asyncio.sleep(REFUSES_FOR)
            await run.execute(refusal.dropped)

    return scenario


def stepped_back(step: str) -> Scenario:
    """The server's clock was ahead, and is not any more; pages wait for retries, for holds, and for a dead worker."""

    async def scenario(run: Run) -> None:
        team = await run.team(2)
        run.receiver.answers = lambda number: THROTTLED if number == 3 else (SLOWLY_BROKEN, BROKEN)[number % 2]
        await due(run, *(f"k{number}" for number in range(4)))
        run.live(6, over=0.5)
        await run.heard(6)
        assert await run.until(partial(_waiting, run, team[0])), "no page waits for anything"
        # What was written as of the future counts as of now when it is mended: the next level comes a gap later.
        recovery = 2 * run.rules.tick + run.rules.gap
        with run.fault("clock back", *team, stops=True, findings=frozenset({STEP}), recovery=recovery):
            for worker in team:
                worker.signal(signal.SIGSTOP)
            run.lock()
            # One that comes in by that clock is no older than when it is mended.
            await due(run, "meanwhile")
            await run.execute(STEPPED.replace("{step}", step))
            assert await run.until(partial(_told, run, STEP), 1.0)
            run.receiver.answers = lambda number: OK
            await run.kill(team[0])
            team[1].resume()
        await run.work("w1")

    return scenario


async def _waiting(run: Run, worker: Worker) -> bool:
    """Tell whether some pages wait for a retry, and some are a worker's."""
    [[pending]] = await run.execute("SELECT count(*) FROM escalation_pages WHERE state = 'pending'")
    return pending > 1 and await holds(run, worker) > 0


async def renamed(run: Run) -> None:
    """A page waits for its retry, or is on its way, when its incident's key changes, and changes back."""
    team = await run.team(2)
    with run.trial("key changed"):
        run.receiver.answers = lambda number: BROKEN
        await due(run, "waiting")
        await run.heard(2)
        await run.hosts.do("change_key", "waiting", sql=True, new_key="waited")
        run.receiver.answers = lambda number: SLOWLY_BROKEN
        await due(run, "sending")
        await sending(run, team)
        await run.hosts.do("change_key", "sending", sql=True, new_key="sent")
        run.receiver.answers = lambda number: OK
        run.live(10, over=2, renamed=True)
        await run.lived()
        # Both keys have a history by then.
        await run.hosts.do("change_key", "waited", sql=True, new_key="waiting")


def unseen(how: Unseen, off: str | None = None) -> Scenario:
    """Hosts open, open again and un-acknowledge while no trigger of ours is at work."""

    async def scenario(run: Run) -> None:
        await run.team(2)
        await due(run, "seen", "ended", sql=False)
        await run.hosts.do("open", "later", severity="warning", sql=False)
        await run.hosts.do("acknowledge", "later")
        await run.heard(4)
        await run.hosts.do("resolve", "ended")
        if off is None:
            await _write_unseen(run, how)
            return
        with run.trial("triggers off", findings=frozenset({TRIGGERS})):
            for trigger in OURS:
                await run.execute(OFF[off][0].replace("{trigger}", trigger))
            await _write_unseen(run, how)
            await run.until(partial(_told, run, TRIGGERS))
            await asyncio.sleep(2 * run.rules.tick)
            if (on := OFF[off][1]) is None:
                await migrate.up(run.dsn)
            else:
                for trigger in OURS:
                    await run.execute(on.replace("{trigger}", trigger))

    return scenario


async def _write_unseen(run: Run, how: Unseen) -> None:
    """Write what the next heartbeats have to find."""
    writes: Sequence[tuple[Verb, str]] = (("open", "new"), ("open", "ended"), ("unacknowledge", "later"))
    for verb, key in writes:
        # A heartbeat comes within a tick, and the look that follows it marks what the tick after that plans.
        with run.trial("unseen write", stops=True, keys=frozenset({key}), recovery=2 * run.rules.tick):
            await run.hosts.do(verb, key, sql=True, unseen=how)


def acknowledged_in_a_wait(answer: Answer) -> Scenario:
    """Acknowledged by SQL and taken back while pages wait: for a target that is held, a retry, or an answer."""

    async def scenario(run: Run) -> None:
        team = await run.team(2)
        keys = [f"k{number}" for number in range(4)]
        with run.trial("acknowledged in a wait"):
            run.receiver.answers = lambda number: answer
            await due(run, *keys)
            await run.heard(2)
            await sending(run, team) if answer.delay else None
            for key in keys:
                await run.hosts.do("acknowledge", key, sql=True)
                await run.hosts.do("unacknowledge", key, sql=True)
            run.receiver.answers = lambda number: OK

    return scenario


async def acknowledged_slowly(run: Run) -> None:
    """A host's transaction that acknowledges stays open beyond a lease, while its pages are on their way."""
    # One alone: what it waits for, all pages wait for.
    team = await run.team(1)
    run.receiver.answers = lambda number: Answer(delay=0.2)
    await due(run, "slowly")
    await sending(run, team)
    with run.trial("acknowledgement open", stops=True, keys=frozenset({"slowly"})):
        slowly = asyncio.create_task(run.hosts.do("acknowledge", "slowly", sql=True, open_for=OPEN_FOR))
        await due(run, *(f"k{number}" for number in range(4)))
        run.live(10, over=OPEN_FOR - 1)
        await slowly


async def secured(run: Run) -> None:
    """A policy hides all rows from the workers' role, while pages wait: they refuse to work, until it is gone."""
    team = await run.team(2)
    run.receiver.answers = lambda number: BROKEN
    await due(run, *(f"k{number}" for number in range(4)))
    await run.heard(4)
    with run.fault(SECURED, *team, stops=True, unhealthy=True):
        await run.execute("ALTER TABLE incidents ENABLE ROW LEVEL SECURITY")
        run.receiver.answers = lambda number: OK
        await asyncio.sleep(3 * run.rules.tick)
        await run.execute("ALTER TABLE incidents DISABLE ROW LEVEL SECURITY")
        for worker in await _ended(team):
            await run.work(worker.name.partition("-")[0])


async def _ended(team: Sequence[Worker]) -> list[Worker]:
    return [worker for worker in team if not worker.alive]


UPSETS: Mapping[str, Scenario] = {
    **{f"refused by {name}": refused(name) for name in REFUSALS},
    "clock back by two days": stepped_back(DAYS),
    "clock back by five minutes": stepped_back(MINUTES),
    "key changed": renamed,
    "written as a replica": unseen("replica"),
    "written with triggers disabled": unseen("off", "disabled"),
    "written with triggers dropped": unseen("off", "dropped"),
    "acknowledged while a target is held": acknowledged_in_a_wait(THROTTLED),
    "acknowledged between two attempts": acknowledged_in_a_wait(BROKEN),
    "acknowledged while it is sent": acknowledged_in_a_wait(SLOWLY_BROKEN),
    "acknowledged slowly": acknowledged_slowly,
    "rows are hidden": secured,
}
