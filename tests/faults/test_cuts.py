"""Connections are cut at each message of PostgreSQL's protocol, in both directions, and within HTTP requests."""

import asyncio
from collections.abc import Callable
from random import Random
from time import time

import pytest

from .conftest import NewRun
from .harness.frames import Frame
from .harness.proxy import CUTS, Action, Direction
from .harness.receiver import OK, Answer
from .harness.run import Run
from .harness.workers import Worker

SEEDS = {False: 1, True: 20}
NEW = ("startup", "authentication", "parse", "parsed")
"""Messages that only a new connection surely sends, because a connection parses each statement once."""
DONE_TIMEOUT = 12.0
"""Seconds within which every worker sends or receives each message."""


async def cut(run: Run, worker: Worker, name: str, action: Action, nth: int) -> None:
    """Cut a connection of a worker at the nth message of a kind from now on, and record the cut as a fault."""
    proxy = run.proxies[worker.name.partition("-")[0]]
    direction, matches = CUTS[name]
    left = nth
    began = time()
    done = asyncio.Event()

    def decide(at: Direction, frame: Frame) -> Action:
        nonlocal left, began
        if at != direction or done.is_set() or not matches(frame):
            return "pass"
        left -= 1
        if left > 0:
            return "pass"
        if name not in NEW:
            began = time()
        done.set()
        return action

    proxy.decide = decide
    if name in NEW:
        proxy.cut()
    try:
        await asyncio.wait_for(done.wait(), DONE_TIMEOUT)
    finally:
        proxy.decide = lambda direction, frame: "pass"
    run.note(f"cut at {name}", began, worker)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("action", ["cut", "cut after"])
async def test_cut_at_each_message(new_run: NewRun, full: bool, action: Action) -> None:
    """If a connection is cut before or after any message, the worker only tries again."""
    random = Random(action)
    async with new_run(seed=len(action)) as run:
        workers = await run.start_workers(2)
        rounds = SEEDS[full] * len(CUTS)
        run.start_incidents(6 * rounds, over=0.8 * rounds)
        for _ in range(SEEDS[full]):
            for name in CUTS:
                await cut(run, random.choice(workers), name, action, 1 if name in NEW else random.randint(1, 3))
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
    """A worker repeats a request that was cut off. A copy has the same dedup key."""
    async with new_run(seed=4) as run:
        await run.start_workers(2)
        with run.disturbance("HTTP cut"):
            run.receiver.answers = _sometimes(MIDDLES[middle])
            run.start_incidents(12, over=1)
            await run.finish_incidents()
        run.receiver.answers = lambda number: OK
        assert [] == await run.judge()
        assert run.result is not None
        assert any(post.answered_at is None for post in run.result[0].requests)


def _sometimes(answer: Answer) -> Callable[[int], Answer]:
    return lambda number: answer if number % 3 == 0 else OK
