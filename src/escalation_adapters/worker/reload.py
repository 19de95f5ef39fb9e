"""Reading the policies file again while a worker runs: at SIGHUP, and when an operator asks all workers."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import attrs

from escalation_core import Engine, EscalationError, Policies
from escalation_core.errors import error_place

log = logging.getLogger("escalation_adapters.worker.reload")

LOAD_TIMEOUT = 10.0
"""Seconds that reading a file may take. The longest files take a few."""
Load = Callable[[], Policies]
"""Reads the policies file. It blocks, so the worker calls it in a thread."""


async def read(load: Load) -> Policies:
    """Read the policies file in a thread.

    The caller waits for it, so a disk of the network that hangs ends it as well.

    Raises:
        EscalationError: the file is faulty, ``load`` raised something else, or it took longer than ``LOAD_TIMEOUT``.
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(load), LOAD_TIMEOUT)
    except EscalationError:
        raise
    except TimeoutError:
        raise EscalationError(f"reading it takes longer than {LOAD_TIMEOUT:g} seconds") from None
    except Exception as error:  # noqa: BLE001 - a host's own load may raise anything, and the loops must go on
        raise EscalationError(f"reading it raised {error_place(error)}") from None


@attrs.define
class Reloader:
    """Reads the policies file again for one engine. A faulty file changes nothing: health and the log say so."""

    engine: Engine
    load: Load | None
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)
    """Set by SIGHUP."""
    _answered: datetime | None = None
    """The operators' request that this worker has obeyed."""

    async def after_tick(self) -> None:
        """Read the file again if SIGHUP came, or if an operator has asked since the last time."""
        requested = self.engine.reload_requested_at
        if self.load is None or not (self.asked.is_set() or requested != self._answered):
            return
        first, self._answered = self._answered is None and not self.asked.is_set(), requested
        self.asked.clear()
        try:
            policies = await read(self.load)
            unchanged = self.engine.policies is not None and policies.digest == self.engine.policies.digest
            if unchanged and first and self.engine.policies_fault is None:
                return
            # Also a file that has not changed: it may have been faulty in between.
            self.engine.use_policies(policies)
        except EscalationError as error:
            self.engine.refuse_policies(str(error))
        else:
            said = "has not changed" if unchanged else f"was read again: {len(policies.policies)} policies"
            log.info("the policies file %s", said)
