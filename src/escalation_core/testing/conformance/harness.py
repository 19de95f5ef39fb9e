"""What a check needs: fresh stores and a host's writes to them, or a notifier with a receiver."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import attrs

from ...model import NEEDS_REPLAN, Canary, Incident
from ...ports import Notifier, Store, Transaction
from ...rules.policy import EscalationPolicy
from ..clock import ManualClock
from ..host import HostTable

POLICY = EscalationPolicy()
WHOLE = Canary()


@attrs.frozen(kw_only=True)
class Capabilities:
    """What a store can do beyond what every store must."""

    concurrent: bool = False
    """Two transactions can write at once, as in PostgreSQL: a claim passes over the rows that others lock."""


class StoreHarness(Protocol):
    """Makes stores for the checks. Each check gets a harness of its own."""

    @property
    def capabilities(self) -> Capabilities:
        """What the stores can do beyond what every store must."""

    async def open(self, clock: ManualClock) -> Store:
        """Return a store on an empty database that tells the time by ``clock``."""

    async def again(self, store: Store) -> Store:
        """Return another handle on the database of ``store``, as another process has it.

        A store that cannot have two returns the same one.
        """

    def host(self, store: Store) -> HostTable:
        """Return how a host writes to the table of ``store`` with SQL of its own."""


class NotifierHarness(Protocol):
    """A notifier and its receiver."""

    target: str
    """A target that leads to the receiver."""
    secrets: Sequence[str]
    """What must never show: URLs, tokens."""

    @property
    def notifier(self) -> Notifier:
        """The notifier."""

    async def accept(self) -> None:
        """Let the receiver take pages."""

    async def refuse(self) -> bool:
        """Let the receiver refuse pages for good. Return False if this channel has no such thing."""

    async def throttle(self, after: timedelta) -> bool:
        """Let the receiver ask for fewer pages. Return False if this channel has no such thing."""

    async def vanish(self) -> bool:
        """Let the receiver be out of reach. Return False if this channel has no such thing."""

    async def stall(self) -> bool:
        """Let the receiver take a page and not answer. Return False if this channel has no such thing."""

    def arrived(self) -> Sequence[str]:
        """Return the dedup key of each page that the receiver took, in their order."""


def incident(key: str, clock: ManualClock, **fields: Any) -> Incident:
    """Return an incident that is due now, unless its fields say otherwise."""
    now = clock()
    given = {"severity": "critical", "first_seen": now - timedelta(minutes=5), "next_due_at": now, **fields}
    return Incident(incident_key=key, **given)


async def put(store: Store, *incidents: Incident) -> None:
    """Write incidents. A new row always has an instant, as the engine's have: one without would be a host's."""

    async def write(tx: Transaction) -> None:
        for one in incidents:
            born = one if one.next_due_at is not None else attrs.evolve(one, next_due_at=NEEDS_REPLAN)
            assert await tx.incidents.insert(born), "a new row is inserted"
            if born is not one:
                await tx.incidents.save(one)

    await store.transact(write)


async def beat(
    store: Store, clock: ManualClock, worker: str, now: datetime, tolerance: timedelta = timedelta(seconds=2)
) -> datetime | None:
    """Note that a worker completed a tick, at this instant; return the latest heartbeat that was there."""
    clock.set(now)
    at, latest = await store.transact(lambda tx: tx.journal.record_heartbeat(worker, "1.0", tolerance=tolerance))
    same(now, at, "the store's instant")
    return latest


async def claimed_keys(store: Store, until: datetime, *, limit: int = 100, canary: Canary = WHOLE) -> list[str]:
    """Return the keys that a claim finds, in its order; nothing is written."""
    rows = await store.transact(lambda tx: tx.incidents.claim(until=until, limit=limit, canary=canary))
    return [row.incident_key for row in rows]


def same(expected: object, actual: object, what: str) -> None:
    """Compare, with a message that tells more than that they differ."""
    assert expected == actual, f"{what}: expected {expected!r}, got {actual!r}"


def by_key(rows: Mapping[str, Mapping[str, Any]], key: str, *names: str) -> tuple[Any, ...]:
    """Return some columns of one row."""
    return tuple(rows[key][name] for name in names)
