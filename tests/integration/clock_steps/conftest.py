"""Fixtures: a clock that a test can set, and each store with that clock."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from escalation_core import Store
from escalation_core.testing import ManualClock
from escalation_core.testing.conformance import StoreHarness

from ...conformance.harnesses import opened
from .steps import START


@pytest.fixture
def clock() -> ManualClock:
    """The store's clock."""
    return ManualClock(START)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    """Yield a harness of each store."""
    async with opened(request, tmp_path) as made:
        yield made


@pytest.fixture
async def store(harness: StoreHarness, clock: ManualClock) -> Store:
    """Return an empty store that uses ``clock``."""
    return await harness.open(clock)
