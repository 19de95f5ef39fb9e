"""Notices, on every store: who learns what became of an incident, once, after its pages, and behind all pages."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from escalation_core import (
    Abilities,
    Budget,
    Delivered,
    Engine,
    Notice,
    NoticeBundle,
    NoticeKind,
    Outcome,
    Page,
    Policies,
    Rejected,
    Retry,
    Route,
    Settings,
    SettingsRouter,
    idempotency_key,
)
from escalation_core.model import EVERY_KIND, notice_key
from escalation_core.ports import Notices, Store, Transaction, notices_of
from escalation_core.testing import ManualClock, RecordingNotifier, TellingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
Told = tuple[str, str, str, int, str | None]


def engine_on(store: Store, *notifiers: RecordingNotifier, router: Any = None, **settings: Any) -> Engine:
    targets = [target for notifier in notifiers for target in notifier.targets]
    router = router or SettingsRouter([Route(targets=targets)])
    policies = settings.pop("policies", None)
    return Engine(store, settings=Settings(**settings), notifiers=notifiers, router=router, policies=policies)


async def paged(engine: Engine, clock: ManualClock, *keys: str) -> None:
    """Open incidents that are due, and page them."""
    for key in keys:
        await engine.open(key, severity="critical", first_seen=clock() - timedelta(minutes=6), summary=f"About {key}")
    await engine.tick()


def told(notifier: TellingNotifier) -> list[Told]:
    return [(one.kind.value, one.incident_key, one.target, one.episode, one.actor) for one in notifier.notices]


async def states(store: Store) -> list[tuple[str, str, str]]:
    found = await store.read(lambda tx: notices(tx).notices(limit=99))
    return [(one.kind.value, one.target, one.state.value) for one in found]


def notices(tx: Transaction) -> Notices:
    found = notices_of(tx)
    assert found is not None
    return found


# --- who gets a notice


async def test_those_who_were_paged_are_told_once(harness: StoreHarness) -> None:
    """By whom, after how long, with the notice's own key. Acknowledging again tells nothing."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops", "lead")
    engine = engine_on(await harness.open(clock), notifier, router=SettingsRouter([Route(targets=("ops",))]))
    await paged(engine, clock, "k")
    clock.advance(4 * MINUTE)
    await engine.acknowledge("k", by="ann")
    await engine.acknowledge("k", by="bob")
    report = await engine.tick()
    assert (1, 0) == (report.delivery.notices_delivered, report.delivery.notices_lost)  # type: ignore[union-attr]
    [notice] = notifier.notices
    assert ("acknowledged", "k", 1, 1, "ops", "ann") == (
        notice.kind.value, notice.incident_key, notice.episode, notice.level, notice.target, notice.actor,
    )  # fmt: skip
    assert (clock(), 10 * MINUTE, 1, "About k") == (notice.at, notice.lasted, notice.attempt, notice.title)
    assert notice_key(NoticeKind.ACKNOWLEDGED, "k", 1, clock()) == notice.dedup_key
    assert idempotency_key("k", 0, 1) == notice.thread_key == notifier.pages[0].thread_key
    clock.advance(MINUTE)
    await engine.resolve("k", by="bob")
    await engine.tick()
    await engine.tick()
    assert [("acknowledged", "k", "ops", 1, "ann"), ("resolved", "k", "ops", 1, "bob")] == told(notifier)


async def test_no_page_no_notice(harness: StoreHarness) -> None:
    """An incident that was never paged, and a page that never arrived, tell no one."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops", answer=lambda page: Rejected("gone"))
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await engine.open("quiet")
    await engine.resolve("quiet")
    await paged(engine, clock, "k")
    await engine.acknowledge("k")
    await engine.resolve("k")
    await engine.tick()
    assert [] == notifier.notices
    assert [] == await states(store)
    assert not (await store.next_due(canary=None)).changes


async def test_a_host_s_sql_is_told_as_well(harness: StoreHarness) -> None:
    """The trigger notes what a host writes with its own SQL, also if it writes every column."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    store = await harness.open(clock)
    engine, host = engine_on(store, notifier), harness.host(store)
    await paged(engine, clock, "a", "b")
    rows = await host.rows()
    await host.update("a", acknowledged_at=clock(), acknowledged_by="ann")
    await host.update("b", **{**rows["b"], "resolved_at": clock(), "next_due_at": None, "incident_key": "b"})
    await engine.tick()
    assert [("acknowledged", "a", "ops", 1, "ann"), ("resolved", "b", "ops", 1, None)] == sorted(told(notifier))
    await host.update("a", resolved_at=clock())
    await host.update("b", resolved_at=None)
    await engine.tick()
    assert ("resolved", "a", "ops", 1, None) == told(notifier)[2]
    assert 3 == len(notifier.notices)


@pytest.mark.parametrize("by", ["target", "route", "nothing"])
async def test_only_what_is_asked_for_is_told(harness: StoreHarness, by: str) -> None:
    """The settings of a target take the place of what its notifier asks for; a route asks for its targets."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    given = {} if by == "nothing" else {"ops": frozenset({NoticeKind.RESOLVED} if by == "target" else ())}
    kinds = frozenset({NoticeKind.RESOLVED} if by == "route" else ())
    route = Route(severity="critical", targets=("ops",), notices=kinds)
    engine = engine_on(await harness.open(clock), notifier, notices=given, routes=[route])
    await paged(engine, clock, "k")
    await engine.acknowledge("k")
    await engine.resolve("k")
    await engine.tick()
    expected = ["acknowledged", "resolved"] if by == "nothing" else ["resolved"]
    assert expected == [notice.kind.value for notice in notifier.notices]


async def test_a_channel_that_cannot_tell_is_not_asked(harness: StoreHarness) -> None:
    clock = ManualClock(START)
    notifier = RecordingNotifier("ops")
    store = await harness.open(clock)
    engine = engine_on(store, notifier, notices={"ops": EVERY_KIND})
    await paged(engine, clock, "k")
    await engine.resolve("k")
    await engine.tick()
    assert [] == await states(store)


async def test_an_acknowledgement_that_expires_is_told(harness: StoreHarness) -> None:
    """Whose it was, and in the episode in which it was given."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    policies = Policies.from_mapping(
        {
            "policies": {
                "p": {"levels": [{"after": "5m"}, {"after": "5m"}], "ack_timeout": "10m", "on_ack_expiry": "restart"}
            },
            "assign": [{"policy": "p"}],
        }
    )
    engine = engine_on(await harness.open(clock), notifier, policies=policies)
    await paged(engine, clock, "k")
    await engine.acknowledge("k", by="ann")
    clock.advance(11 * MINUTE)
    await engine.tick()
    assert [("acknowledged", "k", "ops", 1, "ann"), ("ack_expired", "k", "ops", 1, "ann")] == told(notifier)


async def test_what_a_tick_finds_expired_the_same_tick_tells(harness: StoreHarness) -> None:
    """Also if there was no change before this tick."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    policies = Policies.from_mapping(
        {"policies": {"p": {"levels": [{"after": "5m"}], "ack_timeout": "10m"}}, "assign": [{"policy": "p"}]}
    )
    engine = engine_on(await harness.open(clock), notifier, policies=policies)
    await paged(engine, clock, "k")
    await engine.acknowledge("k", by="ann")
    await engine.tick()
    clock.advance(11 * MINUTE)
    await engine.tick()
    assert ["acknowledged", "ack_expired"] == [notice.kind.value for notice in notifier.notices]


async def test_what_a_target_of_another_worker_does_not_want_leaves_no_trace(harness: StoreHarness) -> None:
    """One worker makes the notices, and the worker that serves the target knows that it gets none."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    quiet = engine_on(store, TellingNotifier("ops"), notices={"ops": set()})
    keys = [f"k{number:02}" for number in range(20)]
    await paged(quiet, clock, *keys)
    other = engine_on(await harness.again(store), TellingNotifier("elsewhere"))
    for key in keys:
        await other.acknowledge(key)
    await other.tick()
    assert 20 == len(await states(store))
    report = await quiet.deliver()
    assert (0, 0) == (report.notices_delivered, report.notices_lost)
    assert [] == await states(store)
    assert not [warning for warning in (await quiet.health()).warnings if "notices" in warning]


# --- threads


@pytest.mark.parametrize("made_elsewhere", [False, True])
async def test_each_thread_is_resolved_once(harness: StoreHarness, made_elsewhere: bool) -> None:
    """A drain begins another thread, and the end of the incident ends both. A re-opening begins one of its own.

    The same holds if a worker makes the notices that does not serve the targets, so it does not know their threads.
    """
    clock = ManualClock(START)
    threads, plain = TellingNotifier("pager", threads=True), TellingNotifier("chat")
    store = await harness.open(clock)
    engine = engine_on(store, threads, plain, notices={name: {NoticeKind.RESOLVED} for name in ("pager", "chat")})
    other = engine_on(await harness.again(store), TellingNotifier("elsewhere"))

    async def resolve(**by: Any) -> None:
        await engine.resolve("k", **by)
        await (other if made_elsewhere else engine).tick()
        await engine.tick()

    await paged(engine, clock, "k")
    await engine.drain("k")
    clock.advance(31 * MINUTE)
    await engine.tick()
    await resolve()
    assert [("resolved", "k", "pager", 1, None), ("resolved", "k", "pager", 2, None)] == told(threads)
    assert [("resolved", "k", "chat", 2, None)] == told(plain)
    assert 2 == len({notice.dedup_key for notice in threads.notices})
    await paged(engine, clock, "k")
    await resolve(by="ann")
    assert ("resolved", "k", "pager", 3, "ann") == told(threads)[-1]
    assert 3 == len(threads.notices)
    assert {page.thread_key for page in threads.pages} == {notice.thread_key for notice in threads.notices}


async def test_the_end_of_a_thread_waits_for_its_turn(harness: StoreHarness) -> None:
    """Through a pause, an outage and an hour of pages: an open thread is worse than a late end. Others expire."""
    clock = ManualClock(START)
    down = True
    threads = TellingNotifier(
        "pager", threads=True, answer_notice=lambda notice: Retry("down") if down else Delivered()
    )
    plain = TellingNotifier("chat", answer_notice=lambda notice: Retry("down"))
    store = await harness.open(clock)
    engine = engine_on(store, threads, plain, notices={name: {NoticeKind.RESOLVED} for name in ("pager", "chat")})
    await paged(engine, clock, "k")
    await engine.resolve("k")
    await engine.tick()
    await engine.pause(3 * HOUR)
    clock.advance(4 * HOUR)
    await engine.tick()
    assert {"pager": "pending", "chat": "expired"} == {target: state for _, target, state in await states(store)}
    [warning] = [warning for warning in (await engine.health()).warnings if "notices" in warning]
    assert "1 notices of the last day were not told; see escalation notices --state expired" == warning
    down = False
    clock.advance(HOUR)
    await engine.tick()
    assert {"pager": "delivered", "chat": "expired"} == {target: state for _, target, state in await states(store)}


# --- after the pages, and behind them


async def test_a_notice_follows_the_page_that_it_is_about(harness: StoreHarness) -> None:
    """While the page is on its way, no notice is made. If the page then fails, there is none."""
    clock = ManualClock(START)
    gate, begun = asyncio.Event(), asyncio.Event()

    class Slow(TellingNotifier):
        async def send(self, page: Page) -> Outcome:
            begun.set()
            await gate.wait()
            return await super().send(page)

    notifier = Slow("ops")
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    paging = asyncio.create_task(paged(engine, clock, "k"))
    await begun.wait()
    other = engine_on(await harness.again(store), TellingNotifier("ops"))
    await other.acknowledge("k", by="ann")
    await other.tick()
    assert [] == await states(store)
    gate.set()
    await paging
    await engine.tick()
    assert [("acknowledged", "ops", "delivered")] == await states(store)


async def test_pages_go_before_notices(harness: StoreHarness) -> None:
    """However old the notices are; and they leave a slot of the budget to pages."""
    clock = ManualClock(START)
    sent = list[str]()

    class Ordered(TellingNotifier):
        async def send(self, page: Page) -> Outcome:
            sent.append(f"page {page.incident_key}")
            return Delivered()

        async def tell(self, notice: Notice) -> Outcome:
            sent.append(f"notice {notice.incident_key}")
            return Delivered()

    notifier = Ordered("ops")
    engine = engine_on(await harness.open(clock), notifier, budgets={"ops": Budget(rate=1 / 60, burst=3)})
    await paged(engine, clock, "a", "b")
    await engine.resolve("a")
    await engine.resolve("b")
    await engine.open("c", severity="critical", first_seen=clock() - HOUR)
    await engine.tick()
    assert ["page a", "page b", "page c"] == sent
    clock.advance(MINUTE)
    await engine.tick()
    assert 3 == len(sent), "one slot is free, and it is left to pages"
    clock.advance(MINUTE)
    await engine.tick()
    assert ["notice a"] == sent[3:]


async def test_many_notices_go_in_one_message(harness: StoreHarness) -> None:
    """As bundles do, if more wait than the budget takes in time, and the channel can do it."""
    clock = ManualClock(START)

    class Bundling(TellingNotifier):
        def __init__(self) -> None:
            super().__init__("ops")
            self.abilities = Abilities(
                bundles=True, notices=EVERY_KIND, asked=EVERY_KIND, budgets={"ops": Budget(rate=1, burst=3)}
            )
            self.bundles: list[NoticeBundle] = []

        async def send_bundle(self, _: object) -> Outcome:
            return Delivered()

        async def tell_bundle(self, bundle: NoticeBundle) -> Outcome:
            self.bundles.append(bundle)
            return Retry("busy") if len(self.bundles) == 1 else Delivered()

    notifier = Bundling()
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    keys = [f"k{number:02}" for number in range(40)]
    await paged(engine, clock, *keys)
    clock.advance(MINUTE)
    for key in keys:
        await engine.resolve(key)
    await engine.tick()
    clock.advance(MINUTE)
    await engine.tick()
    first, second = notifier.bundles
    assert keys == sorted(notice.incident_key for notice in first.notices)
    assert (first.dedup_key, 2, {NoticeKind.RESOLVED: 40}) == (second.dedup_key, second.attempt, second.kinds)
    assert first.dedup_key not in {notice.dedup_key for notice in first.notices}
    assert {("resolved", "ops", "delivered")} == set(await states(store))
    assert [] == notifier.notices


async def test_a_bundle_that_is_refused_loses_only_the_notice_with_the_fault(harness: StoreHarness) -> None:
    """The others go alone."""
    clock = ManualClock(START)

    class Fussy(TellingNotifier):
        def __init__(self) -> None:
            super().__init__("ops", answer_notice=lambda one: Rejected("bad") if "poison" in one.title else Delivered())
            self.abilities = Abilities(
                bundles=True, notices=EVERY_KIND, asked=EVERY_KIND, budgets={"ops": Budget(rate=1, burst=40)}
            )
            self.bundles = 0

        async def send_bundle(self, _: object) -> Outcome:
            return Delivered()

        async def tell_bundle(self, _: NoticeBundle) -> Outcome:
            self.bundles += 1
            return Rejected("bad")

    notifier = Fussy()
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    keys = [*(f"k{number:02}" for number in range(29)), "poison"]
    await paged(engine, clock, *keys)
    clock.advance(HOUR)
    for key in keys:
        await engine.resolve(key)
    for _ in range(9):
        await engine.tick()
        clock.advance(MINUTE)
    assert 1 == notifier.bundles
    ends = await store.read(lambda tx: notices(tx).notices(limit=99))
    assert ["poison"] == [one.incident_key for one in ends if one.state.value != "delivered"]
    assert "dead" == ends[-1].state.value


# --- attempts


@pytest.mark.parametrize(
    ("outcome", "state"), [(Rejected("no notices here"), "dead"), (Retry("down"), "expired")], ids=["refused", "down"]
)
async def test_notices_that_cannot_be_told_end(harness: StoreHarness, outcome: Outcome, state: str) -> None:
    """A receiver that refuses notices takes pages; an hour after it was made, a notice is not tried again."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops", answer_notice=lambda notice: outcome)
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await paged(engine, clock, "k")
    await engine.acknowledge("k")
    for _ in range(63):
        await engine.tick()
        clock.advance(MINUTE)
    assert [("acknowledged", "ops", state)] == await states(store)
    assert (1 if state == "dead" else 55) <= len(notifier.notices) <= (1 if state == "dead" else 62)
    assert {1} == {len({notice.dedup_key for notice in notifier.notices})}
    await paged(engine, clock, "other")
    assert "other" == notifier.pages[-1].incident_key
    assert (await engine.health()).ok


async def test_an_acknowledgement_that_was_taken_back_is_not_told(harness: StoreHarness) -> None:
    """Neither before its notice is made, nor after its first attempt failed: the incident escalates again."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops", answer_notice=lambda notice: Retry("down"))
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await paged(engine, clock, "k")
    await engine.acknowledge("k")
    await engine.unacknowledge("k")
    await engine.tick()
    assert [] == await states(store)
    await engine.acknowledge("k")
    await engine.tick()
    assert 1 == len(notifier.notices)
    await engine.unacknowledge("k")
    clock.advance(MINUTE)
    await engine.tick()
    assert 1 == len(notifier.notices)
    assert [("acknowledged", "ops", "expired")] == await states(store)


async def test_a_newer_notice_ends_an_older_one_that_failed(harness: StoreHarness) -> None:
    """Its target knows by then that the incident is resolved."""
    clock = ManualClock(START)

    def answer(notice: Notice) -> Outcome:
        return Retry("down") if notice.kind is NoticeKind.ACKNOWLEDGED else Delivered()

    notifier = TellingNotifier("ops", answer_notice=answer)
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await paged(engine, clock, "k")
    await engine.acknowledge("k")
    await engine.tick()
    await engine.resolve("k")
    await engine.tick()
    clock.advance(MINUTE)
    report = await engine.deliver()
    assert 1 == report.notices_lost
    assert [("acknowledged", "ops", "expired"), ("resolved", "ops", "delivered")] == await states(store)
    [old, _] = await store.read(lambda tx: notices(tx).notices(limit=9))
    assert "a newer notice follows; down" == old.reason
    assert ["acknowledged", "resolved"] == [notice.kind.value for notice in notifier.notices]


async def test_a_receiver_that_throttles_notices_gets_pages(harness: StoreHarness) -> None:
    """Only its notices are held, for as long as it asks; they neither hold nor slow its pages."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops", answer_notice=lambda notice: Retry("slow down", HOUR / 2, throttled=True))
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await paged(engine, clock, "a", "b")
    await engine.acknowledge("a")
    await engine.tick()
    assert 1 == len(notifier.notices)
    await engine.acknowledge("b")
    await paged(engine, clock, "c")
    assert "c" == notifier.pages[-1].incident_key
    assert 1 == len(notifier.notices)
    assert timedelta(minutes=1) <= await engine.next_claim_in(), "a loop that waits for it does not spin"
    clock.advance(HOUR / 2 - SECOND)
    await engine.tick()
    assert 1 == len(notifier.notices)
    assert timedelta() < await engine.next_claim_in() <= SECOND
    clock.advance(SECOND)
    await engine.tick()
    assert 3 == len(notifier.notices)


async def test_a_process_of_one_tick_ends_old_notices(harness: StoreHarness) -> None:
    """For example one that cron starts each minute: it has no earlier search to wait for."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    await paged(engine_on(store, TellingNotifier("gone")), clock, "k", "later")

    async def tick() -> None:
        await engine_on(await harness.again(store), TellingNotifier("ops")).tick()

    engine = engine_on(await harness.again(store), TellingNotifier("ops"))
    await engine.resolve("k")
    await tick()
    assert [("resolved", "gone", "pending")] == await states(store)
    clock.advance(timedelta(days=7, minutes=1))
    await engine.resolve("later")
    await tick()
    assert [("resolved", "gone", "expired"), ("resolved", "gone", "pending")] == await states(store)


async def test_a_notice_that_no_worker_serves_expires(harness: StoreHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target is another worker's, which decides whether it gets the notice, and never comes."""
    clock = ManualClock(START)
    monkeypatch.setattr("escalation_core.engine.notices.monotonic", lambda: clock().timestamp())
    store = await harness.open(clock)
    await paged(engine_on(store, TellingNotifier("gone")), clock, "k")
    engine = engine_on(await harness.again(store), TellingNotifier("ops"))
    await engine.resolve("k")
    await engine.tick()
    clock.advance(timedelta(days=6, hours=23))
    await engine.tick()
    assert [("resolved", "gone", "pending")] == await states(store)
    clock.advance(HOUR + MINUTE)
    await engine.tick()
    assert [("resolved", "gone", "expired")] == await states(store)


async def test_a_pause_holds_notices_back(harness: StoreHarness) -> None:
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    engine = engine_on(await harness.open(clock), notifier)
    await paged(engine, clock, "k")
    await engine.pause(2 * HOUR)
    await engine.resolve("k")
    await engine.tick()
    clock.advance(119 * MINUTE)
    await engine.tick()
    assert [] == notifier.notices
    clock.advance(MINUTE)
    await engine.tick()
    assert [("resolved", "k", "ops", 1, None)] == told(notifier)


async def test_a_deleted_incident_is_told_as_resolved(harness: StoreHarness) -> None:
    """What was resolved before its row was deleted; the notice has no incident then."""
    clock = ManualClock(START)
    notifier = TellingNotifier("ops")
    store = await harness.open(clock)
    engine = engine_on(store, notifier)
    await paged(engine, clock, "k")
    await engine.resolve("k")
    await harness.host(store).delete("k")
    await engine.tick()
    [notice] = notifier.notices
    assert (None, "k") == (notice.incident, notice.title)


async def test_prune_deletes_old_notices(harness: StoreHarness) -> None:
    """With the pages of their episode: as long as those stay, the target must not learn it twice."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    engine = engine_on(store, TellingNotifier("ops"))
    for _ in range(2):
        await paged(engine, clock, "k")
        await engine.resolve("k")
        await engine.tick()
        clock.advance(MINUTE)
    clock.advance(timedelta(days=3))
    await engine.prune(timedelta(days=2))
    [left] = await store.read(lambda tx: notices(tx).notices(limit=9))
    assert 2 == left.episode
    assert {2} == {page.episode for page in await store.read(lambda tx: tx.outbox.pages(limit=9))}
