"""The end of a run: what is still owed is waited for, and health is looked at until it can be judged."""

import asyncio
import contextlib
from time import time
from typing import TYPE_CHECKING

import psycopg

from escalation_core import Health
from escalation_core.testing.invariants.escalations import owed_until
from escalation_core.testing.invariants.history import HealthSample

from . import build_history
from .watcher import look

if TYPE_CHECKING:
    from ..harness.run import Run

SETTLED = """
SELECT NOT EXISTS (SELECT FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling'))
    AND NOT EXISTS (SELECT FROM incidents WHERE next_due_at IS NOT NULL AND NOT incident_key = ANY(%s))
"""


async def settled(run: "Run") -> bool:
    """Tell whether nothing is left to do: by the engine's own books, and by what the hosts wrote.

    The engine may have forgotten what is due. So what the judges expect has to be there, or its time over.
    """
    with contextlib.suppress(psycopg.Error):
        [[done]] = await run.execute(SETTLED, list(run.unplannable))
        if done:
            known = await asyncio.to_thread(build_history.so_far, run)
            return owed_until(known) < known.ended
    return False


async def last_look(run: "Run") -> tuple[Health, HealthSample]:
    """Look at health for the last time.

    Not before two ticks after each fault that shows; and if the light is red, until two ticks after any fault.
    """
    grace = 2 * run.rules.tick
    await asyncio.sleep(
        max((fault.over + grace - time() for fault in run.faults if fault.unhealthy or fault.findings), default=0.0)
    )
    red_until = max([time(), *(fault.over for fault in run.faults)]) + grace
    seen: list[Health] = []

    async def green() -> bool:
        seen.append(await run.hosts.engine.health())
        return seen[-1].ok

    await run.until(green, red_until - time())
    health = seen[-1]
    return health, look(health)
