"""What operators see of delivery, on every store: the state of each target, waiting pages, unheard incidents."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from escalation_core import Budget, Delivered, Engine, InvalidValue, Outcome, Page, Rejected, Retry, Settings
from escalation_core.engine.targets_health import TargetHealth
from escalation_core.model import LastAttempts, PageState
from escalation_core.ports import Store
from escalation_core.testing import ManualClock, MemoryStore, RecordingNotifier
from escalation_core.testing.conformance import StoreHarness
from escalation_core.testing.conformance.harness import START

from .harnesses import opened

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
HALF_MINUTE = 30 * SECOND
BROKEN = "HTTP 500: the receiver is broken"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    async with opened(request, tmp_path) as made:
        yield made


class ByKey:
    """A router: the text before the slash of a key is the target."""

    def route(self, incident: object, level: int) -> list[str]:
        return [str(getattr(incident, "incident_key", "")).partition("/")[0]]


def answer(page: Page) -> Outcome:
    """Answer as the receiver of each target does."""
    outcomes: dict[str, Outcome] = {
        "slow": Retry("HTTP 429", after=10 * MINUTE, throttled=True),
        "broken": Retry(BROKEN),
        "gone": Rejected("HTTP 404: no such hook"),
    }
    return outcomes.get(page.target, Delivered())


def engine_on(store: Store, *targets: str, worker: str = "w", **settings: Any) -> Engine:
    return Engine(
        store,
        settings=Settings(**settings),
        notifiers=[RecordingNotifier(*(targets or ("ops", "slow", "broken", "gone")), answer=answer)],
        router=ByKey(),
        worker=worker,
    )


async def open_due(engine: Engine, clock: ManualClock, *keys: str) -> None:
    for key in keys:
        await engine.open(key, severity="critical", first_seen=clock() - HOUR)


async def kept(store: Store) -> dict[str, LastAttempts]:
    """Return the last attempts that the store has, of targets that have any."""
    records = await store.read(lambda tx: tx.journal.targets())
    return {one.target: one.attempts for one in records if one.attempts != LastAttempts(target=one.target)}


# --- the state of each target


async def test_health_tells_the_state_of_each_target(harness: StoreHarness) -> None:
    """Backlog, budget in force, throttle, last success, last error and fallback; also of a target served elsewhere."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    budgets = {"ops": Budget(rate=2, burst=3), "slow": Budget(rate=4, burst=2)}
    engine = engine_on(store, budgets=budgets, fallbacks={"ops": "broken"})
    other = engine_on(store, "elsewhere")
    await open_due(other, clock, "elsewhere/1")
    await other.tick(deliver=False)
    await open_due(engine, clock, "ops/1", "slow/1", "slow/2", "broken/1", "gone/1")
    await engine.tick()
    clock.advance(SECOND)
    health = await engine.health()
    nothing = {"last_delivered_at": None, "last_failed_at": None, "last_error": None}
    unlimited = {"oldest_page": None, "budget": None, "throttled_until": None, "fallback": None}
    waiting = unlimited | {"backlog": 1, "oldest_page": START}

    def state(**fields: Any) -> TargetHealth:
        return TargetHealth(**{**unlimited, **nothing, "backlog": 0, **fields})

    expected = {
        "broken": state(**waiting, last_failed_at=START, last_error=BROKEN),
        "elsewhere": state(**waiting),
        "gone": state(last_failed_at=START, last_error="HTTP 404: no such hook"),
        "ops": state(budget=budgets["ops"], last_delivered_at=START, fallback="broken"),
        "slow": state(
            backlog=2,
            oldest_page=START,
            budget=Budget(rate=2),
            throttled_until=START + 10 * MINUTE,
            last_failed_at=START,
            last_error="HTTP 429",
        ),
    }
    assert expected == dict(health.targets)
    told = health.as_dict()["targets"]
    assert isinstance(told, dict)
    assert {
        "backlog": 2,
        "oldestPageMs": 1000,
        "budget": {"rate": 2, "burst": 1},
        "throttledUntil": (START + 10 * MINUTE).isoformat(),
        "lastDeliveredAt": None,
        "lastFailedAt": START.isoformat(),
        "lastError": "HTTP 429",
        "fallback": None,
    } == told["slow"]
    assert told["ops"]["fallback"] == "broken"


async def test_a_throttle_that_is_over_is_not_shown(harness: StoreHarness) -> None:
    """After its throttle a target shows the lowered budget, and no budget once the rate has grown."""
    clock = ManualClock(START)
    engine = engine_on(await harness.open(clock))
    await open_due(engine, clock, "slow/1")
    await engine.tick()
    clock.advance(10 * MINUTE)
    slow = (await engine.health()).targets["slow"]
    assert (None, Budget(rate=1)) == (slow.throttled_until, slow.budget)


async def test_a_page_writes_no_row_of_its_target(harness: StoreHarness) -> None:
    """The last attempts are written with the next heartbeat, together; this engine's health tells them at once."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    engine, other = engine_on(store), engine_on(store, worker="other")
    await open_due(engine, clock, "ops/1", "broken/1")
    await engine.tick()
    assert {} == await kept(store)
    assert None is (await other.health()).targets["ops"].last_delivered_at
    assert START == (await engine.health()).targets["ops"].last_delivered_at
    clock.advance(HALF_MINUTE)
    await engine.tick(deliver=False)
    ops, broken = LastAttempts(target="ops", delivered_at=START), LastAttempts(target="broken")
    assert ops == (await kept(store))["ops"]
    assert (START, BROKEN) == ((await kept(store))["broken"].failed_at, (await kept(store))["broken"].error)
    assert broken != (await kept(store))["broken"]
    assert START == (await other.health()).targets["ops"].last_delivered_at


async def test_the_later_of_two_workers_is_kept(harness: StoreHarness) -> None:
    """A worker that writes an older attempt later changes nothing."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    first, second = engine_on(store, worker="first"), engine_on(store, worker="second")
    await open_due(first, clock, "ops/1")
    await first.tick()
    clock.advance(HALF_MINUTE)
    await open_due(second, clock, "ops/2")
    await second.tick()
    clock.advance(HALF_MINUTE)
    await second.tick()
    await first.tick()
    assert START + HALF_MINUTE == (await kept(store))["ops"].delivered_at


async def test_an_engine_that_closes_writes_what_is_left(harness: StoreHarness) -> None:
    """A process that ticks once, for example by cron, leaves its last attempts in the store."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    async with engine_on(await harness.again(store)) as engine:
        await open_due(engine, clock, "ops/1")
        await engine.tick()
        assert {} == await kept(store)
    assert {"ops": LastAttempts(target="ops", delivered_at=START)} == await kept(store)


async def test_an_instant_ahead_of_the_clock_does_not_stick(harness: StoreHarness) -> None:
    """After a step back of the clock the next heartbeat moves the instants of all targets by that step."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    engine = engine_on(store)
    await engine.tick()
    clock.advance(2 * HOUR)
    await open_due(engine, clock, "ops/1")
    await engine.tick()
    clock.advance(MINUTE)
    await engine.tick()
    clock.set(START + MINUTE)
    await engine_on(store, worker="other").tick()
    assert START == (await kept(store))["ops"].delivered_at
    clock.advance(MINUTE)
    await open_due(engine, clock, "ops/2")
    await engine.tick()
    clock.advance(HALF_MINUTE)
    await engine.tick()
    assert START + 2 * MINUTE == (await kept(store))["ops"].delivered_at


async def test_a_dry_run_writes_no_attempt(harness: StoreHarness) -> None:
    """The heartbeat of a dry run leaves the last attempts to a real one."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    engine = engine_on(store)
    await open_due(engine, clock, "ops/1")
    await engine.tick()
    clock.advance(HALF_MINUTE)
    await engine.tick(dry_run=True)
    assert {} == await kept(store)
    clock.advance(HALF_MINUTE)
    await engine.tick()
    assert {"ops"} == set(await kept(store))


# --- pages


async def test_pages_that_wait_come_in_parts(harness: StoreHarness) -> None:
    """Without a state ``pages`` returns pending and leased ones; with one, those alone; always by id."""
    clock = ManualClock(START)
    store = await harness.open(clock)
    engine = engine_on(store)
    await open_due(engine, clock, "ops/1", "gone/1")
    await engine.tick()
    await open_due(engine, clock, "slow/1", "broken/1", "slow/2")
    await engine.tick(deliver=False)
    found = await engine.pages()
    assert {"slow/1", "broken/1", "slow/2"} == {page.incident_key for page in found}
    assert sorted(page.id for page in found) == [page.id for page in found]
    parts = [await engine.pages(limit=2), await engine.pages(limit=2, after=found[1].id)]
    assert list(found) == [page for part in parts for page in part]
    assert {"slow/1", "slow/2"} == {page.incident_key for page in await engine.pages(target="slow")}
    assert ["ops/1"] == [page.incident_key for page in await engine.pages(state="delivered")]
    assert ["gone/1"] == [page.incident_key for page in await engine.pages(state=PageState.DEAD)]
    assert [] == list(await engine.pages(state="dead", target="ops"))
    changed = [attrs.evolve(page, state=PageState.LEASED) for page in found if page.target == "broken"]
    changed += [attrs.evolve(found[0], state=PageState.CANCELLING)]
    await store.transact(lambda tx: tx.outbox.write(changed))
    assert [page.id for page in found] == [page.id for page in await engine.pages()]
    assert [found[0].id] == [page.id for page in await engine.pages(limit=1)]


async def test_pages_refuses_what_is_not_valid() -> None:
    """An unknown state is refused with the legal ones."""
    engine = engine_on(MemoryStore())
    legal = "pending, leased, cancelling, delivered, cancelled, superseded, handed_over, dead"
    for given, said in (
        ({"state": "sent"}, f"state: 'sent' is not a state of a page; give one of {legal}"),
        ({"limit": 0}, "limit: is 0; give a whole number, 1 to 1000000"),
        ({"after": -1}, "after: is -1; give a whole number of at least 0"),
        ({"target": 1}, "target: is int; give a str"),
    ):
        with pytest.raises(InvalidValue) as refused:
            await engine.pages(**given)
        assert said == str(refused.value)


# --- unheard incidents


async def test_unheard_incidents_are_listed(harness: StoreHarness) -> None:
    """The list says which incidents are unheard, and can leave out all others; so does the history of one."""
    clock = ManualClock(START)
    engine = engine_on(await harness.open(clock))
    assert [] == list((await engine.open_incidents(unheard=True)).incidents)
    await open_due(engine, clock, "gone/1", "ops/1", "gone/2", "slow/1", "gone/3")
    await engine.tick()
    listed = {one.incident_key: one.unheard for one in (await engine.open_incidents()).incidents}
    assert {"gone/1": True, "gone/2": True, "gone/3": True, "ops/1": False, "slow/1": False} == listed
    part = await engine.open_incidents(unheard=True, limit=2)
    assert (["gone/1", "gone/2"], True) == ([one.incident_key for one in part.incidents], part.more)
    rest = await engine.open_incidents(unheard=True, limit=2, after=part.incidents[-1].cursor)
    assert (["gone/3"], False) == ([one.incident_key for one in rest.incidents], rest.more)
    assert all(one.unheard for one in rest.incidents)
    assert (True, False) == ((await engine.history("gone/1")).unheard, (await engine.history("ops/1")).unheard)
    await engine.acknowledge("gone/1")
    assert not (await engine.history("gone/1")).unheard
    assert ["gone/2", "gone/3"] == [one.incident_key for one in (await engine.open_incidents(unheard=True)).incidents]


async def test_health_is_not_ok_while_an_incident_is_unheard(harness: StoreHarness) -> None:
    """Health, and the probe after the next count, say so until a page arrives."""
    clock = ManualClock(START)
    engine = engine_on(await harness.open(clock))
    await open_due(engine, clock, "gone/1", "ops/1")
    await engine.tick()
    health = await engine.health()
    fault = "1 open incident is unheard: no page of its highest level was delivered, and none is tried again"
    assert (False, fault, 1) == (health.ok, health.fault, health.as_dict()["unheard"])
    assert [warning for warning in health.warnings if warning.startswith(fault)]
    assert not await engine.is_healthy()
    await engine.acknowledge("gone/1")
    health = await engine.health()
    assert (True, None, 0, []) == (health.ok, health.fault, health.as_dict()["unheard"], list(health.warnings))
    assert await engine.is_healthy()
