"""Shared by tests of refused rows: a store in memory whose port of incidents refuses some rows."""

from collections.abc import Awaitable, Callable, Container, Sequence
from datetime import datetime

import attrs

from escalation_core import Incident, StoreError, StoreRefused
from escalation_core.model import Deferral
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.memory.incidents import Incidents

from .helpers import Result


class RefusingStore(MemoryStore):
    """A store that refuses some keys in each kind of write, after it has written them, and notes each call."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.refuses: dict[str, Container[str]] = {}
        """The refused keys of each kind of write: ``advance``, ``defer`` and ``pass over``."""
        self.error: type[StoreError] = StoreRefused
        self.seconds = 0.0
        """How long each write takes; ``time`` grows by it."""
        self.time = 1000.0
        self.calls: list[tuple[str, str]] = []

    def note(self, verb: str, keys: Sequence[str]) -> None:
        self.calls.append((verb, " ".join(keys)))
        self.time += self.seconds
        for key in keys:
            if key in self.refuses.get(verb, ()):
                raise self.error(f"{verb} refuses {key}")

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        async def refusing(tx: Transaction) -> Result:
            assert isinstance(tx.incidents, Incidents)
            tx.incidents = RefusingIncidents(self, tx.incidents.undo, self)  # type: ignore[misc]
            return await work(tx)

        return await super().transact(refusing)


@attrs.frozen
class RefusingIncidents(Incidents):
    """The port of a RefusingStore."""

    refusing: RefusingStore

    async def advance(self, incidents: Sequence[Incident]) -> None:
        await Incidents.advance(self, incidents)
        self.refusing.note("advance", [one.incident_key for one in incidents])

    async def defer_unreadable(self, rows: Sequence[Deferral], now: datetime) -> None:
        await Incidents.defer_unreadable(self, rows, now)
        self.refusing.note("defer", [one.incident_key for one in rows])

    async def pass_over(self, rows: Sequence[Deferral], now: datetime) -> None:
        await Incidents.pass_over(self, rows, now)
        self.refusing.note("pass over", [one.incident_key for one in rows])
