"""What tests of Alembic share: a host's tables, as SQL and as metadata, and connections of each driver."""

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from escalation_adapters.postgres import StatusMapping

Result = TypeVar("Result")
SYNC = ("psycopg", "psycopg2")
ASYNC = ("psycopg", "asyncpg")
DRIVERS = [*((driver, False) for driver in SYNC), *((driver, True) for driver in ASYNC)]
"""Each driver, and whether it is SQLAlchemy's asyncio engine that uses it."""
COLUMNS = {"incident_key": "id", "first_seen": "opened_at", "summary": "title"}
STATUS = StatusMapping(column="state", open="open", acknowledged="seen", resolved="done")
TYPES = {"status": "public.alert_state"}


def url(dsn: str, driver: str = "psycopg") -> sa.URL:
    """Return the URL of a database for SQLAlchemy."""
    parts: dict[str, Any] = dict(conninfo_to_dict(dsn))
    return sa.URL.create(
        f"postgresql+{driver}",
        parts["user"],
        parts.get("password"),
        parts["host"],
        int(parts["port"]),
        parts["dbname"],
    )


def tables(schema: str | None = None) -> sa.MetaData:
    """Return the metadata of a host: a table of alerts with an index, and one of notes."""
    metadata = sa.MetaData(schema=schema)
    sa.Table(
        "alerts",
        metadata,
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("severity", sa.String(), nullable=False),
        sa.Column(
            "state",
            sa.Enum("open", "seen", "done", name="alert_state", schema=schema),
            server_default="open",
            nullable=False,
        ),
        sa.Column("title", sa.String()),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Index("alerts_by_title", "title"),
    )
    sa.Table("notes", metadata, sa.Column("note", sa.String(), primary_key=True))
    return metadata


def create(dsn: str, metadata: sa.MetaData) -> None:
    """Create a host's tables."""
    engine = sa.create_engine(url(dsn), poolclass=NullPool)
    with engine.begin() as connection:
        for schema in {metadata.schema} - {None}:
            connection.execute(sa.schema.CreateSchema(str(schema)))
        metadata.create_all(connection)


async def connected(dsn: str, driver: str, asynchronous: bool, work: Callable[[sa.Connection], Result]) -> Result:
    """Run work on a connection of a driver, as an ``env.py`` does; what is not committed is rolled back."""
    if not asynchronous:
        with sa.create_engine(url(dsn, driver), poolclass=NullPool).connect() as connection:
            return work(connection)
    async with create_async_engine(url(dsn, driver), poolclass=NullPool).connect() as connected:
        return await connected.run_sync(work)


def execute(dsn: str, statement: str) -> None:
    """Run statements of a host."""
    with psycopg.connect(dsn) as connection:
        connection.execute(statement.encode())
