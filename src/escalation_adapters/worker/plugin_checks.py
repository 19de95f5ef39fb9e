"""The check that what a factory returned is a plug-in of a kind."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from escalation_core import Abilities, InvalidValue
from escalation_core.checks import check_text
from escalation_core.errors import error_place
from escalation_core.rules.abilities import abilities_of
from escalation_core.rules.routing import check_targets

from .plugin_records import METHODS, Kind, Plugin

_NOT_ONE = "return one object: a notifier, a router, a schedule source or a heartbeat"


def check_made(name: str, made: object, expected: Kind | None) -> Plugin:
    """Return what a factory returned as the plug-in ``name``, with what a notifier declares.

    Its kind is the expected one, or else the one that its methods tell.

    Raises:
        InvalidValue: it is not such an object, or it may be of several kinds. Of an error that the object raises the
            message has the class and the place alone.
    """
    remedy = _NOT_ONE if expected is None else f"return a {expected.value}"
    if inspect.isawaitable(made):
        if inspect.iscoroutine(made):
            made.close()  # else Python warns that it was never awaited
        raise _refusal("is asynchronous", "write def, not async def; connect at the first call that needs it")
    if made is None or inspect.isclass(made) or inspect.ismodule(made) or inspect.isroutine(made):
        what = "None" if made is None else f"the {type(made).__name__} {getattr(made, '__name__', '?')}"
        raise _refusal(f"returned {what}", remedy)
    try:
        kind = _kind(made, expected, remedy)
        if kind is Kind.NOTIFIER:
            return Plugin(name, kind, made, *_check_notifier(made))
        _SHAPES[kind](made)
        return Plugin(name, kind, made)
    except InvalidValue:
        raise
    except BaseException as error:  # noqa: BLE001 - a property of another author's object may raise anything
        raise _refusal(f"returned an object that raises {error_place(error)}", remedy) from None


def _kind(made: object, expected: Kind | None, remedy: str) -> Kind:
    found = [kind for kind in Kind if callable(getattr(made, kind.method, None))]
    what = f"returned {type(made).__name__}"
    if expected is not None:
        if expected not in found:
            raise _refusal(f"{what}, which has no method {expected.method}", remedy)
        return expected
    if not found:
        raise _refusal(f"{what}, which has none of the methods {', '.join(METHODS.values())}", remedy)
    if len(found) > 1:
        methods = " and ".join(kind.method for kind in found)
        how = "name it by an entry point, whose group says the kind"
        raise _refusal(f"{what}, which has the methods {methods}", how)
    return found[0]


def _check_notifier(made: Any) -> tuple[Sequence[str], Abilities]:
    if not _part("notifier whose channel", lambda: check_text(made.channel, "channel")):
        raise _refusal("returned a notifier whose channel has no name", "name the channel, for example 'sms'")
    targets: Sequence[str] = _part("notifier whose list of targets", lambda: check_targets(made.targets))
    if not targets:
        raise _refusal("returned a notifier without targets", "name its targets, or take the plug-in out")
    abilities: Abilities = _part("notifier with wrong abilities:", lambda: abilities_of(made))
    _check_async(made, "send", "aclose")
    if abilities.bundles:
        _check_async(made, "send_bundle")
    if abilities.notices:
        _check_async(made, "tell", *(["tell_bundle"] if abilities.bundles else []))
    return targets, abilities


def _check_router(made: Any) -> None:
    if inspect.iscoroutinefunction(inspect.unwrap(made.route)):
        raise _refusal("returned a router whose route is asynchronous", "write def route: it must be pure and fast")


def _part(what: str, check: Callable[[], Any]) -> Any:
    try:
        return check()
    except InvalidValue as fault:
        raise _refusal(f"returned a {what} {fault.fault}", fault.remedy) from None


def _check_async(made: Any, *methods: str) -> None:
    for name in methods:
        method = getattr(made, name, None)
        if not callable(method):
            raise _refusal(f"returned {type(made).__name__}, which has no method {name}", f"write async def {name}")
        # A decorator with functools.wraps leads to the function that it wraps.
        if not inspect.iscoroutinefunction(inspect.unwrap(method)):
            raise _refusal(f"returned {type(made).__name__}, whose {name} is not async", f"write async def {name}")


def _refusal(fault: str, remedy: str) -> InvalidValue:
    return InvalidValue("plug-in", fault, remedy)


_SHAPES: dict[Kind, Callable[[Any], None]] = {
    Kind.ROUTER: _check_router,
    Kind.SCHEDULES: lambda made: _check_async(made, Kind.SCHEDULES.method),
    Kind.HEARTBEAT: lambda made: _check_async(made, Kind.HEARTBEAT.method),
}
"""The check of each kind but a notifier."""
