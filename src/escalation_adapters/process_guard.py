"""Where a store may be used: connections and files belong to one event loop, and to one process."""

import os

from escalation_core import EscalationError
from escalation_core.engine.tasks import LoopGuard


class ProcessGuard(LoopGuard):
    """The process and the event loop that a store belongs to: those that it is used in first."""

    def __init__(self, kind: str) -> None:
        super().__init__("this store was used", f"open one for each loop and process: await {kind}.connect(...)")
        self._process: int | None = None

    @property
    def elsewhere(self) -> bool:
        """Whether this process was forked from the one that it belongs to."""
        return self._process not in (None, os.getpid())

    def check(self) -> None:
        """Raise EscalationError in another loop, or in a process that was forked since."""
        self._process = self._process or os.getpid()
        if self.elsewhere:
            raise EscalationError(f"{self._name} before this process was forked; {self._remedy}")
        super().check()
