"""Run an installation's named statements on the connection of one transaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection, AsyncCursor

from escalation_core import StoreError, StoreRefused

from . import timeouts
from .arrays import literal
from .errors import RETYPED, check_visible, translate
from .statements import PASSING, save
from .table import IncidentsTable

Row = tuple[Any, ...]


class Attached(Exception):
    """Raised if the schema has been attached anew: the store reads the mapping and runs the transaction again.

    Also raised, with the ``fault``, for an error that a new type of a mapped column would explain.
    """

    def __init__(self, fault: StoreError | None = None) -> None:
        super().__init__()
        self.fault = fault


@contextmanager
def noticed_types() -> Iterator[None]:
    """Raise ``Attached`` for an error that a new type of a mapped column would explain."""
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate in RETYPED:
            raise Attached(translate(error)) from None
        raise


@attrs.define
class Session:
    """Runs named statements in the transaction that is open on its connection.

    In optimistic mode, statements without a result are queued and sent in one pipeline with the COMMIT. A round trip
    for each would cost a tick more than the work itself. If a unique key is taken, the transaction is retried
    statement by statement (ADR 0023).
    """

    connection: AsyncConnection[Row]
    statements: dict[str, bytes]
    table: IncidentsTable
    optimistic: bool = True
    last: bool = False
    """Whether this is the last attempt: the transaction is not run again."""
    clock: Callable[[], datetime] | None = None
    """The store's clock; None for the database's own."""
    at: datetime | None = None
    """The transaction's instant; None before ``begin``."""
    passing: bool = False
    """Whether any row is passed over: then some statements run in another form."""
    any_pause: bool = True
    """Whether a pause may end after the transaction's instant: the first statement has looked."""
    running: str | None = None
    """The name of the statement that ran last outside a pipeline; None for a statement without a name."""
    _waiting: list[tuple[str, int, Mapping[str, object]]] = attrs.field(factory=list)
    _sent: list[tuple[AsyncCursor[Row], int]] = attrs.field(factory=list)

    async def begin(self, clock: Callable[[], datetime] | None, *, by_index: bool = False) -> None:
        """Read the transaction's instant, and set parameters that hold until the transaction's end.

        With ``by_index`` no statement reads a whole table for which it has an index. A host's transaction keeps its own
        parameters, and a read that counts whole tables is quicker without.

        Raises:
            StoreNotReady: a row security policy would hide incidents from this role.
            Attached: the schema has been attached anew, or detached, since these statements were made.
        """
        self.clock = clock
        at = None if clock is None else clock()
        ((now, self.passing, self.any_pause, hidden, *_, revision),) = await self.rows(
            "begin", at=at, idle=f"{timeouts.IDLE:.1f}s", by_index=by_index
        )
        if revision != self.table.revision:
            raise Attached
        check_visible(hidden, self.table)
        self.at = now.replace(tzinfo=UTC)

    async def passing_rows(self, name: str, **values: object) -> Sequence[Row]:
        """Run a statement that leaves out passed-over rows. Its longer form runs only while any row is passed over."""
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
        """Run a statement that must write ``expected`` rows; 0 allows any number.

        Raises:
            StoreRefused: it wrote fewer rows, because a trigger or a rule of the host drops writes.
        """
        written = await self.run(name, **values)
        if expected and written < expected:
            raise StoreRefused(
                "PostgreSQL wrote fewer rows than the engine asked for: a trigger or a rule of the host drops writes"
            )

    async def save(self, changed: Sequence[str], state: str, **values: object) -> None:
        """Write these columns of one incident, and its status; prepare the statement at its first use."""
        name = f"save:{state}:{','.join(changed)}"
        if name not in self.statements:
            self.statements[name] = save(self.table, changed, state)
        await self.write(name, 1, **values)

    async def later(self, name: str, expected: int = 0, /, **values: object) -> None:
        """Run a statement now. In optimistic mode queue it until the next statement with a result, or the COMMIT."""
        if self.optimistic:
            self._waiting.append((name, expected, _bulk(values)))
        else:
            await self.write(name, expected, **values)

    async def flush(self, last: AsyncExitStack | None = None) -> None:
        """Run the queued statements: one by one, or with ``last`` in a pipeline that stays open until ``last`` ends.

        A pipeline must not end within a transaction. psycopg ends it with the messages Sync and Flush, and a Flush
        after a Sync switches PostgreSQL's idle_in_transaction_session_timeout off until the next statement: the server
        would keep the locks of a client that stops in between (ADR 0025).
        """
        waiting, self._waiting = self._waiting, []
        if waiting and last is not None:
            await last.enter_async_context(self.connection.pipeline())
        for name, expected, values in waiting:
            cursor = await self.connection.execute(self.statements[name], values)
            self._sent.append((cursor, expected))

    def wrote_too_little(self) -> bool:
        """Return True if a queued statement wrote too few rows. Valid once the transaction is over."""
        return any(expected > cursor.rowcount for cursor, expected in self._sent if expected)


def _bulk(values: Mapping[str, object]) -> Mapping[str, object]:
    return {name: literal(value) if isinstance(value, list) else value for name, value in values.items()}


def aware(value: datetime | None) -> datetime | None:
    """Return a value that was selected AT TIME ZONE 'UTC' as an aware datetime; None stays None."""
    return None if value is None else value.replace(tzinfo=UTC)


def instant(value: datetime) -> datetime:
    """Return a value that was selected AT TIME ZONE 'UTC' as an aware datetime."""
    return value.replace(tzinfo=UTC)
