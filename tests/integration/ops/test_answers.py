"""What the operators' endpoints answer where the plain answer would mislead; bindings have no say in it."""

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
    """The answer is until when paging is paused, not until when this pause alone would last."""
    for minutes in (60, 5):
        answer = await service.act("pause", minutes=minutes)
        assert {"paused_until": (START + timedelta(hours=1)).isoformat()} == answer.json


@pytest.mark.parametrize("action", ["acknowledge", "resolve", "drain"])
async def test_a_row_that_cannot_be_read_is_a_conflict(service: Service, action: str) -> None:
    """An action on such a row is refused with its fault: no field of the request is at fault but the key itself."""
    store = service.engine.store
    assert isinstance(store, MemoryStore)
    await store.host.insert("k", severity="critical", first_seen=START, level=-1)
    answer = await service.act(action, incident_key="k")
    assert (409, "incident_key") == (answer.status, answer.json["field"])
    assert "it is unreadable; correct its row: level: is -1" in answer.json["detail"]
