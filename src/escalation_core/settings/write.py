"""Writers: return the text of a value, which the readers in ``parse`` read back."""

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta

import attrs

from ..model import Budget, NoticeKind
from ..rules.routing import Route

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
MILLISECOND = timedelta(milliseconds=1)


def number(span: timedelta, unit: timedelta) -> float | int:
    """Return the span as a number of units, an int if the number is whole."""
    count = span / unit
    return int(count) if count.is_integer() else count


def boolean(value: bool) -> str:
    """Write ``true`` or ``false``."""
    return "true" if value else "false"


def minutes(span: timedelta) -> str:
    """Write a span in minutes."""
    return str(number(span, MINUTE))


def seconds(span: timedelta) -> str:
    """Write a span in seconds."""
    return str(number(span, SECOND))


def milliseconds(span: timedelta) -> str:
    """Write a span in milliseconds."""
    return str(number(span, MILLISECOND))


def severity_minutes(windows: Mapping[str, timedelta]) -> str:
    """Write a JSON object from severity to minutes."""
    return json.dumps({severity: number(window, MINUTE) for severity, window in windows.items()})


def targets(urls: Mapping[str, str]) -> str:
    """Write a JSON object from target name to URL."""
    return json.dumps(dict(urls))


def plugins(names: Sequence[str]) -> str:
    """Write names of factories with a comma between two of them."""
    return ",".join(names)


def json_text(value: object) -> str:
    """Write a mapping or a sequence as JSON."""
    return json.dumps(dict(value) if isinstance(value, Mapping) else value)


def budgets(given: Mapping[str, Budget | None]) -> str:
    """Write a JSON object from target name to rate and burst."""
    return json.dumps({name: None if budget is None else attrs.asdict(budget) for name, budget in given.items()})


def notices(given: Mapping[str, AbstractSet[NoticeKind]]) -> str:
    """Write a JSON object from target name to a list of kinds."""
    return json.dumps({name: sorted(kinds) for name, kinds in given.items()})


def routes(given: Sequence[Route]) -> str:
    """Write a JSON list of routes."""
    return json.dumps([_route(route) for route in given])


def _route(route: Route) -> dict[str, object]:
    values = attrs.asdict(route)
    kinds = sorted(values.pop("notices"))
    return values | ({"notices": kinds} if kinds else {})
