"""A store and its transaction."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from ..model import Canary, NextDue
from .records import Journal, Operations, SeenRequests
from .rows import Incidents, Ledger, Outbox

Result = TypeVar("Result")


class Transaction(Protocol):
    """One transaction: everything done through it is kept together, or not at all."""

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
        """The audit and the workers' heartbeats."""

    @property
    def operations(self) -> Operations:
        """Operators' pauses, retention and integrity."""

    @property
    def requests(self) -> SeenRequests:
        """The ids of signed requests."""

    async def now(self) -> datetime:
        """Return the store's own instant: its clock decides what is due."""

    async def savepoint(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Run ``work`` inside this transaction. If it raises, what it did is undone, and the transaction can go on.

        A statement that the database refuses raises ``StoreRefused`` here already, and not at the transaction's end.
        """


class Store(Protocol):
    """A database that the engine works on."""

    async def check(self) -> None:
        """Raise ``StoreNotReady``, naming the command that helps, unless the schema is the one this version needs."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in one transaction and return its result once that is committed.

        If ``work`` raises, nothing is kept and the exception goes on. It may be run again from its beginning when the
        database asks for that (a deadlock, a serialization failure); so it changes nothing but the database.
        """

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work``, which only reads, on one snapshot: without locks and without a trace."""

    async def next_due(self, *, canary: Canary | None, targets: Sequence[str] = ()) -> NextDue:
        """Return what is next: for this canary's rows, unless it is None, and for pages to these targets.

        It is what an engine asks when nothing is due, which is nearly always: it is to cost one round trip, whatever
        the number of rows.
        """

    async def aclose(self) -> None:
        """Close what is open."""
