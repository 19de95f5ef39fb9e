"""What checks of stores share: a harness of each of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from escalation_core.testing.conformance import StoreHarness

from .harnesses import MemoryHarness, PostgresHarness, SQLiteHarness


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    """A harness of each store."""
    made: MemoryHarness | SQLiteHarness | PostgresHarness
    if request.param == "memory":
        made = MemoryHarness()
    elif request.param == "sqlite":
        made = SQLiteHarness(tmp_path)
    else:
        server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("migrated_template")
        made = PostgresHarness(server, template)
    yield made
    await made.aclose()
