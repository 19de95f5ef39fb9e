"""Scenarios of who is on call: levels that name no one, schedules that end or change, and hand-overs."""

import asyncio
from time import time

from escalation_core.engine.batch import BatchRunner, _record_all
from escalation_core.engine.versions import Versions
from escalation_core.ports import Ledger, Outbox, Transaction
from escalation_core.testing.invariants.history import KILL

from ..harness.hook import Interrupt
from ..harness.policies import ON_CALL, changed
from ..harness.receiver import OK
from ..harness.rules import Rules
from ..harness.run import Run
from ..harness.schedules import HANDOVER, rosters
from ..kill_points.points import line_calling
from .policies import THROTTLED, THROTTLED_LONG, due, until_level

RULES = Rules(max_level=4)
HANDED_OVER = changed(ON_CALL, "ops", levels=[{"after": "1s", "to": ["oncall:handover"]}])
"""A file with one schedule, whose people change once."""
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
