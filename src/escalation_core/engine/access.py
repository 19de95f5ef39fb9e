"""Access to the store: an engine checks it once, before it first reads or writes."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from ..ports import Store, Transaction
from ..rules.gate import Gate, Switches
from ..settings import Settings

Result = TypeVar("Result")


async def gate_at(tx: Transaction, switches: Switches, now: datetime) -> Gate:
    """Return the gate at ``now``, from the switches and the operators' pauses in the store."""
    return Gate.at(switches, now, await tx.operations.pauses(now))


class StoreAccess:
    """Base class of the engine's verbs and views. It checks the store before the first use."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self._ready = False

    async def check(self) -> None:
        """Check that the store is ready for this version, once for each engine. Every verb and view calls this first.

        Raises:
            StoreNotReady: the store is not ready; the message names the command to run.
        """
        if not self._ready:
            await self.store.check()
            self._ready = True

    async def _run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        await self.check()
        return await self.store.transact(work)

    async def _read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        await self.check()
        return await self.store.read(work)
