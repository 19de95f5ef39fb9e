"""Create the service's own tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables; the types of their enums are created with them."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("severity", sa.Enum("critical", "warning", name="alert_severity"), nullable=False),
        sa.Column(
            "status",
            sa.Enum("open", "acknowledged", "resolved", name="alert_status"),
            server_default="open",
            nullable=False,
        ),
        sa.Column("title", sa.String()),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("acknowledged_by", sa.String()),
    )
    op.create_table(
        "reports",
        sa.Column("reference", sa.String(), primary_key=True),
        sa.Column("alert_id", sa.Uuid(), sa.ForeignKey("alerts.id"), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables and the types."""
    op.drop_table("reports")
    op.drop_table("alerts")
    op.execute("DROP TYPE alert_severity, alert_status")
