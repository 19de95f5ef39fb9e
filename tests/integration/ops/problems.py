"""Helpers for tests of the operators' endpoints: an engine, each action's body, and the check of a problem document."""

from datetime import UTC, datetime, timedelta
from typing import Any

from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .service import OLD_SECRET, SECRET, Answer, Service

MINUTE = timedelta(minutes=1)
ACTIONS: dict[str, dict[str, Any]] = {
    "tick": {},
    "recalc": {},
    "pause": {"minutes": 60},
    "resume": {},
    "drain": {"incident_key": "k"},
    "acknowledge": {"incident_key": "k"},
    "resolve": {"incident_key": "k"},
}
WEBHOOK = "https://hooks.example.org/T0K3N"
SETTINGS = Settings(
    ops_hmac_secret=SECRET,
    ops_hmac_secret_previous=OLD_SECRET,
    targets={"test": WEBHOOK},
    snooze=timedelta(),
)


def engine_of(clock: ManualClock, store: MemoryStore | None = None) -> Engine:
    store = store or MemoryStore(clock)
    return Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier("test")])


def is_problem(answer: Answer, status: int, field: str | None = None) -> bool:
    """Check a problem document: its type, its status, the field that it names, and that no secret is in it."""
    document = answer.json
    assert "application/problem+json" == answer.headers["content-type"], answer
    assert (status, status) == (answer.status, document["status"]), answer
    assert field == document.get("field"), answer
    assert {"type", "title", "status", "detail"} <= set(document)
    for hidden in (SECRET, OLD_SECRET, "T0K3N", "Traceback"):
        assert hidden not in repr(answer)
    return True


async def picture(service: Service) -> tuple[Any, ...]:
    """Return the state that an action could change: incident ``k``, and the counts of escalations and audit entries."""
    history = await service.engine.history("k")
    return history.incident, len(history.escalations), len(await service.engine.audit(datetime(2000, 1, 1, tzinfo=UTC)))
