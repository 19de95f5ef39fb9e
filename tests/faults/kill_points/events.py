"""Events that a walk waits for, so that its steps happen in the right order on a fast and on a slow machine."""

import asyncio
from typing import Any

from escalation_core.engine.deliver import Delivery
from escalation_core.engine.tasks import TaskGroup


def event_of_call(owner: Any, name: str) -> asyncio.Event:
    """Return an event that is set when a method of an object is called, or a method of any object of a class."""
    called, method = asyncio.Event(), getattr(owner, name)

    async def method_called(*args: Any, **kwargs: Any) -> Any:
        called.set()
        return await method(*args, **kwargs)

    setattr(owner, name, method_called)
    return called


def hold_answers(until: asyncio.Event) -> asyncio.Event:
    """Delay each answer of a notifier until an event. Return an event that is set when the first answer has come."""
    delivery: Any = Delivery
    answered, send = asyncio.Event(), delivery._send

    async def send_and_wait(*args: Any) -> Any:
        outcome = await send(*args)
        answered.set()
        await until.wait()
        return outcome

    delivery._send = send_and_wait
    return answered


class EndsWhenAwaited:
    """A dead man's switch whose call ends only when the engine waits for it."""

    def __init__(self, calls: TaskGroup) -> None:
        self._end = event_of_call(calls, "wait")

    async def beat(self) -> None:
        await self._end.wait()
