"""A revision that runs what ``escalation migrate print`` has written into its folder."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"
FOLDER = Path(__file__).parent


def upgrade() -> None:
    """Attach the engine."""
    op.execute((FOLDER / "attach.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Detach the engine, and drop its tables."""
    op.execute((FOLDER / "detach.sql").read_text(encoding="utf-8"))
