"""Tests of SingleFlight, TaskGroup, gather and within."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from escalation_core.engine.tasks import SingleFlight, TaskGroup, gather, monotonic, within

SHORT = timedelta(milliseconds=1)


class Work:
    """Work that ends when the test sets ``gate``, and counts its starts and cancellations."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        self.cancelled = 0
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return number


async def settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


def board(flight: SingleFlight[int], work: Work) -> "asyncio.Task[int]":
    """Start a caller of the single flight."""
    return asyncio.create_task(flight.run(work))


async def test_joiner_gets_the_same_result() -> None:
    """A caller that comes while the work is running gets the result of the same run."""
    flight, work = SingleFlight[int](), Work()
    callers = [board(flight, work) for _ in range(3)]
    await settle()
    work.gate.set()
    assert ([1, 1, 1], 1) == (await asyncio.gather(*callers), work.begun)


async def test_next_call_is_a_new_flight() -> None:
    """After a flight has ended, the next call starts another."""
    flight, work = SingleFlight[int](), Work()
    work.gate.set()
    assert [1, 2] == [await flight.run(work), await flight.run(work)]


@pytest.mark.parametrize("leaver", [0, 1])
async def test_one_of_two_who_is_cancelled_leaves_alone(leaver: int) -> None:
    """If one of two callers is cancelled, the flight goes on for the other, even if the first started it."""
    flight, work = SingleFlight[int](), Work()
    callers = [board(flight, work) for _ in range(2)]
    await settle()
    callers[leaver].cancel()
    await settle()
    assert [leaver == 0, leaver == 1] == [passenger.cancelled() for passenger in callers]
    work.gate.set()
    assert (1, 0) == (await callers[1 - leaver], work.cancelled)


@pytest.mark.parametrize("together_", [True, False])
async def test_flight_ends_when_everybody_has_left(together_: bool) -> None:
    """When the last caller is cancelled, the work is cancelled, and ends before the caller does."""
    flight, work = SingleFlight[int](), Work()
    callers = [board(flight, work) for _ in range(2)]
    await settle()
    for passenger in callers:
        passenger.cancel()
        if not together_:
            await settle()
    await settle()
    assert ([True, True], 1) == ([passenger.cancelled() for passenger in callers], work.cancelled)
    work.gate.set()
    assert 2 == await flight.run(work)


async def test_exception_is_shared() -> None:
    """Every caller gets the flight's exception, and the next call starts a new flight."""
    flight, work = SingleFlight[int](), Work()
    work.error = RuntimeError("storm")
    callers = [board(flight, work) for _ in range(2)]
    await settle()
    work.gate.set()
    assert [work.error] * 2 == await asyncio.gather(*callers, return_exceptions=True)
    work.error = None
    assert 2 == await flight.run(work)


class Stubborn(Work):
    """Work that does not end at once when it is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.ending = asyncio.Event()
        self.may_end = asyncio.Event()

    async def __call__(self) -> int:
        try:
            return await super().__call__()
        finally:
            if self.cancelled:
                self.ending.set()
                await self.may_end.wait()


async def test_newcomer_does_not_board_a_flight_that_is_being_cancelled() -> None:
    """A caller that comes while an abandoned flight is being cancelled is not cancelled, and gets its own flight."""
    flight, work = SingleFlight[int](), Stubborn()
    leaver = board(flight, work)
    await settle()
    leaver.cancel()
    await work.ending.wait()
    newcomer = board(flight, work)
    await settle()
    work.may_end.set()
    work.gate.set()
    assert 2 == await newcomer
    assert [True] == [task.cancelled() for task in await _gone(leaver)]


async def _gone(task: "asyncio.Task[int]") -> list["asyncio.Task[int]"]:
    await asyncio.wait([task])
    return [task]


async def test_passengers_of_the_last_flight_are_not_counted_for_the_next() -> None:
    """A new flight that starts before the old flight's callers have woken still ends when its own callers have left."""
    flight, work = SingleFlight[int](), Work()
    started: list[asyncio.Task[int]] = []

    async def starts_anew() -> int:
        await asyncio.sleep(0)
        started.append(board(flight, work))
        return 7

    assert 7 == await flight.run(starts_anew)
    await settle()
    started[0].cancel()
    await settle()
    assert (1, 1) == (work.begun, work.cancelled)


# --- several tasks


async def test_bell_rings_when_a_flight_ends() -> None:
    """``wait`` ends when the first task ends, and ``busy`` is true while any task runs."""
    tasks, work = TaskGroup(), Work()

    async def fly() -> None:
        await work()

    assert not tasks.busy
    tasks.start(fly())
    assert tasks.busy
    asyncio.get_running_loop().call_soon(work.gate.set)
    await tasks.wait()
    assert not tasks.busy


async def test_bell_that_rang_before_is_heard() -> None:
    """``wait`` returns at once if ``wake`` was called since the last wait, and only then."""
    tasks = TaskGroup()
    tasks.wake()
    await tasks.wait()
    began = monotonic()
    await tasks.wait(SHORT)
    assert SHORT.total_seconds() <= monotonic() - began + 0.0005


async def test_cancelled_flights_are_gone() -> None:
    """``cancel`` cancels all tasks and waits for their end; without any task it returns at once."""
    tasks, work = TaskGroup(), Work()

    async def fly() -> None:
        await work()

    await tasks.cancel()
    tasks.start(fly())
    tasks.start(fly())
    await settle()
    await tasks.cancel()
    assert (2, False) == (work.cancelled, tasks.busy)


async def test_flight_that_crashes_is_told_to_the_loop() -> None:
    """A task's exception goes to the loop's exception handler without its text, and ``wait`` still ends."""
    tasks, told = TaskGroup(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    async def crash() -> None:
        raise RuntimeError("storm")

    tasks.start(crash())
    await tasks.wait()
    ((message,),) = [context.values() for context in told]
    assert message.startswith("a task crashed: RuntimeError, ")
    assert "storm" not in message
    assert not tasks.busy


# --- within and gather


async def test_within_its_time_work_is_done() -> None:
    """Work within its time gives its result; work that takes longer raises TimeoutError."""
    work = Work()
    with pytest.raises(TimeoutError):
        await within(SHORT, work())
    work.gate.set()
    assert (2, 1) == (await within(timedelta(seconds=10), work()), work.cancelled)


async def test_together_keeps_the_order() -> None:
    """``gather`` returns results in the order of the calls, for any order of their ends."""
    first, second = Work(), Work()
    second.gate.set()
    calls: list[Callable[[], Awaitable[int]]] = [first, second]
    asyncio.get_running_loop().call_soon(first.gate.set)
    second.begun = 4
    assert [1, 5] == await gather(*(call() for call in calls))
