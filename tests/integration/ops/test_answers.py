"""The operators' endpoints answer exactly where a simple answer would mislead. The binding does not matter here."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .service import SECRET, Service, serving

START = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    clock = ManualClock(START)
    engine = Engine(MemoryStore(clock), settings=Settings(ops_hmac_secret=SECRET), notifiers=[RecordingNotifier()])
    async with serving("aiohttp", engine, clock) as running:
        yield running


async def test_a_pause_within_a_longer_one(service: Service) -> None:
    """The answer to a pause within a longer pause has the end of the longer pause."""
    for minutes in (60, 5):
        answer = await service.act("pause", minutes=minutes)
        assert {"paused_until": (START + timedelta(hours=1)).isoformat()} == answer.json


@pytest.mark.parametrize("action", ["acknowledge", "resolve", "drain"])
async def test_a_row_that_cannot_be_read_is_a_conflict(service: Service, action: str) -> None:
    """An action on an unreadable row gets 409 with the row's fault. The problem names the field ``incident_key``."""
    store = service.engine.store
    assert isinstance(store, MemoryStore)
    await store.host.insert("k", severity="critical", first_seen=START, level=-1)
    answer = await service.act(action, incident_key="k")
    assert (409, "incident_key") == (answer.status, answer.json["field"])
    assert "it is unreadable; correct its row: level: is -1" in answer.json["detail"]
