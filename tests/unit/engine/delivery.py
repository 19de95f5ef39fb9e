"""Shared by tests of delivery: pending pages, an engine that sends them, and a store that is unreachable."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from escalation_core import Engine, Notifier, RetryPolicy, Settings, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, Named

Result = TypeVar("Result")


async def escalated(store: MemoryStore, clock: ManualClock, *targets: str, keys: Sequence[str] = ("k",)) -> None:
    """Record one escalation of each key, with pending pages to each target, at START + 5 minutes."""
    targets = targets or ("test",)
    engine = Engine(store, router=Named(*targets), notifiers=[RecordingNotifier(*targets)])
    for key in keys:
        await engine.open(key, severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert (len(keys), len(keys) * len(targets)) == (report.escalated, report.pages)


def engine_of(store: MemoryStore, *notifiers: Notifier, **fields: Any) -> Engine:
    """Return an engine; the retry times among the fields go to its retry policy, all other fields to Settings."""
    names = {"lease", "send_timeout", "per_target", "first", "longest", "horizon", "throttle"}
    retry = {name: value for name, value in fields.items() if name in names}
    rest = {name: value for name, value in fields.items() if name not in names}
    return Engine(store, notifiers=notifiers, settings=Settings(retry=RetryPolicy(**retry), **rest))


class FailingStore(MemoryStore):
    """A store that is unreachable while ``down``."""

    down = False

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.down:
            raise StoreUnavailable("it is down")
        return await super().transact(work)
