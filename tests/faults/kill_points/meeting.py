"""How one thing in a process waits for another, so that the two meet however quick or slow the machine is."""

import asyncio
from typing import Any

from escalation_core.engine.deliver import Delivery
from escalation_core.engine.tasks import TaskGroup


def calling(owner: Any, name: str) -> asyncio.Event:
    """Return what is set as soon as a method is called, of an object or of all objects of a class."""
    called, method = asyncio.Event(), getattr(owner, name)

    async def method_called(*args: Any, **kwargs: Any) -> Any:
        called.set()
        return await method(*args, **kwargs)

    setattr(owner, name, method_called)
    return called


def hold_answers(until: asyncio.Event) -> asyncio.Event:
    """Keep each page in flight until then, though it is answered; return what is set as soon as one is."""
    courier: Any = Delivery
    answered, send = asyncio.Event(), courier._send

    async def held(*args: Any) -> Any:
        outcome = await send(*args)
        answered.set()
        await until.wait()
        return outcome

    courier._send = held
    return answered


class Awaited:
    """A heartbeat that ends only when somebody waits for it."""

    def __init__(self, beats: TaskGroup) -> None:
        self._end = calling(beats, "wait")

    async def beat(self) -> None:
        await self._end.wait()
