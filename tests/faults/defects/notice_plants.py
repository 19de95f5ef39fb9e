"""Planted defects of notices. Each function gets what replaces an attribute of a class or module."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from escalation_core import Notice
from escalation_core.engine import exchange
from escalation_core.engine.notices import claim_notices
from escalation_core.engine.shares import Shares
from escalation_core.model import DueTarget, NewNotice, escalation_hash, notice_key
from escalation_core.ports import Transaction, notices_of

Put = Callable[[object, str, object], None]


def key_without_incident(put: Put) -> None:
    """Make the key of a notice without its incident."""

    def key(self: NewNotice) -> str:
        change = self.change
        return notice_key(change.kind, "k", change.episode, change.at)

    put(NewNotice, "dedup_key", property(key))


def resolve_under_level_key(put: Put) -> None:
    """Resolve a thread under the key of a level."""

    def key(self: Notice) -> str:
        return escalation_hash(self.incident_key, self.level, self.episode)

    put(Notice, "thread_key", property(key))


def notices_first(put: Put) -> None:
    """Claim notices before pages, as many as there are, and leave no slot of a budget to pages."""
    claimable = Shares.claimable

    async def claim_all(self: Shares, tx: Transaction, targets: Mapping[str, DueTarget], **at: datetime) -> Any:
        return await self._shares(tx, targets, self.capacity, spare=False, **at)

    async def after_notices(self: Shares, tx: Transaction, targets: Mapping[str, DueTarget], **at: datetime) -> Any:
        notices = notices_of(tx)
        first = {} if notices is None else await notices.due_targets()
        waiting = {name for name, one in first.items() if one.due_at <= at["until"]}
        return await claimable(self, tx, {name: one for name, one in targets.items() if name not in waiting}, **at)

    async def beside_pages(*given: Any, but: object, **at: Any) -> Any:
        return await claim_notices(*given, but=(), **at)

    put(Shares, "claimable", after_notices)
    put(Shares, "claimable_notices", claim_all)
    put(exchange, "claim_notices", beside_pages)
