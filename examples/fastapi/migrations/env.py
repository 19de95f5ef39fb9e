"""Alembic's environment: revisions run on SQLAlchemy's asyncio engine, or are printed (``alembic upgrade --sql``)."""

import asyncio
import os
from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from escalation_adapters.alembic import include_object
from models import Base

URL = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")


def migrate(connection: Connection) -> None:
    """Run the revisions in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_object=include_object(connection),
    )
    with context.begin_transaction():
        context.run_migrations()


async def online() -> None:
    """Connect, and run the revisions."""
    engine = create_async_engine(URL, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


def offline() -> None:
    """Print the revisions' SQL."""
    context.configure(url=URL, target_metadata=Base.metadata, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    offline()
else:
    asyncio.run(online())
