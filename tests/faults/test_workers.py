"""Many workers, some of which die, stall, or are told to go."""

import asyncio
import signal
from collections.abc import Sequence
from random import Random
from time import time

import pytest

from .arena import Arena
from .conftest import Stage
from .history import Fault, History
from .hook import Act
from .judge_conduct import recoveries
from .judge_escalations import expected_hash
from .judge_pages import courses
from .points import line_of
from .receiver import Answer
from .report import LIMIT
from .workers import Worker

KILLS = {False: 25, True: 1000}
STALLS = {False: 3, True: 40}
TERMS = {False: 6, True: 60}
CALM = {False: 40, True: 400}
SLOW = Answer(delay=0.3)
"""Long enough that whatever befalls a worker can befall it between request and answer."""
HOLDS = """
SELECT count(*) FROM escalation_pages p WHERE p.state IN ('leased', 'cancelling') AND %s = (
    SELECT s.worker FROM faults.steps s WHERE s.page = p.id AND s.state = 'leased' AND s.fence > s.fence_was
    ORDER BY s.id DESC LIMIT 1
)
"""
"""How many pages a worker has claimed, and nobody after it, and that are not settled."""


async def holds(arena: Arena, worker: Worker) -> int:
    """Return how many pages are a worker's."""
    [[count]] = await arena.execute(HOLDS, worker.name)
    return int(count)


async def sending(arena: Arena, team: Sequence[Worker], dedup_key: str | None = None) -> Worker:
    """Wait until a worker has a request without an answer, or the one of an escalation; return that worker."""
    senders: list[str] = []

    async def found() -> bool:
        asked = [post for post in arena.receiver.posts if post.answered_at is None and post.at > time() - SLOW.delay]
        alive = {worker.name for worker in team if worker.alive}
        senders[:] = [post.worker for post in asked if post.worker in alive and dedup_key in (None, post.dedup_key)]
        return bool(senders)

    assert await arena.until(found), "nobody sends anything"
    return next(worker for worker in team if worker.name == senders[0])


async def test_nothing_befalls_them(stage: Stage, full: bool) -> None:
    """Three workers to whom nothing happens keep every invariant: what is found elsewhere is the faults' doing."""
    async with stage() as arena:
        await arena.team()
        arena.live(CALM[full], over=0.075 * CALM[full])
        assert [] == await arena.judge()


@pytest.mark.timeout(3000)
async def test_one_of_three_is_killed_again_and_again(stage: Stage, full: bool) -> None:
    """However often one of three is killed, all is recorded in time, and its pages go again within lease and tick."""
    random = Random(1)
    async with stage(seed=1) as arena:
        arena.receiver.answers = lambda number: SLOW
        team = await arena.team()
        kills = KILLS[full]
        arena.live(6 * kills, over=0.4 * kills)
        for _ in range(kills):
            await asyncio.sleep(random.random() * 0.6)
            slot = random.randrange(3)
            await asyncio.gather(*(worker.until_ready() for worker in team if worker is not team[slot]))
            await arena.kill(team[slot])
            team[slot] = await arena.work(f"w{slot + 1}", ready=False)
        assert [] == await arena.judge()
        assert arena.told is not None
        waits = [wait for _, wait in recoveries(arena.told[0])]
        assert waits, "no page was ever taken from a worker that was killed"
        assert max(waits) < LIMIT


@pytest.mark.timeout(900)
async def test_stopped_beyond_the_lease(stage: Stage, full: bool) -> None:
    """A worker that is stopped amid its requests, until others have taken its pages, is fenced off when it goes on."""
    random = Random(2)
    async with stage(seed=2) as arena:
        arena.receiver.answers = lambda number: SLOW
        team = await arena.team()
        arena.live(20 * STALLS[full], over=3 * STALLS[full])
        for number in range(STALLS[full]):
            await asyncio.sleep(random.random())
            # One that no host touches any more: whoever has its page keeps it until somebody else claims it.
            await arena.hosts.do("open", f"held-{number}", severity="critical", first_seen=round(time() - 1, 6))
            zombie = await sending(arena, team, expected_hash(f"held-{number}", 1, 1))
            await _stall(arena, zombie, random.random() / 2)
        assert [] == await arena.judge()
        assert arena.told is not None
        history = arena.told[0]
        stalls = [fault for fault in history.faults if fault.kind == "stall"]
        assert STALLS[full] == len(stalls)
        assert [] == [fault for fault in stalls if not _fenced(history, fault)]


async def _stall(arena: Arena, zombie: Worker, more: float) -> None:
    """Stop a worker until none of its pages is its own any more, and that much longer; see it find that out."""

    async def disowned() -> bool:
        return not await holds(arena, zombie)

    with arena.fault("stall", zombie):
        zombie.signal(signal.SIGSTOP)
        arena.lock()
        assert await arena.until(disowned, LIMIT + arena.rules.tick), "nobody takes what it holds"
        await asyncio.sleep(more)
        before = zombie.text.count("stale=")
        zombie.resume()

    async def found_out() -> bool:
        return zombie.text.count("stale=") > before

    assert await arena.until(found_out), "it has not noticed that it has lost its pages"


def _fenced(history: History, stall: Fault) -> int:
    """Return how many pages a worker held when it was stopped, and another had claimed before it went on.

    That claim is what came after its own, and so it has written nothing to them any more, unless it claimed them anew.
    """
    count = 0
    for course in courses(history):
        for claim in course.claims:
            following = course.after(claim)
            held = claim.at < stall.start and stall.befell(claim.worker, stall.start, stall.end)
            if not held or following is None or not stall.start < following.at < stall.end or not following.claims:
                continue
            later = [step for step in course.steps if step.worker == claim.worker and step.at > claim.at]
            assert all(step.claims for step in later[:1]), f"{claim.worker} settled what it had lost"
            assert following.worker != claim.worker
            count += 1
    return count


LOCKED = {
    "rows": line_of("escalation_core.recording", "Recorder.write", "decisions = await"),
    "pages": line_of("escalation_core.courier", "Courier._round", "leased.append"),
}
"""Where a worker holds locks while it thinks."""


@pytest.mark.parametrize("locked", list(LOCKED))
async def test_stopped_with_locks(stage: Stage, locked: str) -> None:
    """What a worker has locked that stands still is free again soon, and another one takes it up in time."""
    async with stage(seed=23) as arena:
        standing = await arena.work("w1", act=Act(LOCKED[locked], "stop"))
        await arena.work("w2")
        arena.proxies["w2"].stall()
        for number in range(4):
            await arena.hosts.do("open", f"k{number}", severity="critical", first_seen=round(time() - 1, 6))
        with arena.fault("stall", standing):
            await standing.stopped()
            arena.lock()
            arena.proxies["w2"].flow()
            await asyncio.sleep(arena.rules.lease + arena.rules.tick)
            standing.resume()
        assert [] == await arena.judge()


@pytest.mark.timeout(900)
async def test_told_to_go_while_busy(stage: Stage, full: bool) -> None:
    """SIGTERM while pages are in flight: the worker settles every page that it has claimed, and ends with code 0."""
    random = Random(3)
    async with stage(seed=3) as arena:
        arena.receiver.answers = lambda number: SLOW
        team = await arena.team(2)
        arena.live(8 * TERMS[full], over=TERMS[full])
        for _ in range(TERMS[full]):
            await asyncio.sleep(random.random())
            leaving = await sending(arena, team)
            slot = team.index(leaving)
            leaving.signal(signal.SIGTERM)
            assert 0 == await leaving.gone()
            assert 0 == await holds(arena, leaving)
            team[slot] = await arena.work(f"w{slot + 1}", ready=False)
        assert [] == await arena.judge()
