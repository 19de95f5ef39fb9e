"""Find the engine that a service's own code makes, for ``escalation --app package.module:attribute``."""

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from escalation_core import Engine, EscalationError, InvalidValue
from escalation_core.errors import error_place

from .named_objects import add_working_directory, find_object

MAKE_TIMEOUT = 30.0
"""Seconds that the import of the module may take, and that the function may take. A database may answer slowly."""
_REMEDY = "name an Engine, or a function without arguments, def or async def, that returns one"


def find_app(name: str) -> Engine | Callable[[], object]:
    """Import what ``--app`` names: an engine, or a function that returns one. A module that hangs ends the process.

    Raises:
        InvalidValue: it cannot be imported, or is neither.
    """
    field = f"--app {name}"
    add_working_directory()
    try:
        with _ends_process(field):
            found = find_object(name)
    except InvalidValue as fault:
        raise InvalidValue(field, fault.fault, fault.remedy) from None
    if not isinstance(found, Engine) and not callable(found):
        raise InvalidValue(field, f"is {type(found).__name__}", _REMEDY)
    return found


async def make_engine(name: str, found: Engine | Callable[[], object]) -> Engine:
    """Return the engine that ``find_app`` found, or the one that its function makes in the loop that runs now.

    Raises:
        InvalidValue: the function raises another library's error, or does not return an engine.
        EscalationError: what the function raises of the library's own errors, for example StoreUnavailable.
    """
    field = f"--app {name}"
    if isinstance(found, Engine):
        return found
    try:
        with _ends_process(field):
            made: object = found()
            if inspect.isawaitable(made):
                made = await made
    except EscalationError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a service's function may raise anything
        remedy = "repair it; call it in a test of the service to see the whole error"
        raise InvalidValue(field, f"raised {error_place(error)}", remedy) from None
    if not isinstance(made, Engine):
        raise InvalidValue(field, f"returned {'None' if made is None else type(made).__name__}", _REMEDY)
    return made


@contextmanager
def _ends_process(field: str) -> Iterator[None]:
    """End the process with exit code 1 if the block takes too long: no other code can interrupt one that hangs.

    The block runs in the main thread, since the engine belongs to its event loop. Nothing of the engine has begun.
    """

    def end() -> None:
        fault = f"has given no engine within {MAKE_TIMEOUT:g} s; find what it waits for"
        sys.stderr.write(f"escalation: {field}: {fault}\n")
        sys.stderr.flush()
        os._exit(1)

    timer = threading.Timer(MAKE_TIMEOUT, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
