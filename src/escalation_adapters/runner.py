"""Two loops: one ticks, one delivers. ``run`` keeps them going until it is told to stop."""

import asyncio
import contextlib
import logging
import random
import signal as signals_module
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import attrs

from escalation_core import Engine, StoreUnavailable

Result = TypeVar("Result")
log = logging.getLogger("escalation_adapters.runner")

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between attempts to reach a store that is out of reach: the first, doubling, and the longest."""
BREATH = timedelta(milliseconds=2)
"""The least between two ticks. Rhythm asks for less only while there is work; this bounds the loop whatever it asks."""


async def run(engine: Engine, *, stop: asyncio.Event | None = None, signals: bool = True) -> None:
    """Tick and deliver until ``stop`` is set, or SIGTERM or SIGINT arrives (which sets it).

    Then nothing new is claimed, the tick in progress ends, and the pages in flight are sent and settled; each send has
    its time limit, so this has one. A store that is out of reach is waited for, however long. The engine stays open.
    ``signals=False`` leaves the process's signals alone, for a host that has put handlers of its own on the loop;
    outside the main thread they always are.

    Cancelled, it drops the tick, sends and settles the pages in flight, and leaves no task behind; cancelled once more,
    it drops those pages too, which go again when their leases end.

    Raises:
        StoreNotReady: the store has to be migrated first.
        StoreRefused: the store refuses a statement; a later attempt would fail as well.
    """
    stop = asyncio.Event() if stop is None else stop
    leave = asyncio.Event()

    def dismiss() -> None:
        leave.set()
        engine.courier.flights.ring()

    with _stopping_on_signals(stop) if signals else contextlib.nullcontext():
        loops = [
            asyncio.create_task(_tick(engine, leave), name="escalation tick"),
            asyncio.create_task(_deliver(engine, leave), name="escalation delivery"),
        ]
        told = asyncio.create_task(stop.wait(), name="escalation stop")
        try:
            await asyncio.wait([*loops, told], return_when=asyncio.FIRST_COMPLETED)
            log.info("stopping: the tick and the pages under way are finished first")
            dismiss()
            await asyncio.wait(loops)
        finally:
            # A cancellation alone can be lost: up to Python 3.11 asyncio.wait_for, which drivers wait with, drops one
            # that comes in the same moment as what it waits for.
            dismiss()
            for task in (*loops, told):
                task.cancel()
            ends = await asyncio.gather(*loops, told, return_exceptions=True)
            try:
                await _finish(engine)
            except asyncio.CancelledError:
                await engine.courier.abandon()
                raise
        for end in ends:
            if isinstance(end, Exception):
                raise end


async def _tick(engine: Engine, leave: asyncio.Event) -> None:
    async def once() -> timedelta:
        report = await engine.tick(deliver=False)
        return await engine.next_tick_in(report)

    while (wait := await _insist("tick", once, leave)) is not None:
        await _rest(leave, max(wait, BREATH))


async def _deliver(engine: Engine, leave: asyncio.Event) -> None:
    courier = engine.courier

    async def once() -> timedelta:
        started = await courier.start_due()
        _tell(engine)
        # As long as there is something to start, there may be more. After that a page's end, or a tick, rings.
        return timedelta() if started.leased or started.ended else await engine.next_claim_in()

    await _insist("delivery", engine.check, leave)
    while (wait := await _insist("delivery", once, leave)) is not None:
        if wait:
            await courier.wait(wait)
        else:
            await asyncio.sleep(0)


async def _insist(what: str, attempt: Callable[[], Awaitable[Result]], leave: asyncio.Event) -> Result | None:
    """Return what ``attempt`` returns, as soon as the store lets it; None when it is time to leave."""
    failures = 0
    while not leave.is_set():
        try:
            result = await attempt()
        except StoreUnavailable as error:
            wait = _backoff(failures)
            failures += 1
            log.warning("%s: the store is out of reach (%s); next attempt in %.1f s", what, _short(error), wait)
            await _rest(leave, timedelta(seconds=wait))
        else:
            if failures:
                log.info("%s: the store is back after %d failed attempts", what, failures)
            return result
    return None


async def _finish(engine: Engine) -> None:
    """Wait for the pages in flight and settle them. A store that is out of reach gets one more send timeout."""
    loop = asyncio.get_running_loop()
    failures, until = 0, loop.time() + engine.settings.retry.send_timeout.total_seconds()
    while True:
        try:
            await engine.courier.finish()
        except StoreUnavailable as error:
            wait = _backoff(failures)
            failures += 1
            if loop.time() + wait > until:
                log.warning("pages that were sent could not be settled (%s); they are sent once more", _short(error))
                return
            await asyncio.sleep(wait)
        else:
            _tell(engine)
            return


def _tell(engine: Engine) -> None:
    """Log what became of pages since the last time, if anything did."""
    report = engine.courier.take_report()
    counts = {name: count for name, count in attrs.asdict(report).items() if count}
    if counts:
        log.info("pages %s", " ".join(f"{name}={count}" for name, count in counts.items()))


def _backoff(failures: int) -> float:
    full = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures, 30))
    return full * (0.5 + 0.5 * random.random())  # noqa: S311 - spreads workers; nothing secret


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


async def _rest(leave: asyncio.Event, longest: timedelta) -> None:
    """Wait for so long, or until it is time to leave."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest.total_seconds()):
            await leave.wait()


@contextlib.contextmanager
def _stopping_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set ``stop`` on SIGTERM and SIGINT, and put back the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signals_module.SIGTERM, signals_module.SIGINT)
    before = {number: signals_module.getsignal(number) for number in numbers}
    for number in numbers:
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signals_module.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            # None is a handler that was not set from Python, and cannot be from here.
            signals_module.signal(number, signals_module.SIG_DFL if handler is None else handler)
