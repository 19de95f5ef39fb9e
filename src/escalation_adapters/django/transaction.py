"""Verbs in Django's transaction."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from escalation_core import Policies, Settings
from escalation_core.engine.incidents import IncidentVerbs
from escalation_core.ports import Transaction

from ..blocking_verbs import BlockingVerbs
from ..postgres.host_transaction import HostTransaction
from .not_ready import remedied

Result = TypeVar("Result")


class DjangoTransaction(HostTransaction):
    """A transactor in the transaction of Django's connection; its errors name commands of ``manage.py``."""

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        """Run ``work`` in Django's transaction, behind a savepoint."""
        with remedied():
            return await super().transact(work)


def make_verbs(connection: object, settings: Settings, schema: str, policies: Policies | None) -> BlockingVerbs:
    """Return the verbs on an incident in the transaction of Django's connection."""
    return BlockingVerbs(IncidentVerbs(DjangoTransaction(connection, schema), settings, policies))
