"""Scenarios of notices: incidents are acknowledged and resolved while workers tell it, and some of them are killed."""

import asyncio
from random import Random
from time import time

from escalation_core import Budget

from ..harness.pager import TARGET
from ..harness.receiver import HANGS, OK, Answer
from ..harness.rules import Rules
from ..harness.run import Run

ALL = ("acknowledged", "resolved", "ack_expired")
NIGHT = Rules(
    max_level=3,
    notices={"ops": ALL, TARGET: ("acknowledged", "resolved")},
    threads=frozenset({TARGET}),
)
"""The target ``ops`` learns everything, PagerDuty what it can show, and ``boss`` nothing."""
PACED = Rules(max_level=1, notices={"ops": ALL}, budgets={"ops": Budget(rate=6, burst=2)}, bundle_after=3600.0)
"""A budget that pages and notices share. None of them is bundled."""


UNANSWERED = Rules(max_level=1, notices={"ops": ALL}, send_timeout=0.5)
SLOW = Rules(max_level=1, notices={"ops": ALL}, lease=4.0, send_timeout=3.0)
"""Time for an answer that takes longer than a tick."""


async def night(run: Run, *, kills: int, random: Random) -> None:
    """Three workers, one of which is killed again and again, while hosts acknowledge, resolve, drain and open again."""
    run.targets = ("ops", "boss", TARGET)
    workers = await run.start_workers()
    run.start_incidents(4 * kills, over=0.6 * kills)
    for number in range(kills):
        # The workers are processes: any moment may be the one at which one dies, and no event stands for it.
        await asyncio.sleep(random.random())
        run.pager.refuses = 2 * (number % 2)
        slot = random.randrange(3)
        await run.kill_and_replace(workers, slot)
    await run.finish_incidents()
    await run.hosts.resolve_all()


async def resolved(run: Run) -> None:
    """Incidents that were paged are resolved by SQL and by the verb."""
    run.targets = ("ops", TARGET)
    await run.start_worker("w1")
    await _open(run, "k", 4)
    await run.until_requests(4)
    for number in range(4):
        await run.hosts.do("acknowledge", f"k-{number}", sql=bool(number % 2))
    for number in range(4):
        await run.hosts.do("resolve", f"k-{number}", sql=bool(number % 2))


async def unanswered(run: Run) -> None:
    """Pages that no receiver answers are acknowledged while they are on their way, and then fail."""
    run.targets = ("ops",)
    run.receiver.answers = lambda number: HANGS
    await run.start_worker("w1")
    await _open(run, "k", 3)
    await run.until_requests(3)
    for number in range(3):
        await run.hosts.do("acknowledge", f"k-{number}")
    run.receiver.answers = lambda number: OK
    await asyncio.sleep(2 * run.rules.tick)
    for number in range(3):
        await run.hosts.do("resolve", f"k-{number}")


async def slow_answers(run: Run) -> None:
    """Pages arrive long after they were acknowledged, while a second worker looks for changes."""
    run.targets = ("ops",)
    run.receiver.answers = lambda number: OK if number >= 3 else Answer(delay=1.5)
    await run.start_workers(2)
    await _open(run, "k", 3)
    await run.until_requests(3)
    for number in range(3):
        await run.hosts.do("acknowledge", f"k-{number}")


async def many_resolved(run: Run) -> None:
    """A budget has to take many notices, and pages come after them."""
    run.targets = ("ops",)
    await run.start_worker("w1")
    await _open(run, "old", 12)
    await run.until_requests(12)
    await run.hosts.resolve_all("old")
    for wave in range(4):
        await _open(run, f"new{wave}", 4)
        await asyncio.sleep(run.rules.tick)


async def _open(run: Run, prefix: str, count: int) -> None:
    first_seen = round(time() - 1, 6)
    names = [f"{prefix}-{number}" for number in range(count)]
    await asyncio.gather(*(run.hosts.do("open", name, severity="critical", first_seen=first_seen) for name in names))
