"""Bundles on every store: one message about many pages, if more wait than the budget of the target takes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from escalation_core import (
    Budget,
    Bundle,
    Delivered,
    Engine,
    InvalidValue,
    Outcome,
    Page,
    Rejected,
    Retry,
    Settings,
    SettingsRouter,
)
from escalation_core.model import PageRecord, PageState
from escalation_core.ports import Store
from escalation_core.testing import BundlingNotifier, ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

from .harnesses import opened

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
AT_ONCE = {"ops": Budget(rate=1, burst=20)}
"""A budget of which one pass sends twenty messages."""


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


def engine_on(store: Store, notifier: RecordingNotifier, **settings: Any) -> Engine:
    return Engine(
        store,
        settings=Settings(**{"budgets": {"ops": Budget(rate=1)}} | settings),
        notifiers=[notifier],
        router=SettingsRouter(default_target="ops"),
    )


async def storm(
    harness: StoreHarness, clock: ManualClock, pages: int, notifier: RecordingNotifier, **settings: Any
) -> tuple[Store, Engine]:
    """Return an engine with pages that wait: the last three are critical, the others warnings."""
    store = await harness.open(clock)
    engine = engine_on(store, notifier, **settings)
    for number in range(pages):
        severity = "critical" if number >= pages - 3 else "warning"
        await engine.open(f"k{number:03}", severity=severity, first_seen=clock() - timedelta(hours=1))
    await engine.tick(deliver=False)
    return store, engine


class GatedBundles(BundlingNotifier):
    """Refuses the first bundle, after the test lets it go on."""

    def __init__(self, *targets: str) -> None:
        super().__init__(*targets)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def send_bundle(self, bundle: Bundle) -> Outcome:
        await super().send_bundle(bundle)
        if self.go_on.is_set():
            return Delivered()
        self.begun.set()
        await self.go_on.wait()
        return Rejected("bad text")


async def records(store: Store) -> list[PageRecord]:
    return list(await store.read(lambda tx: tx.outbox.pages(limit=9999)))


async def test_what_a_budget_cannot_take_is_bundled(harness: StoreHarness) -> None:
    """Eleven pages wait, and the budget takes ten in ten seconds: one message tells of all, worst first."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    store, engine = await storm(harness, clock, 11, notifier)
    report = await engine.deliver()
    [bundle] = notifier.bundles
    assert (11, 11) == (report.sent, report.delivered)
    assert ["critical"] * 3 + ["warning"] * 8 == [page.incident.severity for page in bundle.pages]
    assert 11 == len({page.dedup_key for page in bundle.pages})
    assert bundle.dedup_key not in {page.dedup_key for page in bundle.pages}
    assert {(PageState.DELIVERED, bundle.dedup_key)} == {(page.state, page.bundle) for page in await records(store)}
    said = [entry.reason for entry in await engine.audit(since=START) if entry.action == "page delivered"]
    assert [f"in bundle {bundle.dedup_key}"] * 11 == said


async def test_the_worst_are_named_although_others_have_waited_for_long(harness: StoreHarness) -> None:
    """What has waited for ten minutes is in the first bundle, and in it the worst pages come first."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    _, engine = await storm(harness, clock, 20, notifier)
    clock.advance(11 * MINUTE)
    await engine.open("worst", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engine.open("least", severity="info", first_seen=clock() - timedelta(hours=1))
    await engine.tick()
    assert 22 == len(notifier.bundles[0].pages)
    assert ["critical"] * 4 == [page.incident.severity for page in notifier.bundles[0].pages][:4]
    assert "least" == notifier.bundles[0].pages[-1].incident.incident_key


async def test_few_pages_go_one_by_one(harness: StoreHarness) -> None:
    """Ten pages wait: each has its own message when its turn comes. The time can be set."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    _, engine = await storm(harness, clock, 10, notifier)
    await engine.deliver()
    assert (1, []) == (len(notifier.pages), notifier.bundles)
    await engine_on(engine.store, notifier, bundle_after=9 * SECOND).deliver()
    clock.advance(SECOND)
    await engine_on(engine.store, notifier, bundle_after=8 * SECOND).deliver()
    assert [9] == [len(bundle.pages) for bundle in notifier.bundles]


async def test_a_channel_that_cannot_bundle_gets_no_bundle(harness: StoreHarness) -> None:
    """Without ``send_bundle`` all pages go one by one."""
    clock, notifier = ManualClock(START), RecordingNotifier("ops")
    _, engine = await storm(harness, clock, 12, notifier)
    await engine.deliver()
    assert 1 == len(notifier.pages)


async def test_a_bundle_has_at_most_a_thousand_pages(harness: StoreHarness) -> None:
    """The others wait for the next slot."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    _, engine = await storm(harness, clock, 1015, notifier)
    await engine.deliver()
    clock.advance(SECOND)
    await engine.deliver()
    assert [1000, 15] == [len(bundle.pages) for bundle in notifier.bundles]
    assert 1015 == len({page.incident.incident_key for page in notifier.pages})


async def test_a_retry_keeps_the_key_and_the_pages(harness: StoreHarness) -> None:
    """Pages that come later go elsewhere, and those of incidents that ended fall out."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Retry("down"))
    store, engine = await storm(harness, clock, 11, notifier)
    await engine.deliver()
    await engine.resolve("k004")
    for number in range(11):
        await engine.open(f"late{number}", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engine.tick(deliver=False)
    clock.advance(MINUTE)
    notifier.answer_bundle = BundlingNotifier("x").answer_bundle
    for _ in range(3):
        await engine.deliver()
        clock.advance(SECOND)
    first, *later = notifier.bundles
    assert {11, 10} == {len(bundle.pages) for bundle in later}
    [again] = [bundle for bundle in later if bundle.dedup_key == first.dedup_key]
    kept = {page.incident.incident_key for page in first.pages} - {"k004"}
    assert kept == {page.incident.incident_key for page in again.pages}
    assert (1, 2) == (first.attempt, again.attempt)
    assert 2 == len(later)
    assert {PageState.DELIVERED, PageState.CANCELLED} == {page.state for page in await records(store)}


async def test_a_retried_bundle_leaves_out_what_is_superseded(harness: StoreHarness) -> None:
    """An incident rose while its page was in a bundle that failed: only the page of the new level is sent."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Retry("down"))
    _, engine = await storm(harness, clock, 12, notifier, snooze=MINUTE, critical_window=MINUTE)
    await engine.deliver()
    clock.advance(2 * MINUTE)
    await engine.tick(deliver=False)
    notifier.answer_bundle = BundlingNotifier("x").answer_bundle
    for _ in range(5):
        await engine.deliver()
        clock.advance(SECOND)
    later = [page for bundle in notifier.bundles[1:] for page in bundle.pages]
    later += [page for page in notifier.pages if page not in later and page.level == 2]
    assert {"k009": 2, "k010": 2, "k011": 2} == {
        page.incident.incident_key: page.level for page in later if page.incident.severity == "critical"
    }
    assert 12 == len({page.incident.incident_key for page in later})


async def test_a_throttled_bundle_is_tried_again_as_it_is(harness: StoreHarness) -> None:
    """A 429 counts as no attempt, and the bundle stays together."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Retry("busy", 5 * SECOND, throttled=True))
    _, engine = await storm(harness, clock, 20, notifier)
    await engine.deliver()
    clock.advance(5 * SECOND)
    await engine.deliver()
    first, second = notifier.bundles
    again = [attrs.evolve(page, at=first.pages[0].at) for page in second.pages]
    assert (first.dedup_key, first.pages, 1) == (second.dedup_key, again, second.attempt)


def poisoned(clock: ManualClock, *keys: str) -> BundlingNotifier:
    """Return a notifier whose receiver refuses each message that tells of one of these incidents, after a second."""

    def answer(*pages: Page) -> Outcome:
        clock.advance(SECOND)
        bad = any(page.incident.incident_key in keys for page in pages)
        return Rejected("bad text") if bad else Delivered()

    return BundlingNotifier("ops", answer=answer, answer_bundle=lambda bundle: answer(*bundle.pages))


def by_size(bundle: Bundle, answers: Mapping[int, Outcome]) -> Outcome:
    """Return the answer to a bundle of so many pages; Delivered without one."""
    return answers.get(len(bundle.pages), Delivered())


@pytest.mark.parametrize("poison", ["k000", "k021", "k063"])
async def test_one_page_with_a_fault_costs_two_messages_for_each_halving(harness: StoreHarness, poison: str) -> None:
    """Of 64 pages one is refused: one pass sends the first message and twelve more, and only this page is dead."""
    clock = ManualClock(START)
    notifier = poisoned(clock, poison)
    store, engine = await storm(harness, clock, 64, notifier, budgets=AT_ONCE)
    await engine.deliver()
    assert {poison: PageState.DEAD} == {
        page.incident_key: page.state for page in await records(store) if page.state is not PageState.DELIVERED
    }
    [dead] = await store.read(lambda tx: tx.outbox.pages(limit=9, state=PageState.DEAD))
    assert ("bad text", None, 2) == (dead.reason, dead.bundle, dead.attempts)
    sizes = [len(bundle.pages) for bundle in notifier.bundles]
    assert {64: 1, 32: 2, 16: 2, 8: 2, 4: 2, 2: 2} == Counter(sizes)
    assert 11 == len({bundle.dedup_key for bundle in notifier.bundles})
    assert 2 == len(notifier.pages) - sum(sizes)
    clock.advance(MINUTE)
    await engine.deliver()
    assert 11 == len(notifier.bundles)


async def test_the_worst_half_of_a_refused_bundle_goes_first(harness: StoreHarness) -> None:
    """Both halves are due at once, each with the worst first, under keys that are neither the bundle's nor a page's."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: by_size(bundle, {12: Rejected("bad text")}))
    _, engine = await storm(harness, clock, 12, notifier, budgets=AT_ONCE)
    await engine.deliver()
    first, worst, rest = notifier.bundles
    assert (6, 6, 2) == (len(worst.pages), len(rest.pages), worst.attempt)
    halves = [attrs.evolve(page, attempt=1) for page in (*worst.pages, *rest.pages)]
    assert list(first.pages) == halves
    assert 3 == len({bundle.dedup_key for bundle in notifier.bundles} - {page.dedup_key for page in first.pages})


async def test_a_half_is_tried_again_as_a_bundle(harness: StoreHarness) -> None:
    """It keeps its key and its pages, except those that ended meanwhile."""
    clock = ManualClock(START)
    answers: dict[int, Outcome] = {12: Rejected("bad text"), 6: Retry("down")}
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: by_size(bundle, answers))
    store, engine = await storm(harness, clock, 12, notifier, budgets=AT_ONCE)
    await engine.deliver()
    await engine.resolve("k011")
    answers.clear()
    clock.advance(MINUTE)
    await engine.deliver()
    _, *tried, again, also = notifier.bundles
    assert {one.dedup_key: len(one.pages) for one in tried} == {again.dedup_key: 6, also.dedup_key: 6}
    assert {5, 6} == {len(again.pages), len(also.pages)}
    assert {PageState.DELIVERED: 11, PageState.CANCELLED: 1} == Counter(page.state for page in await records(store))


async def test_only_what_is_still_to_be_sent_is_halved(harness: StoreHarness) -> None:
    """Incidents that end while their bundle is being sent leave it: of three that are left, one goes alone."""
    clock, notifier = ManualClock(START), GatedBundles("ops")
    store, engine = await storm(harness, clock, 12, notifier)
    delivering = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    for number in range(9):
        await engine.resolve(f"k{number:03}")
    notifier.go_on.set()
    await delivering
    left = [page for page in await records(store) if page.state is PageState.PENDING]
    assert {("refused in a bundle: bad text", 1)} == {(page.reason, page.attempts) for page in left}
    assert [2, 1] == [count for _, count in Counter(page.bundle for page in left).most_common()]
    assert ["k011"] == [page.incident_key for page in left if page.bundle is None]
    for _ in range(2):
        clock.advance(SECOND)
        await engine.deliver()
    assert [12, 2] == [len(bundle.pages) for bundle in notifier.bundles]
    assert 15 == len(notifier.pages)


async def test_what_another_sender_has_is_not_halved(harness: StoreHarness) -> None:
    """A page whose lease this sender lost keeps the bundle's key, and the others are halved without it."""
    clock, notifier = ManualClock(START), GatedBundles("ops")
    store, engine = await storm(harness, clock, 12, notifier)
    delivering = asyncio.create_task(engine.deliver())
    await notifier.begun.wait()
    lost = next(page for page in await records(store) if page.incident_key == "k003")
    await store.transact(lambda tx: tx.outbox.write([attrs.evolve(lost, fence=lost.fence + 1)]))
    notifier.go_on.set()
    await delivering
    counts = Counter(page.bundle for page in await records(store))
    assert [1, 5, 6] == sorted(counts.values())
    assert 1 == counts[notifier.bundles[0].dedup_key]


async def test_a_target_that_refuses_everything_is_given_up_at_once(harness: StoreHarness) -> None:
    """If the refusal concerns the whole target, no page of the bundle is sent to it again."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Rejected("no_service", whole_target=True))
    store, engine = await storm(harness, clock, 20, notifier, budgets=AT_ONCE)
    report = await engine.deliver()
    assert 20 == report.dead
    clock.advance(MINUTE)
    await engine.deliver()
    assert 1 == len(notifier.bundles)
    assert {(PageState.DEAD, "no_service")} == {(page.state, page.reason) for page in await records(store)}


async def test_the_fallback_of_a_target_that_refuses_everything_gets_all_pages(harness: StoreHarness) -> None:
    """It gets them in the settlement of the first refusal."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Rejected("no_service", whole_target=True))
    spare = RecordingNotifier("spare")
    store = await harness.open(clock)
    engine = Engine(
        store,
        settings=Settings(budgets=AT_ONCE, fallbacks={"ops": "spare"}),
        notifiers=[notifier, spare],
        router=SettingsRouter(default_target="ops"),
    )
    for number in range(20):
        await engine.open(f"k{number:03}", severity="critical", first_seen=clock() - timedelta(hours=1))
    await engine.tick()
    clock.advance(SECOND)
    await engine.deliver()
    assert (1, 20) == (len(notifier.bundles), len({page.incident.incident_key for page in spare.pages}))
    assert {page.dedup_key for page in notifier.bundles[0].pages} == {page.dedup_key for page in spare.pages}


async def test_the_bundle_of_a_dead_worker_is_sent_again(harness: StoreHarness) -> None:
    """When the leases end, another worker sends it with the same key."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    store, engine = await storm(harness, clock, 11, notifier)
    await engine.deliver()
    [bundle] = notifier.bundles
    leased = [
        attrs.evolve(page, state=PageState.LEASED, due_at=clock() + 30 * SECOND, fence=page.fence + 1)
        for page in await records(store)
    ]
    await store.transact(lambda tx: tx.outbox.write(leased))
    clock.advance(29 * SECOND)
    await engine.deliver()
    assert 1 == len(notifier.bundles)
    clock.advance(SECOND)
    await engine.deliver()
    assert [bundle.dedup_key] * 2 == [one.dedup_key for one in notifier.bundles]
    assert {PageState.DELIVERED} == {page.state for page in await records(store)}


async def test_the_rest_of_a_bundle_gets_another_key(harness: StoreHarness) -> None:
    """While one page of it cannot be taken along, the others do not wait for it; no key is used for other pages."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Retry("down"))
    store, engine = await storm(harness, clock, 11, notifier)
    await engine.deliver()
    stray = next(page for page in await records(store) if page.incident_key == "k003")
    held = attrs.evolve(stray, state=PageState.LEASED, due_at=clock() + timedelta(hours=1))
    await store.transact(lambda tx: tx.outbox.write([held]))
    notifier.answer_bundle = BundlingNotifier("x").answer_bundle
    clock.advance(MINUTE)
    await engine.deliver()
    first, second = notifier.bundles
    assert 10 == len(second.pages)
    assert first.dedup_key != second.dedup_key
    clock.advance(timedelta(hours=1))
    await engine.deliver()
    assert [first.dedup_key] == [bundle.dedup_key for bundle in notifier.bundles[2:]]
    assert ["k003"] == [page.incident.incident_key for page in notifier.bundles[2].pages]


async def test_a_channel_that_bundles_no_more_sends_the_pages_apart(harness: StoreHarness) -> None:
    """The pages of a bundle are not lost if the next worker's notifier cannot bundle."""
    clock = ManualClock(START)
    notifier = BundlingNotifier("ops", answer_bundle=lambda bundle: Retry("down"))
    store, engine = await storm(harness, clock, 11, notifier)
    await engine.deliver()
    other = RecordingNotifier("ops")
    for _ in range(11):
        clock.advance(MINUTE)
        await engine_on(store, other).deliver()
    assert 11 == len({page.incident.incident_key for page in other.pages})
    assert {(PageState.DELIVERED, None)} == {(page.state, page.bundle) for page in await records(store)}


async def test_the_pages_of_a_bundle_are_listed_worst_first(harness: StoreHarness) -> None:
    """All of them by default, in the order of the message, in parts, in a state; the beginning of the key is enough."""
    clock, notifier = ManualClock(START), BundlingNotifier("ops")
    store, engine = await storm(harness, clock, 60, notifier)
    clock.advance(SECOND)
    await engine.acknowledge("k059")
    await engine.deliver()
    [bundle] = notifier.bundles
    sent = [page.incident.incident_key for page in bundle.pages]
    assert ({"k057", "k058"}, 59) == (set(sent[:2]), len(sent))

    async def listed(**given: Any) -> list[str]:
        return [page.incident_key for page in await engine.pages(bundle=bundle.dedup_key[:8], **given)]

    assert sent == [page.incident_key for page in await engine.pages(bundle=bundle.dedup_key)]
    assert sent == await listed()
    first = await engine.pages(bundle=bundle.dedup_key[:12], limit=2)
    assert sent[:2] == [page.incident_key for page in first]
    assert sent[2:5] == await listed(limit=3, after=first[-1].id)
    assert (sent, []) == (await listed(state="delivered"), await listed(state="dead"))
    assert (sent, []) == (await listed(target="ops"), await listed(target="other"))
    assert [] == await engine.pages(bundle="0" * 64)
    [alone] = [page for page in await records(store) if page.incident_key == "k059"]
    with pytest.raises(InvalidValue, match=f"after: {alone.id} is not the id of a page of this bundle"):
        await listed(after=alone.id)
    twin = attrs.evolve(alone, bundle=bundle.dedup_key[:8] + ("0" if bundle.dedup_key[8] == "1" else "1") * 56)
    await store.transact(lambda tx: tx.outbox.write([twin]))
    with pytest.raises(InvalidValue) as refused:
        await listed()
    said = f"bundle: {bundle.dedup_key[:8]!r} begins the keys of 2 bundles; give more of the key"
    assert said == str(refused.value)
    assert sent == [page.incident_key for page in await engine.pages(bundle=bundle.dedup_key[:9])]


@pytest.mark.parametrize("text", ["", "abcdef0", "ABCDEF01", "abcdefg0", "a" * 65, "abcdef01\n", 1])
async def test_what_is_no_key_of_a_bundle_is_refused(text: Any) -> None:
    """A key has 64 hex digits, and a beginning at least 8."""
    with pytest.raises(InvalidValue) as refused:
        await engine_on(MemoryStore(), RecordingNotifier("ops")).pages(bundle=text)
    said = "bundle: is not the key of a bundle, or the beginning of one; give 8 to 64 hex digits, in lower case"
    assert said == str(refused.value)
