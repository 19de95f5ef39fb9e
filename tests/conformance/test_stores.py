"""Our own stores, held against every promise of the ports."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from escalation_core.testing.conformance import STORE_CHECKS, StoreHarness

from .harnesses import MemoryHarness, PostgresHarness, SQLiteHarness

Check = Callable[[StoreHarness], Awaitable[None]]


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


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_promise(check: Check, harness: StoreHarness) -> None:
    """The store does what the port promises; the check's own docstring says which promise."""
    await check(harness)
