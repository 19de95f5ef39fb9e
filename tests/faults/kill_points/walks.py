"""The walks: the programs that a worker process can run. Two run the worker, the others call one part of the library.

Together the walks reach every await of the library, also after refusals, conflicts, cancellations and outages. If two
steps must happen at the same time, one waits for the other, so the result does not depend on the machine's speed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import attrs
from psycopg import AsyncConnection

from escalation_adapters.postgres import timeouts
from escalation_adapters.worker.reload import Load
from escalation_adapters.worker.runner import run
from escalation_core import Budget, Engine, Outcome, Rejected, Retry, StoreUnavailable
from escalation_core.engine.deliver import Delivery
from escalation_core.engine.notices import NoticeMaker
from escalation_core.ports import Schedule
from escalation_core.rules.notices import Wanted
from escalation_core.rules.shifts import Shifts

from .events import EndsWhenAwaited, event_of_call, hold_answers

Walk = Callable[[Engine], Awaitable[None]]
REVISION = """
UPDATE escalation_meta SET value = jsonb_set(value, '{revision}', to_jsonb((value->>'revision')::int + 1))
WHERE name = 'incidents'
"""
EARLIER = """
UPDATE escalation_pages SET created_at = created_at - interval '10 min', hand_over_at = hand_over_at - interval '10 min'
WHERE state = 'pending' AND hand_over_at IS NOT NULL AND fence = 0
"""
"""Only pages that no worker has claimed yet: the checks take it that a page is made before its claims."""
policies_file: Load | None = None
"""Reads the policies file of this process; None if it has none."""
HORIZON = datetime(2200, 1, 1, tzinfo=UTC)
RUN_TIME = 0.5
"""Seconds for which ``_run_briefly`` runs the runner."""


async def _run(engine: Engine) -> None:
    await run(engine, policies=policies_file)


async def _run_without_log(engine: Engine) -> None:
    """Run the worker without a log, for a test with very many pages."""
    logging.disable(logging.CRITICAL)
    await run(engine)


async def _tick(engine: Engine) -> None:
    engine._dead_mans_switch = EndsWhenAwaited(engine._switch_calls)
    await engine.tick()


async def _canary(engine: Engine) -> None:
    settings = attrs.evolve(engine.settings, canary_pct=90)
    known: dict[str, Any] = {"policies": engine.policies, "schedules": engine.schedule_loader.sources}
    async with Engine(engine.store, settings=settings, notifiers=engine._notifiers, **known) as other:
        await other.tick()


async def _dry_run(engine: Engine) -> None:
    await engine.tick(dry_run=True)


async def _recalc(engine: Engine) -> None:
    await engine.recalc(by="faults")


async def _run_briefly(engine: Engine) -> None:
    """Run the runner for a moment, and until delivery has waited for pages."""
    stop, waiting = asyncio.Event(), event_of_call(Delivery, "wait")
    running = asyncio.create_task(run(engine, stop=stop, policies=policies_file))
    await asyncio.sleep(RUN_TIME)
    await waiting.wait()
    stop.set()
    await running


async def _woken(engine: Engine) -> None:
    """Wake the delivery while each routed target has as many running sends as it may have."""
    delivery, answering = engine._delivery, asyncio.Event()
    hold_answers(answering)
    await engine.tick(deliver=False)
    # The targets in reserve get no page while no page is answered.
    routed = delivery.notifiers.keys() - delivery.settings.fallbacks.values()
    while any(map(delivery.senders.capacity, routed)):
        # A level of a policy pages other targets than the one before it.
        await engine.tick(deliver=False)
        await delivery.start_due()
        await asyncio.sleep(0.01)
    delivery.tasks.wake()
    await delivery.wait()
    answering.set()


async def _rows_locked(engine: Engine) -> None:
    """Lock the rows of answered pages, while a delivery settles them, and while the engine finishes them."""
    store: Any = engine.store
    answering = asyncio.Event()
    answered = hold_answers(answering)

    async def until_answered() -> None:
        # All targets may be throttled for a moment.
        while not answered.is_set():
            await engine.deliver()
            await asyncio.sleep(0.02)

    await engine.tick(deliver=False)
    delivering = asyncio.create_task(until_answered())
    await answered.wait()
    async with store._pool.connection(60) as holder, holder.transaction():
        await holder.execute("SELECT FROM escalation_pages WHERE state = 'leased' FOR UPDATE")
        answering.set()
        await delivering
        await engine._delivery.finish()
    await engine._delivery.finish()


async def _store_unavailable(engine: Engine) -> None:
    """Make the store unavailable at the start, and again at the end while the runner settles the last pages."""
    store: Any = engine.store
    next_due, transact = store.next_due, store.transact
    stop, finishing = asyncio.Event(), event_of_call(Delivery, "finish")
    answered = hold_answers(finishing)
    left = 2

    async def unreachable(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise StoreUnavailable("simulated")
        return await next_due(*args, **kwargs)

    async def unreachable_at_end(*args: Any, **kwargs: Any) -> Any:
        # Once, when only the runner's last step still uses the store.
        if finishing.is_set() and store.transact is unreachable_at_end:
            store.transact = transact
            raise StoreUnavailable("simulated")
        return await transact(*args, **kwargs)

    store.next_due, store.transact = unreachable, unreachable_at_end
    running = asyncio.create_task(run(engine, stop=stop))
    await answered.wait()
    stop.set()
    await running


async def _cancelled(engine: Engine) -> None:
    """Cancel the runner while it sends pages, and again while it waits for their answers."""
    hold_answers(until=asyncio.Event())
    sending, finishing = event_of_call(Delivery, "_send"), event_of_call(Delivery, "finish")
    running = asyncio.create_task(run(engine))
    await sending.wait()
    running.cancel()
    await finishing.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _claim_of_cancelled(engine: Engine) -> None:
    """Tick while the claim of a cancelled tick is still in the store. It claims even if all targets are throttled."""
    delivery: Any = Delivery
    start, claimed, answer = delivery._start_due, asyncio.Event(), asyncio.Event()

    async def start_and_wait(*args: Any, **how: Any) -> Any:
        started = await start(*args, **how)
        claimed.set()
        await answer.wait()
        return started

    async def any_due(_: Delivery) -> bool:
        return True

    delivery._start_due, delivery._any_due = start_and_wait, any_due
    first = asyncio.create_task(engine.tick())
    await claimed.wait()
    first.cancel()
    await asyncio.wait([first])
    waits = event_of_call(engine._delivery.tasks, "outlived")
    second = asyncio.create_task(engine.tick())
    await waits.wait()
    answer.set()
    await second


async def _shared_tick(engine: Engine) -> None:
    """Call a tick while another one runs: it shares the running tick, or waits until a cancelled tick has ended."""
    patched: Any = engine
    recording = asyncio.create_task(engine.tick(deliver=False))
    await asyncio.sleep(0)
    await engine.tick()
    await recording
    for number in range(6):
        begun, asked = asyncio.Event(), asyncio.Event()
        if number % 2:
            patched._tick = _ending(patched._tick, begun, asked)
        else:
            begun.set()
        first = asyncio.create_task(engine.tick())
        await begun.wait()
        await asyncio.sleep(0.003)
        first.cancel()
        await asyncio.sleep(0)
        second = asyncio.create_task(engine.tick())
        await asyncio.sleep(0.003)
        asked.set()
        await second
        await asyncio.gather(first, return_exceptions=True)


def _ending(tick: Callable[..., Any], begun: asyncio.Event, asked: asyncio.Event) -> Callable[..., Any]:
    """Return a tick that continues after its cancellation until another tick is requested."""

    async def ending(**how: Any) -> Any:
        begun.set()
        if asked.is_set():
            return await tick(**how)
        try:
            await tick(**how)
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asked.wait()
            raise

    return ending


async def _no_answer(engine: Engine) -> None:
    """Wait for a locked table until the call times out, twice; then tick without a lock.

    The first request to cancel the statement is lost, so the call waits until the grace period ends. The second one
    arrives.
    """
    store: Any = engine.store
    timeout = timeouts.CALL_TIMEOUT
    timeouts.CALL_TIMEOUT = timeouts.GRACE = 0.05
    connections: Any = AsyncConnection
    cancel_safe = connections.cancel_safe

    async def lost(*args: Any, **kwargs: Any) -> None:
        pass

    async with store._pool.connection(60) as holder, holder.transaction():
        await holder.execute("LOCK TABLE escalation_pauses IN ACCESS EXCLUSIVE MODE")
        for cancel in (lost, cancel_safe):
            connections.cancel_safe = cancel
            with contextlib.suppress(StoreUnavailable):
                await engine.tick()
    timeouts.CALL_TIMEOUT = timeout
    await engine.tick()


async def _all_lent(engine: Engine, statement: str) -> None:
    """Run a statement on every connection of the pool."""
    store: Any = engine.store
    async with contextlib.AsyncExitStack() as stack:
        lent = [
            await stack.enter_async_context(store._pool.connection()) for _ in range(store._pool._connections.max_size)
        ]
        for connection in lent:
            await connection.execute(statement)


async def _read_only(engine: Engine) -> None:
    """Tick while the server accepts no writes, as after a failover, and then on new connections that accept them."""
    await _all_lent(engine, "SET default_transaction_read_only = on")
    with contextlib.suppress(StoreUnavailable):
        await engine.tick()
    await engine.tick()


async def _connections_ended(engine: Engine) -> None:
    """Tick after the server has ended the idle connections, as at a restart. Then open an engine on a closed store."""
    store: Any = engine.store
    await _all_lent(engine, "SELECT 1")
    async with store._pool.connection() as other:
        # With the timeout the statement waits until each backend has ended, and closed its connection.
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
        )
        await engine.tick()

    await store.aclose()
    with contextlib.suppress(StoreUnavailable):
        await Engine(store).__aenter__()


async def _attached_again(engine: Engine) -> None:
    """Count the revision of the mapping up, as an attach does, before a transaction and before a read.

    The first tick would load the schedules, and read first.
    """
    store: Any = engine.store
    await engine.tick()
    for dry_run in (False, True):
        async with store._pool.connection() as connection:
            await connection.execute(REVISION)
        await engine.tick(dry_run=dry_run)


class _Calendars:
    """Reads calendars; the first one never ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def load(self, calendars: Mapping[str, str]) -> Mapping[str, Schedule]:
        if not self.begun.is_set():
            self.begun.set()
            await asyncio.Event().wait()
        return {name: Shifts(shifts=(), horizon=HORIZON) for name in calendars}


async def _calendars_change(engine: Engine) -> None:
    """Give the engine another calendar while it loads the one before."""
    loader, reader = engine.schedule_loader, _Calendars()
    loader.use_sources(loader.sources, reader)
    loader.use_calendars({"calendar": "first.ics"})
    ticking = asyncio.create_task(engine.tick())
    await reader.begun.wait()
    loader.use_calendars({"calendar": "second.ics"})
    await engine.health()
    await ticking


async def _few_slots(engine: Engine) -> None:
    """Tick with a small budget for each target: a page waits for its slot within the delivery pass."""
    delivery = engine._delivery
    budgets = {target: Budget(rate=20) for target in delivery.notifiers}
    delivery.shares = attrs.evolve(delivery.shares, budgets=budgets)
    await engine.tick()


async def _handed_over(engine: Engine) -> None:
    """Hand over pages that wait for too long: they were recorded ten minutes earlier than they were."""
    store: Any = engine.store
    await engine.tick(deliver=False)
    async with store._pool.connection() as connection:
        await connection.execute(EARLIER)
    await engine.deliver()


async def _refused(engine: Engine) -> None:
    """Refuse each page for good: it is handed over, and the fallback's page is dead, so the incident may be unheard."""
    delivery: Any = Delivery

    async def refuse(*_: Any) -> Outcome:
        return Rejected("refused by the walk")

    delivery._send = refuse
    await engine.tick()


async def _bundled(engine: Engine) -> None:
    """Send bundles whose first attempt fails: the second one finds their pages by the bundle's key."""
    delivery, kind = engine._delivery, cast("Any", Delivery)
    budgets = {target: Budget(rate=20) for target in delivery.notifiers}
    delivery.shares = attrs.evolve(delivery.shares, budgets=budgets, bundle_after=timedelta(milliseconds=50))
    send = kind._send

    async def fail(*_: Any) -> Outcome:
        return Retry("failed by the walk")

    kind._send = fail
    await engine.tick()
    kind._send = send
    # The pages wait for their back-off of 0.2 s, which the server's clock measures. Another worker may send them
    # instead, so there is no event to wait for.
    await asyncio.sleep(0.5)
    await engine.deliver()


async def _told_together(engine: Engine) -> None:
    """Bundle the notices of incidents that ended. Their maker serves no target, so some of them no target gets."""
    delivery = engine._delivery
    budgets = {target: Budget(rate=20) for target in delivery.notifiers}
    delivery.shares = attrs.evolve(delivery.shares, budgets=budgets, bundle_after=timedelta(milliseconds=50))
    longest_ago = -timedelta(days=1).total_seconds()
    await NoticeMaker(engine.store, engine.settings, Wanted(), expired_at=longest_ago).make(changes=True)
    await engine.tick()


WALKS: Mapping[str, Walk] = {
    "run": _run,
    "run without log": _run_without_log,
    "tick": _tick,
    "canary": _canary,
    "dry run": _dry_run,
    "recalc": _recalc,
    "run briefly": _run_briefly,
    "woken": _woken,
    "rows locked": _rows_locked,
    "store unavailable": _store_unavailable,
    "cancelled": _cancelled,
    "claim of a cancelled tick": _claim_of_cancelled,
    "shared tick": _shared_tick,
    "no answer": _no_answer,
    "read-only": _read_only,
    "connections ended": _connections_ended,
    "attached again": _attached_again,
    "calendars change": _calendars_change,
    "few slots": _few_slots,
    "handed over": _handed_over,
    "refused": _refused,
    "bundled": _bundled,
    "told together": _told_together,
}
WHOLE = ("run", "run without log")
"""The walks that run a whole worker until it is stopped."""
