"""Fixtures of the core's unit tests."""

import pytest

from escalation_core.testing import ManualClock, MemoryStore

from .kit import START
from .walking import Night


@pytest.fixture
def clock() -> ManualClock:
    """A clock that shows the kit's START until a test moves it."""
    return ManualClock(START)


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    """An empty store that takes its time from ``clock``."""
    return MemoryStore(clock)


@pytest.fixture
def night(store: MemoryStore, clock: ManualClock) -> Night:
    """An engine with a policies file, on ``store``."""
    return Night(clock, store)
