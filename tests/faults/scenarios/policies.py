"""Scenarios of policies: acknowledgements that expire, a severity that flaps, a file that changes."""

import asyncio
from time import time

from ..harness.policies import FILE, changed
from ..harness.receiver import OK, Answer
from ..harness.rules import Rules
from ..harness.run import Run

RULES = Rules(max_level=4)
"""No policy of the file is longer than the highest level."""
SLOW_FILE = {**FILE, "policies": {name: {"levels": [{"after": "2s"}] * 2} for name in FILE["policies"]}}
"""A file whose policies both wait for two seconds."""
OTHER_FILE = changed(FILE, "ops", levels=[{"after": "3s", "to": ["boss"]}, {"after": "3s", "to": ["boss"]}])
"""A file with another version of a policy: it pages another target, later."""
APART = changed(FILE, "ops", ack_timeout="1s", levels=[{"after": "1s", "to": ["ops"]}, {"after": "1s", "to": ["boss"]}])
"""A file whose acknowledgements expire soon, and whose levels page two targets, so that no page supersedes another."""
THROTTLED_LONG = Answer(status=429, accepts=False, headers="Retry-After: 4\r\n")
THROTTLED = "SELECT count(*) FROM escalation_pages WHERE incident_key = %s AND state = 'pending' AND due_at > now()"
UNSETTLED = (
    "SELECT count(*) FROM escalation_pages WHERE incident_key = %s AND level = 1 AND state IN ('pending', 'leased')"
)
RECORDED = "SELECT count(*) FROM escalation_events WHERE incident_key = %s AND level >= %s"


async def until_level(run: Run, key: str, level: int) -> None:
    """Wait until an escalation to this level is recorded."""

    async def recorded() -> bool:
        [[count]] = await run.execute(RECORDED, key, level)
        return bool(count)

    assert await run.until(recorded), f"{key} does not escalate to level {level}"


async def due(run: Run, *keys: str, severity: str = "critical", ago: float = 1.0) -> None:
    """Open incidents by SQL whose policy makes them due at once."""
    for key in keys:
        await run.hosts.do("open", key, sql=True, severity=severity, first_seen=round(time() - ago, 6))


async def expired(run: Run) -> None:
    """Hosts acknowledge by SQL before and after the last level, and every acknowledgement expires."""
    await run.start_worker("w1")
    await due(run, "resumes")
    await due(run, "restarts", severity="warning")
    await until_level(run, "resumes", 1)
    await run.hosts.do("acknowledge", "resumes", sql=True)
    await until_level(run, "restarts", 2)
    await run.hosts.do("acknowledge", "restarts", sql=True)


async def file_changed(run: Run) -> None:
    """The file changes while an incident walks. It stays with its version, and a later one gets the new version."""
    await run.start_worker("w1")
    await due(run, "before")
    await until_level(run, "before", 1)
    await run.change_file(OTHER_FILE)
    await due(run, "after", ago=3.0)


async def severity_flaps(run: Run) -> None:
    """A severity changes again and again, and with it the policy, faster than any level comes."""
    await run.start_worker("w1")
    await due(run, "k", ago=2.0)
    await until_level(run, "k", 1)
    for number in range(10):
        await run.hosts.do("change_severity", "k", sql=True, severity=("warning", "critical")[number % 2])
        await asyncio.sleep(0.7)


async def acknowledged_while_throttled(run: Run) -> None:
    """A page waits for its target from before an acknowledgement that no trigger saw until after its expiry."""
    run.receiver.answers = lambda number: THROTTLED_LONG
    await run.start_worker("w1")
    await due(run, "k")

    async def throttled() -> bool:
        [[count]] = await run.execute(THROTTLED, "k")
        return bool(count)

    async def settled() -> bool:
        [[count]] = await run.execute(UNSETTLED, "k")
        return not count

    # Before it waits, the worker would see the acknowledgement as it records the answer, and cancel the page.
    assert await run.until(throttled), "the first page does not wait for its target"
    await run.hosts.do("acknowledge", "k", sql=True, unseen="replica")
    run.receiver.answers = lambda number: OK

    assert await run.until(settled), "the first page is neither sent nor cancelled"
