"""Scenarios of a storm: budgets, chains of fallbacks with dead ends, superseded pages, incidents that are unheard."""

import asyncio
from random import Random
from time import time

from escalation_core import Budget

from ..harness.receiver import BROKEN, GONE, HALF, HALF_CUT, HALF_GONE, HANGS, OK, Answer
from ..harness.rules import Rules
from ..harness.run import Run

CHAINS = Rules(
    max_level=2,
    fallback_after=2.0,
    starved_after=3.0,
    budgets={"paced": Budget(rate=6, burst=3)},
    reserves=("closed", "gone", "hangs", "spare"),
    fallbacks={"lost": "closed", "closed": "gone", "boss": "hangs", "hangs": "spare"},
)
"""A chain of three dead ends (two refuse pages, one refuses connections), and a chain with two of them."""
FEW = Rules(max_level=1, budgets={"ops": Budget(rate=6, burst=2)})
"""A budget that three workers share."""
STARVED = Rules(max_level=1, budgets={"ops": Budget(rate=8)}, starved_after=1.5)
"""A budget that leaves pages waiting for long."""
FALLBACK = Rules(max_level=1, reserves=("spare",), fallbacks={"boss": "spare"})
SLOW = Rules(max_level=2, lease=3.0, send_timeout=2.0)
"""Time for an answer that takes longer than the next level."""
TWO_LEVELS = Rules(max_level=2)
BUNDLES = Rules(max_level=1, lease=3.0, send_timeout=1.0, budgets={"ops": Budget(rate=5)}, bundle_after=1.0)
"""A budget that leaves so many pages waiting that they are bundled."""
SLOTS_APART = Rules(max_level=1, lease=3.0, send_timeout=1.0, budgets={"ops": Budget(rate=0.5)}, bundle_after=1.0)
"""More time between two messages than a tick and the longest back-off take."""
FAULTY = (
    BROKEN, HALF, HALF_CUT, HALF_GONE, GONE, Answer(cut=12), Answer(delay=2.0), Answer(status=429, accepts=False),
    Answer(unread=True),
)  # fmt: skip
"""What a receiver does with bundles. The first one is refused for now, half accepted, and then refused for good."""
STATES = "SELECT count(*) FROM escalation_pages WHERE incident_key = %s AND state = %s"
BUNDLED = "SELECT count(*) FROM escalation_pages WHERE bundle IS NOT NULL"
NOTED = "SELECT count(*) FROM escalation_audit WHERE action = 'unheard' AND incident_key LIKE %s"


async def due(run: Run, prefix: str, count: int, severity: str = "critical") -> None:
    """Open incidents that are due at once."""
    names = [f"{prefix}-{number}" for number in range(count)]
    first_seen = round(time() - 1, 6)
    await asyncio.gather(*(run.hosts.do("open", name, severity=severity, first_seen=first_seen) for name in names))


async def until_state(run: Run, key: str, state: str) -> None:
    """Wait until a page of an incident is in this state."""

    async def found() -> bool:
        [[count]] = await run.execute(STATES, key, state)
        return bool(count)

    assert await run.until(found), f"no page of {key} is {state}"


async def until_noted(run: Run, prefix: str, count: int) -> None:
    """Wait until so many incidents are noted as unheard."""

    async def noted() -> bool:
        [[found]] = await run.execute(NOTED, f"{prefix}%")
        return bool(found >= count)

    assert await run.until(noted), f"fewer than {count} incidents are noted as unheard"


def break_chains(run: Run) -> None:
    """Let the receiver answer as the targets of ``CHAINS`` do. Workers that start later cannot reach ``closed``."""
    run.targets = ("lost", "boss", "paced")
    run.receiver.refusing.add("closed")
    run.receiver.by_target |= {
        "lost": lambda number: GONE,
        "gone": lambda number: GONE,
        "boss": lambda number: GONE,
        "hangs": lambda number: HANGS,
    }


async def chains(run: Run, *, kills: int, random: Random) -> None:
    """Three workers, one of which is killed again and again, while pages go along two chains and keep to a budget."""
    break_chains(run)
    workers = await run.start_workers()
    await due(run, "unheard", 3, "warning")
    await due(run, "heard", 6)
    run.start_incidents(4 * kills, over=0.6 * kills)
    for _ in range(kills):
        # The workers are processes: any moment may be the one at which one dies, and no event stands for it.
        await asyncio.sleep(random.random())
        slot = random.randrange(3)
        await run.kill_and_replace(workers, slot)


async def shared_budget(run: Run) -> None:
    """Many incidents fall due at once, and three workers share the budget of the target."""
    await run.start_workers()
    await due(run, "k", 24)


async def overtaken(run: Run) -> None:
    """A page of low priority waits in front of many that are worse and come later."""
    await run.start_worker("w1")
    # They take the budget of three seconds. The next ones are recorded in the two ticks that follow.
    await due(run, "first", 24)
    await until_state(run, "first-0", "delivered")
    await due(run, "low", 1, "warning")
    await until_state(run, "low-0", "pending")
    await due(run, "worse", 20)


async def handed_over(run: Run) -> None:
    """A target refuses a page for good, and its fallback gets it."""
    run.receiver.by_target["boss"] = lambda number: GONE
    await run.start_worker("w1")
    await due(run, "k", 1)


async def superseding(run: Run) -> None:
    """A page is being sent for so long that the next level is recorded meanwhile."""
    run.receiver.by_target["ops"] = lambda number: OK if number else Answer(delay=1.6)
    await run.start_worker("w1")
    await due(run, "k", 1)


async def bundles(run: Run) -> None:
    """A bundle is refused for now and half accepted. Each next try finds fresh pages that wait and are less severe."""

    async def bundled() -> bool:
        [[count]] = await run.execute(BUNDLED)
        return bool(count)

    run.targets = ("ops",)
    run.receiver.by_target["ops"] = lambda number: BROKEN
    await run.start_worker("w1")
    await due(run, "k", 20)
    assert await run.until(bundled), "no bundle was claimed"
    answers = iter((HALF, HALF_CUT))
    run.receiver.by_target["ops"] = lambda number: next(answers, OK)
    await due(run, "late", 10, "warning")


async def bundles_and_kills(run: Run, *, kills: int, random: Random) -> None:
    """Three workers send bundles, and some die. The receiver takes a bundle or half of it, refuses or delays it."""
    run.targets = ("ops",)

    def answer(number: int) -> Answer:
        if number < len(FAULTY):
            return FAULTY[number]
        return OK if number % 3 else FAULTY[number // 3 % len(FAULTY)]

    run.receiver.by_target["ops"] = answer
    workers = await run.start_workers()
    await due(run, "k", 20)
    for number in range(kills):
        # As in ``chains``: at any moment.
        await asyncio.sleep(random.random())
        slot = random.randrange(3)
        await run.until_ready(workers, but=slot)
        await due(run, f"later{number}", 8)
        await run.kill_and_replace(workers, slot)


async def unheard_for_a_while(run: Run) -> None:
    """The first page is refused for good, and the second one is tried for some seconds before it arrives."""
    run.receiver.by_target["ops"] = lambda number: GONE
    await run.start_worker("w1")
    await due(run, "k", 1, "warning")
    await until_noted(run, "k", 1)
    run.receiver.by_target["ops"] = lambda number: BROKEN
    await until_state(run, "k-0", "pending")
    # The processes run on the machine's clock: health is sampled while the page is tried, for longer than its bound.
    await asyncio.sleep(2.5)
    run.receiver.by_target["ops"] = lambda number: OK
