"""The built-in policy in the words of a policies file: one policy for each severity that has a window."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from ..errors import InvalidValue
from ..model import BUILTIN
from .builtin import BuiltinPolicy
from .policies_limits import DEFAULT
from .policies_values import MAX_NAME_CHARS
from .policy import Anchor

_SECOND = timedelta(seconds=1)
_UNITS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m"), (_SECOND, "s"))


def file_of(builtin: BuiltinPolicy) -> Mapping[str, Any]:
    """Return a mapping for ``Policies.from_mapping`` whose policies escalate at the same instants as the built-in one.

    An incident whose severity changes is the exception: with a file it gets another policy.

    Raises:
        InvalidValue: a span has a part of a second, which a file cannot say.
    """
    names = _names(builtin.windows)
    named = {name: _policy(builtin, builtin.windows[severity]) for severity, name in names.items()}
    return {
        "policies": named | {DEFAULT: _policy(builtin, builtin.default_window)},
        "assign": [{"severity": severity, "policy": name} for severity, name in names.items()],
    }


def _policy(builtin: BuiltinPolicy, window: timedelta) -> Mapping[str, Any]:
    return {
        "levels": [{"after": span_text(window)}],
        "repeat": {"times": builtin.max_level - 1},
        "anchor": Anchor.FIRST_SEEN.value,
        # A file says no min_gap of 0 with this anchor. The tick interval, at least a second, counts in any case.
        "min_gap": span_text(max(builtin.snooze, _SECOND)),
    }


def span_text(span: timedelta) -> str:
    """Return a span as a policies file has it, in the largest unit that fits.

    Raises:
        InvalidValue: the span has a part of a second.
    """
    for unit, letter in _UNITS:
        if span and not span % unit:
            return f"{span // unit}{letter}"
    if span:
        raise InvalidValue("span", f"is {span}, with a part of a second", "give whole seconds")
    return "0m"


def _names(severities: Mapping[str, timedelta]) -> Mapping[str, str]:
    """Return a name of a policy for each severity: the severity itself, without characters that a name may not have."""
    names: dict[str, str] = {}
    taken = {BUILTIN, DEFAULT}
    for severity in severities:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", severity).strip("-")[: MAX_NAME_CHARS - 5] or "severity"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names[severity] = name
    return names
