"""The operators' endpoints while PostgreSQL is down, and after it came back."""

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
    """Every route answers 503 long before the store gives up, nothing is done, and it recovers by itself."""
    # Longer than the client of these tests waits: what waited for the store to give up would not be heard.
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
                *(service.get(path) for path in ("/health", "/audit", "/incident?key=k")),
                service.get("/health", None),
            ):
                assert is_problem(answer, 503)
                assert 1 <= int(answer.headers["retry-after"])
            server.restart()
            await recovered(service)
            assert before == await picture(service)
            assert 200 == (await service.act("pause", minutes=5)).status


async def recovered(service: Service) -> None:
    """Ask for health until it is green."""
    async with asyncio.timeout(60):
        while (await service.get("/health", None)).status != 200:  # noqa: ASYNC110 - a database sends no event
            await asyncio.sleep(0.05)
