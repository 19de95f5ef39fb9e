"""Workers are killed and stalled, and sources of schedules fail, while incidents walk through who is on call."""

import asyncio
import signal
from random import Random
from time import time

import pytest

from .conftest import NewRun
from .harness.policies import ON_CALL
from .harness.schedules import rosters
from .scenarios.busy import SLOW
from .scenarios.on_call import (
    HANDED_OVER,
    first_load_hangs,
    killed_in_passes,
    overridden_in_a_tick,
    override_now_and_then,
)
from .scenarios.policies import RULES

KILLS = {False: 4, True: 150}
OVERRIDDEN = "SELECT count(*) FROM escalation_pages WHERE schedule_digest = 'override'"
TRIES = 3
STALL = 1.0
"""Seconds of a stall: people change meanwhile, and leases do not end."""


@pytest.mark.timeout(900)
async def test_killed_and_stalled_while_people_change(new_run: NewRun, full: bool) -> None:
    """Each level pages whom the schedules name, or the default target, whatever happens to workers and sources."""
    random = Random(6)
    async with new_run(seed=6, rules=RULES, policies=ON_CALL) as run:
        run.receiver.answers = lambda number: SLOW
        run.put_on_call(rosters(time()))
        workers = await run.start_workers()
        run.start_incidents(5 * KILLS[full], over=0.8 * KILLS[full])
        run.start_beside(override_now_and_then(run, KILLS[full], Random(8)))
        for number in range(KILLS[full]):
            await asyncio.sleep(random.random() * 1.2)
            slot = random.randrange(3)
            if number % 2:
                await run.until_ready(workers, but=slot)
                with run.fault("stall", workers[slot]):
                    workers[slot].signal(signal.SIGSTOP)
                    run.note_locks()
                    await asyncio.sleep(STALL)
                    workers[slot].resume()
            else:
                await run.kill_and_replace(workers, slot)
        assert [] == await run.judge()
        paged = await run.execute("SELECT DISTINCT target FROM escalation_pages WHERE via = %s", "oncall:quick")
        assert {("boss",), ("ops",)} == set(paged)
        [[count]] = await run.execute(OVERRIDDEN)
        run.measured["pages that an override named"] = count


async def test_first_load_hangs(new_run: NewRun) -> None:
    """The first tick does not wait for a source that hangs. Each level pages the default target until it answers."""
    async with new_run(rules=RULES, policies=ON_CALL) as run:
        await first_load_hangs(run)
        assert [] == await run.judge()
        paged = await run.execute("SELECT incident_key, count(via) FROM escalation_pages GROUP BY 1 ORDER BY 1")
        assert {("before", 0), ("meanwhile", 0)} == set(paged[1:])
        assert paged[0][1]


async def test_overridden_in_a_tick(new_run: NewRun) -> None:
    """A worker that did not know an override yet pages the schedule's person, and the next tick obeys the override."""
    async with new_run(rules=RULES, policies=HANDED_OVER) as run:
        run.put_on_call(rosters(time()))
        raced = False
        for number in range(TRIES):
            raced = raced or await overridden_in_a_tick(run, f"k{number}")
        assert [] == await run.judge()
        assert raced


@pytest.mark.timeout(900)
async def test_killed_while_levels_are_passed_over(new_run: NewRun) -> None:
    """A worker that dies at any await of a pass leaves nothing of it, and the next worker records it with its pages."""
    async with new_run(seed=7, rules=RULES, policies=ON_CALL) as run:
        await killed_in_passes(run)
        assert [] == await run.judge()
        [[passed]] = await run.execute("SELECT count(*) FROM escalation_events WHERE outcome = %s", "nobody")
        assert passed
