"""The engine: its arguments, concurrent calls, warnings, the time to the next tick, and closing."""

import asyncio
import logging
from typing import Any

import pytest

from escalation_core import Engine, EscalationError, InvalidValue, Route, Settings, StoreUnavailable, TickReport
from escalation_core.model import Canary, NextDue
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, SECOND, GatedNotifier, engine_of
from ..rules.test_sleep import LEAST, ZERO

# --- arguments and warnings


def test_engines_arguments_are_checked(store: MemoryStore) -> None:
    """A worker's name must be text, and a batch must have at least one row."""
    for field, given in [("worker", "\0"), ("worker", 7), ("batch_size", 0), ("batch_size", True)]:
        arguments: dict[str, Any] = {field: given}
        with pytest.raises(InvalidValue) as caught:
            Engine(store, **arguments)
        assert field == caught.value.field


def test_two_notifiers_of_one_target_are_refused(store: MemoryStore) -> None:
    """Two notifiers that serve the same target are refused, since either could send a page."""
    with pytest.raises(InvalidValue, match="two of them serve 'test'") as caught:
        Engine(store, notifiers=[RecordingNotifier(), RecordingNotifier("other", "test")])
    assert "notifiers" == caught.value.field


async def test_workers_have_names_of_their_own(store: MemoryStore) -> None:
    """Each engine without a worker name gets a different name."""
    engines = [Engine(store) for _ in range(3)]
    for engine in engines:
        await engine.tick()
    assert {engine.worker for engine in engines} == set(store.beats)
    assert 3 == (await engines[0].health()).workers


async def test_a_heartbeat_url_without_a_heartbeat(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    """A heartbeat URL without a heartbeat is warned of once, with the remedy and without the URL."""

    class Watched:
        async def beat(self) -> None:
            pass

    settings = Settings(heartbeat_url="https://example.org/T0HUSH")
    for heartbeat, warnings in ((None, 1), (Watched(), 0)):
        caplog.clear()
        engine = Engine(store, settings=settings, notifiers=[RecordingNotifier()], heartbeat=heartbeat)
        await engine.tick()
        await engine.tick()
        said = [record.message for record in caplog.records if "ESC_HEARTBEAT_URL" in record.message]
        assert warnings == len(said)
        assert all("heartbeat=HttpHeartbeat" in line for line in said)
        assert "T0HUSH" not in "".join(said)


async def test_engine_tells_once_what_would_make_pages_dead(
    store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The first tick warns once of a missing notifier, targets without a notifier, and incidents without a route."""
    alone = Engine(store)
    routed = engine_of(store, routes=[Route(targets=["test", "nowhere"]), Route(targets=["nowhere"])])
    partial = engine_of(store, RecordingNotifier("a", "b"), routes=[Route(min_level=2, targets=["a"])])
    for _ in range(2):
        await alone.tick()
        await routed.tick()
        await partial.tick()
    assert [
        "this engine has no notifier: it records escalations, and their pages are dead",
        "a route names the target 'nowhere', and no notifier serves it",
        "an incident that no route matches has no target and is never paged: set ESC_DEFAULT_TARGET",
    ] == [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- concurrent calls, and delivery after a tick


async def test_second_tick_joins_the_first(store: MemoryStore, clock: ManualClock) -> None:
    """Two concurrent ticks of one engine are one tick with one report; a dry run joins no other tick."""
    notifier = GatedNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    first = asyncio.create_task(engine.tick())
    await notifier.begun.wait()
    second = asyncio.create_task(engine.tick())
    rehearsal = await engine.tick(dry_run=True)
    assert True is rehearsal.dry_run
    assert 0 == rehearsal.escalated
    assert False is second.done()
    notifier.gate.set()
    assert await first is await second
    assert (1, 1) == ((await first).escalated, len(notifier.pages))


class HeldStore(MemoryStore):
    """A store that blocks the start of a tick until ``gate`` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.gate = asyncio.Event()

    async def next_due(self, *, canary: Canary | None, pages: bool = False) -> NextDue:
        await self.gate.wait()
        return await super().next_due(canary=canary, pages=pages)


@pytest.mark.parametrize("leaver", [None, 0, 1])
async def test_tick_that_joins_one_that_only_records_delivers(leaver: int | None, clock: ManualClock) -> None:
    """A caller that asks for delivery gets it, even if it joins a tick without; a cancelled caller harms no other."""
    store, notifier = HeldStore(clock), RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    ticks = [asyncio.create_task(engine.tick(deliver=deliver)) for deliver in (False, True, True)]
    await asyncio.sleep(0.01)
    if leaver is not None:
        ticks[leaver].cancel()
        await asyncio.sleep(0)
    store.gate.set()
    ends = await asyncio.gather(*ticks, return_exceptions=True)
    told = [None if isinstance(end, BaseException) else (end.escalated, end.delivery is not None) for end in ends]
    expected = [(1, False), (1, True), (1, True)]
    assert told == [None if number == leaver else each for number, each in enumerate(expected)]
    last = ends[2]
    assert isinstance(last, TickReport)
    assert last.delivery is not None
    assert (1, 1) == (last.delivery.delivered, len(notifier.pages))


async def test_tick_delivers_unless_it_is_told_not_to(store: MemoryStore, clock: ManualClock) -> None:
    """A tick records escalations and then sends pages; with deliver=False it only records."""
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    report = await engine.tick(deliver=False)
    assert 1 == report.escalated
    assert None is report.delivery
    assert [] == notifier.pages
    report = await engine.tick()
    assert report.delivery is not None
    assert (0, 1) == (report.escalated, report.delivery.delivered)


# --- the time to the next tick


async def test_engine_asks_its_store_for_the_next_row(store: MemoryStore, clock: ManualClock) -> None:
    """The engine sleeps until its earliest incident is due."""
    engine = Engine(store, settings=Settings(tick_interval=10 * MINUTE))
    await engine.open("k", severity="critical")
    clock.advance(MINUTE)
    assert 4 * MINUTE == await engine.next_tick_in(await engine.tick())
    await engine.acknowledge("k")
    assert 10 * MINUTE == await engine.next_tick_in(await engine.tick())


async def test_canary_outsiders_shorten_no_sleep(store: MemoryStore, clock: ManualClock) -> None:
    """A row outside this engine's canary does not shorten its sleep."""
    engine = Engine(store, settings=Settings(tick_interval=10 * MINUTE, canary_pct=10))
    await engine.open("k2", severity="critical")
    assert 10 * MINUTE == await engine.next_tick_in(await engine.tick())
    await engine.open("k0", severity="critical")
    assert 5 * MINUTE == await engine.next_tick_in(await engine.tick())


async def test_recalculation_wants_the_next_tick_at_once(store: MemoryStore) -> None:
    """While a recalculation runs, the engine does not sleep."""
    assert ZERO == await Engine(store).next_tick_in(TickReport(recalculating=True))


async def test_engine_asks_its_store_for_the_next_page(store: MemoryStore, clock: ManualClock) -> None:
    """The delivery loop sleeps until the next due page to a target that this engine serves; throttled targets count."""
    engine = Engine(store, notifiers=[RecordingNotifier()])
    assert MINUTE == await engine.next_claim_in()
    await engine.open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    assert LEAST == await engine.next_claim_in()
    await store.transact(lambda tx: tx.outbox.throttle_target("test", clock() + 20 * SECOND))
    assert 20 * SECOND == await engine.next_claim_in()
    assert MINUTE == await Engine(store, notifiers=[RecordingNotifier("other")]).next_claim_in()


# --- opening and closing


async def test_store_whose_first_check_failed_is_closed(clock: ManualClock) -> None:
    """An engine whose store is not ready closes its store and notifiers, since an open pool keeps a process alive."""
    closed: list[str] = []

    class Unready(MemoryStore):
        async def check(self) -> None:
            raise StoreUnavailable("not now")

        async def aclose(self) -> None:
            closed.append("store")

    class Closing(RecordingNotifier):
        async def aclose(self) -> None:
            closed.append("notifier")

    with pytest.raises(StoreUnavailable, match="not now"):
        async with Engine(Unready(clock), notifiers=[Closing()]):
            pass
    assert ["notifier", "store"] == closed


async def test_closing_closes_everything(store: MemoryStore) -> None:
    """If one notifier fails to close, the engine still closes the others and the store, and raises the error."""
    closed: list[str] = []

    class Closing(RecordingNotifier):
        async def aclose(self) -> None:
            closed.append(self.targets[0])
            if self.targets[0] == "a":
                raise OSError("stuck")

    class Store(MemoryStore):
        async def aclose(self) -> None:
            closed.append("store")

    with pytest.raises(OSError, match="stuck"):
        await Engine(Store(), notifiers=[Closing("a"), Closing("b")]).aclose()
    assert ["a", "b", "store"] == sorted(closed)


def test_second_event_loop_is_refused(store: MemoryStore) -> None:
    """An engine that ticked in one event loop refuses another and names the remedy; verbs work in any loop."""
    engine = engine_of(store)
    asyncio.run(engine.tick())
    for call in (engine.tick, engine.deliver):
        with pytest.raises(EscalationError, match=r"another event loop .* async with Engine"):
            asyncio.run(call())
    asyncio.run(engine.open("k"))
