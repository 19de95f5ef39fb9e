"""A rate limiter that all workers share, in the store's own database."""

from datetime import timedelta
from typing import cast

from escalation_core.ports import Transaction

from ..auth.rate_limit import Decision, Limit
from . import PostgresStore
from .operations import Operations


class PostgresLimiter:
    """Counts requests in the store's database, by its clock: one statement per request, one short row per key.

    Each request also deletes a few rows of idle keys.
    """

    def __init__(self, store: PostgresStore) -> None:
        self._store = store

    async def hit(self, key: str, limit: Limit) -> Decision:
        """Count one request. Concurrent requests of one key wait for each other.

        Raises:
            StoreError: the database is out of reach, or refuses the statement.
        """

        async def work(tx: Transaction) -> Decision:
            session = cast("Operations", tx.operations).session
            row = await session.row("hit", key=key, count=limit.count, window=limit.window)
            assert row is not None  # noqa: S101 - an INSERT that returns has one row
            allowed, taken, wait = row
            return Decision(allowed, max(limit.count - taken, 0), timedelta() if allowed else wait)

        return await self._store.transact(work)
