"""A guard for a store's connections and files, which belong to one event loop and one process."""

import os

from escalation_core import EscalationError
from escalation_core.engine.tasks import LoopGuard


class ProcessGuard(LoopGuard):
    """Binds a store to the process and the event loop that use it first."""

    def __init__(self, kind: str) -> None:
        super().__init__("this store was used", f"open one for each loop and process: await {kind}.connect(...)")
        self._process: int | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether this process was forked from the store's process."""
        return self._process not in (None, os.getpid())

    def check(self) -> None:
        """Raise EscalationError in another loop, or in a process that was forked later."""
        self._process = self._process or os.getpid()
        if self.elsewhere:
            raise EscalationError(f"{self._name} before this process was forked; {self._remedy}")
        super().check()
