"""The chaotic run of ``docs/how-to/write-a-store.md`` finds no violation in correct stores, and finds defects."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import attrs
import pytest

import chaos
from escalation_core.model import Incident, NewPage, PageRecord
from escalation_core.testing import ManualClock, MemoryStore
from escalation_core.testing.conformance.harness import START
from escalation_core.testing.memory import incidents, outbox
from json_store import JsonStore

SEEDS = range(4)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the workers from logging each connection that is cut."""
    caplog.set_level("CRITICAL", "escalation_core")


@pytest.mark.parametrize("seed", SEEDS)
async def test_memory_store_keeps_the_promise(seed: int) -> None:
    """The memory store keeps every invariant, in runs with many escalations, faults and duplicate sends."""
    clock = ManualClock(START)
    run = chaos.Run(MemoryStore(clock), clock, seed)
    assert [] == await run.violations()
    history = await run.recorder.history()
    kinds = [fault.kind for fault in history.faults]
    assert len(history.escalations) > 50
    assert kinds.count("kill") > 20
    assert kinds.count("stall") > 10
    accepted = [request.dedup_key for request in history.requests if request.accepted]
    assert len(accepted) > len(set(accepted)), "no copy was sent, so the run proves little"
    assert "unknown" not in {change.worker for change in history.changes}


async def test_json_store_keeps_the_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's store keeps every invariant; it writes a whole file per transaction, so this run is short."""
    monkeypatch.setattr(chaos, "STEPS", 60)
    monkeypatch.setattr(chaos, "QUIET_TICKS", 40)
    clock = ManualClock(START)
    assert [] == await chaos.violations(JsonStore(tmp_path / "store.json", clock), clock, seed=1)


async def _settles_blindly(self: outbox.Outbox, pages: Sequence[PageRecord]) -> AbstractSet[int]:
    """Settle each page that a worker sent, even if another worker has claimed it since."""
    await self.write([attrs.evolve(page, fence=self.store.pages[page.id].fence + 1) for page in pages])
    return {page.id for page in pages}


async def _cancels_nothing(self: outbox.Outbox, incident_key: str, reason: str, now: object) -> int:
    return 0


async def _loses_pages(self: outbox.Outbox, pages: Sequence[NewPage], now: object) -> None:
    pass


async def _advances_nothing(self: incidents.Incidents, rows: Sequence[Incident]) -> None:
    pass


BROKEN: Mapping[str, tuple[type, str, Callable[..., Awaitable[Any]], str]] = {
    "settles blindly": (outbox.Outbox, "settle", _settles_blindly, "I5"),
    "cancels nothing": (outbox.Outbox, "cancel", _cancels_nothing, "I6"),
    "loses pages": (outbox.Outbox, "enqueue", _loses_pages, "I3"),
    "advances nothing": (incidents.Incidents, "advance", _advances_nothing, "I1"),
}


@pytest.mark.parametrize("broken", list(BROKEN))
async def test_broken_store_is_found(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that breaks the promise in one way violates the right invariant within a few seeds."""
    owner, name, replacement, invariant = BROKEN[broken]
    monkeypatch.setattr(owner, name, replacement)
    found: set[str] = set()
    for seed in range(5):
        clock = ManualClock(START)
        found |= {violation.invariant for violation in await chaos.violations(MemoryStore(clock), clock, seed)}
        if invariant in found:
            return
    pytest.fail(f"a store that {broken} broke {sorted(found)}, and not {invariant}")
