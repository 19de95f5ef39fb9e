"""Limits cap the requests that a principal and a peer may send."""

import asyncio
import socket
import tracemalloc
from collections import Counter
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

from escalation_adapters.auth.rate_limit import Limit, MemoryLimiter
from escalation_adapters.ops import Limits, OpsHandler, Request
from escalation_adapters.postgres import PostgresStore
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_adapters.postgres.pool import Pool
from escalation_core import Engine
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from .problems import SETTINGS, engine_of, is_problem
from .service import BINDINGS, Service, listening, mounted, serving


async def test_ten_ticks_a_minute(service: Service) -> None:
    """A principal's eleventh tick within a minute gets 429 with Retry-After, and does nothing."""
    assert [200] * 10 == [(await service.act("tick", dry_run=True)).status for _ in range(10)]
    refused = await service.act("tick")
    assert is_problem(refused, 429)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert 200 == (await service.act("pause", minutes=1)).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_peer_is_limited_before_anything_is_looked_at(binding: str, clock: ManualClock) -> None:
    """Wrong signatures use up their peer's limit. A trusted proxy names the peer, and an IPv6 /64 is one peer."""
    limits = Limits(peer=Limit(3))
    async with serving(binding, engine_of(clock), clock, limits=limits, proxies=["127.0.0.0/8"]) as service:
        body = b'{"action": "tick"}'

        async def request_of(client: str) -> int:
            headers = [("x-forwarded-for", client), *service.signed(body, secret="w" * 40)]
            answer = await service.send("POST", "/tick", headers, body)
            assert answer.status != 429 or 1 <= int(answer.headers["retry-after"]) <= 60
            return answer.status

        assert [401, 401, 401, 429] == [await request_of("192.0.2.1") for _ in range(4)]
        assert [401, 429] == [await request_of("192.0.2.2"), await request_of("1.1.1.1, 192.0.2.1")]
        assert [401, 401, 401, 429] == [await request_of(f"2001:db8::{n}") for n in range(4)]


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limits_are_each_principals_and_each_routes_own(binding: str, clock: ManualClock) -> None:
    """Each principal and each route has its own limit: actions, views and detailed health are limited."""
    limits = Limits(act=Limit(2), tick=Limit(2), look=Limit(2))
    async with serving(binding, engine_of(clock), clock, limits=limits) as service:
        for action in ("tick", "recalc", "resume"):
            statuses = [(await service.act(action)).status for _ in range(3)]
            assert [429] == [status for status in statuses if status not in (200, 202)]
            assert [429] == statuses[-1:]
        assert {200} == {(await service.act("tick", user="carol")).status}
        for path in ("/audit", "/incident?key=none", "/health"):
            answers = [(await service.get(path)) for _ in range(3)]
            assert 429 == answers[-1].status != answers[-2].status
            assert int(answers[-1].headers["retry-after"]) > 0
        assert 200 == (await service.send("GET", "/health", [])).status


@pytest.mark.parametrize("binding", BINDINGS)
async def test_forwarded_for_is_not_believed(binding: str, clock: ManualClock) -> None:
    """Without a configured proxy the endpoints ignore X-Forwarded-For."""
    async with serving(binding, engine_of(clock), clock, limits=Limits(peer=Limit(2))) as service:
        answers = [await service.send("GET", "/health", [("x-forwarded-for", f"10.0.0.{n}")]) for n in range(3)]
        assert [200, 200, 429] == [answer.status for answer in answers]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
@pytest.mark.parametrize("binding", BINDINGS)
async def test_proxy_at_a_unix_socket(binding: str, clock: ManualClock, tmp_path: Path) -> None:
    """Requests through a Unix socket count together, or by X-Forwarded-For if the settings trust the proxy."""
    for proxies, statuses in (((), [200, 200, 429]), (("unix",), [200, 200, 200])):
        handler = OpsHandler(engine_of(clock), limits=Limits(peer=Limit(2)), proxies=proxies)
        path = str(tmp_path / f"{len(proxies)}.sock")
        async with (
            listening(mounted(binding, handler), path),
            ClientSession(connector=UnixConnector(path)) as http,
        ):
            for number, status in enumerate(statuses):
                headers = {"X-Forwarded-For": f"10.0.0.{number}"}
                async with http.get("http://localhost/ops/escalation/health", headers=headers) as answer:
                    assert status == answer.status


WHO = ContextVar("WHO", default="ticks")
"""The task that takes a connection: ``ticks`` or ``flood``."""


async def flood(handler: OpsHandler, engine: Engine, count: int) -> tuple[Counter[int], list[int]]:
    """Send wrong signatures while the engine ticks. Return the statuses, and the numbers of requests between ticks."""
    statuses: Counter[int] = Counter()
    ticked_at = [0]

    async def read(most: int) -> bytes:
        return b'{"action": "tick"}'

    async def requests() -> None:
        WHO.set("flood")
        for number in range(count):
            sent = {b"webhook-id": b"m%d" % number, b"webhook-timestamp": b"1", b"webhook-signature": b"v1,AAAA"}
            request = Request(method="POST", path="/tick", headers=list(sent.items()), peer="192.0.2.1", read=read)
            statuses[(await handler.handle(request)).status] += 1
            await asyncio.sleep(0)

    flooding = asyncio.create_task(requests())
    while not flooding.done():
        await engine.tick()
        ticked_at.append(statuses.total())
        await asyncio.sleep(0)
    await flooding
    return statuses, [later - earlier for earlier, later in pairwise(ticked_at)]


async def test_ten_thousand_wrong_signatures(clock: ManualClock) -> None:
    """Wrong signatures use up only their peer's limit: they write no row, memory stays flat, and ticks go on."""
    store = MemoryStore(clock)
    limiter, peers = MemoryLimiter(), MemoryLimiter()
    engine = engine_of(clock, store)
    handler = OpsHandler(engine, login=lambda native: None, limiter=limiter, peer_limiter=peers)
    await flood(handler, engine, 1)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    found, between = await flood(handler, engine, 10_000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert {401: 119, 429: 9881} == found
    assert {} == store.requests
    assert 0 == len(limiter._hits)
    assert 1 == len(peers._hits)
    assert grown < 500_000
    # No tick waits for 100 requests, so the flood does not keep out ticks.
    assert len(between) > 100
    assert max(between) < 100


async def test_ten_thousand_wrong_signatures_beside_a_limiter_in_the_database(
    migrated_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong signatures write no row, and take no database connection that ticks may need."""
    borrowers: Counter[str] = Counter()
    lent = Pool.connection

    def counted(self: Pool, longest: float | None = None) -> Any:
        borrowers[WHO.get()] += 1
        return lent(self, longest)

    monkeypatch.setattr(Pool, "connection", counted)
    store = await PostgresStore.connect(migrated_dsn)
    async with Engine(store, settings=SETTINGS, notifiers=[RecordingNotifier("test")]) as engine:
        handler = OpsHandler(engine, login=lambda native: None, limiter=PostgresLimiter(store))
        found, between = await flood(handler, engine, 10_000)
        async with store._pool.connection() as connection:
            rows = await connection.execute(
                "SELECT (SELECT count(*) FROM escalation_rate_limits), (SELECT count(*) FROM escalation_requests)"
            )
            assert (0, 0) == await rows.fetchone()
    assert {401: 120, 429: 9880} == found
    assert 0 == borrowers["flood"]
    assert borrowers["ticks"] > len(between) > 5
