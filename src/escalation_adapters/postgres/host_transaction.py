"""The engine's work inside a transaction that a host began: a verb commits and rolls back with the host's own rows.

Each verb runs behind a savepoint. If it raises, the host's transaction is as it was before. A conflict, for example a
deadlock, is the host's to retry: only the host knows what else its transaction did.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import attrs
import psycopg
from psycopg import AsyncConnection

from escalation_core import InvalidValue, Policies, Settings, StoreUnavailable
from escalation_core.engine.incidents import IncidentVerbs
from escalation_core.ports import Transaction

from ..blocking_verbs import BlockingVerbs
from .errors import AGAIN, translated
from .host_connection import HostConnection
from .installation import Installation, read_installation
from .session import Attached, Session, noticed_types
from .transaction import PostgresTransaction

Result = TypeVar("Result")
Clock = Callable[[], datetime]
_LOOK = b"""
SELECT d.oid::bigint, pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
    pg_catalog.current_setting('transaction_read_only') = 'on', pg_catalog.now() AT TIME ZONE 'UTC'
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
"""What distinguishes databases, and transactions."""
_CLUSTER = b"SELECT system_identifier FROM pg_catalog.pg_control_system()"


@attrs.frozen
class Database:
    """What distinguishes a database: its number, and its server's cluster if the role may read the identifier.

    A standby has its primary's identifier.
    """

    number: int
    cluster: int | None

    def may_be(self, other: "Database") -> bool:
        """Return False if the two are certainly different databases."""
        known = None not in (self.cluster, other.cluster)
        return self.number == other.number and (self.cluster == other.cluster or not known)


_installations: dict[tuple[Database, str], Installation] = {}
"""The installations that verbs without an engine have met. Each transaction checks that the mapping has not changed."""


async def read_database(connection: AsyncConnection[Any]) -> Database:
    """Return what distinguishes the connection's database from others."""
    number, may_read, *_ = await _row(connection, _LOOK)
    return await _database(connection, number, may_read=may_read)


async def _database(connection: AsyncConnection[Any], number: int, *, may_read: bool) -> Database:
    # A statement of its own: PostgreSQL checks the right to call a function before it knows whether it is called.
    return Database(number, (await _row(connection, _CLUSTER))[0] if may_read else None)


async def _row(connection: AsyncConnection[Any], statement: bytes) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = await (await connection.execute(statement)).fetchone()
    assert row is not None  # noqa: S101 - each of these statements returns one row
    return row


@attrs.define
class HostTransaction:
    """A transactor in the transaction of a host's connection. It is of use until that transaction ends."""

    connection: object
    schema: str
    clock: Clock | None = None
    database: Database | None = None
    """The database of the engine's store; None if there is no engine."""
    installation: Installation | None = None
    _began: datetime | None = None
    _found: Database | None = None

    async def check(self) -> None:
        """Do nothing: each transaction checks that the schema is ready."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in the host's transaction, behind a savepoint.

        Raises:
            InvalidValue: the connection is to another database, in autocommit, read-only, closed or of another driver,
                or its transaction has failed, or has ended since the first verb.
            StoreUnavailable: the transaction met a conflict; the host runs its whole transaction again.
            StoreNotReady: the schema is not ready; the message names the command to run.
        """
        with translated():
            host = await HostConnection.of(self.connection)
            async with host.alone():
                if self._began is not None and host.idle:
                    raise _ended()
                try:
                    return await self._join(host, work)
                except psycopg.Error as error:
                    if error.sqlstate in AGAIN:
                        raise StoreUnavailable(
                            "the transaction met a conflict with another one; roll it back, and run all of it again"
                        ) from None
                    raise

    async def _join(self, host: HostConnection, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        try:
            with noticed_types():
                async with host.transaction():
                    database = await self._look(host)
                    installation = self.installation or _installations.get((database, self.schema))
                    if installation is not None:
                        return await self._work(host, installation, work)
        except Attached:
            pass
        # The mapping is not known yet, or it or the type of a mapped column has changed.
        async with host.transaction():
            self.installation = installation = await read_installation(host.as_async, self.schema)
            _installations[database, self.schema] = installation
            return await self._work(host, installation, work)

    async def _look(self, host: HostConnection) -> Database:
        """Return the connection's database, and check that it is the engine's, and that its transaction goes on."""
        number, may_read, read_only, began = await _row(host.as_async, _LOOK)
        if self._found is None:
            self._found = await _database(host.as_async, number, may_read=may_read)
        if self.database is not None and not self.database.may_be(self._found):
            raise InvalidValue(
                "connection",
                f"is to the database {host.driver.info.dbname!r}, which is not the one of the engine's store",
                "give a connection to the database that the engine works on",
            )
        if read_only:
            raise InvalidValue("connection", "is read-only", "give a connection whose transaction may write")
        if self._began not in (None, began):
            raise _ended()
        self._began = began
        return self._found

    async def _work(
        self, host: HostConnection, installation: Installation, work: Callable[[Transaction], Awaitable[Result]]
    ) -> Result:
        session = Session(host.as_async, *installation, optimistic=False, last=True)
        await session.begin(self.clock)
        return await work(PostgresTransaction(session))


def _ended() -> InvalidValue:
    return InvalidValue(
        "connection",
        "has ended the transaction in which these verbs began",
        "call using(connection) again in the new transaction",
    )


def blocking_verbs(
    connection: object,
    settings: Settings,
    *,
    schema: str = "public",
    clock: Clock | None = None,
    policies: Policies | None = None,
) -> BlockingVerbs:
    """Return the verbs on an incident in the transaction of a synchronous connection, without an engine.

    ``policies`` are the workers' policies. If the settings name a policies file and none are given, a worker assigns
    the policy of an incident that these verbs open.

    ``connection`` is psycopg's, or what SQLAlchemy or Django make of it. The verbs raise what those of
    ``Engine.using`` raise.
    """
    return BlockingVerbs(IncidentVerbs(HostTransaction(connection, schema, clock), settings, policies))
