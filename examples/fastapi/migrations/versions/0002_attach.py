"""Attach the engine to the alerts."""

from alembic import op

from escalation_adapters.alembic import AttachEscalation, DetachEscalation
from escalation_adapters.postgres import StatusMapping

revision = "0002"
down_revision = "0001"
COLUMNS = {
    "incident_key": "id",
    "first_seen": "opened_at",
    "severity": "severity",
    "summary": "title",
    "acknowledged_by": "acknowledged_by",
}
"""Each column of the service that the engine uses. The attach adds the others."""
STATUS = StatusMapping(column="status", open="open", acknowledged="acknowledged", resolved="resolved")


def upgrade() -> None:
    """Add the engine's tables, and its columns, indexes and triggers to the alerts. Pages begin with new alerts."""
    op.invoke(
        AttachEscalation(
            "alerts",
            columns=COLUMNS,
            status=STATUS,
            existing="skip",
            types={"status": "public.alert_status"},
        )
    )


def downgrade() -> None:
    """Remove all of the library, with the history of pages. First stop the service."""
    op.invoke(DetachEscalation(drop_tables=True, table="alerts", columns=COLUMNS, status=STATUS))
