"""Fixtures of the core's unit tests."""

import pytest

from escalation_core.testing import ManualClock, MemoryStore


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands at the kit's START."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """An empty store that tells the time by ``clock``."""
    return MemoryStore(clock)
