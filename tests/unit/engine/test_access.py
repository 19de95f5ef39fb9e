"""Access to the store: each call of an engine checks the store first, until it is ready."""

from collections.abc import Awaitable, Callable

import pytest

from escalation_core import Engine, StoreNotReady
from escalation_core.testing import ManualClock, MemoryStore

from ..kit import START, engine_of


class UnreadyStore(MemoryStore):
    """A store that is not migrated until a test sets ``ready``."""

    ready = False
    checks = 0

    async def check(self) -> None:
        self.checks += 1
        if not self.ready:
            raise StoreNotReady("run escalation migrate up")


CALLS: list[Callable[[Engine], Awaitable[object]]] = [
    lambda engine: engine.tick(),
    lambda engine: engine.tick(dry_run=True),
    lambda engine: engine.deliver(),
    lambda engine: engine.open("k"),
    lambda engine: engine.acknowledge("k"),
    lambda engine: engine.health(),
    lambda engine: engine.history("k"),
    lambda engine: engine.dead(),
    lambda engine: engine.audit(START),
    lambda engine: engine.recalc(),
    lambda engine: engine.request_recalc(),
    lambda engine: engine.retry_dead(),
    lambda engine: engine.__aenter__(),
]


@pytest.mark.parametrize("call", CALLS)
async def test_store_that_is_not_ready_stops_every_call(
    call: Callable[[Engine], Awaitable[object]], clock: ManualClock
) -> None:
    """Each call checks the store first until the store is ready; after that no call checks it again."""
    store = UnreadyStore(clock)
    engine = engine_of(store)
    for _ in range(2):
        with pytest.raises(StoreNotReady):
            await call(engine)
    store.ready = True
    await engine.tick()
    await engine.tick()
    assert 3 == store.checks
