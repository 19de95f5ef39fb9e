"""The search for unheard incidents when the store does not let it end."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from escalation_core import Delivered, DeliveryReport, Engine, Outcome, Page, Rejected, StoreRefused, StoreUnavailable
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import HOUR, MINUTE
from .delivery import engine_of, escalated

Result = TypeVar("Result")
SAYS = (
    "incident 'k' is unheard: no page of level 1 was delivered, and none is tried again; see escalation list --unheard"
)


class SearchFails(MemoryStore):
    """A store that does not write the notes of the search while it has an error to raise."""

    error: BaseException | None = None

    async def transact(self, work: Callable[[Transaction], Awaitable[Result]]) -> Result:
        if self.error is not None and getattr(work, "__name__", "") == "_note":
            raise self.error
        return await super().transact(work)


async def lost(clock: ManualClock) -> tuple[SearchFails, Engine]:
    """Return an engine with a page that its receiver will refuse, and one that will arrive."""
    store = SearchFails(clock)
    await escalated(store, clock, keys=["k", "ok"])

    def answer(page: Page) -> Outcome:
        return Rejected("gone") if page.incident.incident_key == "k" else Delivered()

    return store, engine_of(store, RecordingNotifier("test", answer=answer))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreRefused("no right to write"), "no right to write"),
        (ValueError("a secret"), "ValueError"),
    ],
)
async def test_a_search_that_fails_costs_no_report(
    error: Exception, told: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The pass reports what it did, and logs the error once. The next tick searches again, and raises it."""
    store, engine = await lost(clock)
    store.error = error
    assert DeliveryReport(sent=2, delivered=1, dead=1) == await engine.deliver()
    said = [record.message for record in caplog.records if "search" in record.message]
    [line] = said
    assert line.startswith("the search for unheard incidents failed, and the next tick repeats it: ")
    assert told in line
    assert "a secret" not in line
    clock.advance(MINUTE)
    with pytest.raises(type(error)):
        await engine.tick()
    store.error = None
    clock.advance(MINUTE)
    await engine.tick(deliver=False)
    assert [SAYS] == [record.message for record in caplog.records if record.message == SAYS]


async def test_a_store_that_is_away_is_asked_again_in_the_same_pass(clock: ManualClock) -> None:
    """Two searches of a pass fail; the next pass searches again although nothing is due."""
    store, engine = await lost(clock)
    store.error = StoreUnavailable("it is down")
    assert DeliveryReport(sent=2, delivered=1, dead=1) == await engine.deliver()
    store.error = None
    assert DeliveryReport() == await engine.deliver()
    assert 1 == (await engine.health()).stats.unheard


async def test_a_pass_that_is_cancelled_while_it_searches_is_reported_by_the_next(clock: ManualClock) -> None:
    """Its counts stay for the next report."""
    store, engine = await lost(clock)
    store.error = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await engine.deliver()
    store.error = None
    clock.advance(HOUR)
    assert DeliveryReport(sent=2, delivered=1, dead=1) == await engine.deliver()
