"""The checks can fail: they find each planted defect, and no violation in the same run without the defect."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest

from escalation_core.engine.attempt import Attempt
from escalation_core.engine.batch import BatchRunner
from escalation_core.engine.deliver import Delivery
from escalation_core.engine.versions import Versions
from escalation_core.testing.invariants.history import KILL

from .conftest import NewRun
from .defects import plants
from .harness.hook import Interrupt
from .harness.policies import FILE, ON_CALL
from .harness.receiver import BROKEN, OK
from .harness.rules import Rules
from .harness.run import IDLE_TIMEOUT, Run
from .kill_points.points import line_calling
from .scenarios import notices, on_call, policies, storms
from .scenarios.busy import SLOW, stall, until_sending
from .scenarios.host_faults import RULES
from .test_host_faults import ALL


async def _killed_between_escalation_and_pages(run: Run) -> None:
    point = line_calling(BatchRunner._write, Versions.write)
    worker = await run.start_worker("w1", interrupt=Interrupt(point), ready=False)
    with run.fault(KILL, worker, stops=True):
        await run.hosts.do("open", "k")
        await worker.until_ended()
        await run.start_worker("w2")


async def _stalled_before_the_request(run: Run) -> None:
    """A worker stops just before it checks its lease, until the lease has ended. It must not send any more."""
    point = line_calling(Delivery._attempt, monotonic)
    worker = await run.start_worker("w1", interrupt=Interrupt(point, "stop"))
    for number in range(4):
        await run.hosts.do("open", f"k{number}")
    with run.fault("stopped at an await", worker, stops=True):
        await worker.until_stopped()
        await run.start_worker("w2")
        await asyncio.sleep(run.rules.lease + run.rules.tick)
    worker.resume()


async def _stalled_during_the_request(run: Run) -> None:
    """A worker stops while it sends a page, until another worker has claimed the page. It must not settle it."""
    run.receiver.answers = lambda number: SLOW
    workers = await run.start_workers(2)
    await run.hosts.do("open", "k", severity="critical")
    await stall(run, await until_sending(run, workers))


async def _killed_before_the_request(run: Run) -> None:
    point = line_calling(Attempt.within, Attempt.make)
    worker = await run.start_worker("w1", interrupt=Interrupt(point), ready=False)
    with run.fault(KILL, worker, stops=True):
        await run.hosts.do("open", "k")
        await worker.until_ended()
        await run.start_worker("w2")


async def _acknowledged_between_two_attempts(run: Run) -> None:
    run.receiver.answers = lambda number: BROKEN
    await run.start_worker("w1")
    for number in range(4):
        await run.hosts.do("open", f"k{number}")
    await run.until_requests(5)
    for number in range(4):
        # No trigger cancels the pages, so only the check at the claim can find the acknowledgement.
        await run.hosts.do("acknowledge", f"k{number}", sql=True, unseen="replica")
    run.receiver.answers = lambda number: OK


async def _opened_again(run: Run) -> None:
    await run.start_worker("w1")
    for sql in (False, True):
        key, before = f"k{sql}", len(run.receiver.requests)
        await run.hosts.do("open", key, sql=sql)
        await run.until_requests(before + 1)
        await run.hosts.do("resolve", key, sql=sql)
        await run.hosts.do("open", key, sql=sql)


async def _not_acknowledged(run: Run) -> None:
    """An incident is due for two levels, and no host acknowledges it."""
    await run.start_worker("w1")
    await run.hosts.do("open", "k", severity="critical", first_seen=round(time() - 1, 6))


PLANTED: Sequence[tuple[plants.Name, str, Callable[[Run], Awaitable[None]]]] = (
    ("escalation outside the transaction", "I3", _killed_between_escalation_and_pages),
    ("no fencing", "I5", _stalled_before_the_request),
    ("no fencing", "I5", _stalled_during_the_request),
    ("settled before the request", "I3", _killed_before_the_request),
    ("claim without the acknowledgement check", "I6", _acknowledged_between_two_attempts),
    ("dedup key without the episode", "I4", _opened_again),
    ("next_due_at is lost", "I1", _not_acknowledged),
    ("no time between levels", "I2", _not_acknowledged),
    ("no wait between claims", "I7", _not_acknowledged),
)
"""Each defect with the invariant that it breaks, and a scenario that shows it."""


def test_each_defect_can_be_planted() -> None:
    """Each defect replaces a part of the library that exists. A renamed part would leave a defect unplanted."""
    program = (
        "from typing import get_args\nfrom tests.faults.defects import plants\n"
        "for name in get_args(plants.Name):\n    plants.plant(name, '')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
@pytest.mark.parametrize(
    ("defect", "invariant", "scenario"), PLANTED, ids=[f"{defect}: {run.__name__[1:]}" for defect, _, run in PLANTED]
)
async def test_planted_defect_is_caught(
    new_run: NewRun, defect: plants.Name, invariant: str, scenario: Callable[[Run], Awaitable[None]], planted: bool
) -> None:
    """The planted defect breaks its invariant. The same run without the defect keeps all invariants."""
    async with new_run(defect=defect if planted else None) as run:
        await scenario(run)
        violations = await run.judge()
    if planted:
        assert invariant in {violation.invariant for violation in violations}
    else:
        assert [] == violations


PLANTED_WITH_A_FILE: Mapping[plants.Name, tuple[str, Callable[[Run], Awaitable[None]], Mapping[str, Any]]] = {
    "an expiry forgets the walk": ("I1", policies.expired, FILE),
    "an acknowledged row is not looked at again": ("I1", policies.expired, FILE),
    "a version is taken from the file": ("I3", policies.file_changed, FILE),
    "each change of policy begins a walk": ("I1", policies.severity_flaps, policies.SLOW_FILE),
    "pages outlive an expiry": ("I6", policies.acknowledged_while_throttled, policies.APART),
    "stale taken for empty": ("I2", on_call.walked, ON_CALL),
    "a passed level without an event": ("I2", on_call.walked, ON_CALL),
    "a digest of another schedule": ("I3", on_call.walked, ON_CALL),
    "resolved again at delivery": ("I3", on_call.handed_over, on_call.HANDED_OVER),
    "overrides are read once": ("I3", on_call.overridden, ON_CALL),
}
"""Each defect with the invariant that it breaks, a scenario that shows it, and the policies file."""
CLEAN = {scenario.__name__: (scenario, file) for _, scenario, file in PLANTED_WITH_A_FILE.values()}
"""Each of these scenarios with its file, by name."""


@pytest.mark.rotates(5, by="defect")
@pytest.mark.parametrize("defect", list(PLANTED_WITH_A_FILE), ids=lambda name: f"{name}-planted")
async def test_planted_defect_is_caught_with_a_file(new_run: NewRun, defect: plants.Name) -> None:
    """The planted defect breaks its invariant while incidents walk through policies and their schedules."""
    invariant, scenario, file = PLANTED_WITH_A_FILE[defect]
    async with new_run(defect=defect, rules=policies.RULES, policies=file) as run:
        await scenario(run)
        violations = await run.judge(SOON)
    assert invariant in {violation.invariant for violation in violations}


@pytest.mark.rotates(3, by="scenario")
@pytest.mark.parametrize("scenario", list(CLEAN), ids=lambda name: f"{name}-clean")
async def test_clean_run_with_a_file(new_run: NewRun, scenario: str) -> None:
    """The same runs without the defects keep all invariants."""
    play, file = CLEAN[scenario]
    async with new_run(rules=policies.RULES, policies=file) as run:
        await play(run)
        assert [] == await run.judge()


SOON = 6.0
"""Seconds after which the test judges a run that cannot settle: by then a missing escalation or page is late."""
PLANTED_IN_HOST_FAULTS: Mapping[plants.Name, tuple[str, str]] = {
    "a refused row ends the tick": ("I7", "refused by a check"),
    "a refused row is not passed over": ("I7", "every write refused by a trigger"),
    "a refused row is passed over for ever": ("I1", "every write refused by a deferred trigger"),
    "a clock step is not noticed": ("I1", "clock back by five minutes"),
    "pages wait for the old clock": ("I3", "clock back by two days"),
    "a change of key is not noticed": ("I1", "key changed"),
    "unseen rows are not found": ("I1", "written as a replica"),
    "an acknowledgement does not cancel pages": ("I6", "acknowledged while a target is throttled"),
    "settling waits for locked rows": ("I7", "acknowledged in a long transaction"),
    "hidden rows are not noticed": ("I3", "rows are hidden"),
    "settings of the role are used": ("I1", "settings of the role"),
    "an undone next_due_at is not noticed": ("I7", "next_due_at is kept"),
    "any error ends the worker": ("I1", "right to write is revoked"),
    "an error of a notifier is not caught": ("I7", "notifiers raise"),
}
"""Each defect with the invariant that it breaks, and a scenario. ``test_host_faults`` runs it without the defect."""


@pytest.mark.rotates(2, by="defect")
@pytest.mark.parametrize("defect", list(PLANTED_IN_HOST_FAULTS), ids=lambda name: f"{name}-planted")
async def test_planted_defect_is_caught_in_host_faults(new_run: NewRun, defect: plants.Name) -> None:
    """The planted defect breaks its invariant while hosts, operators or clocks cause a fault."""
    invariant, fault = PLANTED_IN_HOST_FAULTS[defect]
    async with new_run(defect=defect, rules=RULES) as run:
        await ALL[fault](run)
        violations = await run.judge(SOON)
    assert invariant in {violation.invariant for violation in violations}


PLANTED_IN_STORMS: Mapping[plants.Name, tuple[str, str, Callable[[Run], Awaitable[None]], Rules]] = {
    "a budget per worker": ("I7", "its budget is", storms.shared_budget, storms.FEW),
    "the fallback's page has another key": ("I4", "a dedup key that", storms.handed_over, storms.FALLBACK),
    "a priority that starves": ("I7", "pages went before it", storms.overtaken, storms.STARVED),
    "a pending page counts as heard": ("I7", "health counted 0", storms.unheard_for_a_while, storms.TWO_LEVELS),
    "handed over without the fallback's page": ("I3", "it paged", storms.handed_over, storms.FALLBACK),
    "a bundle is settled before it is sent": ("I3", "no receiver had accepted it", storms.bundles, storms.SLOTS_APART),
    "a bundle grows between its tries": ("I4", "other pages", storms.bundles, storms.SLOTS_APART),
    "a notice without its page": ("I9", "no page of its episode arrived", notices.unanswered, notices.UNANSWERED),
    "one notice key for two incidents": ("I9", "has another key", notices.resolved, notices.NIGHT),
    "a notice before its page": ("I9", "claimed before a page was settled", notices.slow_answers, notices.SLOW),
    "a resolve under another key": ("I9", "of a thread without a page", notices.resolved, notices.NIGHT),
    "pages wait for notices": ("I9", "when a notice was claimed", notices.many_resolved, notices.PACED),
    "superseded while leased": ("I5", "superseded it while it was leased", storms.superseding, storms.SLOW),
}
"""Each defect with the invariant that it breaks, a part of the violation's text, a scenario, and the settings."""


@pytest.mark.rotates(3, by="defect")
@pytest.mark.parametrize("planted", [True, False], ids=["planted", "clean"])
@pytest.mark.parametrize("defect", list(PLANTED_IN_STORMS))
async def test_planted_defect_is_caught_in_a_storm(new_run: NewRun, defect: plants.Name, planted: bool) -> None:
    """The planted defect breaks its invariant. The same run without the defect keeps all invariants."""
    invariant, why, scenario, rules = PLANTED_IN_STORMS[defect]
    async with new_run(defect=defect if planted else None, rules=rules) as run:
        await scenario(run)
        violations = await run.judge(SOON if planted else IDLE_TIMEOUT)
    if planted:
        assert [one for one in violations if one.invariant == invariant and why in one.why], violations
    else:
        assert [] == violations
