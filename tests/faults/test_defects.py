"""The harness can fail: defects are planted, each is caught, and the same run without it is clean."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import time

import pytest

from . import defects
from .arena import Arena
from .busy import SLOW, sending, stall
from .conftest import Stage
from .history import KILL
from .hook import Act
from .points import line_of
from .receiver import BROKEN, OK
from .test_upsets import ALL
from .upsets import RULES

COURIER, RECORDING = "escalation_core.engine.deliver", "escalation_core.engine.batch"


async def _killed_between_event_and_pages(arena: Arena) -> None:
    point = line_of(RECORDING, "BatchRunner._write", "await tx.incidents.advance")
    worker = await arena.work("w1", act=Act(point), ready=False)
    with arena.fault(KILL, worker, stops=True):
        await arena.hosts.do("open", "k")
        await worker.gone()
        await arena.work("w2")


async def _stalled_before_the_request(arena: Arena) -> None:
    """The moment before the sender looks at its lease: whoever is stopped there must not send any more."""
    point = line_of(COURIER, "Delivery._attempt", "if deadline")
    worker = await arena.work("w1", act=Act(point, "stop"))
    for number in range(4):
        await arena.hosts.do("open", f"k{number}")
    with arena.fault("stopped at an await", worker, stops=True):
        await worker.stopped()
        await arena.work("w2")
        await asyncio.sleep(arena.rules.lease + arena.rules.tick)
    worker.resume()


async def _stopped_amid_the_request(arena: Arena) -> None:
    """Whoever is stopped until somebody else has claimed what it sent must not settle it any more."""
    arena.receiver.answers = lambda number: SLOW
    team = await arena.team(2)
    await arena.hosts.do("open", "k", severity="critical")
    await stall(arena, await sending(arena, team))


async def _killed_before_the_request(arena: Arena) -> None:
    point = line_of(COURIER, "Delivery._send", "outcome = await within")
    worker = await arena.work("w1", act=Act(point), ready=False)
    with arena.fault(KILL, worker, stops=True):
        await arena.hosts.do("open", "k")
        await worker.gone()
        await arena.work("w2")


async def _acknowledged_between_two_attempts(arena: Arena) -> None:
    arena.receiver.answers = lambda number: BROKEN
    await arena.work("w1")
    for number in range(4):
        await arena.hosts.do("open", f"k{number}")
    await arena.heard(5)
    for number in range(4):
        # No trigger cancels its pages: the claim alone is to see it.
        await arena.hosts.do("acknowledge", f"k{number}", sql=True, unseen="replica")
    arena.receiver.answers = lambda number: OK


async def _opened_again(arena: Arena) -> None:
    await arena.work("w1")
    for sql in (False, True):
        key, before = f"k{sql}", len(arena.receiver.posts)
        await arena.hosts.do("open", key, sql=sql)
        await arena.heard(before + 1)
        await arena.hosts.do("resolve", key, sql=sql)
        await arena.hosts.do("open", key, sql=sql)


async def _left_alone(arena: Arena) -> None:
    """An incident that is due for two levels, and nobody looks after it."""
    await arena.work("w1")
    await arena.hosts.do("open", "k", severity="critical", first_seen=round(time() - 1, 6))


RUNS: Sequence[tuple[defects.Name, str, Callable[[Arena], Awaitable[None]]]] = (
    ("event outside the transaction", "I3", _killed_between_event_and_pages),
    ("no fencing", "I5", _stalled_before_the_request),
    ("no fencing", "I5", _stopped_amid_the_request),
    ("mark before POST", "I3", _killed_before_the_request),
    ("claim without the acknowledgement check", "I6", _acknowledged_between_two_attempts),
    ("key without the episode", "I4", _opened_again),
    ("next_due_at is lost", "I1", _left_alone),
    ("no time between levels", "I2", _left_alone),
    ("no wait between claims", "I7", _left_alone),
)


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
@pytest.mark.parametrize(
    ("defect", "invariant", "scenario"), RUNS, ids=[f"{defect}: {run.__name__[1:]}" for defect, _, run in RUNS]
)
async def test_planted_defect_is_caught(
    stage: Stage, defect: defects.Name, invariant: str, scenario: Callable[[Arena], Awaitable[None]], planted: bool
) -> None:
    """A defect that is planted breaks the invariant that it is about; without it, the same run breaks none."""
    async with stage(defect=defect if planted else None) as arena:
        await scenario(arena)
        violations = await arena.judge()
    if planted:
        assert invariant in {violation.invariant for violation in violations}
    else:
        assert [] == violations


SOON = 6.0
"""Seconds after which what is broken for good is judged: all that a clean run may still owe is late by then."""
BENEATH: Mapping[defects.Name, tuple[str, str]] = {
    "a refusal ends the tick": ("I7", "refused by a check"),
    "a put-back is insisted on": ("I7", "refused by a trigger, whatever is written"),
    "passed over for ever": ("I1", "refused by a deferred trigger, whatever is written"),
    "a step back is not noticed": ("I1", "clock back by five minutes"),
    "pages stay where the clock was": ("I3", "clock back by two days"),
    "a change of key is not noticed": ("I1", "key changed"),
    "what no trigger saw stays unseen": ("I1", "written as a replica"),
    "pages outlive an acknowledgement": ("I6", "acknowledged while a target is held"),
    "whoever settles waits for hosts": ("I7", "acknowledged slowly"),
    "policies hide rows": ("I3", "rows are hidden"),
    "settings change what is written": ("I3", "settings of the role"),
    "undone instants are not noticed": ("I7", "instants are kept"),
    "a worker ends": ("I1", "rights are taken away"),
    "notifiers may raise anything": ("I7", "notifiers misbehave"),
}
"""Each is caught in a scenario that ``test_upsets`` runs without it."""


@pytest.mark.rotates(2, by="defect")
@pytest.mark.parametrize("defect", list(BENEATH), ids=lambda name: f"{name}-planted")
async def test_planted_defect_is_caught_beneath(stage: Stage, defect: defects.Name) -> None:
    """A defect that is planted breaks the invariant that it is about, when tables and clocks are upset."""
    invariant, upset = BENEATH[defect]
    async with stage(defect=defect, rules=RULES) as arena:
        await ALL[upset](arena)
        violations = await arena.judge(SOON)
    assert invariant in {violation.invariant for violation in violations}
