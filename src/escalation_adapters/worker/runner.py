"""A worker: one loop ticks and one delivers, until the host or a signal stops them."""

import asyncio
import contextlib
import logging
import random
import signal as signals_module
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import attrs

from escalation_core import Engine, EscalationError, StoreUnavailable
from escalation_core.errors import error_place
from escalation_core.rules.retry import backoff

from .reload import Load, Reloader

Result = TypeVar("Result")
log = logging.getLogger("escalation_adapters.worker.runner")

FIRST_WAIT, MAX_WAIT = timedelta(seconds=1), timedelta(seconds=30)
"""Waits between failed attempts: the first wait, which doubles, and the longest."""
MIN_TICK_GAP = timedelta(milliseconds=2)
"""Shortest time between two ticks. It limits the loop even if the engine asks for a shorter sleep."""


async def run(
    engine: Engine,
    *,
    stop: asyncio.Event | None = None,
    signals: bool = True,
    policies: Load | None = None,
) -> None:
    """Tick and deliver until ``stop`` is set, or SIGTERM or SIGINT arrives (which sets it).

    Then the worker claims no more pages, ends the tick in progress, and sends and settles the pages being sent. Each
    send has a time limit, so the stop has one. The engine stays open.

    The worker waits for a store that is out of reach, however long. Once it has begun, it logs any other error as
    CRITICAL and tries again, after up to half a minute: an operator may give a permission back or repair a host's
    trigger, and the host may not watch this worker's task.
    ``policies`` reads the engine's policies file again, after SIGHUP and when an operator asks for it. It may block. If
    it raises an EscalationError, the file before stays in force, and health and the log say so.
    ``signals=False`` leaves the process's signals alone, for a host with handlers of its own on the loop. Outside the
    main thread the worker always leaves them alone.

    A cancellation drops the tick, sends and settles the pages being sent, and leaves no task behind. A second
    cancellation also drops those pages; a worker sends them again when their leases end.

    Raises:
        StoreNotReady: the store must be migrated first.
        EscalationError: the engine ticked in another event loop before.
    """
    try:
        await _run(engine, asyncio.Event() if stop is None else stop, Reloader(engine, policies), signals=signals)
    except Exception as error:
        log.critical("the worker ends and escalates no more incidents: %s", _told(error))
        raise


async def _run(engine: Engine, stop: asyncio.Event, reloader: Reloader, *, signals: bool) -> None:
    leave = asyncio.Event()

    def stop_loops() -> None:
        leave.set()
        engine.wake()

    with _handling_signals(stop, reloader) if signals else contextlib.nullcontext():
        loops = [
            asyncio.create_task(_tick(engine, leave, reloader), name="escalation tick"),
            asyncio.create_task(_deliver(engine, leave), name="escalation delivery"),
        ]
        told = asyncio.create_task(stop.wait(), name="escalation stop")
        try:
            await asyncio.wait([*loops, told], return_when=asyncio.FIRST_COMPLETED)
            log.info("stopping after the tick in progress and the pages being sent")
            stop_loops()
            await asyncio.wait(loops)
        finally:
            # A cancellation alone can be lost: up to Python 3.11, asyncio.wait_for, which drivers use, drops one that
            # arrives together with the result.
            stop_loops()
            for task in (*loops, told):
                task.cancel()
            ends = await asyncio.gather(*loops, told, return_exceptions=True)
            try:
                await engine.finish_pages()
                _log_counts(engine)
            except asyncio.CancelledError:
                await engine.abandon_pages()
                raise
        for end in ends:
            if isinstance(end, Exception):
                raise end


async def _tick(engine: Engine, leave: asyncio.Event, reloader: Reloader) -> None:
    async def once() -> timedelta:
        report = await engine.tick(deliver=False)
        await reloader.after_tick()
        return await engine.next_tick_in(report)

    await _retry_until_up("tick", engine.check, leave, beginning=True)
    while (wait := await _retry_until_up("tick", once, leave)) is not None:
        await _rest(leave, max(wait, MIN_TICK_GAP), reloader.asked.wait, engine.wait_for_due)


async def _deliver(engine: Engine, leave: asyncio.Event) -> None:
    async def once() -> timedelta:
        more = await engine.start_pages()
        _log_counts(engine)
        # If no more pages can start, the end of a page or a tick wakes this loop.
        return timedelta() if more else await engine.next_claim_in()

    await _retry_until_up("delivery", engine.check, leave, beginning=True)
    while (wait := await _retry_until_up("delivery", once, leave)) is not None:
        if wait:
            await engine.wait_for_pages(wait)
        else:
            await asyncio.sleep(0)


async def _retry_until_up(
    what: str, attempt: Callable[[], Awaitable[Result]], leave: asyncio.Event, *, beginning: bool = False
) -> Result | None:
    """Call ``attempt`` until it succeeds, and return its result; None once ``leave`` is set.

    With ``beginning`` it retries only while the store is out of reach, and raises every other error.
    """
    failures, away = 0, False
    while not leave.is_set():
        try:
            result = await attempt()
        except Exception as error:
            away = isinstance(error, StoreUnavailable)
            if not away and (beginning or _for_good(error)):
                raise
            failures += 1
            wait = backoff(failures, first=FIRST_WAIT, longest=MAX_WAIT, jitter=random.random())  # noqa: S311 - no secret
            log.log(
                logging.WARNING if away else logging.CRITICAL,
                "%s: %s (%s); next attempt in %.1f s",
                what,
                "the store is out of reach" if away else "stopped by an error",
                _told(error),
                wait.total_seconds(),
            )
            await _rest(leave, wait)
        else:
            if failures:
                log.info(
                    "%s: %s after %d failed attempts", what, "the store is back" if away else "succeeded", failures
                )
            return result
    return None


def _for_good(error: Exception) -> bool:
    """Return True if no retry can succeed: a plain EscalationError means that the host uses the engine wrongly."""
    return type(error) is EscalationError


def _log_counts(engine: Engine) -> None:
    """Log the counts of page outcomes since the last call, if there are any."""
    report = engine.take_delivery_report()
    counts = {name: count for name, count in attrs.asdict(report).items() if count}
    if counts:
        log.info("pages %s", " ".join(f"{name}={count}" for name, count in counts.items()))


def _told(error: Exception) -> str:
    """Return an error in one line. For other code's errors only kind and place: their text may hold a secret."""
    return str(error).splitlines()[0][:200] if isinstance(error, EscalationError) else error_place(error)


async def _rest(leave: asyncio.Event, longest: timedelta, *others: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Wait for ``longest``, or until ``leave`` is set or one of the others ends."""
    waits: list[asyncio.Task[object]] = [asyncio.create_task(wait()) for wait in (leave.wait, *others)]
    try:
        await asyncio.wait(waits, timeout=longest.total_seconds(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


@contextlib.contextmanager
def _handling_signals(stop: asyncio.Event, reloader: Reloader) -> Iterator[None]:
    """Set ``stop`` on SIGTERM and SIGINT, ask for a reload on SIGHUP, and restore the earlier handlers at the end.

    Without a policies file SIGHUP keeps its handler, and Windows has no SIGHUP.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    effects = {signals_module.SIGTERM: stop.set, signals_module.SIGINT: stop.set}
    if reloader.load is not None and hasattr(signals_module, "SIGHUP"):
        effects[signals_module.SIGHUP] = reloader.asked.set
    before = {number: signals_module.getsignal(number) for number in effects}
    for number, effect in effects.items():
        try:
            loop.add_signal_handler(number, effect)
        except NotImplementedError:  # Windows
            signals_module.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            # None means a handler that was not set from Python, and that Python cannot restore.
            signals_module.signal(number, signals_module.SIG_DFL if handler is None else handler)
