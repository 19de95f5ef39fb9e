"""The workers' own clocks are wrong, each by something else, or jump: the database's clock alone decides."""

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
    """Three workers, an hour behind, an hour ahead, and jumping to and fro, keep every invariant."""
    offsets = [tmp_path / f"clock-{number}" for number in range(3)]
    for offset, seconds in zip(offsets, (-HOUR, HOUR, 0), strict=True):
        offset.write_text(f"{seconds:+d}")
    async with new_run(seed=21) as run:
        work = [run.work(f"w{n + 1}", environment=faking(offset)) for n, offset in enumerate(offsets)]
        team = await asyncio.gather(*work)
        names = {worker.name for worker in team}
        for round_ in range(ROUNDS):  # which worker claims is chance: go on until each one has sent a page
            run.live(30, over=4, prefix=f"round-{round_}")
            for step in (HOUR, -HOUR, 5, -5, 0):
                with run.trial("clock jumps"):
                    offsets[2].write_text(f"{step:+d}")
                await asyncio.sleep(0.8)
            if names <= {post.worker for post in run.receiver.requests}:
                break
        assert [] == await run.judge()
        assert run.told is not None
        said = [int(worker.text.partition(READY)[2].split()[1]) - run.began for worker in team]
        assert [-1, 1, 0] == [round(seconds / HOUR) for seconds in said]
        assert names <= {change.worker for change in run.told[0].changes}
