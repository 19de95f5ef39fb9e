"""One transaction: the engine's ports on one connection."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from escalation_core import StoreRefused

from .errors import AGAIN, is_refused, refusal
from .incidents import Incidents
from .journal import Journal
from .ledger import Ledger
from .notices import Notices
from .operations import Operations, SeenRequests
from .outbox import Outbox
from .session import Session
from .statements import writes_incidents
from .walks import Walks

Result = TypeVar("Result")


class PostgresTransaction:
    """One transaction: the ports on one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.incidents = Incidents(session)
        self.ledger = Ledger(session)
        self.outbox = Outbox(session)
        self.journal = Journal(session)
        self.operations = Operations(session)
        self.requests = SeenRequests(session)
        self.walks = Walks(session, self.incidents, self.journal)
        self.notices = Notices(session)

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` behind a savepoint."""
        await self._session.flush()
        self._session.optimistic = False
        try:
            async with self._session.connection.transaction():
                result = await work()
                # Check the host's deferred constraints now, so that a refusal does not come at the transaction's end.
                self._session.running = None
                await self._session.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                return result
        except (psycopg.Error, StoreRefused) as error:
            if self._session.connection.info.transaction_status is not TransactionStatus.INTRANS:
                # Whatever was refused, the rollback to the savepoint failed.
                raise psycopg.OperationalError("the connection was lost during the rollback to a savepoint") from None
            again = isinstance(error, psycopg.Error) and error.sqlstate in AGAIN and not self._session.last
            of_host = self._session.running is None or self._session.running.partition(":")[0] in writes_incidents()
            if isinstance(error, psycopg.Error) and is_refused(error, of_host=of_host) and not again:
                raise refusal(error) from None
            # An error of the whole transaction is translated where the transaction ends.
            raise

    async def now(self) -> datetime:
        """Return the transaction's instant."""
        assert self._session.at is not None  # noqa: S101 - a transaction begins with it
        return self._session.at
