"""Kill workers with SIGKILL at every await that tick, deliver, recalc, migrate and run reach."""

import asyncio
from collections.abc import Sequence
from functools import partial
from random import Random
from time import time

import attrs
import pytest

from escalation_adapters.postgres import migrate
from escalation_core import BuiltinPolicy
from escalation_core.testing.invariants.history import Fault

from .conftest import NewRun
from .harness.receiver import OK
from .harness.run import Run
from .kill_points.killing import FILE, ROSTERS, RULES, Killer, Route
from .kill_points.points import Point, awaits

WALKS = (
    "tick", "run briefly", "woken", "rows locked", "recalc", "dry run", "canary", "store unavailable", "cancelled",
    "claim of a cancelled tick", "shared tick", "no answer", "read-only", "connections ended", "attached again",
    "calendars change", "few slots", "handed over", "refused", "bundled", "told together", "migrate",
)  # fmt: skip
KILLS = 20
"""Kills at each point in the long run. A quick run kills once, on one of two walks that its seed chooses."""
ROUNDS = 5
"""The most rounds of all walks until every point was passed: a walk does not pass the same points each time."""
DELETE_UNWRITABLE = "DELETE FROM incidents WHERE incident_key LIKE 'unwritable%'"
CATCHING_UP = 600.0
"""Seconds that one worker may take for the work that the killed workers left: some thousand incidents."""
SHARE = 3
"""A quick run takes one in so many of the points."""
PARTS = 4
"""The number of runs that share the points. They can run at the same time."""


async def _explore(killer: Killer, among: Sequence[Point]) -> dict[Point, list[Route]]:
    """Run every walk until the walks have passed each point.

    Return the walks that pass each point. The walk that passes it most often comes first.
    """
    found: dict[Point, list[Route]] = {}
    for _ in range(ROUNDS):
        for walk in WALKS:
            for point, count in (await killer.explore(walk, among)).items():
                found.setdefault(point, []).append((walk, count))
        if len(found) == len(among):
            break
    return {point: sorted(routes, key=lambda route: -route[1]) for point, routes in found.items()}


def _turn(among: Sequence[Point], seed: int) -> list[Point]:
    """Return the points of a quick run with this seed, in order."""
    taken = set(Random(seed).sample(among, len(among) // SHARE))
    return [point for point in among if point in taken]


def test_every_await_is_reached() -> None:
    """A worker or a host reaches every await of the core and of the PostgreSQL store."""
    assert [] == [str(point) for point in awaits().unreached]


def test_quick_runs_take_turns() -> None:
    """Each point has its turn in the quick run with some seed."""
    points = [Point("module", line, "function") for line in range(30)]
    turns = [_turn(points, seed) for seed in range(40)]
    assert set(points) == {point for turn in turns for point in turn}
    assert {len(points) // SHARE} == {len(turn) for turn in turns}


@pytest.mark.kills
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(PARTS))
async def test_killed_at_every_await(new_run: NewRun, full: bool, seed: int, part: int) -> None:
    """A worker that is killed at any await of the library loses no page, repeats no escalation, and blocks no row."""
    random = Random(f"{seed} {part}")
    points = await asyncio.to_thread(lambda: awaits().worker)
    async with new_run(seed=part, rules=RULES, policies=FILE) as run:
        run.put_on_call(ROSTERS)
        killer = Killer(run)
        start = time()
        routes = await _explore(killer, points)
        assert [] == [str(point) for point in points if point not in routes]
        own = points[part::PARTS]
        mine = own if full else _turn(own, seed)
        for point in mine:
            for turn in range(KILLS) if full else (seed % 2,):
                routes_to = routes[point]
                assert await killer.kill(point, routes_to, random, turn), f"no worker was ever killed at {point}"
        # Start the first worker that is not killed. Once it has caught up, new incidents must escalate in time.
        run.receiver.answers = lambda number: OK
        await run.execute(DELETE_UNWRITABLE)
        await run.start_worker("w", rules=attrs.evolve(RULES, per_target=32))
        assert await run.until_idle(CATCHING_UP), "the worker does not finish the work of the killed workers"
        assert await run.until(partial(_recalculated, run), CATCHING_UP), "the recalculation never ends"
        run.faults.append(Fault(kind="no surviving worker", start=start, end=time(), workers=frozenset(), stops=True))
        run.start_incidents(5)
        for schema in killer.schemas:
            await _check_migration(run.dsn, schema)
        run.measured = {"points": len(mine), "kills": killer.killed.total()}
        assert [] == await run.judge()


async def _recalculated(run: Run) -> bool:
    return [(True,)] == await run.execute("SELECT requested_at IS NULL FROM escalation_recalc")


async def _check_migration(dsn: str, schema: str) -> None:
    """Finish an interrupted migration, and check that each of its steps is applied."""
    await migrate.up(dsn, schema=schema, existing="page", policy=BuiltinPolicy())
    assert all(step.applied_at is not None for step in await migrate.status(dsn, schema=schema))
