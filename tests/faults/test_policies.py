"""Workers with a policies file are killed, and the file changes, while incidents walk through its policies."""

import asyncio
from random import Random

import pytest

from .conftest import NewRun
from .harness.policies import FILE, changed
from .scenarios.busy import SLOW
from .scenarios.policies import RULES

KILLS = {False: 6, True: 200}


@pytest.mark.timeout(900)
async def test_killed_while_incidents_walk(new_run: NewRun, full: bool) -> None:
    """Workers are killed often, and no level is lost or repeated, and no acknowledgement forgets to expire."""
    random = Random(4)
    async with new_run(seed=4, rules=RULES, policies=FILE) as run:
        run.receiver.answers = lambda number: SLOW
        workers = await run.start_workers()
        run.start_incidents(5 * KILLS[full], over=0.8 * KILLS[full])
        for _ in range(KILLS[full]):
            await asyncio.sleep(random.random() * 1.2)
            slot = random.randrange(3)
            await run.kill_and_replace(workers, slot)
        assert [] == await run.judge()


@pytest.mark.timeout(900)
async def test_file_changes_while_incidents_walk(new_run: NewRun) -> None:
    """Incidents stay with their version if the file changes, also if a worker is killed that has not read it yet."""
    async with new_run(seed=5, rules=RULES, policies=FILE) as run:
        workers = await run.start_workers(2)
        run.start_incidents(12, over=1.0)
        await run.finish_incidents()
        await run.change_file(changed(FILE, "ops", levels=[{"after": "2s", "to": ["boss"]}] * 2, ack_timeout="1s"))
        await run.kill(workers[0])
        await run.start_worker("w1")
        run.start_incidents(12, over=1.0, prefix="later")
        assert [] == await run.judge()
