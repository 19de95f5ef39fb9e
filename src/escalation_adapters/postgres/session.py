"""One transaction's connection, with the statements of its installation."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from psycopg import AsyncConnection

from .table import IncidentsTable

Row = tuple[Any, ...]


@attrs.frozen
class Session:
    """Runs named statements in the transaction that is open on its connection."""

    connection: AsyncConnection[Row]
    statements: Mapping[str, bytes]
    table: IncidentsTable

    async def rows(self, name: str, *, suffix: bytes = b"", **values: object) -> Sequence[Row]:
        """Run a statement and return its rows."""
        cursor = await self.connection.execute(self.statements[name] + suffix, values)
        return await cursor.fetchall()

    async def row(self, name: str, *, suffix: bytes = b"", **values: object) -> Row | None:
        """Run a statement and return its first row."""
        rows = await self.rows(name, suffix=suffix, **values)
        return rows[0] if rows else None

    async def run(self, name: str, **values: object) -> int:
        """Run a statement and return how many rows it touched."""
        return (await self.connection.execute(self.statements[name], values)).rowcount


def aware(value: datetime | None) -> datetime | None:
    """Return an instant that was selected AT TIME ZONE 'UTC'."""
    return None if value is None else value.replace(tzinfo=UTC)
