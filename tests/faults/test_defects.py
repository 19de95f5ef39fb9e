"""The harness can fail: defects are planted, each is caught, and the same run without it is clean."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic, time

import pytest

from escalation_adapters.postgres.incidents import Incidents
from escalation_core.engine.attempt import Attempt
from escalation_core.engine.batch import BatchRunner
from escalation_core.engine.deliver import Delivery
from escalation_core.testing.invariants.history import KILL

from .conftest import NewRun
from .defects import plants
from .harness.hook import Act
from .harness.receiver import BROKEN, OK
from .harness.run import Run
from .kill_points.points import line_calling
from .scenarios.busy import SLOW, sending, stall
from .scenarios.upsets import RULES
from .test_upsets import ALL


async def _killed_between_event_and_pages(run: Run) -> None:
    point = line_calling(BatchRunner._write, Incidents.advance)
    worker = await run.work("w1", act=Act(point), ready=False)
    with run.fault(KILL, worker, stops=True):
        await run.hosts.do("open", "k")
        await worker.gone()
        await run.work("w2")


async def _stalled_before_the_request(run: Run) -> None:
    """The moment before the sender looks at its lease: whoever is stopped there must not send any more."""
    point = line_calling(Delivery._attempt, monotonic)
    worker = await run.work("w1", act=Act(point, "stop"))
    for number in range(4):
        await run.hosts.do("open", f"k{number}")
    with run.fault("stopped at an await", worker, stops=True):
        await worker.stopped()
        await run.work("w2")
        await asyncio.sleep(run.rules.lease + run.rules.tick)
    worker.resume()


async def _stopped_amid_the_request(run: Run) -> None:
    """Whoever is stopped until somebody else has claimed what it sent must not settle it any more."""
    run.receiver.answers = lambda number: SLOW
    team = await run.team(2)
    await run.hosts.do("open", "k", severity="critical")
    await stall(run, await sending(run, team))


async def _killed_before_the_request(run: Run) -> None:
    point = line_calling(Delivery._send, Attempt.make)
    worker = await run.work("w1", act=Act(point), ready=False)
    with run.fault(KILL, worker, stops=True):
        await run.hosts.do("open", "k")
        await worker.gone()
        await run.work("w2")


async def _acknowledged_between_two_attempts(run: Run) -> None:
    run.receiver.answers = lambda number: BROKEN
    await run.work("w1")
    for number in range(4):
        await run.hosts.do("open", f"k{number}")
    await run.heard(5)
    for number in range(4):
        # No trigger cancels its pages: the claim alone is to see it.
        await run.hosts.do("acknowledge", f"k{number}", sql=True, unseen="replica")
    run.receiver.answers = lambda number: OK


async def _opened_again(run: Run) -> None:
    await run.work("w1")
    for sql in (False, True):
        key, before = f"k{sql}", len(run.receiver.requests)
        await run.hosts.do("open", key, sql=sql)
        await run.heard(before + 1)
        await run.hosts.do("resolve", key, sql=sql)
        await run.hosts.do("open", key, sql=sql)


async def _left_alone(run: Run) -> None:
    """An incident that is due for two levels, and nobody looks after it."""
    await run.work("w1")
    await run.hosts.do("open", "k", severity="critical", first_seen=round(time() - 1, 6))


RUNS: Sequence[tuple[plants.Name, str, Callable[[Run], Awaitable[None]]]] = (
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
    new_run: NewRun, defect: plants.Name, invariant: str, scenario: Callable[[Run], Awaitable[None]], planted: bool
) -> None:
    """A defect that is planted breaks the invariant that it is about; without it, the same run breaks none."""
    async with new_run(defect=defect if planted else None) as run:
        await scenario(run)
        violations = await run.judge()
    if planted:
        assert invariant in {violation.invariant for violation in violations}
    else:
        assert [] == violations


SOON = 6.0
"""Seconds after which what is broken for good is judged: all that a clean run may still owe is late by then."""
PLANTED_IN_UPSETS: Mapping[plants.Name, tuple[str, str]] = {
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
@pytest.mark.parametrize("defect", list(PLANTED_IN_UPSETS), ids=lambda name: f"{name}-planted")
async def test_planted_defect_is_caught_beneath(new_run: NewRun, defect: plants.Name) -> None:
    """A defect that is planted breaks the invariant that it is about, when tables and clocks are upset."""
    invariant, upset = PLANTED_IN_UPSETS[defect]
    async with new_run(defect=defect, rules=RULES) as run:
        await ALL[upset](run)
        violations = await run.judge(SOON)
    assert invariant in {violation.invariant for violation in violations}
