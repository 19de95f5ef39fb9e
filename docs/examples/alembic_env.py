"""An ``env.py`` for SQLAlchemy without asyncio."""

import os

from alembic import context
from sqlalchemy import MetaData, NullPool, create_engine, make_url

from escalation_adapters.alembic import include_object

URL = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg")
METADATA = MetaData()  # your own: Base.metadata


def online() -> None:
    """Run the revisions in one transaction."""
    with create_engine(URL, poolclass=NullPool).connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            include_object=include_object(connection, schema="public"),
        )
        with context.begin_transaction():
            context.run_migrations()


def offline() -> None:
    """Print the revisions' SQL: ``alembic upgrade --sql``."""
    context.configure(url=URL, target_metadata=METADATA, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    offline()
else:
    online()
