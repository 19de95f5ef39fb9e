"""Limits of settings. A check raises InvalidValue for an invalid value, whether code or a variable set it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any, TypeVar

from ..checks import check_count, check_mapping, check_text, quoted
from ..errors import InvalidValue
from ..model import Budget, normal_severity
from ..rules.builtin import MAX_WINDOW
from ..rules.fallback import check_fallbacks
from ..rules.maintenance import PauseSchedule
from ..rules.priority import MAX_SEVERITIES
from ..rules.routing import Route, check_kinds, check_target
from . import write
from .pagerduty_url import is_pagerduty, parse_pagerduty
from .secrets import check_url

Result = TypeVar("Result")
Check = Callable[[Any], object]

LOG_TARGET = "log"
"""The target that every installation has: the log of the process."""
_FACTORY = "package.module:factory"
_INSTANT = timedelta(microseconds=1)
"""The shortest window. Code may set windows shorter than a minute; variables take whole minutes."""


def optional(check: Check) -> Check:
    """Return a check that also accepts None."""
    return lambda value: None if value is None else check(value)


def of_type(kind: type, wanted: str) -> Check:
    """Return a check of a value's type."""

    def check(value: object) -> None:
        if not isinstance(value, kind):
            raise InvalidValue("value", f"is {type(value).__name__}", f"give {wanted}")

    return check


def count(least: int, most: int) -> Check:
    """Return a check of a whole number."""
    return lambda value: check_count(value, "value", least, most)


def span(unit: timedelta, units: str, least: timedelta, most: timedelta) -> Check:
    """Return a check of a timedelta. Messages state it in the variable's unit."""
    legal = f"give {-(-least // unit)} to {most // unit} {units}"

    def check(value: object) -> None:
        if not isinstance(value, timedelta):
            raise InvalidValue("span", f"is {type(value).__name__}", "give a timedelta")
        if not least <= value <= most:
            raise InvalidValue("span", f"is {write.number(value, unit)}", legal)

    return check


minutes = partial(span, write.MINUTE, "minutes")
seconds = partial(span, write.SECOND, "seconds")
milliseconds = partial(span, write.MILLISECOND, "milliseconds")
window = minutes(_INSTANT, MAX_WINDOW)
target = partial(check_target, field="target")


def windows(value: object) -> None:
    """Check the windows of further severities. No two names may be equal without regard to case and blanks."""
    seen = {"critical": "ESC_CRIT_ACK_MIN", "warning": "ESC_WARN_ACK_MIN"}
    for severity, length in check_mapping(value, "windows", "give a mapping of severity to timedelta").items():
        name = _check_part(repr(severity), _severity, severity)
        if name in seen:
            raise InvalidValue("windows", f"{severity!r} is set a second time", f"set it once, in {seen[name]}")
        seen[name] = "ESC_ACK_MIN"
        _check_part(repr(severity), window, length)


def _severity(value: object) -> str:
    # The store saves the fingerprint of the windows, so the name must be text that every store can save.
    name = normal_severity(check_text(value, "severity"))
    if not name:
        raise InvalidValue("severity", "is empty", "name it")
    return name


def targets(value: object) -> None:
    """Check the names of the targets."""
    for name in check_mapping(value, "targets", "give a mapping of name to URL"):
        _check_part("a name", target, name)


def budgets(value: object) -> None:
    """Check the budgets of targets."""
    for name, budget in check_mapping(value, "budgets", "give a mapping of name to Budget or None").items():
        _check_part("a name", target, name)
        if budget is not None and not isinstance(budget, Budget):
            raise InvalidValue("budgets", f"{name!r} is {type(budget).__name__}", "give Budget(rate=..., burst=...)")


def notices(value: object) -> None:
    """Check the kinds of notices of targets."""
    for name, kinds in check_mapping(value, "notices", "give a mapping of target to a set of kinds").items():
        _check_part("a name", target, name)
        _check_part(f"{name!r}", check_kinds, kinds)


def fallbacks(value: object) -> None:
    """Check the fallbacks of targets: valid names, and chains that end."""
    for name, fallback in check_mapping(value, "fallbacks", "give a mapping of target to target").items():
        _check_part("a name", target, name)
        _check_part(f"the fallback of {name!r}", target, fallback)
    check_fallbacks(check_mapping(value, "fallbacks", ""))


def severity_order(value: object) -> None:
    """Check an order of severities. No two names may be equal without regard to case and blanks."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidValue("severities", f"is {type(value).__name__}", "give a list of severities, worst first")
    names = [_check_part(repr(name), _severity, name) for name in value]
    if not 1 <= len(names) <= MAX_SEVERITIES:
        raise InvalidValue("severities", f"names {len(names)} severities", f"name 1 to {MAX_SEVERITIES}")
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise InvalidValue("severities", f"names {twice[0]!r} twice", "name each once")


def routes(value: Sequence[object]) -> None:
    """Check a list of routes."""
    of_type(Sequence, "a list of Route")(value)
    if not all(isinstance(route, Route) for route in value):
        raise InvalidValue("routes", "holds a value that is not a Route", "give Route(...) objects")


def path(value: object) -> None:
    """Check the path of a file."""
    if not check_text(value, "path").strip():
        raise InvalidValue("path", "is empty", "name a file, or leave it out")


def role(value: str) -> None:
    """Check a role's name."""
    of_type(str, "text")(value)
    if not value.strip():
        raise InvalidValue("role", "is empty", "name the role; an empty name admits no caller")


def target_urls(urls: Mapping[str, str], allow_http: bool) -> None:
    """Check each target's URL."""
    for name, url in urls.items():
        check = partial(parse_pagerduty if is_pagerduty(url) else check_url, allow_http=allow_http)
        _check_part(f"the URL of {name!r}", check, url)


def heartbeat_url(url: str | None, allow_http: bool) -> None:
    """Check the URL of the dead man's switch."""
    if url is not None:
        check_url(url, allow_http)


def plugins(value: Sequence[str]) -> None:
    """Check the names of plug-ins' factories."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidValue("plugins", f"is {type(value).__name__}", f"give a list of names such as {_FACTORY!r}")
    for number, name in enumerate(value):
        if not isinstance(name, str) or not names_attribute(name):
            remedy = f"write {_FACTORY}, and a comma between two of them"
            # A URL is in the wrong variable. It may be a secret, so the error does not quote it.
            shown = "a URL" if "://" in str(name) else quoted(name)
            raise InvalidValue("plugins", f"{shown} is not a valid name of a factory", remedy)
        if name in value[:number]:
            raise InvalidValue("plugins", f"names {name!r} twice", "name each once")


def names_attribute(name: str) -> bool:
    """Return whether a text has the form ``package.module:attribute``, where the attribute may have dots."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def own_targets(value: object) -> None:
    """Check the names of the targets that code serves."""
    if isinstance(value, str) or not isinstance(value, Collection):
        raise InvalidValue("own_targets", f"is {type(value).__name__}", "give the names of targets, or None")
    for name in value:
        _check_part("a name", target, name)


Own = Collection[str] | None
"""The targets that notifiers of code serve. None: they are not known yet, so no check can tell a wrong name."""


def route_targets(given: Sequence[Route], urls: Mapping[str, str], own: Own) -> None:
    """Check that each target of a route is defined."""
    for route in given:
        for name in route.targets:
            default_target(name, urls, own)


def budget_targets(budgets: Mapping[str, object], urls: Mapping[str, str], own: Own) -> None:
    """Check that each target with a budget is defined."""
    for name in budgets:
        default_target(name, urls, own)


def fallback_targets(fallbacks: Mapping[str, str], urls: Mapping[str, str], own: Own) -> None:
    """Check that each target with a fallback is defined, and each fallback."""
    for name in (*fallbacks, *fallbacks.values()):
        default_target(name, urls, own)


def default_target(name: str | None, urls: Mapping[str, str], own: Own) -> None:
    """Check that a target is defined. If none is, there is no check: a service may have notifiers of its own."""
    if name is None or name == LOG_TARGET or own is None or not (urls or own):
        return
    if name not in urls and name not in own:
        beside = ", or name one that a plug-in serves" if own else ""
        raise InvalidValue("target", f"names the target {name!r}", f"define it in ESC_TARGETS{beside}")


def cron_with_length(cron: str | None, length: timedelta | None) -> None:
    """Check that a schedule has a length."""
    if cron is not None and length is None:
        raise InvalidValue("cron", "is set without ESC_PAUSE_MIN", "set how many minutes a pause lasts")


@lru_cache(maxsize=10)
def make_schedule(cron: str | None, length: timedelta | None, tz: str) -> PauseSchedule | None:
    """Return the maintenance schedule; None if it is not set."""
    # Cached, because Settings calls this twice, and building a schedule with long pauses takes seconds.
    return None if cron is None or length is None else PauseSchedule(cron, length, tz)


def _check_part(name: str, check: Callable[[Any], Result], part: object) -> Result:
    """Check a part of a value. The error's fault names the part."""
    try:
        return check(part)
    except InvalidValue as fault:
        raise InvalidValue(name, f"{name} {fault.fault}", fault.remedy) from None
