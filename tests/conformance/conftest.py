"""Shared by checks of stores: a harness of each store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from escalation_core.testing.conformance import StoreHarness

from .harnesses import opened


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    """A harness of each store."""
    async with opened(request, tmp_path) as made:
        yield made
