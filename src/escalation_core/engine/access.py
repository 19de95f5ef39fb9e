"""Access to the store. It is checked once, before the first read or write."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from ..errors import InvalidValue
from ..ports import SpellsKeys, Store, Transaction, Transactor
from ..rules.gate import Gate, Switches
from ..rules.policies import Policies
from ..settings import Settings
from .versions import Versions

Result = TypeVar("Result")


async def gate_at(tx: Transaction, switches: Switches, now: datetime) -> Gate:
    """Return the gate at ``now``, from the switches and the operators' pauses in the store."""
    return Gate.at(switches, now, await tx.operations.pauses(now))


def canonical_key(tx: Transaction, incident_key: str) -> str:
    """Return the spelling of a caller's key that the store's records have."""
    return tx.incidents.canonical_key(incident_key) if isinstance(tx.incidents, SpellsKeys) else incident_key


class TransactionAccess:
    """Base class of the verbs on an incident: they need transactions, and nothing else of a store."""

    _of_host = True
    """Whether the transactions are a host's."""

    def __init__(self, transactor: Transactor, settings: Settings, policies: Policies | None = None) -> None:
        if not isinstance(settings, Settings):
            raise InvalidValue("settings", f"is {type(settings).__name__}", "give Settings(...), or Settings.from_env")
        self.settings = settings
        self._versions = Versions(
            settings.policy,
            policies,
            file_named=settings.policies_file is not None,
            of_host=self._of_host,
        )
        self._transactor = transactor
        self._ready = False

    async def check(self) -> None:
        """Check that the store is ready for this version, once for each engine. Every verb and view calls this first.

        Raises:
            StoreNotReady: the store is not ready; the message names the command to run.
        """
        if not self._ready:
            await self._transactor.check()
            self._ready = True

    async def _run(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        await self.check()
        return await self._transactor.transact(work)


class StoreAccess(TransactionAccess):
    """Base class of the operators' verbs and the views, which also read the store."""

    _of_host = False

    def __init__(self, store: Store, settings: Settings, policies: Policies | None = None) -> None:
        super().__init__(store, settings, policies)
        self.store = store

    async def _read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        await self.check()
        return await self.store.read(work)
