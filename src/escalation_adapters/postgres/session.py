"""One transaction's connection, with the statements of its installation."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from .arrays import literal
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
        cursor = await self.connection.execute(self.statements[name] + suffix, _bulk(values))
        return await cursor.fetchall()

    async def row(self, name: str, *, suffix: bytes = b"", **values: object) -> Row | None:
        """Run a statement and return its first row."""
        rows = await self.rows(name, suffix=suffix, **values)
        return rows[0] if rows else None

    async def run(self, name: str, **values: object) -> int:
        """Run a statement and return how many rows it touched."""
        return (await self.connection.execute(self.statements[name], _bulk(values))).rowcount

    async def insert(self, name: str, **values: object) -> bool:
        """Run a statement that inserts; return False, and insert nothing, if a unique key is taken."""
        try:
            async with self.connection.transaction():
                await self.run(name, **values)
        except UniqueViolation:
            return False
        return True


def _bulk(values: Mapping[str, object]) -> Mapping[str, object]:
    return {name: literal(value) if isinstance(value, list) else value for name, value in values.items()}


def aware(value: datetime | None) -> datetime | None:
    """Return an instant that was selected AT TIME ZONE 'UTC'."""
    return None if value is None else value.replace(tzinfo=UTC)
