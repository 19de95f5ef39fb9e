"""The clock of a real PostgreSQL steps by days or minutes, forward and back. Each incident still gets its pages."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest

from escalation_adapters.auth.rate_limit import Limit
from escalation_adapters.postgres import PostgresStore, migrate
from escalation_adapters.postgres.limiter import PostgresLimiter
from escalation_core import Engine, Retry
from escalation_core.model import PageState

from ...faketime import SteppingPostgres
from ...postgres import Server, own_server
from ...stepping import (
    DAY,
    HOUR,
    LATE,
    MINUTE,
    RETRY,
    SECOND,
    SETTINGS,
    STATES,
    Receiver,
    Ticks,
    assert_not_well,
    assert_well,
    due,
    engine_of,
    incident,
    leave_behind,
    open_incidents,
    pages,
    running,
    steps,
)

pytestmark = [pytest.mark.system("faketime"), own_server]

NOTHING = timedelta()
BACK = [(2 * DAY, NOTHING), (NOTHING, -2 * DAY), (5 * MINUTE, NOTHING), (NOTHING, -5 * MINUTE)]
"""Steps back: the clock's offset before the step, and after it."""
BACK_NAMES = ["ahead two days", "behind two days", "ahead five minutes", "behind five minutes"]
OFFSETS = [2 * DAY, -2 * DAY, 5 * MINUTE, -5 * MINUTE]
OFFSET_NAMES = ["+2 days", "-2 days", "+5 minutes", "-5 minutes"]
ASKED = 500
"""How often a test checks, every 20 milliseconds, before it fails. The tests judge the number of ticks."""
RETRIES = {"busy": Retry("busy", after=HOUR, throttled=True), "down": Retry("down")}
"""Outcomes of two faulty receivers: one throttles, and the other asks for a retry."""
TICKS = 2
"""The number of ticks within which a worker must recover."""
MEANWHILE = 1.0
"""The seconds that may lie between the instants of two consecutive statements of a test."""


@pytest.fixture(scope="module")
def stepping() -> Iterator[SteppingPostgres]:
    """The server whose clock steps."""
    with SteppingPostgres.start() as server:
        assert isinstance(server, SteppingPostgres)
        yield server


@pytest.fixture(scope="module")
def template(stepping: SteppingPostgres) -> str:
    """Return the name of a migrated database of that server, of which tests make copies."""
    name = "stepping_template"
    dsn = Server(stepping.dsn(), "of its own").create(name)
    asyncio.run(migrate.up(dsn, create=True))
    return name


@pytest.fixture
def dsn(template: str, server: SteppingPostgres) -> Iterator[str]:
    """A migrated database of this test's own."""
    with Server(server.dsn(), "of its own").fresh(template) as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE escalation_migrations SET applied_at = now()")
        yield dsn


@pytest.fixture
def server(stepping: SteppingPostgres) -> Iterator[SteppingPostgres]:
    """The same server, with the right time before the test and after it."""
    stepping.step(NOTHING)
    yield stepping
    stepping.step(NOTHING)


@asynccontextmanager
async def worker(
    dsn: str, receiver: Receiver | None = None, *, name: str = "late", ticks: Ticks | None = None
) -> AsyncIterator[Engine]:
    """Yield an engine with connections of its own; close it afterwards."""
    store = await PostgresStore.connect(dsn, max_connections=3)
    engine = engine_of(store, receiver or Receiver(), name, heartbeat=ticks)
    try:
        yield engine
    finally:
        await engine.aclose()


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until the condition holds, and fail after ASKED checks."""
    for _ in range(ASKED):
        if await condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"it has not come to that: {what}")


async def is_well(engine: Engine) -> bool:
    health = await engine.health()
    return health.ok and not health.recalc.requested_at


async def all_arrived(receiver: Receiver, *targets: str) -> None:
    """Wait until each of these targets has a page."""

    async def arrived() -> bool:
        return set(targets) <= set(receiver.count())

    await until(arrived, f"pages to {targets}")


async def assert_new_ones_are_paged(engine: Engine, receiver: Receiver, ticks: Ticks, key: str = "new-1") -> None:
    """Open an incident; fail unless its page arrives within two ticks."""
    began = ticks.count
    await engine.open(key, severity="critical")

    async def arrived() -> bool:
        return any(page.incident.incident_key == key for page in receiver.pages)

    await until(arrived, f"the page of {key}")
    assert ticks.count - began <= TICKS


# --- the server


def test_the_servers_clock_follows(server: SteppingPostgres) -> None:
    """Open sessions see each step of the server's clock at once. The server's timers do not change."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for offset in (2 * DAY, -2 * DAY, 5 * MINUTE, -5 * MINUTE, NOTHING):
            server.step(offset)
            row = connection.execute("SELECT now() - %s::timestamptz", [datetime.now(UTC)]).fetchone()
            assert row is not None
            assert abs(row[0] - offset) < MEANWHILE * SECOND


# --- every worker is gone


@pytest.mark.parametrize(("ahead", "behind"), BACK, ids=BACK_NAMES)
async def test_step_back_shows_and_heals(
    ahead: timedelta, behind: timedelta, server: SteppingPostgres, dsn: str
) -> None:
    """Without a worker health reports the step. A new worker sends late pages in 2 ticks, leased ones a lease later."""
    server.step(ahead)
    async with worker(dsn) as observer:
        await open_incidents(observer, "snoozed")
        next_year = await observer.now() + 365 * DAY
        await observer.snooze("snoozed", next_year)
        before = await leave_behind(observer.store)
        await observer.open("new-0", severity="critical")
        assert (await observer.health()).ok
        await observer.request_recalc(by="operator")
        server.step(behind)
        await assert_not_well(observer, ahead - behind, within=MEANWHILE * SECOND)

        receiver, ticks = Receiver(), Ticks()
        async with worker(dsn, receiver, ticks=ticks) as late, running(late):
            await until(lambda: is_well(observer), "health is ok")
            assert ticks.count <= TICKS
            await all_arrived(receiver, "new", *(target for target in LATE if target != "gone"))
            assert ticks.count <= TICKS
            await all_arrived(receiver, "gone")
            assert ticks.count <= TICKS + RETRY.lease // SETTINGS.tick_interval
            await assert_well(observer)
            await assert_new_ones_are_paged(observer, receiver, ticks)

        now = await observer.now()
        for key in STATES:
            assert now < await due(observer, key) <= now + SETTINGS.snooze
            last = (await incident(observer, key)).last_escalated_at
            assert last is not None
            assert last <= now
        assert next_year == await due(observer, "snoozed")
        recalc = (await observer.health()).recalc
        assert recalc.requested_at is None
        assert recalc.finished_at is not None
        assert recalc.finished_at <= now
        assert sorted((key, 1, 1) for key in (*STATES, "new-0", "new-1")) == await steps(observer.store)
        assert {PageState.DELIVERED} == {page.state for page in await pages(observer.store)}
    assert Counter(["sent", "busy", "down", "gone"]) == before.count()
    assert Counter([*LATE, "new", "new"]) == receiver.count()


async def test_health_stays_not_ok_without_a_worker(server: SteppingPostgres, dsn: str) -> None:
    """After a step back health is not ok as long as no worker ticks."""
    server.step(5 * MINUTE)
    async with worker(dsn) as observer:
        await observer.tick()
        server.step(NOTHING)
        end = asyncio.get_running_loop().time() + 2.5 * SETTINGS.tick_interval.total_seconds()
        while asyncio.get_running_loop().time() < end:
            await assert_not_well(observer, 5 * MINUTE, within=4 * SECOND)
            await asyncio.sleep(0.25)


async def test_held_incidents_stay_alone(server: SteppingPostgres) -> None:
    """After a step back, incidents that ``--existing skip`` left wait until an operator requests a recalculation."""
    with Server(server.dsn(), "of its own").fresh() as dsn:
        with psycopg.connect(dsn) as connection:
            connection.execute(
                "CREATE TABLE incidents (incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL)"
            )
            connection.execute("INSERT INTO incidents VALUES ('held', 'critical', now() - interval '5 days')")
        await migrate.up(dsn, existing="skip", create=True)
        server.step(2 * DAY)
        async with worker(dsn) as observer:
            await leave_behind(observer.store)
            server.step(NOTHING)
            receiver, ticks = Receiver(), Ticks()
            async with worker(dsn, receiver, ticks=ticks) as late, running(late):
                await until(lambda: is_well(observer), "health is ok")
                await all_arrived(receiver, *LATE)
                assert (await incident(observer, "held")).next_due_at is None
                assert {"held"} & receiver.count().keys() == set()
                await observer.request_recalc(by="operator")
                await all_arrived(receiver, "held")
    assert Counter([*LATE, "held"]) == receiver.count()


# --- a worker runs during the step


@pytest.mark.parametrize("offset", OFFSETS, ids=OFFSET_NAMES)
async def test_runner_lives_through_steps(offset: timedelta, server: SteppingPostgres, dsn: str) -> None:
    """The clock steps, and steps back. After each step the runner recovers in two ticks and pages each level once."""
    receiver, ticks = Receiver(RETRIES), Ticks()
    async with worker(dsn) as observer, worker(dsn, receiver, ticks=ticks) as late, running(late):
        await until(lambda: is_well(observer), "health is ok")
        await open_incidents(observer, "snoozed", "busy", "down")
        next_year = await observer.now() + 365 * DAY
        await observer.snooze("snoozed", next_year)
        await assert_new_ones_are_paged(observer, receiver, ticks, "new-0")
        for number, wrong in enumerate((offset, NOTHING), 1):
            server.step(wrong)
            stepped = ticks.count
            await until(partial(_is_past, ticks, stepped), "a heartbeat since the step")
            await until(lambda: is_well(observer), "health is ok")
            assert ticks.count - stepped <= TICKS
            await assert_well(observer)
            await assert_new_ones_are_paged(observer, receiver, ticks, f"new-{number}")
            now = await observer.now()
            for key in ("busy", "down", "new-0", f"new-{number}"):
                assert await due(observer, key) <= now + SETTINGS.snooze
            assert next_year == await due(observer, "snoozed")
        receiver.answers = {}
        await until(lambda: _is_settled(observer), "every page is settled")
        recorded = await steps(observer.store)
        settled = {(page.incident_key, page.level): page for page in await pages(observer.store)}
    assert len(set(recorded)) == len(recorded)
    # A step forward by more than the snooze counts as passed time, so waiting incidents reach their next level.
    levels = 2 if abs(offset) > SETTINGS.snooze else 1
    assert levels == max(level for _, _, level in recorded)
    assert {(key, level) for key, _, level in recorded} == settled.keys()
    # A page that still waited then is superseded by that of the next level.
    delivered = {step: page for step, page in settled.items() if page.state is PageState.DELIVERED}
    superseded = {(key, level + 1) for (key, level), page in settled.items() if page.state is PageState.SUPERSEDED}
    assert superseded <= delivered.keys()
    assert len(settled) == len(delivered) + len(superseded)
    copies = Counter(page.dedup_key for page in receiver.pages if page.target not in RETRIES)
    assert {page.dedup_key for page in delivered.values() if page.target not in RETRIES} == copies.keys()
    assert {1} == set(copies.values())


async def _is_past(ticks: Ticks, before: int) -> bool:
    return ticks.count > before


async def _is_settled(engine: Engine) -> bool:
    return not (await engine.health()).stats.backlog


# --- the server changes


@pytest.mark.parametrize("behind", [-5 * MINUTE, -2 * DAY], ids=["five minutes", "two days"])
async def test_failover_to_a_server_that_is_behind(behind: timedelta, server: SteppingPostgres, dsn: str) -> None:
    """A server dies, and the clock of the server that takes over is behind. The runner recovers within two ticks."""
    receiver, ticks = Receiver(RETRIES), Ticks()
    async with worker(dsn) as observer, worker(dsn, receiver, ticks=ticks) as late, running(late):
        await until(lambda: is_well(observer), "health is ok")
        await open_incidents(observer, "busy", "down")
        await assert_new_ones_are_paged(observer, receiver, ticks, "new-0")
        await all_arrived(receiver, "busy", "down")
        server.crash()
        server.step(behind)
        server.restart()
        receiver.answers = {}
        stepped = ticks.count
        await until(partial(_is_past, ticks, stepped), "a tick on the new server")
        await until(lambda: is_well(observer), "health is ok")
        assert ticks.count - stepped <= TICKS
        await assert_well(observer)
        await until(lambda: _is_settled(observer), "every page is settled")
        await assert_new_ones_are_paged(observer, receiver, ticks, "new-1")
        now = await observer.now()
        for key in ("busy", "down", "new-0"):
            assert await due(observer, key) <= now + SETTINGS.snooze
        assert [(key, 1, 1) for key in ("busy", "down", "new-0", "new-1")] == await steps(observer.store)
        assert {PageState.DELIVERED} == {page.state for page in await pages(observer.store)}
    assert 2 == receiver.count()["new"]


# --- beside the engine


async def test_limits_of_ops_outlast_no_step(server: SteppingPostgres, dsn: str) -> None:
    """A client that used up its limit while the clock was ahead may send again after the limit's window."""
    store = await PostgresStore.connect(dsn, max_connections=1)
    limiter, limit = PostgresLimiter(store), Limit(2, window=MINUTE)
    server.step(2 * DAY)
    assert [True, True, False] == [(await limiter.hit("client", limit)).allowed for _ in range(3)]
    server.step(NOTHING)
    decision = await limiter.hit("client", limit)
    assert decision.allowed or decision.retry_after <= MINUTE
    server.step(MINUTE + SECOND)
    assert (await limiter.hit("client", limit)).allowed
    await store.aclose()
