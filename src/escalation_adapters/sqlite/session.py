"""Run statements on one connection in one thread: SQLite's calls block, and must not block the event loop."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import attrs

from escalation_core import StoreNotReady, StoreRefused, StoreUnavailable
from escalation_core.checks import visible
from escalation_core.errors import shortened
from escalation_core.model import AuditRange

from .codec import Row, micros

Result = TypeVar("Result")
Values = Sequence[Any] | Mapping[str, Any]
"""Values for the parameters of a statement, in their order (``?``) or by name (``:name``)."""
_TEMPORARY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


@attrs.frozen
class Session:
    """Runs statements on the connection, in its thread. A function given to ``in_thread`` runs there as a whole."""

    connection: sqlite3.Connection
    thread: ThreadPoolExecutor
    clock: Callable[[], datetime]

    async def in_thread(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run ``work`` in the thread."""

        def there() -> Result:
            with translated():
                return work(self.connection)

        return await asyncio.get_running_loop().run_in_executor(self.thread, there)

    async def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Run a statement and return its rows."""
        return await self.in_thread(lambda connection: connection.execute(statement, values).fetchall())

    async def row(self, statement: str, values: Values = ()) -> Row | None:
        """Run a statement and return its first row."""
        rows = await self.rows(statement, values)
        return rows[0] if rows else None

    async def run(self, statement: str, values: Values = ()) -> int:
        """Run a statement and return how many rows it touched."""
        return await self.in_thread(lambda connection: connection.execute(statement, values).rowcount)

    async def run_many(self, statement: str, values: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row of values."""
        await self.in_thread(lambda connection: connection.executemany(statement, values))

    async def newest(
        self, columns: str, table: str, at: str, reach: AuditRange, limit: int, incident_key: str | None
    ) -> list[Row]:
        """Return rows of a table in a range of time, newest first, at one instant by id."""
        where, values = [f"{at} >= ?"], [micros(reach.since)]
        if reach.until is not None:
            until = micros(reach.until)
            where.append(f"{at} <= ? AND ({at} < ? OR id > ?)")
            values += [until, until, reach.after_id]
        if incident_key is not None:
            where.append("incident_key = ?")
        statement = f"SELECT {columns} FROM {table} WHERE {' AND '.join(where)} ORDER BY {at} DESC, id LIMIT ?"
        given = (*values, *(() if incident_key is None else (incident_key,)), limit)
        return await self.rows(statement, given)


@contextmanager
def translated() -> Iterator[None]:
    """Raise SQLite's errors as the core's errors: unavailable, not ready, or refused."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        told = shortened(visible(str(error)))
        if primary in _TEMPORARY:
            raise StoreUnavailable(f"SQLite is not available: {told}") from None
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise StoreNotReady(
                f"the file is not a valid SQLite database, or damaged ({told}); name another file"
            ) from None
        raise StoreRefused(f"SQLite refuses: {told}") from None
