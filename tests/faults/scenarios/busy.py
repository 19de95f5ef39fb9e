"""Workers that are met amid their requests, with pages that are theirs: who holds them, and who has lost them."""

import asyncio
import signal
from collections.abc import Sequence
from time import time

from escalation_core.testing.invariants.history import Fault, History
from escalation_core.testing.invariants.pages import courses

from ..harness.receiver import Answer
from ..harness.run import Run
from ..harness.workers import Worker
from ..report.figures import LIMIT

SLOW = Answer(delay=0.2)
"""Long enough that whatever befalls a worker can befall it between request and answer."""
HOLDS = """
SELECT count(*) FROM escalation_pages p WHERE p.state IN ('leased', 'cancelling') AND %s = (
    SELECT s.worker FROM faults.steps s WHERE s.page = p.id AND s.state = 'leased' AND s.fence > s.fence_was
    ORDER BY s.id DESC LIMIT 1
)
"""
"""How many pages a worker has claimed, and nobody after it, and that are not settled."""


async def holds(run: Run, worker: Worker) -> int:
    """Return how many pages are a worker's."""
    [[count]] = await run.execute(HOLDS, worker.name)
    return int(count)


async def sending(run: Run, team: Sequence[Worker], dedup_key: str | None = None) -> Worker:
    """Wait until a worker has a request without an answer, or the one of an escalation; return that worker."""
    senders: list[str] = []

    async def found() -> bool:
        asked = [post for post in run.receiver.requests if post.answered_at is None and post.at > time() - SLOW.delay]
        alive = {worker.name for worker in team if worker.alive}
        senders[:] = [post.worker for post in asked if post.worker in alive and dedup_key in (None, post.dedup_key)]
        return bool(senders)

    assert await run.until(found), "nobody sends anything"
    return next(worker for worker in team if worker.name == senders[0])


async def stall(run: Run, zombie: Worker, more: float = 0.0) -> None:
    """Stop a worker until none of its pages is its own any more, and that much longer."""

    async def disowned() -> bool:
        return not await holds(run, zombie)

    with run.fault("stall", zombie):
        zombie.signal(signal.SIGSTOP)
        run.lock()
        assert await run.until(disowned, LIMIT + run.rules.tick), "nobody takes what it holds"
        await asyncio.sleep(more)
        zombie.resume()


def fenced(history: History, stall: Fault) -> int:
    """Return how many pages a worker held when it was stopped, and another had claimed before it went on.

    That claim is what came after its own, and so it has written nothing to them any more, unless it claimed them anew.
    """
    count = 0
    for course in courses(history):
        for claim in course.claims:
            following = course.after(claim)
            held = claim.at < stall.start and stall.may_interrupt(claim.worker, stall.start, stall.end)
            if not held or following is None or not stall.start < following.at < stall.end or not following.claims:
                continue
            later = [change for change in course.changes if change.worker == claim.worker and change.at > claim.at]
            assert all(change.claims for change in later[:1]), f"{claim.worker} settled what it had lost"
            assert following.worker != claim.worker
            count += 1
    return count
