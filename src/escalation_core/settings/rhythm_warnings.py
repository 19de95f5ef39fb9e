"""Warnings of windows and intervals that are valid, but contradict each other."""

from datetime import timedelta

from ..rules.builtin import BuiltinPolicy
from .write import MINUTE, number

LONG_SNOOZE = timedelta(days=1)
"""A minimum time between escalations that is longer than this is probably a mistake of units."""


def rhythm_warnings(policy: BuiltinPolicy) -> list[str]:
    """Return a warning for each pair of settings that contradict each other."""
    warnings = []
    severity, shortest = min(policy.windows.items(), key=lambda item: item[1])
    if policy.tick_interval > shortest:
        warnings.append(
            f"ESC_TICK_MS is longer than the window of {severity}, {_minutes(shortest)}: a scheduler that ticks once in"
            " this interval escalates later than the window says; tick more often, or give a longer window"
        )
    if policy.windows["critical"] > policy.windows["warning"]:
        warnings.append(
            "ESC_CRIT_ACK_MIN is longer than ESC_WARN_ACK_MIN: a critical incident waits longer than a warning;"
            " exchange them"
        )
    if policy.snooze > LONG_SNOOZE and policy.max_level > 1:
        warnings.append(
            f"ESC_SNOOZE_MIN is {_minutes(policy.snooze)}: after the first escalation of an incident, no other one"
            " follows for that time; the unit is minutes"
        )
    return warnings


def _minutes(span: timedelta) -> str:
    return f"{number(span, MINUTE)} minutes"
