"""Dead pages that return: the engine queues them again, routes them anew, or cancels them."""

from typing import Any

import pytest

from escalation_core import Delivered, Engine, Rejected, Route, Settings
from escalation_core.model import By
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier

from ..kit import MINUTE, START, BrokenRouter, Named, actions, picture, row, states
from .delivery import engine_of, escalated


async def test_dead_page_is_queued_again_under_its_key(store: MemoryStore, clock: ManualClock) -> None:
    """A dead page is sent again under the same dedup key, and the audit names the actor."""
    await escalated(store, clock)
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    result = await engine.retry_dead(by="op")
    assert (1, 0) == (result.queued, result.left)
    assert ["pending"] == states(store)
    await engine.deliver()
    assert [store.ledger[1].unique_hash] == [page.dedup_key for page in notifier.pages]
    note = list(store.notes.values())[-1]
    assert "dead retry" == note.action
    assert "op" == note.actor
    assert "1 pages queued, 0 cancelled" == note.reason


async def test_only_named_pages_are_queued_again(store: MemoryStore, clock: ManualClock) -> None:
    """With ids only those pages are queued; duplicate ids, unknown ids and pages that are not dead are skipped."""
    await escalated(store, clock, keys=["a", "b", "c"])
    gone = RecordingNotifier(answer=lambda page: Rejected("x") if page.incident.incident_key != "c" else Delivered())
    await engine_of(store, gone).deliver()
    result = await engine_of(store, RecordingNotifier()).retry_dead([2, 2, 3, 99])
    assert (1, 0) == (result.queued, result.left)
    assert ["dead", "pending", "delivered"] == states(store)


async def test_unroutable_page_is_routed_anew(store: MemoryStore, clock: ManualClock) -> None:
    """A page without a target goes to the targets that the router names now; the old page is cancelled."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await Engine(store, router=Named()).tick()
    notifier = RecordingNotifier("a", "b")
    engine = Engine(store, notifiers=[notifier], router=Named("a", "b"))
    result = await engine.retry_dead()
    assert (1, 0) == (result.queued, result.left)
    assert ["cancelled", "pending", "pending"] == states(store)
    assert "routed again" == store.pages[1].reason
    await engine.deliver()
    assert [("a", 1), ("b", 1)] == sorted((page.target, page.level) for page in notifier.pages)
    assert {store.ledger[1].unique_hash} == {page.dedup_key for page in notifier.pages}


async def test_routing_anew_is_for_the_level_of_the_page(store: MemoryStore, clock: ManualClock) -> None:
    """The engine routes a page by the level of the page, even if its incident has escalated since."""
    await Engine(store).open("k", severity="critical")
    silent = Engine(store, router=Named())
    for _ in range(2):
        clock.advance(30 * MINUTE)
        await silent.tick()
    routes = [Route(targets=["low"]), Route(min_level=2, targets=["high"])]
    engine = Engine(store, notifiers=[RecordingNotifier("low", "high")], settings=Settings(routes=routes))
    await engine.retry_dead()
    pending = [page for page in store.pages.values() if page.state == "pending"]
    assert [("low", 1), ("high", 2)] == [(page.target, page.level) for page in pending]


@pytest.mark.parametrize("router", [Named(), Named("nowhere"), BrokenRouter()])
async def test_page_that_is_still_unroutable_stays_dead(router: Any, store: MemoryStore, clock: ManualClock) -> None:
    """While the router names no target, or no notifier serves the target, a dead page stays and nothing is written."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    engine = Engine(store, router=router)
    await engine.tick()
    before = picture(store)
    result = await engine.retry_dead(by="op")
    assert (0, 1) == (result.queued, result.left)
    assert before == picture(store)


async def test_dead_pages_of_ended_incidents_are_cancelled(store: MemoryStore, clock: ManualClock) -> None:
    """A retry cancels the dead page of a resolved or deleted incident, even if the page cannot be routed."""
    await Engine(store).open("k", severity="critical")
    clock.advance(5 * MINUTE)
    await Engine(store, router=Named()).tick()
    await store.host.delete("k")
    result = await Engine(store, notifiers=[RecordingNotifier()]).retry_dead(reason="cleaning up")
    assert 0 == result.queued
    assert 1 == result.cancelled
    assert 0 == result.left
    assert [("cancelled", "deleted")] == [(page.state, page.reason) for page in store.pages.values()]
    assert "0 pages queued, 1 cancelled: cleaning up" == list(store.notes.values())[-1].reason


async def test_more_dead_pages_than_one_batch(store: MemoryStore, clock: ManualClock) -> None:
    """retry_dead queues all dead pages, in transactions of bounded size."""
    await escalated(store, clock, keys=[f"k{number}" for number in range(501)])
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    engine = engine_of(store, RecordingNotifier())
    assert 501 == (await engine.retry_dead()).queued
    assert 2 == actions(store).count("dead retry")
    assert 501 == (await engine.deliver()).delivered


async def test_retried_page_of_an_ended_incident_is_cancelled(store: MemoryStore, clock: ManualClock) -> None:
    """A dead page that is queued again after its incident ended is cancelled, not sent."""
    await escalated(store, clock)
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    notifier = RecordingNotifier()
    engine = engine_of(store, notifier)
    await engine.resolve("k")
    await engine.retry_dead()
    await engine.deliver()
    assert ([], ["cancelled"]) == (notifier.pages, states(store))
    assert START == row(store)["first_seen"]


async def test_page_from_before_an_acknowledgement_is_cancelled(store: MemoryStore, clock: ManualClock) -> None:
    """A dead page is not queued again if its incident was acknowledged since, also after that has ended."""
    await escalated(store, clock)
    engine = engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone")))
    await engine.deliver()
    clock.advance(MINUTE)
    await engine.acknowledge("k", by="ann")
    await engine.unacknowledge("k", by="ann")
    result = await engine.retry_dead()
    assert (0, 1) == (result.queued, result.cancelled)
    assert ("cancelled", "acknowledged") == (store.pages[1].state, store.pages[1].reason)


@pytest.mark.parametrize("action", ["unacknowledge", "ack_expired", "1,000 others"])
async def test_page_from_before_an_acknowledgement_without_its_note(
    action: str, store: MemoryStore, clock: ManualClock
) -> None:
    """The end of an acknowledgement proves it as well. Among very many notes it may be one that is not read."""
    await escalated(store, clock)
    await engine_of(store, RecordingNotifier(answer=lambda page: Rejected("gone"))).deliver()
    incident = await store.read(lambda tx: tx.incidents.load("k"))
    actions_then = [action] if action != "1,000 others" else ["change_severity"] * 1000
    clock.advance(MINUTE)
    await store.transact(
        lambda tx: tx.journal.note([By().entry(clock(), one, incident=incident) for one in actions_then])
    )
    result = await engine_of(store, RecordingNotifier()).retry_dead()
    assert (0, 1) == (result.queued, result.cancelled)
