"""The port for notices: what happened to paged incidents, and who learns of it. A store need not have it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from ..model import Arrival, Change, ChangedIncident, ClaimedNotice, DueTarget, NewNotice, NoticeRecord, NoticeState
from .store import Transaction


class Notices(Protocol):
    """What happened to incidents that were paged, and the notices that tell it.

    The engine's verbs note a change, and the store's trigger notes what a host's SQL did. A tick makes notices of it.
    """

    async def note(self, changes: Sequence[Change]) -> None:
        """Save changes of incidents that have a page. Leave out the others: no one was paged about them."""

    async def ready(self, limit: int, now: datetime) -> Sequence[ChangedIncident]:
        """Lock and return saved changes, oldest first, each with its incident as the row is now.

        Leave out changes that other transactions have locked, and a change while a page is on its way: one of the key
        in the state cancelling, or a leased one of its episode or an earlier one, whose lease has not ended at ``now``.
        Leave out a change if an earlier one of its incident is left out: a notice follows the pages that it is about.
        """

    async def arrivals(self, keys: Sequence[str]) -> Mapping[str, Sequence[Arrival]]:
        """Return the pages of each key that were sent, or may have been: of each episode and target one.

        A page may have been sent if it is leased, cancelling or delivered, or if its fence is above 1: a claim that
        sends no page, because it is superseded or handed over, raises its fence to 1.

        It has the highest level of the delivered ones, or of all if none was delivered: then it is not ``certain``.
        Leave out an episode and target that has a notice ``resolved`` which is pending, leased or delivered.
        """

    async def enqueue(self, notices: Sequence[NewNotice], now: datetime) -> None:
        """Insert pending notices, each once per dedup key and target.

        Of each episode and target only one notice ``resolved`` may be pending, leased or delivered: leave out others.
        """

    async def delete_changes(self, ids: Sequence[int]) -> None:
        """Delete changes of which the notices are made."""

    async def due_targets(self) -> Mapping[str, DueTarget]:
        """Return the targets that have unsettled notices, each with its row, without a lock."""

    async def claim(self, capacity: Mapping[str, int], *, until: datetime) -> Sequence[ClaimedNotice]:
        """Lock and return unsettled notices that are due at or before ``until``, by (due_at, id).

        ``capacity`` is the maximum number for each target. Leave out notices that other transactions have locked.
        """

    async def write(self, notices: Sequence[NoticeRecord]) -> None:
        """Write state, due_at, fence, attempts, reason and bundle of locked notices."""

    async def settle(self, notices: Sequence[NoticeRecord]) -> AbstractSet[int]:
        """Write notices as ``write`` does if the stored fence is one less than the new one; return the ids written."""

    async def delete_notices(self, ids: Sequence[int]) -> None:
        """Delete locked notices."""

    async def expire(self, *, before: datetime, resolved_before: datetime, now: datetime) -> int:
        """Set unsettled notices that were made before ``before`` to expired, and return how many.

        Of the kind ``resolved``, those that were made before ``resolved_before``.

        Leave out those that a sender has, and those that other transactions have locked.
        """

    async def shift(self, now: datetime, step: timedelta) -> None:
        """Move ``created_at`` and ``due_at`` of unsettled notices that were made after ``now`` back by ``step``.

        A notice is made at the present instant. If that lies after ``now``, the clock stepped back since. Also move
        ``due_at`` of other pending notices that lies after ``now``: it may have been set before the step.
        """

    async def notices(
        self,
        *,
        after: int = 0,
        limit: int,
        incident_key: str | None = None,
        state: NoticeState | None = None,
        target: str | None = None,
        bundle: str | None = None,
    ) -> Sequence[NoticeRecord]:
        """Return notices with ids above ``after``, sorted by id: of one key, one state, one target, if given.

        ``bundle`` is the beginning of the key of their last message.
        """

    async def counts(self, *, since: datetime) -> Mapping[NoticeState, int]:
        """Return the number of unsettled notices, and of those that were settled since, by their state."""

    async def delete(self, *, before: datetime) -> int:
        """Delete notices that were settled before ``before``, and changes from before it; return how many.

        Notices stay as long as a page of their episode: a target must not learn twice that an episode is resolved.
        """


@runtime_checkable
class HasNotices(Protocol):
    """A transaction whose store has the port for notices."""

    @property
    def notices(self) -> Notices:
        """The changes and the notices."""


def notices_of(tx: Transaction) -> Notices | None:
    """Return the transaction's port for notices; None if its store does not have it."""
    return tx.notices if isinstance(tx, HasNotices) else None
