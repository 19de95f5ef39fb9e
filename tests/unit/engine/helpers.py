"""Shared by tests of the engine: settings that hold an engine, a store that fails, and a row for every decision."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from escalation_core import AuditEntry, Escalation, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import DAY, HOUR, MINUTE, START, incident, put

Result = TypeVar("Result")
TICK = timedelta(microseconds=1)
PAUSE: dict[str, Any] = {"pause_cron": "0 0 * * *", "pause_length": HOUR}
"""A pause from START for an hour."""
HELD: list[dict[str, Any]] = [{"worker_enabled": False}, {"v1": False}, PAUSE]
HELD_IDS = ["disabled", "v1-off", "paused"]


class FailingStore(MemoryStore):
    """A store whose transactions fail once ``left`` of them have run."""

    left: float = float("inf")

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.left <= 0:
            raise StoreUnavailable("it is down")
        self.left -= 1
        return await super().transact(work)


async def populate(store: MemoryStore, clock: ManualClock) -> None:
    """Fill a store with a row for every possible decision, and set the clock to START + 1 hour."""
    host = store.host
    clock.set(START + HOUR)
    await put(
        store,
        incident("due", next_due_at=START + 5 * MINUTE),
        incident("due-at-last", level=6, last_escalated_at=START, next_due_at=START + 35 * MINUTE),
        incident("not-due", next_due_at=START + 5 * MINUTE, severity="low"),
        incident("later", severity="warning", first_seen=START + HOUR, next_due_at=START + 75 * MINUTE),
        incident("above", level=9, next_due_at=START + 5 * MINUTE),
        incident("top", level=7),
        incident("known", next_due_at=START + 5 * MINUTE),
        incident("acked", acknowledged_at=START, next_due_at=START),
        incident("over", resolved_at=START, next_due_at=START),
        incident("odd", severity="odd", next_due_at=START + 15 * MINUTE),
    )
    await host.insert("new", severity="critical", first_seen=START)
    await host.insert("new-young", severity="critical", first_seen=START + 59 * MINUTE)
    await host.insert("new-ended", acknowledged_at=START)
    await host.insert("poison", level=None)
    await host.insert("ancient", first_seen=START - 2 * 365 * DAY)
    known = Escalation(incident_key="known", episode=1, level=1, created_at=START + 50 * MINUTE)
    await store.transact(lambda tx: tx.ledger.record([known]))
    noted = AuditEntry(at=START, action="exhausted", incident_key="top", episode=1, level=7)
    await store.transact(lambda tx: tx.journal.note([noted]))
