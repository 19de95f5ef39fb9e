"""Several workers, some of which are killed, stopped or terminated."""

import asyncio
import signal
from functools import partial
from random import Random
from time import time

import pytest

from escalation_core.engine.batch import BatchRunner
from escalation_core.engine.sends import Packer
from escalation_core.testing.invariants.escalations import expected_hash
from escalation_core.testing.invariants.recovery import recoveries

from .conftest import NewRun
from .harness.hook import Interrupt
from .harness.worker import EVENT_LOOP
from .harness.workers import Worker
from .kill_points.points import line_calling
from .report.figures import LIMIT
from .scenarios.busy import SLOW, claimed_pages, fenced, stall, until_sending

KILLS = {False: 25, True: 1000}
STALLS = {False: 3, True: 40}
TERMS = {False: 6, True: 60}
INCIDENTS = {False: 40, True: 400}
STALE = "stale="
"""The count in a worker's log of pages that it lost before it could send or settle them."""


async def test_no_fault(new_run: NewRun, full: bool) -> None:
    """Three workers without a fault keep every invariant, so faults cause the violations in other tests.

    The workers use uvloop, like ``escalation run`` if uvloop is installed.
    """
    async with new_run() as run:
        workers = await run.start_workers()
        assert all(f"{EVENT_LOOP} uvloop" in worker.text for worker in workers)
        run.start_incidents(INCIDENTS[full], over=0.075 * INCIDENTS[full])
        assert [] == await run.judge()
        assert [] == run.hosts.errors


@pytest.mark.timeout(3000)
async def test_one_of_three_is_killed_again_and_again(new_run: NewRun, full: bool) -> None:
    """If workers are killed often, no escalation is late, and their pages are claimed again within lease and tick."""
    random = Random(1)
    async with new_run(seed=1) as run:
        run.receiver.answers = lambda number: SLOW
        workers = await run.start_workers()
        kills = KILLS[full]
        run.start_incidents(6 * kills, over=0.4 * kills)
        for _ in range(kills):
            await asyncio.sleep(random.random() * 0.6)
            slot = random.randrange(3)
            await run.kill_and_replace(workers, slot)
        assert [] == await run.judge()
        assert run.result is not None
        waits = [wait for _, wait in recoveries(run.result[0])]
        assert waits, "no page of a killed worker was claimed again"
        assert max(waits) < LIMIT


@pytest.mark.timeout(900)
async def test_stopped_beyond_the_lease(new_run: NewRun, full: bool) -> None:
    """A worker that stops while it sends, until others have claimed its pages, cannot settle them when it continues."""
    random = Random(2)
    async with new_run(seed=2) as run:
        run.receiver.answers = lambda number: SLOW
        workers = await run.start_workers()
        run.start_incidents(20 * STALLS[full], over=3 * STALLS[full])
        for number in range(STALLS[full]):
            await asyncio.sleep(random.random())
            # An incident that no host changes, so only the claim of another worker takes its page from the worker.
            await run.hosts.do("open", f"kept-{number}", severity="critical", first_seen=round(time() - 1, 6))
            stalled = await until_sending(run, workers, expected_hash(f"kept-{number}", 1, 1))
            before = stalled.text.count(STALE)
            await stall(run, stalled, random.random() / 2)
            assert await run.until(partial(_noticed, stalled, before)), (
                "the worker has not noticed that it lost its pages"
            )
        assert [] == await run.judge()
        assert run.result is not None
        history = run.result[0]
        stalls = [fault for fault in history.faults if fault.kind == "stall"]
        assert STALLS[full] == len(stalls)
        assert [] == [fault for fault in stalls if not fenced(history, fault)]


async def _noticed(stalled: Worker, before: int) -> bool:
    return stalled.text.count(STALE) > before


LOCKED = {
    "rows": line_calling(BatchRunner._write, BatchRunner._record),
    "pages": line_calling(Packer.pack, Packer._lease),
}
"""Lines at which a worker has locked rows."""


@pytest.mark.parametrize("locked", list(LOCKED))
async def test_stopped_with_locks(new_run: NewRun, locked: str) -> None:
    """The locks of a stopped worker end soon, and another worker escalates and claims the rows in time."""
    async with new_run(seed=23) as run:
        standing = await run.start_worker("w1", interrupt=Interrupt(LOCKED[locked], "stop"))
        await run.start_worker("w2")
        run.proxies["w2"].stall()
        for number in range(4):
            await run.hosts.do("open", f"k{number}", severity="critical", first_seen=round(time() - 1, 6))
        with run.fault("stall", standing):
            await standing.until_stopped()
            run.note_locks()
            run.proxies["w2"].flow()
            await asyncio.sleep(run.rules.lease + run.rules.tick)
            standing.resume()
        assert [] == await run.judge()


@pytest.mark.timeout(900)
async def test_sigterm_while_busy(new_run: NewRun, full: bool) -> None:
    """After SIGTERM a worker settles every page that it has claimed, and ends with code 0."""
    random = Random(3)
    async with new_run(seed=3) as run:
        run.receiver.answers = lambda number: SLOW
        workers = await run.start_workers(2)
        run.start_incidents(8 * TERMS[full], over=TERMS[full])
        for _ in range(TERMS[full]):
            await asyncio.sleep(random.random())
            await run.until_ready(workers)
            leaving = await until_sending(run, workers)
            slot = workers.index(leaving)
            with run.disturbance("SIGTERM"):
                leaving.signal(signal.SIGTERM)
                assert 0 == await leaving.until_ended()
            assert 0 == await claimed_pages(run, leaving)
            workers[slot] = await run.start_worker(f"w{slot + 1}", ready=False)
        assert [] == await run.judge()
