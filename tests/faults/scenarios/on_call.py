"""Scenarios of who is on call: levels that name no one, schedules that end or change, hand-overs, and overrides."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from time import time

import attrs

from escalation_core.engine.batch import BatchRunner, _record_all
from escalation_core.engine.versions import Versions
from escalation_core.ports import Ledger, Outbox, Transaction
from escalation_core.testing.invariants import Roster
from escalation_core.testing.invariants.history import INFINITY, KILL
from escalation_core.testing.invariants.recipients import OVERRIDE

from ..harness.hook import Interrupt
from ..harness.policies import ON_CALL, changed
from ..harness.receiver import OK
from ..harness.run import Run
from ..harness.schedules import ANSWERED, HANDOVER, rosters
from ..kill_points.points import line_calling
from .policies import THROTTLED, THROTTLED_LONG, due, until_level

HANDED_OVER = changed(ON_CALL, "ops", levels=[{"after": "1s", "to": ["oncall:handover"]}])
"""A file with one schedule, whose people change once."""
OVERRIDES = (("gap", "bob"), ("quick", "ann"), ("unmapped", "bob"))
"""The schedules that operators override, each with the person who is on call instead."""
OVERRIDDEN_FOR = 4.0
"""Seconds of an override: as long as a walk."""
DIGESTS = "SELECT schedule_digest FROM escalation_pages WHERE incident_key = %s"
POINTS = (
    line_calling(BatchRunner._record_passes, Ledger.highest),
    line_calling(BatchRunner._record_passes, Transaction.savepoint),
    line_calling(_record_all, Ledger.record),
    line_calling(BatchRunner._write, Versions.write),
    line_calling(BatchRunner._write, Outbox.enqueue),
)
"""Where a worker dies while it records the levels of a pass, and before it has written their pages."""


async def walked(run: Run) -> None:
    """Incidents walk through gaps, a stale schedule, one that ends, people who change, and one without a target."""
    run.put_on_call(rosters(time()))
    await run.start_worker("w1")
    await due(run, "critical")
    await due(run, "warning", severity="warning")
    await due(run, "info", severity="info")


async def first_load_hangs(run: Run) -> None:
    """A source of schedules hangs, and the workers escalate without it, also one that is killed and starts again.

    When the source answers, an incident that comes later has the people of its schedules.
    """
    run.put_on_call({name: Roster(known_from=INFINITY) for name in rosters(0)}, answers=False)
    workers = [await run.start_worker(slot, late_schedules=True) for slot in ("w1", "w2")]
    await due(run, "before")
    await until_level(run, "before", 1)
    await run.kill(workers[0])
    workers[0] = await run.start_worker("w1", late_schedules=True)
    await due(run, "meanwhile")
    for key in ("before", "meanwhile"):
        await until_level(run, key, 4)

    async def answered() -> bool:
        return all(ANSWERED in worker.text for worker in workers)

    run.put_on_call(rosters(time()))
    assert await run.until(answered), "a worker does not load the schedules"
    run.rosters = {name: attrs.evolve(each, known_from=time()) for name, each in run.rosters.items()}
    await due(run, "after")


async def handed_over(run: Run) -> None:
    """A page waits for its target until another person is on call. It still goes to the person whom it names."""
    run.receiver.answers = lambda number: THROTTLED_LONG
    began = time()
    run.put_on_call(rosters(began))
    await run.start_worker("w1")
    await due(run, "k")

    async def throttled() -> bool:
        [[count]] = await run.execute(THROTTLED, "k")
        return bool(count)

    assert await run.until(throttled), "the page does not wait for its target"
    await asyncio.sleep(began + HANDOVER - time())
    run.receiver.answers = lambda number: OK


async def overridden(run: Run) -> None:
    """Overrides begin and end while incidents walk, and a worker that knows them is killed.

    Before and after, the schedules count: one names no one, one changes its people, one has a person without a target.
    """
    run.put_on_call(rosters(time()))
    workers = await run.start_workers(2)
    await due(run, "before")
    await until_level(run, "before", 2)
    spans = [await run.override(schedule, person, OVERRIDDEN_FOR) for schedule, person in OVERRIDES]
    await due(run, "meanwhile")
    await until_level(run, "meanwhile", 1)
    await run.kill(workers[0])
    await run.start_worker("w1")
    await due(run, "later")
    await until_level(run, "later", 1)
    await asyncio.sleep(spans[-1].end - time())
    await due(run, "after")


async def overridden_in_a_tick(run: Run, key: str) -> bool:
    """An operator makes an override, from a second ago on, after a worker has read the overrides for an escalation.

    Return whether the page went to the person of the schedule: on a slow machine the server ends the transaction of the
    stopped worker, and the next one knows the override.
    """
    point = line_calling(BatchRunner._write, BatchRunner._record)
    with run.disturbance("stopped at an await", stops=True):
        await due(run, key)
        worker = await run.start_worker("r", interrupt=Interrupt(point, "stop"), proxied=False, ready=False)
        await worker.until_stopped()
        ago = datetime.now(UTC) - timedelta(seconds=1)
        span = await run.override("handover", "bob", 1 + OVERRIDDEN_FOR, start=ago)
        worker.resume()
    await until_level(run, key, 1)
    await due(run, f"{key}, later")
    await until_level(run, f"{key}, later", 1)
    [[digest]] = await run.execute(DIGESTS, key)
    if digest == OVERRIDE:
        await run.kill(worker)
        await asyncio.sleep(span.end - time())
    return bool(digest != OVERRIDE)


async def override_now_and_then(run: Run, seconds: float, random: Random) -> None:
    """Operators override one schedule after the other, each for a moment, and leave the one whose people change."""
    end = time() + seconds
    while time() < end:
        await asyncio.sleep(2 * random.random())
        schedule, person = random.choice(("gap", "stale", "ends", "unmapped")), random.choice(("ann", "bob"))
        await run.override(schedule, person, 0.5 + random.random())


async def killed_in_passes(run: Run) -> None:
    """Workers die one after the other while they record a pass. The next one records all of it, with its pages."""
    run.put_on_call(rosters(time()))
    for number, point in enumerate(POINTS):
        worker = await run.start_worker("w1", interrupt=Interrupt(point), ready=False)
        with run.fault(KILL, worker, stops=True):
            await due(run, f"k{number}")
            await worker.until_ended()
    with run.disturbance("no worker", stops=True):
        await run.start_worker("w1")
    await until_level(run, f"k{len(POINTS) - 1}", 2)
