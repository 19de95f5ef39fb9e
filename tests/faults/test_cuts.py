"""The wire is cut: at each message of PostgreSQL's protocol, on its way there and back, and in the middle of HTTP."""

import asyncio
from collections.abc import Callable
from random import Random
from time import time

import pytest

from .conftest import NewRun
from .harness.frames import Frame
from .harness.proxy import CUTS, Fate, Way
from .harness.receiver import OK, Answer
from .harness.run import Run
from .harness.workers import Worker

SEEDS = {False: 1, True: 20}
NEW = ("startup", "authentication", "parse", "parsed")
"""Messages that new connections alone are sure to bring: statements are parsed once."""
DONE_TIMEOUT = 12.0
"""Seconds within which a worker comes by any message."""


async def cut(run: Run, worker: Worker, name: str, fate: Fate, nth: int) -> None:
    """Cut a connection of a worker at a message, the nth of its kind from now on; write down when that came about."""
    proxy = run.proxies[worker.name.partition("-")[0]]
    way, matches = CUTS[name]
    left = nth
    began = time()
    done = asyncio.Event()

    def judge(at: Way, frame: Frame) -> Fate:
        nonlocal left, began
        if at != way or done.is_set() or not matches(frame):
            return "pass"
        left -= 1
        if left > 0:
            return "pass"
        if name not in NEW:
            began = time()
        done.set()
        return fate

    proxy.judge = judge
    if name in NEW:
        proxy.cut()
    try:
        await asyncio.wait_for(done.wait(), DONE_TIMEOUT)
    finally:
        proxy.judge = lambda way, frame: "pass"
    run.note(f"cut at {name}", began, worker)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fate", ["cut", "cut after"])
async def test_cut_at_each_message(new_run: NewRun, full: bool, fate: Fate) -> None:
    """A connection that is cut at any message, before or after it, costs nothing but another attempt."""
    random = Random(fate)
    async with new_run(seed=len(fate)) as run:
        team = await run.team(2)
        rounds = SEEDS[full] * len(CUTS)
        run.live(6 * rounds, over=0.8 * rounds)
        for _ in range(SEEDS[full]):
            for name in CUTS:
                await cut(run, random.choice(team), name, fate, 1 if name in NEW else random.randint(1, 3))
        assert [] == await run.judge()


MIDDLES: dict[str, Answer] = {
    "before it is read": Answer(unread=True),
    "before the answer": Answer(cut=0),
    "in the answer's head": Answer(cut=12),
    "in the answer's body": Answer(cut=-1),
    "refused, in the answer": Answer(status=503, accepts=False, cut=9),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("middle", list(MIDDLES))
async def test_cut_in_the_middle_of_http(new_run: NewRun, middle: str) -> None:
    """A request that is cut off anywhere goes again; what had arrived may arrive once more, under the same key."""
    async with new_run(seed=4) as run:
        await run.team(2)
        with run.trial("HTTP cut"):
            run.receiver.answers = _sometimes(MIDDLES[middle])
            run.live(12, over=1)
            await run.lived()
        run.receiver.answers = lambda number: OK
        assert [] == await run.judge()
        assert run.told is not None
        assert any(post.answered_at is None for post in run.told[0].requests)


def _sometimes(answer: Answer) -> Callable[[int], Answer]:
    return lambda number: answer if number % 3 == 0 else OK
