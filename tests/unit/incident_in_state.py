"""An incident in each state, before a verb is called."""

from typing import Any

import attrs

from escalation_core import Engine, Incident, State
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .kit import MINUTE, START, put

LIVE = [State.OPEN, State.ACKNOWLEDGED]
T10 = START + 10 * MINUTE
NOW = START + 20 * MINUTE
BASE: dict[str, Any] = {
    "incident_key": "k",
    "severity": "critical",
    "first_seen": START,
    "level": 1,
    "last_escalated_at": T10,
    "next_due_at": T10 + 30 * MINUTE,
    "summary": "disk",
    "labels": {"a": "1"},
}
"""The incident before each verb: it escalated once, ten minutes after its first_seen."""
ENDS: dict[State, dict[str, Any]] = {
    State.OPEN: {},
    State.ACKNOWLEDGED: {"acknowledged_at": T10 + MINUTE, "acknowledged_by": "first", "next_due_at": None},
    State.RESOLVED: {"resolved_at": T10 + MINUTE, "next_due_at": None},
}


async def stand(store: MemoryStore, clock: ManualClock, state: State, **fields: Any) -> Engine:
    """Bring the incident to a state, with one page that is not sent yet, and return an engine at NOW."""
    engine = Engine(store, notifiers=[RecordingNotifier()])
    if state is not State.UNKNOWN:
        await engine.open("k", severity="critical", summary="disk", labels={"a": "1"})
        clock.set(T10)
        await engine.tick(deliver=False)
        await put(store, Incident(**{**BASE, **ENDS[state], **fields}))
    clock.set(NOW)
    return engine


def expected(**fields: Any) -> dict[str, Any]:
    """Return the row that BASE becomes with these fields."""
    return attrs.asdict(Incident(**{**BASE, **fields}))
