"""An engine for hosts without asyncio: its event loop runs in its own thread, and each call waits for its result."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial, update_wrapper
from typing import Concatenate, ParamSpec, Self, TypeVar

from ..extras import needs

with needs(__name__, "blocking"):
    from anyio.from_thread import BlockingPortal, start_blocking_portal

from escalation_core import Engine, EscalationError

from ..blocking_verbs import BlockingVerbs
from .reload import Load
from .runner import run

Given = ParamSpec("Given")
Result = TypeVar("Result")


def _blocking(
    method: Callable[Concatenate[Engine, Given], Awaitable[Result]],
) -> "Callable[Concatenate[BlockingEngine, Given], Result]":
    """Return a method that calls the engine's method and waits for the result."""

    def call(self: "BlockingEngine", /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return self._get_portal().call(partial(method, self.engine, *args, **kwargs))

    return update_wrapper(call, method)


class BlockingEngine:
    """An engine with blocking calls: a context manager that any number of threads may use at once.

    ``make`` is a coroutine function that returns the engine. It runs in the loop's thread, so it may connect a store.
    ``work=True`` also ticks and delivers there, like ``run``; without it, call ``tick``. ``policies`` reads the
    policies file again when an operator asks for it, as in ``run``; ``make`` gives the engine its first policies. Open
    it in the process that uses it: after a fork, not before. Close it before the process ends: otherwise the process
    waits for the thread.
    """

    open = _blocking(Engine.open)
    acknowledge = _blocking(Engine.acknowledge)
    unacknowledge = _blocking(Engine.unacknowledge)
    resolve = _blocking(Engine.resolve)
    change_severity = _blocking(Engine.change_severity)
    snooze = _blocking(Engine.snooze)
    drain = _blocking(Engine.drain)
    rebind = _blocking(Engine.rebind)
    forecast_rebind = _blocking(Engine.forecast_rebind)
    pinned = _blocking(Engine.pinned)
    request_reload = _blocking(Engine.request_reload)
    on_call = _blocking(Engine.on_call)
    override = _blocking(Engine.override)
    overrides = _blocking(Engine.overrides)
    load_schedules = _blocking(Engine.load_schedules)
    tick = _blocking(Engine.tick)
    deliver = _blocking(Engine.deliver)
    recalc = _blocking(Engine.recalc)
    request_recalc = _blocking(Engine.request_recalc)
    retry_dead = _blocking(Engine.retry_dead)
    pause = _blocking(Engine.pause)
    resume = _blocking(Engine.resume)
    prune = _blocking(Engine.prune)
    prove = _blocking(Engine.prove)
    history = _blocking(Engine.history)
    audit = _blocking(Engine.audit)
    dead = _blocking(Engine.dead)
    note = _blocking(Engine.note)
    test_page = _blocking(Engine.test_page)
    note_test_page = _blocking(Engine.note_test_page)
    now = _blocking(Engine.now)
    remember_request = _blocking(Engine.remember_request)
    health = _blocking(Engine.health)
    open_incidents = _blocking(Engine.open_incidents)
    pages = _blocking(Engine.pages)
    notices = _blocking(Engine.notices)
    is_healthy = _blocking(Engine.is_healthy)

    def __init__(
        self, make: Callable[[], Awaitable[Engine]], *, work: bool = False, policies: Load | None = None
    ) -> None:
        self._make = make
        self._work = work
        self._policies = policies
        self._portal: BlockingPortal | None = None
        self._engine: Engine | None = None
        self._process: int | None = None
        self._stack = ExitStack()

    @property
    def engine(self) -> Engine:
        """The engine itself; its coroutines must run in the loop's thread."""
        if self._engine is None:
            raise EscalationError("the engine is not open; write: with BlockingEngine(...) as engine")
        return self._engine

    def using(self, connection: object) -> BlockingVerbs:
        """Return the verbs as part of the transaction that the host began on a synchronous connection, and ends.

        They run in the caller's thread. See ``Engine.using``.
        """
        return BlockingVerbs(self.engine.using(connection))

    def __enter__(self) -> Self:
        """Start the thread, make the engine, and check that its store is ready."""
        if self._portal is not None:
            raise EscalationError("the engine is open already")
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            engine = portal.call(self._make)
            stack.callback(partial(portal.call, engine.aclose))
            portal.call(engine.check)
            if self._work:
                stop = portal.call(_event)
                working = portal.start_task_soon(
                    partial(run, engine, stop=stop, signals=False, policies=self._policies)
                )
                stack.callback(self._stop, portal, stop, working)
            self._portal, self._engine, self._process = portal, engine, os.getpid()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        """Finish the tick and the pages being sent, close the engine, and end the thread."""
        self._portal = self._engine = None
        self._stack.close()

    @staticmethod
    def _stop(portal: BlockingPortal, stop: asyncio.Event, working: "Future[None]") -> None:
        portal.call(stop.set)
        working.result()

    def _get_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise EscalationError("the engine is not open; write: with BlockingEngine(...) as engine")
        if self._process != os.getpid():
            raise EscalationError("the engine was opened before this process was forked; open it in the process itself")
        return self._portal


async def _event() -> asyncio.Event:
    return asyncio.Event()
