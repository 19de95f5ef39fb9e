"""The port for policies: the walks of incidents, and the kept versions. A store need not have it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from ..model import By, Incident, KeptVersion, ShiftOverride, WalkStats
from .store import Transaction


class Walks(Protocol):
    """The walks of incidents through policies of a file, the versions of those policies, and who is on call instead."""

    async def move(self, incidents: Sequence[Incident]) -> None:
        """Write locked rows in bulk, as ``Incidents.advance`` does, and also what a planning may change besides.

        That is episode, acknowledged_at and acknowledged_by (an expiry sets both to None, and the host's status to its
        word for open), policy_pin, policy_level and policy_since. The host's own ``policy`` stays.
        """

    async def keep(self, texts: Mapping[str, str]) -> None:
        """Save the texts of versions by digest, with the store's instant. What is kept already stays as it is.

        Two transactions may save one text at once: neither fails, and none waits for the other's end.
        """

    async def versions(self, digests: Sequence[str]) -> Mapping[str, KeptVersion]:
        """Return the kept versions among these digests. Unknown ones are left out."""

    async def positions(self, episodes: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Mapping[str, int]]:
        """Return, for each (incident_key, episode), the position of the last escalation of each policy, by its name.

        The last escalation is the one of the highest level. One that is recorded without a policy counts as
        ``builtin``, with its level as the position. Episodes without an escalation are left out.
        """

    async def pinned(self, policy: str, *, after: str | None, limit: int) -> Sequence[Incident]:
        """Return unresolved incidents that are pinned to this policy, by key in the store's own order, after ``after``.

        A pin with a ``!`` before it counts as well. Rows that cannot be read are left out.
        """

    async def record_digest(self, worker: str, digest: str) -> datetime | None:
        """Save which policies file a worker runs, beside its heartbeat; an empty digest if it runs without a file.

        Return when an operator last asked for a reload; None if no operator has.
        """

    async def request_reload(self, who: By) -> datetime:
        """Ask all workers to read their policies file again, note it in the audit, and return the store's instant."""

    async def add_override(self, override: ShiftOverride) -> None:
        """Insert a row that says who is on call for a while."""

    async def overrides(self, now: datetime) -> Sequence[ShiftOverride]:
        """Return the overrides that end after ``now``, in the order in which they were made."""

    async def delete_overrides(self, *, before: datetime) -> int:
        """Delete the overrides that ended before ``before``, and return how many."""

    async def stats(self, now: datetime) -> WalkStats:
        """Return the counts for health.

        An incident counts under ``unknown_policies`` if the audit has a note ``unknown_policy`` of its key and episode
        whose reason is the name that its row still has, it is not pinned to that policy, and it is not resolved. It
        counts under ``put_off`` if the audit has two notes ``put_off`` or more of its key, episode and level whose
        reason is the policy that it is pinned to, and it is open. A worker without a digest counts with an empty one,
        if any worker has one. ``nobody_on_call`` counts the escalations of the last day with the outcome ``default``.
        """


@runtime_checkable
class HasWalks(Protocol):
    """A transaction whose store has the port for policies."""

    @property
    def walks(self) -> Walks:
        """The walks of incidents, and the versions of policies."""


def walks_of(tx: Transaction) -> Walks | None:
    """Return the transaction's port for policies; None if its store does not have it."""
    return tx.walks if isinstance(tx, HasWalks) else None
