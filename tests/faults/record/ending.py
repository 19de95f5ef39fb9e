"""The end of a run: decide whether nothing is left to do, and take the last sample of health."""

import asyncio
import contextlib
from time import time
from typing import TYPE_CHECKING

import psycopg

from escalation_core import Health
from escalation_core.testing.invariants.escalations import owed_until
from escalation_core.testing.invariants.history import HealthSample

from . import build_history
from .watcher import sample

if TYPE_CHECKING:
    from ..harness.run import Run

IDLE = """
SELECT NOT EXISTS (SELECT FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling'))
    AND NOT EXISTS (SELECT FROM escalation_notices WHERE state IN ('pending', 'leased'))
    AND NOT EXISTS (SELECT FROM escalation_changes)
    AND NOT EXISTS (SELECT FROM incidents WHERE next_due_at IS NOT NULL AND NOT incident_key = ANY(%s))
"""


async def idle(run: "Run") -> bool:
    """Return whether nothing is left to do, by the engine's tables and by the hosts' writes.

    A faulty engine may lose an incident. So each escalation that the checks expect must be recorded, or be too late.
    """
    with contextlib.suppress(psycopg.Error):
        [[done]] = await run.execute(IDLE, list(run.unplannable))
        if done:
            known = await asyncio.to_thread(build_history.so_far, run)
            return owed_until(known) < known.ended
    return False


async def last_sample(run: "Run") -> tuple[Health, HealthSample]:
    """Return health at the end of the run, and its sample.

    Wait until two ticks after each fault that health must show. While health is unhealthy, ask again until two ticks
    after the last fault.
    """
    grace = 2 * run.rules.tick
    await asyncio.sleep(
        max((fault.over + grace - time() for fault in run.faults if fault.unhealthy or fault.findings), default=0.0)
    )
    may_be_unhealthy_until = max([time(), *(fault.over for fault in run.faults)]) + grace
    seen: list[Health] = []

    async def healthy() -> bool:
        seen.append(await run.hosts.engine.health())
        return seen[-1].ok

    await run.until(healthy, may_be_unhealthy_until - time())
    health = seen[-1]
    return health, sample(health)
