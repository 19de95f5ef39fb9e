"""What a worker process does: the runner's loops, or a short walk through one part of the library.

The walks go where each await of ours stands: into refusals, conflicts, cancellations and outages as well. Where two
things have to meet for that, one of them waits for the other: nothing is left to how quick the machine is.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
from psycopg import AsyncConnection

from escalation_adapters.postgres import timeouts
from escalation_adapters.worker.runner import run
from escalation_core import Engine, StoreUnavailable
from escalation_core.engine.deliver import Delivery

from .meeting import Awaited, calling, hold_answers

Walk = Callable[[Engine], Awaitable[None]]
MOMENT = 0.5
"""Seconds that a walk lets the runner run."""


async def _run(engine: Engine) -> None:
    await run(engine)


async def _quiet(engine: Engine) -> None:
    """Run without a log: a line for each of very many pages is of no use."""
    logging.disable(logging.CRITICAL)
    await run(engine)


async def _tick(engine: Engine) -> None:
    engine._dead_mans_switch = Awaited(engine._switch_calls)
    await engine.tick()


async def _canary(engine: Engine) -> None:
    settings = attrs.evolve(engine.settings, canary_pct=90)
    async with Engine(engine.store, settings=settings, notifiers=engine._notifiers) as other:
        await other.tick()


async def _dry(engine: Engine) -> None:
    await engine.tick(dry_run=True)


async def _recalc(engine: Engine) -> None:
    await engine.recalc(by="faults")


async def _moment(engine: Engine) -> None:
    """Run for a moment, and until delivery has had nothing to do."""
    stop, resting = asyncio.Event(), calling(Delivery, "wait")
    running = asyncio.create_task(run(engine, stop=stop))
    await asyncio.sleep(MOMENT)
    await resting.wait()
    stop.set()
    await running


async def _rung(engine: Engine) -> None:
    """Let a tick ring while for each target as many pages are in flight as may be: nobody has landed yet."""
    courier, landing = engine._delivery, asyncio.Event()
    hold_answers(landing)
    await engine.tick(deliver=False)
    while courier.capacity():
        await courier.start_due()
        await asyncio.sleep(0.01)
    courier.tasks.wake()
    await courier.wait()
    landing.set()


async def _held(engine: Engine) -> None:
    """Let somebody hold the rows of pages that land: in a delivery, and when a runner comes to its end."""
    store: Any = engine.store
    landing = asyncio.Event()
    answered = hold_answers(landing)

    async def until_answered() -> None:
        # All targets may be held for a moment.
        while not answered.is_set():
            await engine.deliver()
            await asyncio.sleep(0.02)

    await engine.tick(deliver=False)
    delivering = asyncio.create_task(until_answered())
    await answered.wait()
    async with store._pool.connection(60) as holder, holder.transaction():
        await holder.execute("SELECT FROM escalation_pages WHERE state = 'leased' FOR UPDATE")
        landing.set()
        await delivering
        await engine._delivery.finish()
    await engine._delivery.finish()


async def _trouble(engine: Engine) -> None:
    """Let the store be out of reach at first, and again in the end, when pages have landed after the loops."""
    store: Any = engine.store
    look, transact = store.next_due, store.transact
    stop, finishing = asyncio.Event(), calling(Delivery, "finish")
    answered = hold_answers(finishing)
    left = 2

    async def unreachable(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise StoreUnavailable("as if")
        return await look(*args, **kwargs)

    async def unfinished(*args: Any, **kwargs: Any) -> Any:
        # Once in the end, when nobody but the runner's last step asks any more.
        if finishing.is_set() and store.transact is unfinished:
            store.transact = transact
            raise StoreUnavailable("as if")
        return await transact(*args, **kwargs)

    store.next_due, store.transact = unreachable, unfinished
    running = asyncio.create_task(run(engine, stop=stop))
    await answered.wait()
    stop.set()
    await running


async def _cancelled(engine: Engine) -> None:
    """Cancel the runner while pages are in flight, and once more while it waits for them."""
    hold_answers(until=asyncio.Event())
    sending, finishing = calling(Delivery, "_send"), calling(Delivery, "finish")
    running = asyncio.create_task(run(engine))
    await sending.wait()
    running.cancel()
    await finishing.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _joined(engine: Engine) -> None:
    """Join a tick that only records; leave one that is under way, and ask for another while it is still ending."""
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
    """Return a tick that, when it is cancelled, takes until another one is asked for."""

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


async def _silent(engine: Engine) -> None:
    """Wait for a table that somebody holds, for longer than a database may be silent; then go on.

    At first the request to cancel is lost on its way, so that the wait after it comes to its end; then it arrives.
    """
    store: Any = engine.store
    timeout = timeouts.CALL_TIMEOUT
    timeouts.CALL_TIMEOUT = timeouts.GRACE = 0.05
    connections: Any = AsyncConnection
    arriving = connections.cancel_safe

    async def lost(*args: Any, **kwargs: Any) -> None:
        pass

    async with store._pool.connection(60) as holder, holder.transaction():
        await holder.execute("LOCK TABLE escalation_pauses IN ACCESS EXCLUSIVE MODE")
        for way in (lost, arriving):
            connections.cancel_safe = way
            with contextlib.suppress(StoreUnavailable):
                await engine.tick()
    timeouts.CALL_TIMEOUT = timeout
    await engine.tick()


async def _all_lent(engine: Engine, statement: str) -> None:
    """Run a statement on several connections, all of which are lent at once and there is no other."""
    store: Any = engine.store
    async with contextlib.AsyncExitStack() as stack:
        lent = [
            await stack.enter_async_context(store._pool.connection()) for _ in range(store._pool._connections.max_size)
        ]
        for connection in lent:
            await connection.execute(statement)


async def _demoted(engine: Engine) -> None:
    """Find that the server takes no writes any more, as after a failover; then there is another one."""
    await _all_lent(engine, "SET default_transaction_read_only = on")
    with contextlib.suppress(StoreUnavailable):
        await engine.tick()
    await engine.tick()


async def _ended(engine: Engine) -> None:
    """Find connections ended that were idle, as after a restart."""
    store: Any = engine.store
    await _all_lent(engine, "SELECT 1")
    async with store._pool.connection() as other:
        # Each is waited for, so that its farewell has come.
        await other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
        )
        await engine.tick()
    # And in the end none at all is left, so that another engine does not even begin.
    await store.aclose()
    with contextlib.suppress(StoreUnavailable):
        await Engine(store).__aenter__()


WALKS: Mapping[str, Walk] = {
    "run": _run,
    "quiet": _quiet,
    "tick": _tick,
    "canary": _canary,
    "dry": _dry,
    "recalc": _recalc,
    "moment": _moment,
    "rung": _rung,
    "held": _held,
    "trouble": _trouble,
    "cancelled": _cancelled,
    "joined": _joined,
    "silent": _silent,
    "demoted": _demoted,
    "ended": _ended,
}
WHOLE = ("run", "quiet")
"""Those that are a worker's whole life."""
