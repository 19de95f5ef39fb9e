"""Delivery in a storm, on every store: worst first, superseded pages, fallbacks, unheard incidents."""

import logging
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from escalation_core import Budget, Engine, Outcome, Page, Rejected, Retry, Settings, SettingsRouter
from escalation_core.model import Incident, PageState
from escalation_core.ports import Store
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

from .harnesses import opened

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
SLOW = {"ops": Budget(rate=1)}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


@attrs.define
class Levels:
    """A router with the targets of each level; the last one counts for all later levels."""

    levels: Sequence[Sequence[str]]

    def route(self, _: Incident, level: int) -> Sequence[str]:
        return self.levels[min(level, len(self.levels)) - 1]


def engine_on(store: Store, notifier: RecordingNotifier, *levels: Sequence[str], **settings: Any) -> Engine:
    router = Levels(levels) if levels else SettingsRouter(default_target="ops")
    return Engine(store, settings=Settings(**settings), notifiers=[notifier], router=router)


async def opened_at(engine: Engine, clock: ManualClock, *keys: str, severity: str = "critical") -> None:
    for key in keys:
        await engine.open(key, severity=severity, first_seen=clock() - timedelta(hours=1))


def sent(notifier: RecordingNotifier) -> list[str]:
    return [page.incident.incident_key for page in notifier.pages]


async def states(store: Store) -> list[tuple[str, str]]:
    pages = await store.read(lambda tx: tx.outbox.pages(limit=100))
    return [(page.target, page.state.value) for page in pages]


# --- worst first


async def test_the_worst_pages_go_first(harness: StoreHarness) -> None:
    """By severity, then first pages before later ones, then the oldest."""
    clock = ManualClock(START)
    notifier = RecordingNotifier("ops")
    engine = engine_on(await harness.open(clock), notifier, snooze=MINUTE, budgets=SLOW)
    await opened_at(engine, clock, "info", severity="info")
    await opened_at(engine, clock, "other", severity="P2")
    await opened_at(engine, clock, "later")
    await engine.tick(deliver=False)
    clock.advance(5 * MINUTE)
    await opened_at(engine, clock, "first")
    await opened_at(engine, clock, "error", severity="Error ")
    await engine.tick(deliver=False)
    for _ in range(7):
        await engine.deliver()
        clock.advance(SECOND)
    assert ["first", "later", "error", "other", "info"] == sent(notifier)


async def test_the_order_of_severities_can_be_set(harness: StoreHarness) -> None:
    """A severity that the order does not name comes last, if it has no ``warning`` either."""
    clock = ManualClock(START)
    notifier = RecordingNotifier("ops")
    engine = engine_on(await harness.open(clock), notifier, severity_order=["P1", "P2"], budgets=SLOW)
    for key in ("critical", "p2", "p1"):
        await opened_at(engine, clock, key, severity=key)
    await engine.tick(deliver=False)
    for _ in range(3):
        await engine.deliver()
        clock.advance(SECOND)
    assert ["p1", "p2", "critical"] == sent(notifier)


async def test_no_page_waits_for_ever(harness: StoreHarness) -> None:
    """A page that has waited for ten minutes goes first, whatever it is."""
    clock = ManualClock(START)
    notifier = RecordingNotifier("ops")
    engine = engine_on(await harness.open(clock), notifier, budgets={"ops": Budget(rate=0.01)})
    await opened_at(engine, clock, "info", severity="info")
    await engine.tick(deliver=False)
    for number in range(8):
        await opened_at(engine, clock, f"critical {number}")
        await engine.tick(deliver=False)
        await engine.deliver()
        clock.advance(100 * SECOND)
    assert ["info", "critical 6"] == sent(notifier)[6:]


# --- superseded


async def test_a_newer_level_takes_the_place_of_an_unsent_page(harness: StoreHarness) -> None:
    """The page of level 1 was held back; when its turn comes, the one of level 2 is sent alone."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier = RecordingNotifier("ops")
    engine = engine_on(store, notifier, snooze=MINUTE)
    await opened_at(engine, clock, "a")
    await engine.tick(deliver=False)
    clock.advance(5 * MINUTE)
    await engine.tick()
    assert [2] == [page.level for page in notifier.pages]
    assert [("ops", "superseded"), ("ops", "delivered")] == await states(store)
    [old, _] = await store.read(lambda tx: tx.outbox.pages(limit=2))
    assert "superseded by the page of level 2" == old.reason


async def test_a_page_is_superseded_before_it_is_handed_over(harness: StoreHarness) -> None:
    """If both levels wait too long for a target, its fallback gets the newer one alone."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier, spare = RecordingNotifier("ops", answer=lambda page: Retry("down")), RecordingNotifier("spare")
    settings = Settings(fallbacks={"ops": "spare"}, snooze=MINUTE)
    router = SettingsRouter(default_target="ops")
    engine = Engine(store, settings=settings, notifiers=[notifier, spare], router=router)
    await opened_at(engine, clock, "a")
    await engine.tick(deliver=False)
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    clock.advance(4 * MINUTE)
    await engine.deliver()
    await engine.deliver()
    assert [2] == [page.level for page in spare.pages]
    assert [("ops", "superseded"), ("ops", "handed_over"), ("spare", "delivered")] == await states(store)


async def test_a_leased_page_is_not_superseded(harness: StoreHarness) -> None:
    """While a sender has the page, only its own attempt decides about it."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier = RecordingNotifier("ops", answer=lambda page: Retry("down"))
    engine = engine_on(store, notifier, snooze=MINUTE)
    await opened_at(engine, clock, "a")
    await engine.tick(deliver=False)
    clock.advance(5 * MINUTE)
    done = await store.transact(lambda tx: tx.outbox.claim({"ops": 1}, now=clock(), until=clock()))
    leased = attrs.evolve(done[0].page, state=PageState.LEASED, due_at=clock() + 30 * SECOND, fence=1)
    await store.transact(lambda tx: tx.outbox.write([leased]))
    await engine.tick()
    assert [("ops", "leased"), ("ops", "pending")] == await states(store)
    clock.advance(30 * SECOND)
    await engine.deliver()
    assert {("ops", "pending")} == set(await states(store))


# --- fallbacks


async def chain(
    harness: StoreHarness, clock: ManualClock, *broken: str, **settings: Any
) -> tuple[Store, Engine, RecordingNotifier]:
    """Return an engine whose target ``a`` falls back to ``b``, and ``b`` to ``c``. The broken targets refuse pages."""

    def answer(page: Page) -> Outcome:
        return Rejected("gone") if page.target in broken else RecordingNotifier("x").answer(page)

    store, notifier = await harness.open(clock), RecordingNotifier("a", "b", "c", answer=answer)
    engine = engine_on(store, notifier, ["a"], fallbacks={"a": "b", "b": "c"}, **settings)
    await opened_at(engine, clock, "k")
    return store, engine, notifier


async def test_the_last_of_a_chain_gets_the_page(harness: StoreHarness) -> None:
    """Two targets refuse for good: the third gets the page, under the same key."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock, "a", "b")
    report = await engine.tick()
    assert report.delivery is not None
    assert (0, 1) == (report.delivery.dead, report.delivery.delivered)
    assert ["a", "b", "c"] == [page.target for page in notifier.pages]
    assert 1 == len({page.dedup_key for page in notifier.pages})
    assert [("a", "handed_over"), ("b", "handed_over"), ("c", "delivered")] == await states(store)
    assert 0 == (await engine.health()).stats.unheard


async def test_a_chain_of_dead_ends_is_unheard_and_loud(
    harness: StoreHarness, caplog: pytest.LogCaptureFixture
) -> None:
    """The last page is dead, and the incident is in the log, in the audit and in health, until a page arrives."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock, "a", "b", "c", snooze=MINUTE)
    with caplog.at_level(logging.ERROR, "escalation_core"):
        await engine.tick()
    assert [("a", "handed_over"), ("b", "handed_over"), ("c", "dead")] == await states(store)
    said = [record.getMessage() for record in caplog.records if "unheard" in record.getMessage()]
    assert 1 == len(said)
    assert said[0].startswith(
        "incident 'k' is unheard: no page of level 1 was delivered, and none is tried again; see "
    )
    assert 1 == (await engine.health()).stats.unheard
    assert ["unheard"] == [one.action for one in await engine.audit(since=START) if "unheard" in one.action]
    await engine.retry_dead()
    await engine.deliver()
    assert ["unheard"] == [one.action for one in await engine.audit(since=START) if "unheard" in one.action]
    # Queued again is not arrived.
    notifier.answer = lambda page: Retry("down")
    await engine.retry_dead()
    await engine.deliver()
    assert 1 == (await engine.health()).stats.unheard
    # Nor is the next level, until its page arrives.
    clock.advance(5 * MINUTE)
    await engine.tick(deliver=False)
    assert 1 == (await engine.health()).stats.unheard
    notifier.answer = RecordingNotifier("x").answer
    await engine.deliver()
    assert 0 == (await engine.health()).stats.unheard


async def test_an_acknowledged_incident_is_not_unheard(harness: StoreHarness) -> None:
    """Someone knows of it."""
    clock = ManualClock(START)
    _, engine, _ = await chain(harness, clock, "a", "b", "c")
    await engine.tick()
    await engine.acknowledge("k", by="me")
    assert 0 == (await engine.health()).stats.unheard


async def test_an_undeliverable_page_is_unheard(harness: StoreHarness) -> None:
    """No notifier serves the target: the page is dead at once, and the same tick notes it."""
    clock = ManualClock(START)
    engine = engine_on(await harness.open(clock), RecordingNotifier("a"), ["b"])
    await opened_at(engine, clock, "k")
    await engine.tick()
    assert 1 == (await engine.health()).stats.unheard


async def test_a_page_that_takes_too_long_is_handed_over(harness: StoreHarness) -> None:
    """After three minutes, whether the target is throttled, has no slot or only fails."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock)
    notifier.answer = lambda page: (
        Retry("busy", timedelta(hours=1), throttled=True) if page.target == "a" else RecordingNotifier("x").answer(page)
    )
    await engine.tick()
    clock.advance(3 * MINUTE - SECOND)
    assert SECOND == await engine.next_claim_in()
    await engine.deliver()
    assert [("a", "pending")] == await states(store)
    clock.advance(SECOND)
    await engine.deliver()
    assert [("a", "handed_over"), ("b", "delivered")] == await states(store)
    [old, new] = await store.read(lambda tx: tx.outbox.pages(limit=2))
    assert "handed over to b: not delivered within 0:03:00; busy" == old.reason
    assert old.dedup_key == new.dedup_key


async def test_pauses_do_not_count(harness: StoreHarness) -> None:
    """A page that was recorded two minutes before a pause is handed over one minute after it."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock)
    notifier.answer = lambda page: Retry("down") if page.target == "a" else RecordingNotifier("x").answer(page)
    await engine.tick()
    clock.advance(2 * MINUTE)
    await engine.pause(30 * MINUTE)
    clock.advance(30 * MINUTE)
    await engine.deliver()
    assert [("a", "pending")] == await states(store)
    clock.advance(MINUTE - SECOND)
    await engine.deliver()
    assert [("a", "pending")] == await states(store)
    clock.advance(SECOND)
    await engine.deliver()
    assert [("a", "handed_over"), ("b", "delivered")] == await states(store)


async def test_a_fallback_that_has_the_page_already_gets_no_second_one(harness: StoreHarness) -> None:
    """Two targets of one level, of which one is the fallback of the other: its own page counts."""
    clock = ManualClock(START)
    store, notifier = await harness.open(clock), RecordingNotifier("a", "b")
    notifier.answer = lambda page: Rejected("gone") if page.target == "a" else RecordingNotifier("x").answer(page)
    engine = engine_on(store, notifier, ["a", "b"], fallbacks={"a": "b"})
    await opened_at(engine, clock, "k")
    await engine.tick()
    assert [("a", "handed_over"), ("b", "delivered")] == await states(store)
    assert ["a", "b"] == sorted(page.target for page in notifier.pages)


async def test_an_acknowledged_page_is_not_handed_over(harness: StoreHarness) -> None:
    """The fallback gets no page about an incident that ended."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock)
    notifier.answer = lambda page: Retry("down")
    await engine.tick()
    await engine.acknowledge("k", by="me")
    clock.advance(timedelta(hours=1))
    await engine.deliver()
    assert [("a", "cancelled")] == await states(store)


async def test_a_clock_that_is_set_back_delays_no_fallback(harness: StoreHarness) -> None:
    """A page that was recorded while the clock was two days ahead is handed over three minutes later all the same."""
    clock = ManualClock(START)
    store, engine, notifier = await chain(harness, clock)
    notifier.answer = lambda page: Retry("down") if page.target == "a" else RecordingNotifier("x").answer(page)
    await engine.tick()
    clock.set(START - timedelta(days=2))
    await engine.tick()
    clock.advance(3 * MINUTE)
    await engine.tick()
    assert [("a", "handed_over"), ("b", "delivered")] == (await states(store))[:2]
