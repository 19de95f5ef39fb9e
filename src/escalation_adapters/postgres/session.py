"""One transaction's connection, with the statements of its installation."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import attrs
from psycopg import AsyncConnection, AsyncCursor

from escalation_core import StoreRefused

from . import timeouts
from .arrays import literal
from .errors import check_visible
from .statements import PASSING
from .table import IncidentsTable

Row = tuple[Any, ...]


@attrs.define
class Session:
    """Runs named statements in the transaction that is open on its connection.

    In optimistic mode, statements without a result are queued and sent in one pipeline: a round trip for each would
    cost a tick more than the work itself. If one of them meets a unique key that is taken, the transaction is retried
    statement by statement.
    """

    connection: AsyncConnection[Row]
    statements: Mapping[str, bytes]
    table: IncidentsTable
    optimistic: bool = True
    last: bool = False
    """Whether the transaction is not run again, whatever it meets."""
    clock: Callable[[], datetime] | None = None
    """The store's clock, if it is not the database's own."""
    at: datetime | None = None
    """The transaction's instant, once it has begun."""
    passing: bool = False
    """Whether there are rows that are passed over: then statements have another form."""
    running: str | None = None
    """The statement that was run last by itself; None for one that has no name."""
    _waiting: list[tuple[str, int, Mapping[str, object]]] = attrs.field(factory=list)
    _sent: list[tuple[AsyncCursor[Row], int]] = attrs.field(factory=list)

    async def begin(self, clock: Callable[[], datetime] | None) -> None:
        """Take the transaction's instant, and set what holds until its end.

        Raises:
            StoreNotReady: a row security policy would hide incidents from this role.
        """
        self.clock = clock
        at = None if clock is None else clock()
        ((now, self.passing, hidden, *_),) = await self.rows("begin", at=at, idle=f"{timeouts.IDLE:.1f}s")
        check_visible(hidden, self.table)
        self.at = now.replace(tzinfo=UTC)

    async def passing_rows(self, name: str, **values: object) -> Sequence[Row]:
        """Run a statement that leaves out rows which are passed over, in the form for there being any or none."""
        form, at = (PASSING, {"at": self.at}) if self.passing else ("", {})
        return await self.rows(name + form, suffix=b"", **at, **values)

    async def rows(self, name: str, *, suffix: bytes = b"", **values: object) -> Sequence[Row]:
        """Run a statement and return its rows."""
        await self.flush()
        self.running = name
        cursor = await self.connection.execute(self.statements[name] + suffix, _bulk(values))
        return await cursor.fetchall()

    async def row(self, name: str, *, suffix: bytes = b"", **values: object) -> Row | None:
        """Run a statement and return its first row."""
        rows = await self.rows(name, suffix=suffix, **values)
        return rows[0] if rows else None

    async def run(self, name: str, **values: object) -> int:
        """Run a statement and return how many rows it touched."""
        await self.flush()
        self.running = name
        return (await self.connection.execute(self.statements[name], _bulk(values))).rowcount

    async def write(self, name: str, expected: int, /, **values: object) -> None:
        """Run a statement that writes so many rows.

        Raises:
            StoreRefused: it wrote fewer: a trigger or a rule of the host drops what the engine writes.
        """
        written = await self.run(name, **values)
        if expected and written < expected:
            raise StoreRefused(
                "PostgreSQL wrote fewer rows than it was told to: a trigger or a rule of the host drops it"
            )

    async def later(self, name: str, expected: int = 0, /, **values: object) -> None:
        """Run a statement now or, in optimistic mode, with the next one that has a result, or with the COMMIT."""
        if self.optimistic:
            self._waiting.append((name, expected, _bulk(values)))
        else:
            await self.write(name, expected, **values)

    async def flush(self, last: AsyncExitStack | None = None) -> None:
        """Run what is waiting: now, or together with whatever else is run until ``last`` ends."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        async with AsyncExitStack() as here:
            await (last or here).enter_async_context(self.connection.pipeline())
            for name, expected, values in waiting:
                cursor = await self.connection.execute(self.statements[name], values)
                self._sent.append((cursor, expected))

    def wrote_too_little(self) -> bool:
        """Tell, once the transaction is over, whether anything that went out together wrote too few rows."""
        return any(expected > cursor.rowcount for cursor, expected in self._sent if expected)


def _bulk(values: Mapping[str, object]) -> Mapping[str, object]:
    return {name: literal(value) if isinstance(value, list) else value for name, value in values.items()}


def aware(value: datetime | None) -> datetime | None:
    """Return an instant that was selected AT TIME ZONE 'UTC'."""
    return None if value is None else value.replace(tzinfo=UTC)


def instant(value: datetime) -> datetime:
    """Return an instant that SQL gave in UTC, without a zone."""
    return value.replace(tzinfo=UTC)
