"""Harness protocols for the checks, and helper functions. An author of a store or notifier writes a harness."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import attrs

from ...model import NEEDS_REPLAN, Canary, Incident
from ...ports import Notifier, ScheduleSource, Store, Transaction, Walks, walks_of
from ...rules.builtin import BuiltinPolicy
from ..clock import ManualClock
from ..host import HostTable

POLICY = BuiltinPolicy()
START = datetime(2025, 1, 1, tzinfo=UTC)
"""Where the clock of a check stands at first, so that every run of a check is the same."""
WHOLE = Canary()


@attrs.frozen(kw_only=True)
class Capabilities:
    """Optional capabilities of a store."""

    concurrent: bool = False
    """Two transactions can write at once, as in PostgreSQL. A claim then skips rows that others have locked."""


class StoreHarness(Protocol):
    """Creates stores for one check. Each check needs a new harness."""

    @property
    def capabilities(self) -> Capabilities:
        """The optional capabilities of the stores."""

    async def open(self, clock: ManualClock) -> Store:
        """Return a store on an empty database. Its clock is ``clock``."""

    async def again(self, store: Store) -> Store:
        """Return another handle on the database of ``store``, like one in another process.

        If the store cannot have two handles, return ``store``.
        """

    def host(self, store: Store) -> HostTable:
        """Return an object that writes to the table of ``store`` as a host's own SQL does."""


class ScheduleSourceHarness(Protocol):
    """A source of schedules, with data that does not change during the checks."""

    now: datetime
    """The instant of the checks: they look at the two weeks that follow."""

    @property
    def source(self) -> ScheduleSource:
        """The source to check."""


class NotifierHarness(Protocol):
    """A notifier and its receiver."""

    target: str
    """A target of the notifier that sends to the receiver."""
    secrets: Sequence[str]
    """Texts that no output may contain: URLs, tokens."""

    @property
    def notifier(self) -> Notifier:
        """The notifier to check."""

    async def accept(self) -> None:
        """Make the receiver accept pages."""

    async def refuse(self) -> bool:
        """Make the receiver refuse pages permanently. Return False if the channel does not support this."""

    async def throttle(self, after: timedelta) -> bool:
        """Make the receiver ask for fewer messages. Return False if the channel does not support this."""

    async def vanish(self) -> bool:
        """Make the receiver unreachable. Return False if the channel does not support this."""

    async def stall(self) -> bool:
        """Make the receiver accept a page without an answer. Return False if the channel does not support this."""

    def arrived(self) -> Sequence[str]:
        """Return the dedup key of each message that the receiver accepted, in order of arrival.

        Of a notice it is the thread's key if the receiver gets no other.
        """


def incident(key: str, clock: ManualClock, **fields: Any) -> Incident:
    """Return a critical incident that is due now. ``fields`` override the defaults."""
    now = clock()
    given = {"severity": "critical", "first_seen": now - timedelta(minutes=5), "next_due_at": now, **fields}
    return Incident(incident_key=key, **given)


async def put(store: Store, *incidents: Incident) -> None:
    """Insert incidents. Clear next_due_at afterwards, because a trigger takes an insert without it for a host's."""

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
    """Record a worker's heartbeat at this instant; return the latest heartbeat before it."""
    clock.set(now)
    at, latest = await store.transact(lambda tx: tx.journal.record_heartbeat(worker, "1.0", tolerance=tolerance))
    same(now, at, "the store's instant")
    return latest


def walks(tx: Transaction) -> Walks:
    """Return the port."""
    found = walks_of(tx)
    assert found is not None, "the store has the port"
    return found


async def claimed_keys(store: Store, until: datetime, *, limit: int = 100, canary: Canary = WHOLE) -> list[str]:
    """Return the keys that a claim returns, in its order. Write nothing."""
    rows = await store.transact(lambda tx: tx.incidents.claim(until=until, limit=limit, canary=canary))
    return [row.incident_key for row in rows]


def same(expected: object, actual: object, what: str) -> None:
    """Assert that two values are equal, with both values in the message."""
    assert expected == actual, f"{what}: expected {expected!r}, got {actual!r}"


def no_secret(harness: NotifierHarness, *texts: object) -> None:
    """Assert that no text contains a secret of the harness, and no repr."""
    for text in texts:
        for secret in harness.secrets:
            assert secret not in str(text), "a text contains a secret"
            assert secret not in repr(text), "a text contains a secret"


def by_key(rows: Mapping[str, Mapping[str, Any]], key: str, *names: str) -> tuple[Any, ...]:
    """Return some columns of one row."""
    return tuple(rows[key][name] for name in names)
