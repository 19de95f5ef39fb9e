"""The table of settings. A row has a field's variable, reader, limits and writer, and whether the value is secret."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import attrs

from ..errors import InvalidValue, Problem
from ..rules.builtin import MAX_LEVEL, MAX_WINDOW
from ..rules.maintenance import MAX_PAUSE, check_cron, check_zone
from . import limits, parse, write
from .limits import milliseconds, minutes, optional, seconds
from .secrets import check_secret
from .write import MINUTE

_SECOND, _HOUR = timedelta(seconds=1), timedelta(hours=1)
_flag = limits.of_type(bool, "True or False")
_text = limits.of_type(str, "text")


@attrs.frozen
class Field:
    """A field of ``Settings``. That class has its default and its type, for type checkers."""

    name: str
    variable: str
    """The environment variable. Problems are reported under this name."""
    read: Callable[[str], Any]
    """Returns the value of a text, or raises InvalidValue. The error contains no part of a secret."""
    check: limits.Check
    """Raises InvalidValue if the value has the wrong type or is outside its limits."""
    write: Callable[[Any], str] = str
    """Returns the text from which ``read`` returns this value."""
    secret: bool = False
    """True if the value is never shown. The variable ``NAME_FILE`` may then name a file with the value."""


FIELDS = (
    Field("worker_enabled", "ESCALATION_WORKER_ENABLED", parse.boolean, _flag, write.boolean),
    Field("v1", "ESCALATION_V1", parse.boolean, _flag, write.boolean),
    Field("dry_run", "ESC_DRY_RUN", parse.boolean, _flag, write.boolean),
    Field("max_level", "MAX_ESC_LEVEL", parse.integer, optional(limits.count(1, MAX_LEVEL))),
    Field("critical_window", "ESC_CRIT_ACK_MIN", parse.minutes, limits.window, write.minutes),
    Field("warning_window", "ESC_WARN_ACK_MIN", parse.minutes, limits.window, write.minutes),
    Field("windows", "ESC_ACK_MIN", parse.severity_minutes, limits.windows, write.severity_minutes),
    Field("snooze", "ESC_SNOOZE_MIN", parse.minutes, minutes(timedelta(), MAX_WINDOW), write.minutes),
    Field("tick_interval", "ESC_TICK_MS", parse.milliseconds, milliseconds(_SECOND, 10 * MINUTE), write.milliseconds),
    Field("canary_pct", "ESC_CANARY_PCT", parse.integer, limits.count(0, 100)),
    Field("pause_cron", "ESC_PAUSE_CRON", parse.text, optional(check_cron)),
    Field("pause_length", "ESC_PAUSE_MIN", parse.minutes, optional(minutes(MINUTE, MAX_PAUSE)), write.minutes),
    Field("tz", "ESC_TZ", parse.text, check_zone),
    Field("database_url", "ESC_DATABASE_URL", parse.text, optional(_text), secret=True),
    Field("targets", "ESC_TARGETS", parse.targets, limits.targets, write.targets, secret=True),
    Field("budgets", "ESC_BUDGETS", parse.budgets, limits.budgets, write.budgets),
    Field("notices", "ESC_NOTICES", parse.notices, limits.notices, write.notices),
    Field("fallbacks", "ESC_FALLBACKS", parse.fallbacks, limits.fallbacks, write.json_text),
    Field("fallback_after", "ESC_FALLBACK_MIN", parse.minutes, minutes(_SECOND, MAX_WINDOW), write.minutes),
    Field("bundle_after", "ESC_BUNDLE_SEC", parse.seconds, seconds(_SECOND, _HOUR), write.seconds),
    Field("severity_order", "ESC_SEVERITY_ORDER", parse.severities, limits.severity_order, write.json_text),
    Field("routes", "ESC_ROUTES", parse.routes, limits.routes, write.routes),
    Field("policies_file", "ESC_POLICIES", parse.text, optional(limits.path)),
    Field("default_target", "ESC_DEFAULT_TARGET", str, optional(limits.target)),
    Field("heartbeat_url", "ESC_HEARTBEAT_URL", parse.text, optional(_text), secret=True),
    Field("allow_http", "ESC_ALLOW_HTTP", parse.boolean, _flag, write.boolean),
    Field("plugins", "ESC_PLUGINS", parse.plugins, limits.plugins, write.plugins),
    Field("ops_hmac_secret", "OPS_HMAC_SECRET", parse.text, optional(check_secret), secret=True),
    Field("ops_hmac_secret_previous", "OPS_HMAC_SECRET_PREVIOUS", parse.text, optional(check_secret), secret=True),
    Field("ops_admin_role", "OPS_ADMIN_ROLE", parse.text, limits.role),
    Field("ops_read_role", "OPS_READ_ROLE", parse.text, limits.role),
)
SECRETS = tuple(field.variable for field in FIELDS if field.secret)
"""Variables whose value is never shown. For each, ``NAME_FILE`` may name a file with the value."""

_CHECKS: tuple[tuple[tuple[str, ...], Callable[..., object]], ...] = (
    *(((field.name,), field.check) for field in FIELDS),
    (("own_targets",), optional(limits.own_targets)),
    (("routes", "targets", "own_targets"), limits.route_targets),
    (("budgets", "targets", "own_targets"), limits.budget_targets),
    (("notices", "targets", "own_targets"), limits.budget_targets),
    (("fallbacks", "targets", "own_targets"), limits.fallback_targets),
    (("default_target", "targets", "own_targets"), limits.default_target),
    # After the checks that need the targets' names: an invalid URL must not hide an invalid name.
    (("targets", "allow_http"), limits.target_urls),
    (("heartbeat_url", "allow_http"), limits.heartbeat_url),
    (("pause_cron", "pause_length"), limits.cron_with_length),
    (("pause_cron", "pause_length", "tz"), limits.make_schedule),
)
"""Checks, each with the fields that it takes. A problem is reported under the first field."""


def find_problems(values: Mapping[str, object]) -> dict[str, Problem]:
    """Return every problem of the values, by variable. Skip a check if a field of it is missing or already invalid."""
    # No variable sets own_targets, so its problems have the name of the field.
    variables = {field.name: field.variable for field in FIELDS} | {"own_targets": "own_targets"}
    problems: dict[str, Problem] = {}
    for names, check in _CHECKS:
        if all(name in values and variables[name] not in problems for name in names):
            try:
                check(*(values[name] for name in names))
            except InvalidValue as fault:
                problems[variables[names[0]]] = Problem(fault.fault, fault.remedy)
    return problems
