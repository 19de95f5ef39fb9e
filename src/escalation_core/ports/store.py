"""Protocols of a store and its transaction."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

from ..model import Canary, NextDue
from .records import Journal, Operations, SeenRequests
from .rows import Incidents, Ledger, Outbox

Result = TypeVar("Result")


class Transaction(Protocol):
    """One transaction: the store commits all of its writes, or none."""

    @property
    def incidents(self) -> Incidents:
        """The rows of the host's incidents."""

    @property
    def ledger(self) -> Ledger:
        """The escalations."""

    @property
    def outbox(self) -> Outbox:
        """The pages."""

    @property
    def journal(self) -> Journal:
        """The audit, the heartbeats, the counts and the recalculation."""

    @property
    def operations(self) -> Operations:
        """Operators' pauses, retention and integrity."""

    @property
    def requests(self) -> SeenRequests:
        """The ids of signed requests."""

    async def now(self) -> datetime:
        """Return the instant of the store's own clock, which decides which rows and pages are due."""

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` behind a savepoint. If it raises, undo its writes; the transaction can continue.

        If the database refuses a statement, this method raises ``StoreRefused``, not the end of the transaction.
        """


class Transactor(Protocol):
    """Runs work in a transaction."""

    async def check(self) -> None:
        """Raise ``StoreNotReady``, which names the remedy, unless the schema is the one that this version needs."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction, commit it and return the result of ``work``.

        If ``work`` raises, the store rolls back and raises the same exception. After a deadlock or a serialization
        failure the store may run ``work`` again from its beginning, so ``work`` must change only the database.
        """


class Store(Transactor, Protocol):
    """A database with the incidents, escalations and pages."""

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, which only reads, on one snapshot, without locks. The store keeps no write of ``work``."""

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        """Return the next due instants of rows in this canary (with None, of no rows) and, if asked, of pages.

        The engine calls this at the start of each tick, and usually nothing is due. It should take one round trip, for
        any number of rows, pages and targets: only targets that have unsettled pages may cost anything.
        """

    async def aclose(self) -> None:
        """Close the connections."""


@runtime_checkable
class JoinsTransactions(Protocol):
    """A store that can work in a transaction which the host began. A store need not have this."""

    def using(self, connection: object) -> Transactor:
        """Return a transactor that works in the transaction of the host's connection, and does not end it."""
