"""Access to the store: an engine checks it once, before it first reads or writes."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from ..ports import Store, Transaction
from ..rules.gate import Gate, Switches
from ..settings import Settings

Result = TypeVar("Result")


async def gate_at(tx: Transaction, switches: Switches, now: datetime) -> Gate:
    """Return what the switches and the operators' pauses hold back at ``now``."""
    return Gate.at(switches, now, await tx.operations.pauses(now))


class StoreAccess:
    """What the engine's verbs and views share: the store, checked before it is first used, and the settings."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings
        self._ready = False

    async def check(self) -> None:
        """Check once that the store is ready for this version; every other call does it first.

        Raises:
            StoreNotReady: it is not; the message names the command that helps.
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
