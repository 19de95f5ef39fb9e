"""The workers' own clocks are wrong or jump. Only the database's clock decides when an incident is due."""

import asyncio
from pathlib import Path

import pytest

from ..faketime import faking
from .conftest import NewRun
from .harness.worker import READY

HOUR = 3600
ROUNDS = 8


@pytest.mark.system("faketime")
async def test_clocks_are_wrong_and_jump(new_run: NewRun, tmp_path: Path) -> None:
    """Three workers keep every invariant: one clock is an hour behind, one an hour ahead, and one jumps."""
    offsets = [tmp_path / f"clock-{number}" for number in range(3)]
    for offset, seconds in zip(offsets, (-HOUR, HOUR, 0), strict=True):
        offset.write_text(f"{seconds:+d}")
    async with new_run(seed=21) as run:
        starting = [run.start_worker(f"w{n + 1}", environment=faking(offset)) for n, offset in enumerate(offsets)]
        workers = await asyncio.gather(*starting)
        names = {worker.name for worker in workers}
        for round_ in range(ROUNDS):  # which worker claims a page is chance: continue until each has sent one
            run.start_incidents(30, over=4, prefix=f"round-{round_}")
            for step in (HOUR, -HOUR, 5, -5, 0):
                with run.disturbance("clock jumps"):
                    offsets[2].write_text(f"{step:+d}")
                await asyncio.sleep(0.8)
            if names <= {post.worker for post in run.receiver.requests}:
                break
        assert [] == await run.judge()
        assert run.result is not None
        clocks = [int(worker.text.partition(READY)[2].split()[1]) - run.began for worker in workers]
        assert [-1, 1, 0] == [round(seconds / HOUR) for seconds in clocks]
        assert names <= {change.worker for change in run.result[0].changes}
