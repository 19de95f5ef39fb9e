"""The manual clock of the test kit."""

from datetime import UTC, datetime, timedelta

import pytest

from escalation_core import Engine, InvalidValue
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier


def test_starts_now_and_stands_still() -> None:
    """A clock without a start shows the instant at which it was made, until it is moved."""
    before = datetime.now(UTC)
    clock = ManualClock()
    shown = clock()
    assert before <= shown <= datetime.now(UTC)
    assert clock() == shown
    assert clock.advance(timedelta(minutes=5)) == shown + timedelta(minutes=5)


def test_start_is_aware() -> None:
    """A naive start is refused."""
    with pytest.raises(InvalidValue, match="start"):
        ManualClock(datetime(2025, 1, 1))  # noqa: DTZ001 - naive on purpose


async def test_row_of_today_escalates() -> None:
    """A row that the host wrote with the real time escalates under a clock without a start."""
    clock = ManualClock()
    store = MemoryStore(clock)
    async with Engine(store, notifiers=[RecordingNotifier()]) as engine:
        await store.host.insert("k", severity="critical", first_seen=datetime.now(UTC) - timedelta(minutes=6))
        assert 1 == (await engine.tick()).escalated
