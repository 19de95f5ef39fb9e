"""Tasks: helpers around asyncio, which no other file of the core imports. They do no I/O."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from ..errors import EscalationError, error_place

Result = TypeVar("Result")


def monotonic() -> float:
    """Return the time of the running loop's clock in seconds. Changes of the wall clock do not affect it."""
    return asyncio.get_running_loop().time()


def clock() -> Callable[[], float]:
    """Return the running loop's clock as a function, which any thread may call."""
    return asyncio.get_running_loop().time


def was_cancelled(error: BaseException) -> bool:
    """Return whether an error is the cancellation of the running task, and not one that the work raised by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


_leaving: set[asyncio.Task[Any]] = set()
"""Cancelled tasks that have not ended yet. A loop holds only weak references to its tasks."""
IGNORED = 5.0
"""Seconds after its cancellation until work that still runs counts as ignoring the cancellation."""


async def within(
    span: timedelta, work: Coroutine[Any, Any, Result], *, ignored: Callable[[], None] = lambda: None
) -> Result:
    """Return the result of ``work``. At the end of the span cancel ``work``, and do not wait for it to end.

    Waiting could take long: a driver contacts its server again to cancel a statement, and a notifier may ignore its
    cancellation. If ``work`` has not ended ``IGNORED`` seconds after the cancellation, ``ignored`` is called.

    Raises:
        TimeoutError: ``work`` has not ended in time.
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
        task.exception()  # asyncio logs an exception that is never retrieved


async def rest(span: timedelta) -> None:
    """Sleep for this span."""
    await asyncio.sleep(span.total_seconds())


async def gather(*work: Awaitable[Result]) -> list[Result]:
    """Await all at once and return the results in order. Raise the first error, if any, once all have ended."""
    ends = await asyncio.gather(*work, return_exceptions=True)
    results: list[Result] = []
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        results.append(end)
    return results


async def gather_few(count: int, works: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run all works, at most ``count`` at a time. Those that wait for their turn have not begun."""
    left = iter(works)

    async def run() -> None:
        for work in left:
            await work()

    await gather(*(run() for _ in range(count)))


class LoopGuard:
    """Guards an object that belongs to one event loop: the first loop that it is used in."""

    def __init__(self, name: str, remedy: str) -> None:
        self._name, self._remedy = name, remedy
        self._loop: asyncio.AbstractEventLoop | None = None

    def check(self) -> None:
        """Raise EscalationError if the running loop is not the first one."""
        loop = asyncio.get_running_loop()
        self._loop = self._loop or loop
        if self._loop is not loop:
            raise EscalationError(f"{self._name} in another event loop before; {self._remedy}")


class SingleFlight(Generic[Result]):
    """Runs one task at a time: a call made meanwhile joins the running task and gets its result.

    If a caller is cancelled, the task continues for the other callers. If the last caller is cancelled, so is the task.
    """

    def __init__(self) -> None:
        self._flight: _SharedTask[Result] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Start ``work``, or join the running task."""
        while self._flight is not None and self._flight.abandoned and not self._flight.task.done():
            # The task is cancelled and still ending: a new caller that joins it would be cancelled too.
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
    """One background task at a time, which outlives its callers."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start ``work``, unless a task is running."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(work())

    @property
    def busy(self) -> bool:
        """Whether a task is running."""
        return self._task is not None and not self._task.done()

    async def wait(self) -> None:
        """Wait until the task has ended. If the caller is cancelled, the task continues."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task.result()

    async def ended(self) -> None:
        """Wait until the task has ended, however it ended. If the caller is cancelled, the task continues."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def end(self) -> None:
        """Cancel the task, and wait until it has ended."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


class TaskGroup:
    """Runs many tasks at once. It wakes a waiter whenever a task ends or ``wake`` is called."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._outliving: set[asyncio.Task[Any]] = set()
        self._woken = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether any task is running."""
        return bool(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work`` as a task. It must not raise."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def wake(self) -> None:
        """Wake the waiter."""
        self._woken.set()

    def clear(self) -> None:
        """Forget that it was woken."""
        self._woken.clear()

    async def wait(self, longest: timedelta | None = None, *, enough: Callable[[], bool] = lambda: True) -> None:
        """Wait until woken, at most for ``longest``. Return at once if woken since the last wait.

        While tasks are running, it keeps waiting until ``enough`` returns True.
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
        """Await ``work``. If the caller is cancelled, ``work`` continues to its end."""
        task = asyncio.get_running_loop().create_task(work)
        self._outliving.add(task)
        task.add_done_callback(self._outlived)
        await asyncio.wait([task])
        return task.result()

    async def outlived(self, longest: timedelta) -> None:
        """Wait until the work of ``outlive`` that runs now has ended, also that of callers who were cancelled."""
        if self._outliving:
            await asyncio.wait(self._outliving, timeout=longest.total_seconds())

    async def drained(self) -> None:
        """Wait until no task is running, including the work of ``outlive``."""
        while tasks := self._tasks | self._outliving:
            await asyncio.wait(tasks)

    async def cancel(self) -> None:
        """Cancel all tasks, including the work of ``outlive``, and wait until they have ended."""
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
            task.exception()  # asyncio logs an exception that is never retrieved; the caller may be cancelled
