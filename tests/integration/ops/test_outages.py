"""If the database, a limiter or a login is down or hangs, each request gets an answer and does nothing."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import attrs
import pytest

from escalation_adapters.auth.rate_limit import Decision, Limit
from escalation_adapters.auth.rbac import Principal
from escalation_core import StoreUnavailable
from escalation_core.testing import ManualClock, MemoryStore

from .problems import ACTIONS, MINUTE, engine_of, is_problem
from .service import BINDINGS, SECRET, cookie, serving


class Down(MemoryStore):
    """A store that is unavailable while ``down`` is set."""

    down = False

    async def transact(self, work: Any) -> Any:
        self._check()
        return await super().transact(work)

    async def read(self, work: Any) -> Any:
        self._check()
        return await super().read(work)

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable(f"PostgreSQL is not available: {SECRET}")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_database_that_is_down(binding: str, clock: ManualClock) -> None:
    """While the database is down, each route answers 503 with Retry-After and shows no detail of the fault."""
    store = Down(clock)
    async with serving(binding, engine_of(clock, store), clock) as service:
        store.down = True
        answers = [await service.act(action, **fields) for action, fields in ACTIONS.items()]
        answers += [await service.get(path) for path in ("/health", "/audit", "/incident?key=k", "/oncall")]
        for answer in answers:
            assert is_problem(answer, 503)
            assert 1 <= int(answer.headers["retry-after"])


class Stubborn(MemoryStore):
    """A store that hangs behind a driver that ignores cancellation."""

    hangs = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.free = asyncio.Event()

    async def transact(self, work: Any) -> Any:
        while self.hangs and not self.free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self.free.wait()
        return await super().transact(work)

    read = transact


@pytest.mark.parametrize("binding", BINDINGS)
async def test_database_that_hangs(binding: str, clock: ManualClock) -> None:
    """Each request gets 503 soon, although the driver still waits. No action runs, neither then nor later."""
    store = Stubborn(clock)
    async with serving(binding, engine_of(clock, store), clock) as service:
        handler = service.handler
        handler.guard = attrs.evolve(handler.guard, store_timeout=timedelta(seconds=0.05))
        store.hangs = True
        try:
            answers = [await service.act(action, **fields) for action, fields in ACTIONS.items()]
            answers += [await service.get(path) for path in ("/health", "/audit", "/incident?key=k", "/oncall")]
            answers += [await service.get("/health", None)]
        finally:
            store.free.set()
        for answer in answers:
            assert is_problem(answer, 503)
            assert 1 <= int(answer.headers["retry-after"])
        assert 200 == (await service.get("/health")).status
        assert [] == [e for e in await service.engine.audit(clock() - MINUTE) if e.action in ACTIONS]


class Broken:
    """A limiter that is down."""

    async def hit(self, key: str, limit: Limit) -> Decision:
        raise OSError(f"redis://:{SECRET}@h is gone")


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limiter_that_is_down_refuses(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """If the principals' limiter is down, no principal is admitted. If the peers' limiter is down, no request is."""
    async with serving(binding, engine_of(clock), clock, limiter=Broken()) as service:
        for answer in (await service.act("tick"), await service.get("/health")):
            assert is_problem(answer, 503)
        assert 200 == (await service.get("/health", None)).status
    async with serving(binding, engine_of(clock), clock, peer_limiter=Broken()) as service:
        for answer in (await service.act("tick"), await service.get("/health", None)):
            assert is_problem(answer, 503)
    assert "OSError" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("binding", BINDINGS)
async def test_request_without_a_secret_costs_the_database_nothing(binding: str, clock: ManualClock) -> None:
    """A request without a valid signature gets 401 and does not reach the store, which is down."""

    class Down(MemoryStore):
        async def transact(self, work: Any) -> Any:
            raise StoreUnavailable("down")

        read = transact

    async with serving(binding, engine_of(clock, Down(clock)), clock) as service:
        body = b'{"action": "tick"}'
        assert is_problem(await service.send("POST", "/tick", cookie("ada"), body), 401, "webhook-id")
        wrong = service.signed(body, secret="w" * 40)
        assert is_problem(await service.send("POST", "/tick", [*wrong, *cookie("ada")], body), 401, "webhook-signature")
        assert is_problem(await service.send("POST", "/tick", [*service.signed(body), *cookie("ada")], body), 503)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_limiter_and_login_that_hang(binding: str, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """A limiter that hangs counts as down. A login that hangs or fails does not affect the probe's health."""

    class Hanging:
        async def hit(self, key: str, limit: Limit) -> Decision:
            await asyncio.Event().wait()
            raise AssertionError

    async def never(native: object) -> Principal | None:
        await asyncio.Event().wait()
        raise AssertionError

    def broken(native: object) -> Principal | None:
        raise RuntimeError("the session database is down")

    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"limiter": Hanging()}, "/health", 503),
        ({"peer_limiter": Hanging()}, "/health", 503),
        ({"login": never}, "/health", 200),
        ({"login": broken}, "/health", 200),
        ({"login": never}, "/audit", 503),
    ]
    for options, path, status in cases:
        async with serving(binding, engine_of(clock), clock, **options) as service:
            handler = service.handler
            short = timedelta(seconds=0.05)
            handler.guard = attrs.evolve(handler.guard, request_timeout=short, store_timeout=short)
            answer = await service.get(path)
            assert status == answer.status
            assert status == 200 or int(answer.headers["retry-after"]) > 0
    assert "the rate limiter is down" in caplog.text
