"""Fixtures: a manual clock, and a service of the operators' endpoints on each binding."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from escalation_core.testing import ManualClock

from .problems import MINUTE, engine_of
from .service import BINDINGS, Service, serving


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 1, 1, 12, tzinfo=UTC))


@pytest.fixture(params=BINDINGS)
async def service(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Service]:
    """A service with one critical incident ``k`` at level 1."""
    engine = engine_of(clock)
    await engine.open("k", severity="critical", summary="Disk nearly full", by="monitoring")
    clock.advance(5 * MINUTE)
    await engine.tick()
    async with serving(request.param, engine, clock) as running:
        yield running
