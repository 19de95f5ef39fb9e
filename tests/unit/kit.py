"""Shared by the core's unit tests: an incident, a copy of a store's contents, and a notifier with a gate."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from escalation_core import Delivered, Engine, Incident, Notifier, Outcome, Page, Settings
from escalation_core.model import PageRecord, PageState
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.host import Row

START = datetime(2025, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def incident(key: str = "k", **fields: Any) -> Incident:
    """Return an incident that was first seen at START."""
    return Incident(**{"incident_key": key, "severity": "critical", "first_seen": START, **fields})


def page(**fields: Any) -> PageRecord:
    """Return a page that was leased at START for 30 seconds."""
    return PageRecord(
        **{
            "id": 1,
            "incident_key": "k",
            "episode": 1,
            "level": 1,
            "target": "test",
            "dedup_key": "d",
            "state": PageState.LEASED,
            "created_at": START,
            "due_at": START + 30 * SECOND,
            "fence": 1,
            **fields,
        }
    )


def picture(store: MemoryStore) -> dict[str, Any]:
    """Return everything a store holds except heartbeats, in a copy that later writes do not change."""
    return {
        "rows": {key: dict(row) for key, row in store.rows.items()},
        "due": dict(store.due),
        "unreadable": dict(store.unreadable),
        "ledger": dict(store.ledger),
        "pages": dict(store.pages),
        "unsettled": dict(store.unsettled),
        "paces": dict(store.paces),
        "notes": dict(store.notes),
        "pauses": dict(store.pauses),
        "requests": dict(store.requests),
        "recalc": store.state["recalc"],
    }


def row(store: MemoryStore, key: str = "k") -> Row:
    """Return a copy of a row."""
    return dict(store.rows[key])


def states(store: MemoryStore) -> list[str]:
    """Return the states of all pages, in the order of their ids."""
    return [page.state.value for page in store.pages.values()]


def actions(store: MemoryStore) -> list[str]:
    """Return the actions of all notes, in their order."""
    return [note.action for note in store.notes.values()]


def engine_of(store: MemoryStore, *notifiers: Notifier, **fields: Any) -> Engine:
    """Return an engine with these settings, and with a recording notifier unless notifiers are given."""
    return Engine(store, settings=Settings(**fields), notifiers=notifiers or [RecordingNotifier()], worker="w")


async def ticks(engine: Engine, clock: ManualClock, *waits: timedelta) -> list[int]:
    """Wait and tick, once for each wait; return how many incidents escalated each time."""
    counts = []
    for wait in waits:
        clock.advance(wait)
        counts.append((await engine.tick()).escalated)
    return counts


async def put(store: MemoryStore, *incidents: Incident) -> None:
    """Write incidents to the store unchanged."""

    async def work(tx: Transaction) -> None:
        for one in incidents:
            await tx.incidents.save(one)

    await store.transact(work)


class GatedNotifier:
    """Holds every page until ``gate`` is set; ``begun`` is set when a page has come."""

    channel = "gated"

    def __init__(self, *targets: str, outcome: Outcome | None = None) -> None:
        self.targets: Sequence[str] = targets or ("test",)
        self.outcome: Outcome = outcome or Delivered()
        self.pages: list[Page] = []
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.most = 0
        self._now = 0

    async def send(self, page: Page) -> Outcome:
        self.pages.append(page)
        self._now += 1
        self.most = max(self.most, self._now)
        self.begun.set()
        try:
            await self.gate.wait()
        finally:
            self._now -= 1
        return self.outcome

    async def aclose(self) -> None:
        pass


class Named:
    """Routes every escalation to the same targets."""

    def __init__(self, *targets: str) -> None:
        self.targets = targets

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        return self.targets


class BrokenRouter:
    """A host's router that fails."""

    def route(self, incident: Incident, level: int) -> Sequence[str]:
        raise RuntimeError("https://hooks.example/T0K3N")
