"""Notices in the engine: they take no page's place, and no failure of the store sends one again."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import Budget, Delivered, Engine, Notice, Outcome, Page, Policies, Retry
from escalation_core.engine import deliver
from escalation_core.testing import ManualClock, MemoryStore, TellingNotifier

from ..kit import HOUR, MINUTE
from .delivery import FailingStore, engine_of


async def paged(engine: Engine, clock: ManualClock, *keys: str) -> None:
    """Open incidents and page them at level 1."""
    for key in keys:
        await engine.open(key, severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick()


async def test_no_notice_while_a_page_waits_for_capacity(store: MemoryStore, clock: ManualClock) -> None:
    """A page that hangs fills the target's window. A second page waits, and a notice waits behind it."""
    hangs, gate = False, asyncio.Event()

    class Hanging(TellingNotifier):
        async def send(self, page: Page) -> Outcome:
            if hangs:
                await gate.wait()
            return await super().send(page)

    notifier = Hanging("ops")
    engine = engine_of(store, notifier, per_target=1)
    await paged(engine, clock, "old")
    hangs = True
    for key in ("a", "b"):
        await engine.open(key, severity="critical")
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    await engine.resolve("old")
    await engine.tick(deliver=False)
    while await engine.start_pages():
        pass
    assert [] == notifier.notices
    gate.set()
    await engine.finish_pages()
    await engine.deliver()
    assert (3, 1) == (len(notifier.pages), len(notifier.notices))


async def test_a_loop_waits_for_the_slot_of_a_notice(store: MemoryStore, clock: ManualClock) -> None:
    """Half of a burst stays free for pages, so a notice waits for the second slot, and the loop does not spin."""
    notifier = TellingNotifier("ops")
    engine = engine_of(store, notifier, budgets={"ops": Budget(rate=0.1, burst=2)}, per_target=8)
    await paged(engine, clock, "old")
    clock.advance(MINUTE)
    await paged(engine, clock, "new")
    await engine.resolve("old")
    await engine.tick(deliver=False)
    await engine.start_pages()
    assert [] == notifier.notices
    wait = await engine.next_claim_in()
    assert timedelta() < wait
    clock.advance(wait)
    await engine.deliver()
    assert 1 == len(notifier.notices)


async def test_notices_take_a_quarter_of_the_window(store: MemoryStore, clock: ManualClock) -> None:
    """And what becomes of them does not change the window, which is learnt from pages alone."""
    notifier = TellingNotifier("ops")
    engine = engine_of(store, notifier, per_target=16)
    senders = engine._delivery.senders
    keys = [f"k{number}" for number in range(40)]
    await paged(engine, clock, *keys)
    assert (16, 4) == (2 * senders.capacity("ops"), senders.notice_capacity("ops"))
    for key in keys:
        await engine.resolve(key)
    notifier.answer_notice = lambda notice: Retry("down")
    await engine.tick()
    assert notifier.notices
    assert (16, 4) == (2 * senders.capacity("ops"), senders.notice_capacity("ops"))


async def test_notices_do_not_change_the_health_of_a_target(store: MemoryStore, clock: ManualClock) -> None:
    """A receiver may refuse notices and take pages."""
    notifier = TellingNotifier("ops")
    engine = engine_of(store, notifier)
    await paged(engine, clock, "k")
    before = (await engine.health()).targets["ops"]
    notifier.answer_notice = lambda notice: Retry("no notices")
    await engine.resolve("k")
    clock.advance(MINUTE)
    await engine.tick()
    assert (1, before) == (len(notifier.notices), (await engine.health()).targets["ops"])


async def test_a_notice_is_settled_after_the_store_is_back(clock: ManualClock) -> None:
    """The store fails after the notice was sent: the outcome is kept, and no second copy is sent."""
    store = FailingStore(clock)

    class Telling(TellingNotifier):
        async def tell(self, notice: Notice) -> Outcome:
            store.down = True
            return await super().tell(notice)

    notifier = Telling("ops")
    engine = engine_of(store, notifier)
    await paged(engine, clock, "k")
    await engine.resolve("k")
    with pytest.raises(Exception, match="it is down"):
        await engine.tick()
    store.down = False
    clock.advance(HOUR)
    await engine.tick()
    assert 1 == len(notifier.notices)
    assert ["delivered"] == [one.state.value for one in store.notices.values()]


async def test_a_tick_that_makes_notices_wakes_delivery(store: MemoryStore, clock: ManualClock) -> None:
    """A worker's delivery loop waits for pages meanwhile."""
    notifier = TellingNotifier("ops")
    engine = engine_of(store, notifier)
    await paged(engine, clock, "k")
    waiting = asyncio.create_task(engine.wait_for_pages(HOUR))
    await asyncio.sleep(0)
    await engine.resolve("k")
    await engine.tick(deliver=False)
    await asyncio.wait_for(waiting, 5)
    await engine.start_pages()
    await engine.finish_pages()
    assert 1 == len(notifier.notices)


async def test_a_pass_tells_for_a_limited_time(
    store: MemoryStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's tick waits for its pass, so after some seconds the pass only sends pages."""
    notifier = TellingNotifier("ops")
    engine = engine_of(store, notifier)
    await paged(engine, clock, "old")
    await engine.resolve("old")
    monkeypatch.setattr(deliver, "MAX_TELLING_TIME", timedelta())
    await paged(engine, clock, "new")
    assert (2, 0) == (len(notifier.pages), len(notifier.notices))
    monkeypatch.undo()
    await engine.deliver()
    assert 1 == len(notifier.notices)


async def test_a_page_names_the_targets_of_lower_levels(store: MemoryStore, clock: ManualClock) -> None:
    """Not those of its own level, whichever of its pages arrives first."""
    tries: list[Page] = []

    def answer(page: Page) -> Outcome:
        tries.append(page)
        return Retry("down") if page.target == "a" and page.attempt == 1 else Delivered()

    engine = engine_of(store, TellingNotifier("a", "b", "c", answer=answer))
    file: dict[str, Any] = {"levels": [{"after": "5m", "to": ["b"]}, {"after": "5m", "to": ["a", "c"]}]}
    engine.use_policies(Policies.from_mapping({"policies": {"p": file}, "assign": [{"policy": "p"}]}))
    await engine.open("k", severity="critical")
    for wait in (5, 5, 1):
        clock.advance(wait * MINUTE)
        await engine.tick()
    assert [("b", ()), ("a", ("b",)), ("c", ("b",)), ("a", ("b",))] == [
        (page.target, tuple(page.paged_before)) for page in tries
    ]
