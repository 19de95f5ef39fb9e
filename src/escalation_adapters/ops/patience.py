"""Waiting for something with an end to it, whatever it is that hangs."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

Result = TypeVar("Result")
_leaving: set[asyncio.Task[Any]] = set()
"""What nobody waits for any more, until it has ended: a loop holds its tasks but weakly."""


async def within(span: timedelta, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what ``work`` returns. It is cancelled at the span's end, and nobody waits for it to heed that.

    A driver that cancels a statement talks to the server once more: with one that hangs, that takes seconds as well.

    Raises:
        TimeoutError: it has not ended in time.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=span.total_seconds())
    finally:
        if not task.done():
            task.cancel()
            _leaving.add(task)
            task.add_done_callback(_left)
    if task in _leaving:
        raise TimeoutError
    return task.result()


def _left(task: asyncio.Task[Any]) -> None:
    _leaving.discard(task)
    if not task.cancelled():
        task.exception()  # asked for, so that asyncio does not complain that nobody did
