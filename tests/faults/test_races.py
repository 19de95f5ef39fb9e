"""Each verb races the steps of a worker: the worker stops at the step, the verb begins, and the worker continues."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from random import random
from time import time
from typing import Any, Literal

import attrs
import pytest
from psycopg import AsyncConnection

from escalation_adapters.postgres.outbox import Outbox
from escalation_adapters.postgres.session import Session
from escalation_adapters.postgres.walks import Walks
from escalation_core import TransitionRefused
from escalation_core.engine.attempt import Attempt
from escalation_core.engine.batch import BatchRunner
from escalation_core.engine.sends import Packer
from escalation_core.engine.settle import settle
from escalation_core.engine.versions import Versions, write_notes
from escalation_core.rules.fallback import Fallbacks
from escalation_core.rules.retry import after_attempt
from escalation_core.testing.invariants.history import INFINITY, PauseSpan, Verb

from .conftest import NewRun
from .harness.hook import Interrupt
from .harness.policies import FILE, changed, new_version
from .harness.receiver import BROKEN, GONE, OK, Answer
from .harness.rules import Rules
from .harness.run import IDLE_TIMEOUT, Run
from .harness.workers import Worker
from .kill_points.points import Point, line_calling

Effect = Literal["recorded", "leased", "sent", "delivered", "pending", "handed_over"]
"""The effect of a step on one incident's escalation or on its pages."""


@attrs.frozen
class Step:
    """A step at which the worker stops."""

    point: Point
    after: Effect | None
    """The effect that is visible when the worker stops."""
    leads_to: Effect
    """The effect that is visible after the worker has continued."""
    answer: Answer = OK
    """The answer of the receiver until the worker continues."""


STEPS: Mapping[str, Step] = {
    "claim": Step(line_calling(BatchRunner._write, BatchRunner._record), None, "recorded"),
    "commit": Step(line_calling(Session.flush, AsyncConnection.execute), None, "recorded"),
    "page claim": Step(line_calling(Packer.pack, Packer._lease), "recorded", "leased"),
    "POST": Step(line_calling(Attempt.within, Attempt.make), "leased", "sent"),
    "settle": Step(line_calling(settle, after_attempt), "sent", "delivered"),
    "failure": Step(line_calling(settle, random), "sent", "pending", BROKEN),
    "hand-over": Step(line_calling(settle, Fallbacks.page_for), "sent", "handed_over", GONE),
}
"""The steps. The worker stops with locked incidents, before it sends the queued writes of a batch, with locked pages,
before it sends a page, before it settles a delivered page, with a locked page that it will retry, and with a locked
page whose fallback's page it will make: a verb that waits for the lock does not see that one."""
RULES = Rules(reserves=("spare", "other"), fallbacks={"ops": "spare", "boss": "other"})
RECORDED = """
SELECT count(*) FROM escalation_events e JOIN faults.written w ON w.event = e.id
WHERE e.incident_key = %s AND w.began < to_timestamp(%s)
"""
STEPPED = """
SELECT count(*) FROM escalation_pages p JOIN faults.steps s ON s.page = p.id
WHERE p.incident_key = %s AND s.began < to_timestamp(%s) AND s.state = %s
"""
KEYS = "SELECT dedup_key FROM escalation_pages WHERE incident_key = %s"
WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
UNSETTLED = "SELECT EXISTS (SELECT FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling'))"
TRIES = 5
"""The most tries of a race. A try does not count if the machine is so slow that the server ends the transaction,
or if the worker stopped at a page of an earlier race."""
Race = Callable[[Run, str], Coroutine[Any, Any, bool]]
"""Changes an incident, and returns whether the change was made."""


def verb(name: Verb, *, sql: bool) -> Race:
    """Return a race of one verb, by the API or by SQL."""

    async def race(run: Run, key: str) -> bool:
        try:
            return await run.hosts.do(name, key, sql=sql)
        except TransitionRefused:
            # The worker stopped at another incident's page, and this incident has no level yet that could be drained.
            return False

    return race


def twice(*, sql: bool) -> Race:
    """Return a race of an acknowledgement that the host takes back."""

    async def race(run: Run, key: str) -> bool:
        acknowledged = await run.hosts.do("acknowledge", key, sql=sql)
        return await run.hosts.do("unacknowledge", key, sql=sql) and acknowledged

    return race


def reopening(*, sql: bool) -> Race:
    """Return a race of a resolution, after which the host opens the incident again."""

    async def race(run: Run, key: str) -> bool:
        resolved = await run.hosts.do("resolve", key, sql=sql)
        return await run.hosts.do("open", key, sql=sql) and resolved

    return race


async def _pause(run: Run, key: str) -> bool:
    """Pause the engine. ``_unpause`` ends the pause after the race."""
    began = time()
    await run.hosts.engine.pause(timedelta(hours=1), by="faults")
    run.pauses.append(PauseSpan(began=began, sure_from=time()))
    return True


async def _unpause(run: Run) -> None:
    if run.pauses and run.pauses[-1].ended == INFINITY:
        resuming = time()
        await run.hosts.engine.resume(by="faults")
        run.pauses[-1] = attrs.evolve(run.pauses[-1], sure_to=resuming, ended=time())


async def _recalc(run: Run, key: str) -> bool:
    await run.hosts.engine.recalc(by="faults")
    return True


VERBS: Mapping[str, Race] = {
    **{f"{name}, {'SQL' if sql else 'API'}": verb(name, sql=sql)
       for name in ("acknowledge", "resolve", "change_severity", "snooze") for sql in (False, True)},
    "open again, API": reopening(sql=False),
    "open again, SQL": reopening(sql=True),
    "taken back, API": twice(sql=False),
    "taken back, SQL": twice(sql=True),
    "drain": verb("drain", sql=False),
    "pause": _pause,
    "recalc": _recalc,
}  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("step", list(STEPS))
async def test_verb_races(new_run: NewRun, full: bool, step: str) -> None:
    """Whether the step or the verb comes first, every invariant holds."""
    rounds, raced = (5 if full else 1), Counter[str]()
    async with new_run(seed=20, rules=RULES if step == "hand-over" else None) as run:
        for number in range(rounds):
            for name in VERBS:
                for again in range(TRIES):
                    if await _race(run, f"{name} {number}.{again}", STEPS[step], VERBS[name]):
                        raced[name] += 1
                        break
        await run.start_worker("w")
        assert [] == await run.judge()
        run.measured["steps that continued after a verb began"] = raced.total()
    assert dict.fromkeys(VERBS, rounds) == raced


async def _open_by_sql(run: Run, key: str) -> None:
    """Change the policies file, and open an incident by SQL: the worker pins it to a version that is not kept yet."""
    await run.change_file(new_version(FILE, len(run.files)))
    await run.hosts.do("open", key, sql=True, severity="critical", first_seen=round(time() - 1, 6))


async def _acknowledge_until_expired(run: Run, key: str) -> None:
    """Open an incident by the API, which pins it, and acknowledge it until the acknowledgement must expire."""
    await run.hosts.do("open", key, sql=False, severity="critical", first_seen=round(time() - 1, 6))
    await run.hosts.do("acknowledge", key, sql=True)
    await asyncio.sleep(float(str(SHORT["policies"]["ops"]["ack_timeout"]).removesuffix("s")))


SHORT = changed(FILE, "ops", ack_timeout="1s")
POLICY_STEPS: Mapping[str, tuple[Point, Callable[[Run, str], Coroutine[Any, Any, None]]]] = {
    "versions read": (line_calling(Versions.planner, Walks.versions), _open_by_sql),
    "version kept": (line_calling(Versions.keep, Walks.keep), _open_by_sql),
    "walk moved": (line_calling(Versions.advance, Walks.move), _open_by_sql),
    "expiry noted": (line_calling(write_notes, Outbox.cancel), _acknowledge_until_expired),
}
"""Steps of a worker with a policies file, each with what a host does before. Then the escalation is recorded."""


@pytest.mark.timeout(600)
@pytest.mark.rotates(1, by="step")
@pytest.mark.parametrize("step", list(POLICY_STEPS))
async def test_verb_races_with_policies(new_run: NewRun, full: bool, step: str) -> None:
    """Whether the step of a policy or the verb comes first, every invariant holds."""
    point, prepare = POLICY_STEPS[step]
    raced = Counter[str]()
    async with new_run(seed=21, rules=Rules(max_level=4), policies=SHORT) as run:
        for name in VERBS:
            for again in range(TRIES):
                if await _race(run, f"{name} {again}", Step(point, None, "recorded"), VERBS[name], prepare):
                    raced[name] += 1
                    break
        await run.start_worker("w")
        assert [] == await run.judge()
        run.measured["steps that continued after a verb began"] = raced.total()
    assert dict.fromkeys(VERBS, 1) == raced


async def _open(run: Run, key: str) -> None:
    await run.hosts.do("open", key, severity="critical", first_seen=round(time() - 1, 6))


async def _race(
    run: Run, key: str, step: Step, race: Race, prepare: Callable[[Run, str], Coroutine[Any, Any, None]] = _open
) -> bool:
    """Run one race: a worker stops at the step, the verb begins, the worker continues, and then ends.

    Return whether the step was about this incident and took effect after the verb began, and the verb was done.
    """
    with run.disturbance("race", stops=True):
        run.receiver.answers = lambda number: step.answer
        await prepare(run, key)
        worker = await run.start_worker("r", proxied=False, ready=False, interrupt=Interrupt(step.point, "stop"))
        await worker.until_stopped()
        met = await _has(run, key, step.after) and not await _has(run, key, step.leads_to)
        racing = asyncio.create_task(race(run, key))
        await _begun(run, racing)
        run.receiver.answers = lambda number: OK
        going_on = time()
        worker.resume()

    async def gone_on() -> bool:
        return await _has(run, key, step.leads_to, began=going_on)

    async with asyncio.timeout(IDLE_TIMEOUT):
        done = await racing
    went_on = met and done and await run.until(gone_on, run.rules.lease)
    await _unpause(run)
    await _terminate(run, worker)
    return went_on


async def _begun(run: Run, racing: "asyncio.Task[bool]") -> None:
    """Wait until the verb is done, or waits for a lock of the worker."""

    async def begun() -> bool:
        return racing.done() or bool((await run.execute(WAITS))[0][0])

    assert await run.until(begun), "the verb neither ends nor waits"


async def _has(run: Run, key: str, effect: Effect | None, began: float = INFINITY) -> bool:
    """Return whether an effect is visible, written by a transaction that began before an instant."""
    if effect is None:
        return True
    if effect == "sent":
        keys = {row[0] for row in await run.execute(KEYS, key)}
        return any(post.dedup_key in keys for post in run.receiver.requests)
    statement, more = (RECORDED, ()) if effect == "recorded" else (STEPPED, (effect,))
    [[count]] = await run.execute(statement, key, began, *more)
    return bool(count)


async def _terminate(run: Run, worker: Worker) -> None:
    """Wait until the worker has settled all pages, then end it, so that no work is left for the next race."""

    async def settled() -> bool:
        return not (await run.execute(UNSETTLED))[0][0]

    await run.until(settled)
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.until_ended()
