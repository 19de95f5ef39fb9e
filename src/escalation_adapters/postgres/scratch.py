"""A temporary schema for a replay."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Literal

from psycopg import AsyncConnection, sql

from . import migrate
from .dsn import arguments
from .errors import translated
from .store import PostgresStore


@asynccontextmanager
async def scratch_store(
    dsn: str, clock: Callable[[], datetime] | None = None, *, pooler: Literal["transaction"] | None = None
) -> AsyncIterator[PostgresStore]:
    """Yield a store in a migrated schema of its own, and always drop the schema afterwards.

    Raises:
        InvalidValue: the DSN is not valid.
        StoreUnavailable: the database is out of reach.
    """
    how = arguments(dsn)
    schema = f"escalation_scratch_{secrets.token_hex(6)}"
    try:
        await migrate.up(dsn, schema=schema, create=True)
        store = await PostgresStore.connect(dsn, schema=schema, clock=clock, pooler=pooler)
        try:
            yield store
        finally:
            await store.aclose()
    finally:
        with translated():
            async with await AsyncConnection.connect(dsn, autocommit=True, **how) as connection:
                await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
