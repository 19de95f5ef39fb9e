"""The service's own tables. Of the library they show only the columns that the service itself reads or writes."""

import enum
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Enum, ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Severity(enum.StrEnum):
    """How urgent an alert is."""

    CRITICAL = "critical"
    WARNING = "warning"


class Status(enum.StrEnum):
    """What the service says of an alert; the engine reads it, and its verbs write it."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


def _enum(words: type[enum.StrEnum], name: str) -> Enum:
    return Enum(words, name=name, values_callable=lambda members: [member.value for member in members])


class Base(DeclarativeBase):
    """The tables that Alembic compares with the database."""


class Alert(Base):
    """An alert; the engine is attached to this table."""

    __tablename__ = "alerts"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    severity: Mapped[Severity] = mapped_column(_enum(Severity, "alert_severity"))
    status: Mapped[Status] = mapped_column(_enum(Status, "alert_status"), server_default=Status.OPEN.value)
    title: Mapped[str | None]
    opened_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    acknowledged_by: Mapped[str | None]


class Report(Base):
    """A report of a monitoring system; its reference is the sender's own, so a report that comes twice is refused."""

    __tablename__ = "reports"

    reference: Mapped[str] = mapped_column(primary_key=True)
    alert_id: Mapped[UUID] = mapped_column(ForeignKey("alerts.id"))
