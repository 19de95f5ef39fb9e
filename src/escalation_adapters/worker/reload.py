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
            # The loop waits for it: a disk of the network that hangs must not stop the ticks.
            policies = await asyncio.wait_for(asyncio.to_thread(self.load), LOAD_TIMEOUT)
            unchanged = self.engine.policies is not None and policies.digest == self.engine.policies.digest
            if unchanged and first and self.engine.policies_fault is None:
                return
            # Also a file that has not changed: it may have been faulty in between.
            self.engine.use_policies(policies)
        except EscalationError as error:
            self.engine.refuse_policies(str(error))
        except TimeoutError:
            self.engine.refuse_policies(f"reading it takes longer than {LOAD_TIMEOUT:g} seconds")
        except Exception as error:  # noqa: BLE001 - a host's own load may raise anything, and the loops must go on
            self.engine.refuse_policies(f"reading it raised {error_place(error)}")
        else:
            said = "has not changed" if unchanged else f"was read again: {len(policies.policies)} policies"
            log.info("the policies file %s", said)
