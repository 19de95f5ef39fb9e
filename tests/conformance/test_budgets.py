"""A budget is honoured by all workers together, on every store."""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from escalation_core import Budget, Engine, Retry, Settings, SettingsRouter
from escalation_core.ports import Transaction
from escalation_core.testing import ManualClock, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

from .harnesses import opened

SECOND = timedelta(seconds=1)
SLACK = {"slack:ops": Budget(rate=1, burst=3)}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


async def workers(
    harness: StoreHarness, clock: ManualClock, pages: int, target: str = "slack:ops"
) -> tuple[list[Engine], RecordingNotifier]:
    """Return two engines on one store, with pages that are due for a target."""
    store = await harness.open(clock)
    notifier = RecordingNotifier("slack:ops", "free")
    router = SettingsRouter(default_target=target)
    engines = [
        Engine(one, settings=Settings(budgets=SLACK), notifiers=[notifier], router=router)
        for one in (store, await harness.again(store))
    ]
    for number in range(pages):
        await engines[0].open(f"k{number}", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engines[0].tick(deliver=False)
    return engines, notifier


async def test_workers_share_a_budget(harness: StoreHarness) -> None:
    """The burst goes at once, and then one page a second, whichever worker delivers."""
    clock = ManualClock(START)
    engines, notifier = await workers(harness, clock, 6)
    sent = []
    for _ in range(4):
        for engine in engines:
            await engine.deliver()
        sent.append(len(notifier.pages))
        clock.advance(SECOND)
    assert [3, 4, 5, 6] == sent
    assert 6 == len({page.dedup_key for page in notifier.pages})


async def test_a_worker_waits_for_the_next_slot(harness: StoreHarness) -> None:
    """The delivery loop sleeps until a slot is free, and not until the page was due."""
    clock = ManualClock(START)
    [engine, _], _ = await workers(harness, clock, 5)
    await engine.deliver()
    assert SECOND == await engine.next_claim_in()
    clock.advance(SECOND / 4)
    assert 0.75 * SECOND == await engine.next_claim_in()


async def test_a_clock_that_is_set_back_silences_no_target(harness: StoreHarness) -> None:
    """The slots that the clock before had taken are free."""
    clock = ManualClock(START)
    [engine, _], notifier = await workers(harness, clock, 3)
    await engine.deliver()
    clock.set(START - timedelta(days=2))
    await engine.open("late", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engine.tick()
    assert 4 == len(notifier.pages)


async def test_a_refusal_holds_the_target_and_its_slots_come_back(harness: StoreHarness) -> None:
    """A throttled target gets no page before its time, and then one at a time, at half of its rate."""
    clock = ManualClock(START)
    [engine, _], notifier = await workers(harness, clock, 6)
    notifier.answer = lambda _: Retry("busy", 20 * SECOND, throttled=True)
    await engine.deliver()
    assert 3 == len(notifier.pages)
    notifier.answer = RecordingNotifier("x").answer
    clock.advance(19 * SECOND)
    await engine.deliver()
    assert 3 == len(notifier.pages)
    sent = []
    for _ in range(5):
        clock.advance(SECOND)
        await engine.deliver()
        sent.append(len(notifier.pages))
    assert [4, 4, 5, 5, 6] == sent


async def test_a_target_without_a_budget_starts_small_after_a_refusal(harness: StoreHarness) -> None:
    """All workers send it one page a second then; when the rate has grown enough, it needs no limit any more."""
    clock = ManualClock(START)
    engines, notifier = await workers(harness, clock, 40, target="free")
    notifier.answer = lambda _: Retry("busy", SECOND, throttled=True)
    await engines[0].deliver()
    refused = len(notifier.pages)
    assert 8 == refused  # a worker sends no more at once before something has arrived
    notifier.answer = RecordingNotifier("x").answer
    sent = []
    for _ in range(4):
        clock.advance(SECOND)
        for engine in engines:
            await engine.deliver()
        sent.append(len(notifier.pages) - refused)
    assert [1, 2, 3, 4] == sent
    clock.advance(timedelta(hours=1))
    await engines[1].deliver()
    assert 40 == len(notifier.pages) - refused
    locked = await engines[0].store.transact(lambda tx: tx.outbox.lock_targets(["free"]))
    assert not locked["free"].slowed


async def test_a_target_without_a_budget_does_not_wait(harness: StoreHarness) -> None:
    """It has no row, and all of its pages go at once."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    notifier = RecordingNotifier("slack:ops", "free")
    engine = Engine(
        store,
        settings=Settings(budgets=SLACK),
        notifiers=[notifier],
        router=SettingsRouter(default_target="free"),
    )
    for number in range(9):
        await engine.open(f"k{number}", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engine.tick()
    assert ["free"] * 9 == [page.target for page in notifier.pages]
    assert {} == dict(await store.read(lambda tx: tx.outbox.due_targets()))


async def test_superseded_pages_in_front_cost_no_transaction_each(harness: StoreHarness) -> None:
    """One transaction ends those that stand before the page that is sent; a page without a slot stays as it is."""
    clock = ManualClock(START)
    [engine, _], notifier = await workers(harness, clock, 12)
    clock.advance(timedelta(hours=1))
    await engine.tick(deliver=False)
    await engine.start_pages()
    await engine.finish_pages()
    found = Counter(
        (page.level, page.state.value) for page in await engine.store.read(lambda tx: tx.outbox.pages(limit=99))
    )
    assert {(1, "superseded"): 12, (2, "delivered"): 3, (2, "pending"): 9} == found
    assert 3 == len(notifier.pages)


async def test_without_a_budget_no_page_is_claimed_that_is_not_sent(harness: StoreHarness) -> None:
    """Its target's row is not locked, so other workers look for pages at the same time."""
    clock = ManualClock(START)
    [engine, _], _ = await workers(harness, clock, 40, target="free")

    async def work(tx: Transaction) -> list[tuple[int, int]]:
        shares = engine._delivery.shares  # what a claim asks for is visible nowhere else
        found = await shares.claimable(tx, await tx.outbox.due_targets(), until=clock(), now=clock())
        return [(share.pages, share.slots) for share in found.values()]

    [(pages, slots)] = await engine.store.transact(work)
    assert pages == slots
