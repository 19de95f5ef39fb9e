"""Following the audit: each entry once, although entries commit late and in any order, over outages and clock steps."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from escalation_adapters.cli import tail
from escalation_adapters.cli.tail import Reader, follow
from escalation_core import AuditEntry, Engine, StoreError, StoreNotReady, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
Result = TypeVar("Result")


class Unsteady(MemoryStore):
    """A store in memory whose database can go away."""

    away = False
    fault: type[StoreError] = StoreUnavailable

    async def read(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.away:
            raise self.fault("the database is away")
        return await super().read(work)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 3, 14, tzinfo=UTC))


@pytest.fixture
def store(clock: ManualClock) -> Unsteady:
    return Unsteady(clock)


@pytest.fixture
def engine(store: Unsteady) -> Engine:
    return Engine(store, notifiers=[RecordingNotifier()])


async def note(store: MemoryStore, action: str, at: datetime) -> None:
    """Commit an entry of an instant."""
    await store.transact(lambda tx: tx.journal.note([AuditEntry(at=at, action=action)]))


async def new(reader: Reader) -> Sequence[str]:
    """Return the actions of the new entries."""
    entries, _ = await reader.read()
    return [entry.action for entry in entries]


async def test_each_entry_once(engine: Engine, store: Unsteady, clock: ManualClock) -> None:
    """A read returns the entries since the beginning, oldest first; the next ones return only new entries."""
    for ago in (60, 9, 8):
        await note(store, f"{ago} minutes ago", clock() - ago * MINUTE)
    reader = Reader(engine, clock() - 10 * MINUTE)
    assert ["9 minutes ago", "8 minutes ago"] == await new(reader)
    await engine.open("k", severity="critical")
    assert ["open"] == await new(reader)
    assert [] == await new(reader)
    clock.advance(6 * MINUTE)
    await engine.tick()
    assert {"escalate", "page delivered"} == set(await new(reader))
    for _ in range(20):
        clock.advance(MINUTE)
        assert [] == await new(reader)


async def test_late_entries(engine: Engine, store: Unsteady, clock: ManualClock) -> None:
    """Entries that commit up to five minutes after their instant are found, in any order, and none is doubled."""
    reader = Reader(engine, clock())
    clock.advance(HOUR)
    found: list[str] = []
    for step in range(60):
        await note(store, f"now {step}", clock())
        await note(store, f"late {step}", clock() - timedelta(seconds=step * 5))
        found += await new(reader)
        clock.advance(timedelta(seconds=7))
    expected = [f"{kind} {step}" for step in range(60) for kind in ("now", "late")]
    assert sorted(expected) == sorted(found)


@pytest.mark.parametrize("fault", [StoreUnavailable, StoreNotReady])
async def test_outage(
    engine: Engine, fault: type[StoreError], store: Unsteady, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage of hours is reported once, and so is its end; no entry of that time is lost."""
    store.fault = fault
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.0)
    await engine.check()
    said: list[str] = []
    turns = 0
    seen: list[str] = []

    class Stepped(Reader):
        async def read(self) -> tuple[Sequence[AuditEntry], datetime]:
            nonlocal turns
            turns += 1
            store.away = 2 <= turns < 6
            if turns == 4:
                clock.advance(5 * HOUR)
                await note(store, "in the outage", clock() - 3 * HOUR)
            return await super().read()

    async for entries, _ in follow(Stepped(engine, clock()), said.append):
        seen += [entry.action for entry in entries]
        if turns == 8:
            break
    assert ["in the outage"] == seen
    assert [
        "escalation: the database is away; trying again",
        "escalation: the database answers again",
    ] == said


async def test_clock_steps_back(engine: Engine, store: Unsteady, clock: ManualClock) -> None:
    """After the store's clock stepped back, new entries are found and old ones are not doubled."""
    reader = Reader(engine, clock() - MINUTE)
    await note(store, "before", clock())
    assert ["before"] == await new(reader)
    clock.advance(-2 * HOUR)
    await note(store, "after", clock())
    assert ["after"] == await new(reader)
    clock.advance(MINUTE)
    await note(store, "later", clock())
    assert ["later"] == await new(reader)


async def test_storm(engine: Engine, store: Unsteady, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries than one transaction reads come in pages; what is remembered is bounded, and none is doubled."""
    monkeypatch.setattr(tail, "MAX_READ", 10)
    monkeypatch.setattr(tail, "MAX_SEEN", 50)
    reader = Reader(engine, clock())
    found: list[str] = []
    expected: list[str] = []
    for step in range(30):
        for number in range(25):
            expected.append(f"{step}.{number}")
            await note(store, expected[-1], clock() + timedelta(milliseconds=number))
        found += await new(reader)
        clock.advance(2 * MINUTE)
    assert expected == found
    assert len(reader._seen) <= 50 + 4 * 25
