"""What a worker process does: the runner's loops, or a short walk through one part of the library.

The walks go where each await of ours stands: into refusals, conflicts, cancellations and outages as well.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import psycopg
from psycopg import AsyncConnection

from escalation_adapters.postgres import migrate, silence
from escalation_adapters.postgres.attach import ExistingIncidents
from escalation_adapters.runner import run
from escalation_core import Engine, EscalationPolicy, StoreUnavailable

Walk = Callable[[Engine], Awaitable[None]]
MOMENT = 0.5
"""Seconds that a walk lets the runner run."""


async def _run(engine: Engine) -> None:
    await run(engine)


class _Slow:
    """A heartbeat that is still under way when the engine closes."""

    async def beat(self) -> None:
        await asyncio.sleep(0.4)


async def _quiet(engine: Engine) -> None:
    """Run without a log: a line for each of very many pages is of no use."""
    logging.disable(logging.CRITICAL)
    await run(engine)


async def _tick(engine: Engine) -> None:
    engine._heartbeat = _Slow()
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
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(MOMENT, stop.set)
    await run(engine, stop=stop)


async def _flying(engine: Engine) -> None:
    """Wait until a page is in flight."""
    for _ in range(1000):
        if engine.courier.flights.busy:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("no page ever flew")


async def _trouble(engine: Engine) -> None:
    """Let the store be out of reach at first, and again in the end."""
    store: Any = engine.store
    look, transact = store.look, store.transact
    stop = asyncio.Event()
    left = 2

    async def unreachable(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            raise StoreUnavailable("as if")
        return await look(*args, **kwargs)

    async def unfinished(*args: Any, **kwargs: Any) -> Any:
        # Once in the end, when nobody but the runner's last step asks any more.
        if stop.is_set() and not engine.courier.flights.busy and store.transact is unfinished:
            store.transact = transact
            raise StoreUnavailable("as if")
        return await transact(*args, **kwargs)

    store.look, store.transact = unreachable, unfinished
    running = asyncio.create_task(run(engine, stop=stop))
    await _flying(engine)
    stop.set()
    await running


async def _cancelled(engine: Engine) -> None:
    """Cancel the runner while pages are in flight, and cancel it once more."""
    running = asyncio.create_task(run(engine))
    await _flying(engine)
    running.cancel()
    await asyncio.sleep(0.05)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _joined(engine: Engine) -> None:
    """Join a tick that only records; leave one that is under way, and ask for another while it is still ending."""
    recording = asyncio.create_task(engine.tick(deliver=False))
    await asyncio.sleep(0)
    await engine.tick()
    await recording
    for _ in range(20):
        first = asyncio.create_task(engine.tick())
        await asyncio.sleep(0.003)
        first.cancel()
        await asyncio.sleep(0)
        await engine.tick()
        await asyncio.gather(first, return_exceptions=True)


async def _silent(engine: Engine) -> None:
    """Wait for a table that somebody holds, for longer than a database may be silent; then go on.

    At first the request to cancel is lost on its way, so that the wait after it comes to its end; then it arrives.
    """
    store: Any = engine.store
    silence.SILENCE = silence.GRACE = 0.05
    connections: Any = AsyncConnection
    arriving = connections.cancel_safe

    async def lost(*args: Any, **kwargs: Any) -> None:
        pass

    async with store._pool.lent(60) as holder, holder.transaction():
        await holder.execute("LOCK TABLE escalation_pauses IN ACCESS EXCLUSIVE MODE")
        for way in (lost, arriving):
            connections.cancel_safe = way
            with contextlib.suppress(StoreUnavailable):
                await engine.tick()
    silence.SILENCE = 5.0
    await engine.tick()


async def _ended(engine: Engine) -> None:
    """Find connections ended that were idle, as after a restart."""
    store: Any = engine.store
    await asyncio.gather(*(store.look(canary_pct=100) for _ in range(4)))
    async with store._pool.lent() as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.1)
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
    "trouble": _trouble,
    "cancelled": _cancelled,
    "joined": _joined,
    "silent": _silent,
    "ended": _ended,
}


async def migrating(dsn: str, schema: str) -> None:
    """Attach to a host's table that holds open incidents: refused, then allowed, by two at once, while it is locked."""
    module: Any = migrate
    module.LOCK_TIMEOUT = "30ms"
    with contextlib.suppress(ExistingIncidents):
        await migrate.up(dsn, schema=schema, policy=EscalationPolicy())
    await asyncio.gather(_held(dsn, schema), *(migrate.up(dsn, schema=schema, existing="page") for _ in range(2)))
    await migrate.up(dsn, schema=schema)
    await migrate.up(dsn, schema=f"{schema}_new")


async def _held(dsn: str, schema: str) -> None:
    """Hold the host's table for a moment, as somebody's long transaction does."""
    async with await AsyncConnection.connect(dsn) as holder:
        with contextlib.suppress(psycopg.Error):
            await holder.execute(f'LOCK TABLE "{schema}".incidents IN ACCESS SHARE MODE'.encode())
            await asyncio.sleep(0.15)
