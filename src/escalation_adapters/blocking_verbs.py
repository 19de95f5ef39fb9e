"""The verbs for hosts without asyncio, in a transaction of the host's: they run in the caller's thread."""

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar

from escalation_core import InvalidValue
from escalation_core.engine.incidents import IncidentVerbs

Given = ParamSpec("Given")
Result = TypeVar("Result")


BLOCKING: ContextVar[bool] = ContextVar("BLOCKING", default=False)
"""Whether ``finish`` runs the caller: then nothing may wait."""


def finish(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that waits for nothing, without an event loop, and return its result.

    Raises:
        InvalidValue: the coroutine waits: its connection is an asynchronous one.
    """
    before = BLOCKING.set(True)
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        BLOCKING.reset(before)
    coroutine.close()
    raise InvalidValue("connection", "is asynchronous, and this call blocks", "give a synchronous connection")


def _blocking(
    method: Callable[Concatenate[IncidentVerbs, Given], Coroutine[Any, Any, Result]],
) -> "Callable[Concatenate[BlockingVerbs, Given], Result]":
    """Return a method that runs the verb to its end."""

    def call(self: "BlockingVerbs", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return finish(method(self._verbs, *args, **kwargs))

    return update_wrapper(call, method)


class BlockingVerbs:
    """The verbs on one incident, as part of the transaction of a synchronous connection."""

    open = _blocking(IncidentVerbs.open)
    acknowledge = _blocking(IncidentVerbs.acknowledge)
    unacknowledge = _blocking(IncidentVerbs.unacknowledge)
    resolve = _blocking(IncidentVerbs.resolve)
    change_severity = _blocking(IncidentVerbs.change_severity)
    snooze = _blocking(IncidentVerbs.snooze)
    drain = _blocking(IncidentVerbs.drain)
    rebind = _blocking(IncidentVerbs.rebind)

    def __init__(self, verbs: IncidentVerbs) -> None:
        self._verbs = verbs
