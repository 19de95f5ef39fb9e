"""Tasks: the one file of the core that imports asyncio. It waits and joins, and does no I/O."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, TypeVar

from ..errors import EscalationError, error_place

Result = TypeVar("Result")


def monotonic() -> float:
    """Return the running loop's clock in seconds, which no change of the wall clock touches."""
    return asyncio.get_running_loop().time()


def clock() -> Callable[[], float]:
    """Return the running loop's clock itself, which any thread may call."""
    return asyncio.get_running_loop().time


_leaving: set[asyncio.Task[Any]] = set()
"""Cancelled tasks that have not ended yet. A loop holds only weak references to its tasks."""
IGNORED = 5.0
"""Seconds after which work that was cancelled and goes on is said to ignore that."""


async def within(
    span: timedelta, work: Coroutine[Any, Any, Result], *, ignored: Callable[[], None] = lambda: None
) -> Result:
    """Return what ``work`` returns. At the span's end cancel it, and do not wait for it to end.

    A driver that cancels a statement talks to its server once more, and a notifier may ignore its cancellation:
    ``ignored`` is called if ``work`` has not ended some seconds later.

    Raises:
        TimeoutError: it has not ended in time.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    try:
        ended, _ = await asyncio.wait([task], timeout=span.total_seconds())
    finally:
        if not task.done():
            task.cancel()
            _leaving.add(task)
            task.add_done_callback(_left)
            loop.call_later(IGNORED, lambda: None if task.done() else ignored())
    if not ended:
        raise TimeoutError
    return task.result()


def _left(task: asyncio.Task[Any]) -> None:
    _leaving.discard(task)
    if not task.cancelled():
        task.exception()  # marks it as retrieved, so that asyncio does not log it


async def rest(span: timedelta) -> None:
    """Wait for so long."""
    await asyncio.sleep(span.total_seconds())


async def gather(*work: Awaitable[Result]) -> list[Result]:
    """Await all at once; return their results in order. If any raise, the first error is raised once all have ended."""
    ends = await asyncio.gather(*work, return_exceptions=True)
    results: list[Result] = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        results.append(end)
    return results


class LoopGuard:
    """The one event loop that something belongs to: the first that it is used in."""

    def __init__(self, name: str, remedy: str) -> None:
        self._name, self._remedy = name, remedy
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raise EscalationError in any other loop."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise EscalationError(f"{self._name} in another event loop before; {self._remedy}")


class SingleFlight(Generic[Result]):
    """Runs one task at a time: a call made meanwhile joins it and gets the same result.

    If a caller is cancelled, the task goes on for the others; when the last one leaves, it is cancelled.
    """

    def __init__(self) -> None:
        self._flight: _SharedTask[Result] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Start ``work``, or join the task that is under way."""
        while self._flight is not None and self._flight.abandoned and not self._flight.task.done():
            # All callers have left and it is still ending: a new caller would be cancelled with it.
            await asyncio.wait([self._flight.task])
        if self._flight is None or self._flight.task.done():
            self._flight = _SharedTask(asyncio.get_running_loop().create_task(work()))
        flight = self._flight
        flight.callers += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.callers == 1 and not flight.task.done():
                flight.abandoned = True
                flight.task.cancel()
                await asyncio.wait([flight.task])
            raise
        finally:
            flight.callers -= 1


class _SharedTask(Generic[Result]):
    """One task of a SingleFlight, with its callers."""

    def __init__(self, task: "asyncio.Task[Result]") -> None:
        self.task = task
        self.callers = 0
        self.abandoned = False


class BackgroundTask:
    """Background work that outlives its callers; a second call joins the one that is under way."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start it, unless it is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(work())

    async def wait(self) -> None:
        """Wait until it has ended. A caller that is cancelled does not cancel it."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def end(self) -> None:
        """Cancel it, and wait until it is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class TaskGroup:
    """Many tasks at once. A waiter is woken whenever one of them ends, or ``wake`` is called."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._outliving: set[asyncio.Task[Any]] = set()
        self._woken = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether any is under way."""
        return bool(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start one; it must not raise."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def wake(self) -> None:
        """Wake the waiter."""
        self._woken.set()

    async def wait(self, longest: timedelta | None = None, *, enough: Callable[[], bool] = lambda: True) -> None:
        """Wait until woken, at most for ``longest``; return at once if that happened since the last wait.

        While tasks are under way it goes on waiting until it is ``enough``.
        """
        try:
            async with asyncio.timeout(None if longest is None else longest.total_seconds()):
                while True:
                    await self._woken.wait()
                    self._woken.clear()
                    if not self.busy or enough():
                        return
        except TimeoutError:
            return

    async def outlive(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await ``work``; it goes on to its end if the caller is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._outliving.add(task)
        task.add_done_callback(self._outlived)
        await asyncio.wait([task])
        return task.result()

    async def drained(self) -> None:
        """Wait until none of them is under way, nor what outlives its caller."""
        while tasks := self._tasks | self._outliving:
            await asyncio.wait(tasks)

    async def cancel(self) -> None:
        """Cancel all of them, and wait until they are gone."""
        tasks = self._tasks | self._outliving
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": f"a task crashed: {error_place(error)}"})
        self._woken.set()

    def _outlived(self, task: "asyncio.Task[Any]") -> None:
        self._outliving.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the caller may be gone
