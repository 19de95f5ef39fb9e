"""The receiver is down, slow or throttled, answers with errors, or accepts a page and does not answer."""

import asyncio
from collections.abc import Callable

import pytest

from .conftest import NewRun
from .harness.receiver import OK, Answer

AFTER_429 = 1.0
"""The Retry-After of a receiver that throttles, in seconds."""
LONGEST = 2.0
"""The longest Retry-After that the workers accept, in seconds."""
STRANGE = ("31536000", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")
"""A year, a date in the past, and a text that means nothing."""
ANSWERS: dict[str, Callable[[int], Answer]] = {
    "slow beyond the time limit": lambda number: Answer(delay=0.8),
    "slow within the time limit": lambda number: Answer(delay=0.3),
    "429": lambda number: Answer(status=429, accepts=False, headers=f"Retry-After: {AFTER_429:.0f}\r\n"),
    "429 sometimes": lambda number: Answer(status=429, accepts=False) if number % 5 == 0 else OK,
    "429 every second time": lambda number: (
        Answer(status=429, accepts=False, headers=f"Retry-After: {STRANGE[number // 2 % 3]}\r\n") if number % 2 else OK
    ),
    "500": lambda number: Answer(status=500, accepts=False),
    "500 every second time": lambda number: Answer(status=500, accepts=False) if number % 2 else OK,
    "reset after accepting": lambda number: Answer(cut=0),
    "no answer": lambda number: Answer(delay=30),
}


@pytest.mark.parametrize("answer", list(ANSWERS))
async def test_receiver_answers(new_run: NewRun, answer: str) -> None:
    """Whatever the receiver answers, it accepts each page later, and copies have the same dedup key."""
    async with new_run(seed=16) as run:
        await run.start_workers(2)
        run.start_incidents(12, over=2)
        # After a 429 workers claim no page of the target until Retry-After has passed.
        recovery = LONGEST + 0.5 if "429" in answer else 0.0
        with run.disturbance(f"receiver: {answer}", stops_claims="429" in answer, recovery=recovery):
            run.receiver.answers = ANSWERS[answer]
            await asyncio.sleep(3)
            run.receiver.answers = lambda number: OK
        assert [] == await run.judge()


async def test_receiver_is_down(new_run: NewRun) -> None:
    """While the receiver is down, pages wait and health counts them; afterwards all of them arrive."""
    async with new_run(seed=17) as run:
        await run.start_workers(2)
        run.start_incidents(12, over=2)
        with run.disturbance("receiver: down"):
            await run.receiver.stop()
            await asyncio.sleep(3)
            backlog = (await run.hosts.engine.health()).stats.backlog
            await run.receiver.start()
        assert backlog["ops"] > 0
        assert [] == await run.judge()


async def test_receiver_refuses_a_page(new_run: NewRun) -> None:
    """A page that the receiver refuses with 404 is dead and logged, and the incident still escalates."""
    async with new_run(seed=18) as run:
        [worker] = await run.start_workers(1)
        run.receiver.answers = lambda number: Answer(status=404, accepts=False) if number < 3 else OK
        with run.disturbance("receiver: 404"):
            for number in range(3):
                await run.hosts.do("open", f"k{number}")
            await run.until_requests(9)
        assert [] == await run.judge()
        assert run.result is not None
        assert 3 == sum(page.state == "dead" for page in run.result[0].pages) == worker.text.count(" is dead: ")
