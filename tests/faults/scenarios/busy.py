"""Find workers that are sending pages, stop them, and count the pages that other workers claimed meanwhile."""

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
"""An answer that is slow enough for a fault to occur between request and answer."""
CLAIMED_PAGES = """
SELECT count(*) FROM escalation_pages p WHERE p.state IN ('leased', 'cancelling') AND %s = (
    SELECT s.worker FROM faults.steps s WHERE s.page = p.id AND s.state = 'leased' AND s.fence > s.fence_was
    ORDER BY s.id DESC LIMIT 1
)
"""
"""The number of unsettled pages whose last claim is the worker's."""


async def claimed_pages(run: Run, worker: Worker) -> int:
    """Return how many pages a worker has claimed, and neither settled nor lost to another worker."""
    [[count]] = await run.execute(CLAIMED_PAGES, worker.name)
    return int(count)


async def until_sending(run: Run, workers: Sequence[Worker], dedup_key: str | None = None) -> Worker:
    """Wait until a worker waits for the answer to a request. Return that worker.

    With ``dedup_key`` only requests about that escalation count.
    """
    senders: list[str] = []

    async def found() -> bool:
        asked = [post for post in run.receiver.requests if post.answered_at is None and post.at > time() - SLOW.delay]
        alive = {worker.name for worker in workers if worker.alive}
        senders[:] = [post.worker for post in asked if post.worker in alive and dedup_key in (None, post.dedup_key)]
        return bool(senders)

    assert await run.until(found), "no worker waits for an answer"
    return next(worker for worker in workers if worker.name == senders[0])


async def stall(run: Run, stalled: Worker, more: float = 0.0) -> None:
    """Stop a worker until other workers have claimed all its pages, and then ``more`` seconds longer."""

    async def lost_all() -> bool:
        return not await claimed_pages(run, stalled)

    with run.fault("stall", stalled):
        stalled.signal(signal.SIGSTOP)
        run.note_locks()
        assert await run.until(lost_all, LIMIT + run.rules.tick), "no worker claims the pages of the stopped worker"
        await asyncio.sleep(more)
        stalled.resume()


def fenced(history: History, stall: Fault) -> int:
    """Return how many pages another worker claimed while the worker that had claimed them was stopped.

    The other worker's claim is the next change after the stopped worker's own claim. So the stopped worker has written
    nothing to the page since, unless it has claimed the page again.
    """
    count = 0
    for course in courses(history):
        for claim in course.claims:
            following = course.after(claim)
            claimed = claim.at < stall.start and stall.may_interrupt(claim.worker, stall.start, stall.end)
            if not claimed or following is None or not stall.start < following.at < stall.end or not following.claims:
                continue
            later = [change for change in course.changes if change.worker == claim.worker and change.at > claim.at]
            assert all(change.claims for change in later[:1]), f"{claim.worker} settled a page after it lost it"
            assert following.worker != claim.worker
            count += 1
    return count
