"""Open the store that a URL names."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from escalation_core import EscalationError, Store

Pooler = Literal["transaction"]
"""The pooler between this process and PostgreSQL: one in transaction mode, for example pgbouncer."""
NO_DATABASE = (
    "ESC_DATABASE_URL is not set; set it to sqlite:///FILE or postgresql://USER@HOST/DATABASE, or give --database"
)
NO_FILE = "sqlite:/// names no file, and a database in memory loses its data; give sqlite:///FILE"
UNKNOWN_DATABASE = (
    "the database's URL is not a valid URL of a store; give sqlite:///FILE or postgresql://USER@HOST/DATABASE"
)


async def open_store(
    url: str | None,
    *,
    schema: str = "public",
    pooler: Pooler | None = None,
    clock: Callable[[], datetime] | None = None,
    create: bool = True,
) -> Store:
    """Open the store that a URL names: ``sqlite:///FILE`` or ``postgresql://...``. ``create`` makes a missing file.

    Raises:
        EscalationError: there is no URL, or it is not valid. The message does not hold the URL, which may hold a
            password.
        StoreUnavailable, StoreNotReady: the database is out of reach or not migrated.
    """
    if not url:
        raise EscalationError(NO_DATABASE)
    if url.startswith("sqlite:///"):
        from ..sqlite import SQLiteStore

        if url in ("sqlite:///", "sqlite:///:memory:"):
            raise EscalationError(NO_FILE)
        return await SQLiteStore.connect(url.removeprefix("sqlite:///"), clock=clock, create=create)
    if url.startswith(("postgresql://", "postgres://")):
        from ..postgres import PostgresStore

        return await PostgresStore.connect(url, schema=schema, pooler=pooler, clock=clock)
    raise EscalationError(UNKNOWN_DATABASE)
