"""The operators' endpoints answer 503 while PostgreSQL is down, and work again after the outage."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import PostgresStore, migrate, pool
from escalation_core import Engine, Settings
from escalation_core.testing import ManualClock, RecordingNotifier

from ...postgres import own_server
from .problems import ACTIONS, is_problem, picture
from .service import SECRET, Service, serving


@own_server
@pytest.mark.parametrize("binding", ["aiohttp", "starlette"])
async def test_database_that_is_stopped(binding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While PostgreSQL is down, each route soon answers 503 and changes nothing. Afterwards the service recovers."""
    # The tests' client waits a shorter time: an answer that waited for the store to give up would be too late.
    monkeypatch.setattr(pool, "CONNECT_TIMEOUT", 20.0)
    with EmbeddedPostgres.start() as server:
        await migrate.up(server.dsn(), create=True)
        store = await PostgresStore.connect(server.dsn())
        settings, clock = Settings(ops_hmac_secret=SECRET), ManualClock(datetime.now(UTC))
        async with (
            Engine(store, settings=settings, notifiers=[RecordingNotifier()]) as engine,
            serving(binding, engine, clock) as service,
        ):
            await engine.open("k", severity="critical", first_seen=clock() - timedelta(minutes=6))
            assert 1 == (await engine.tick()).escalated
            before = await picture(service)
            server.crash()
            for answer in await asyncio.gather(
                *(service.act(action, **fields) for action, fields in ACTIONS.items()),
                *(service.get(path) for path in ("/health", "/audit", "/incident?key=k", "/oncall")),
                service.get("/health", None),
            ):
                assert is_problem(answer, 503)
                assert 1 <= int(answer.headers["retry-after"])
            server.restart()
            await recovered(service)
            assert before == await picture(service)
            assert 200 == (await service.act("pause", minutes=5)).status


async def recovered(service: Service) -> None:
    """Request health until it answers 200."""
    async with asyncio.timeout(60):
        while (await service.get("/health", None)).status != 200:  # noqa: ASYNC110 - a database sends no event
            await asyncio.sleep(0.05)
