"""Many workers, some of which die, stall, or are told to go."""

import asyncio
import signal
from functools import partial
from random import Random
from time import time

import pytest

from .busy import SLOW, fenced, holds, sending, stall
from .conftest import Stage
from .hook import Act
from .judge_conduct import recoveries
from .judge_escalations import expected_hash
from .points import line_of
from .report import LIMIT
from .worker import UNDER
from .workers import Worker

KILLS = {False: 25, True: 1000}
STALLS = {False: 3, True: 40}
TERMS = {False: 6, True: 60}
CALM = {False: 40, True: 400}
STATS_MAX_AGE = "stale="
"""What a worker counts in its log that was too late to settle a page, or to send it."""


async def test_nothing_befalls_them(stage: Stage, full: bool) -> None:
    """Three workers to whom nothing happens keep every invariant: what is found elsewhere is the faults' doing.

    They run as users' do: under uvloop, which ``escalation run`` takes where it is installed.
    """
    async with stage() as arena:
        team = await arena.team()
        assert all(f"{UNDER} uvloop" in worker.text for worker in team)
        arena.live(CALM[full], over=0.075 * CALM[full])
        assert [] == await arena.judge()
        assert [] == arena.hosts.errors


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
            before = zombie.text.count(STATS_MAX_AGE)
            await stall(arena, zombie, random.random() / 2)
            assert await arena.until(partial(_noticed, zombie, before)), "it has not noticed that it lost its pages"
        assert [] == await arena.judge()
        assert arena.told is not None
        history = arena.told[0]
        stalls = [fault for fault in history.faults if fault.kind == "stall"]
        assert STALLS[full] == len(stalls)
        assert [] == [fault for fault in stalls if not fenced(history, fault)]


async def _noticed(zombie: Worker, before: int) -> bool:
    return zombie.text.count(STATS_MAX_AGE) > before


LOCKED = {
    "rows": line_of("escalation_core.engine.batch", "BatchRunner._write", "decisions = await"),
    "pages": line_of("escalation_core.engine.deliver", "Delivery._settle_and_claim", "leased.append"),
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
            with arena.trial("told to go"):
                leaving.signal(signal.SIGTERM)
                assert 0 == await leaving.gone()
            assert 0 == await holds(arena, leaving)
            team[slot] = await arena.work(f"w{slot + 1}", ready=False)
        assert [] == await arena.judge()
