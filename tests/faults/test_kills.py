"""kill -9 at every await of ours that tick, deliver, recalc, migrate and run reach."""

from collections.abc import Sequence
from functools import partial
from random import Random
from time import time

import attrs
import pytest

from escalation_adapters.postgres import migrate
from escalation_core import EscalationPolicy

from .arena import Arena
from .conftest import Stage
from .history import Fault
from .mill import RULES, Mill, Route
from .points import Point, forgotten, points, unreached
from .receiver import OK
from .rooms import HOSTS, SELDOM

WALKS = (
    "tick", "moment", "rung", "held", "recalc", "dry", "canary", "trouble", "cancelled", "joined", "silent", "demoted",
    "ended", "migrate",
)  # fmt: skip
FULL = 20
"""How often a worker is killed at each point; in the quick run once, on one of two walks by its seed."""
ROUNDS = 5
"""How often all walks are gone at most: not each goes everywhere each time."""
MENDED = "DELETE FROM incidents WHERE incident_key LIKE 'unwritable%'"
CATCHING_UP = 600.0
"""Seconds that one worker may take for everything that many have left behind, which are some thousand incidents."""
SHARE = 3
"""A quick run takes one in so many of the awaits that quick runs take turns at, and all others."""
PARTS = 4
"""The points are dealt out to so many runs, which can go on at once."""


async def _routes(mill: Mill) -> dict[Point, list[Route]]:
    """Return for each point the walks that come by it, the one that does so most often first."""
    among = points()
    found: dict[Point, list[Route]] = {}
    for _ in range(ROUNDS):
        for walk in WALKS:
            for point, count in (await mill.explore(walk, among)).items():
                found.setdefault(point, []).append((walk, count))
        if len(found) == len(among):
            break
    return {point: sorted(routes, key=lambda route: -route[1]) for point, routes in found.items()}


def _taken(among: Sequence[Point], seed: int) -> list[Point]:
    """Return the points whose turn it is by a seed, in order."""
    seldom = [point for point in among if point.function in SELDOM]
    taken = Random(seed).sample(seldom, len(seldom) // SHARE)
    return [point for point in among if point not in seldom or point in taken]


def test_no_module_is_forgotten() -> None:
    """Each module that can be suspended is searched for points, or it is said why not."""
    assert [] == forgotten()


def test_no_way_is_lost() -> None:
    """What may be suspended in those modules and is no point is what hosts call: it is named one by one."""
    named = [f"{owner}.{name}".lstrip(".") for owner, names in HOSTS.items() for name in names]
    assert sorted(named) == sorted(unreached())


def test_quick_runs_take_turns() -> None:
    """Each function that quick runs take turns at is there, and each of its awaits has its turn by some seed."""
    among = points()
    seldom = {point for point in among if point.function in SELDOM}
    assert {point.function for point in seldom} == SELDOM
    taken = [set(_taken(among, seed)) for seed in range(40)]
    assert set(among) == set().union(*taken)
    assert all(set(among) - seldom < turn for turn in taken)


@pytest.mark.kills
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_at_every_await(stage: Stage, full: bool, seed: int, part: int) -> None:
    """A worker that is killed at any await of ours loses nothing, doubles nothing, and holds nothing up."""
    random = Random(f"{seed} {part}")
    async with stage(seed=part, rules=RULES) as arena:
        mill = Mill(arena)
        start = time()
        routes = await _routes(mill)
        assert [] == [str(point) for point in points() if point not in routes]
        mine = (points() if full else _taken(points(), seed))[part::PARTS]
        for point in mine:
            for turn in range(FULL) if full else (seed % 2,):
                assert await mill.kill(point, routes[point], random, turn), f"no worker was ever killed at {point}"
        # Now the first one that nobody kills. Once it has caught up, everything is prompt again.
        arena.receiver.answers = lambda number: OK
        await arena.execute(MENDED)
        await arena.work("w", rules=attrs.evolve(RULES, per_target=32))
        assert await arena.settle(CATCHING_UP), "what the dead have left behind is never done"
        assert await arena.until(partial(_recalculated, arena), CATCHING_UP), "the recalculation never ends"
        arena.faults.append(Fault(kind="nobody works", start=start, end=time(), workers=frozenset(), stops=True))
        arena.live(5)
        for schema in mill.schemas:
            await _stands(arena.dsn, schema)
        arena.also = {"points": len(mine), "kills": mill.killed.total()}
        assert [] == await arena.judge()


async def _recalculated(arena: Arena) -> bool:
    return [(True,)] == await arena.execute("SELECT requested_at IS NULL FROM escalation_recalc")


async def _stands(dsn: str, schema: str) -> None:
    """Finish a migration that was interrupted, and look whether everything of it is there, once and whole."""
    await migrate.up(dsn, schema=schema, existing="page", policy=EscalationPolicy())
    assert all(step.applied_at is not None for step in await migrate.status(dsn, schema=schema))
