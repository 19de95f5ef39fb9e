"""A page to a Slack target, as the tests send or render it."""

from datetime import UTC, datetime
from typing import Any

from escalation_core import Incident, Page

DEDUP = "5e" * 32
INSTANT = datetime(2025, 1, 1, tzinfo=UTC)


def page(**fields: Any) -> Page:
    """Return a page to the target that the tests use."""
    columns: dict[str, Any] = {"incident_key": "db-7/disk", "severity": "critical", "first_seen": INSTANT}
    incident = Incident(**columns | fields)
    return Page(incident=incident, episode=1, level=2, target="slack:ops", dedup_key=DEDUP, at=INSTANT)
