"""The limits of settings: what is in force is legal, however it was set."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ..checks import check_count, check_text
from ..errors import InvalidValue, Problem
from ..rules.maintenance import PauseSchedule, check_cron, check_duration, check_zone
from ..rules.policy import MAX_LEVEL, MAX_WINDOW
from ..rules.retry import RetryPolicy
from ..rules.routing import Route, check_target

if TYPE_CHECKING:
    from . import Settings

Result = TypeVar("Result")

VARIABLES: Mapping[str, str] = {
    "worker_enabled": "ESCALATION_WORKER_ENABLED",
    "v1": "ESCALATION_V1",
    "dry_run": "ESC_DRY_RUN",
    "max_level": "MAX_ESC_LEVEL",
    "critical_window": "ESC_CRIT_ACK_MIN",
    "warning_window": "ESC_WARN_ACK_MIN",
    "windows": "ESC_ACK_MIN",
    "snooze": "ESC_SNOOZE_MIN",
    "tick_interval": "ESC_TICK_MS",
    "canary_pct": "ESC_CANARY_PCT",
    "pause_cron": "ESC_PAUSE_CRON",
    "pause_length": "ESC_PAUSE_MIN",
    "tz": "ESC_TZ",
    "database_url": "ESC_DATABASE_URL",
    "targets": "ESC_TARGETS",
    "routes": "ESC_ROUTES",
    "default_target": "ESC_DEFAULT_TARGET",
    "heartbeat_url": "ESC_HEARTBEAT_URL",
    "allow_http": "ESC_ALLOW_HTTP",
    "ops_hmac_secret": "OPS_HMAC_SECRET",
    "ops_hmac_secret_previous": "OPS_HMAC_SECRET_PREVIOUS",
    "ops_admin_role": "OPS_ADMIN_ROLE",
    "ops_read_role": "OPS_READ_ROLE",
}
"""The variable of each field: what a fault is reported under."""
LOG_TARGET = "log"
"""The target that every installation has: the process's own log."""
_AUTHORITY = re.compile(
    r"[a-z]+://([^/?#@]*@)?([^/?#@:\[\]]+|\[[0-9a-f:.%]+\])(:(?P<port>[0-9]{1,5}))?([/?#]|$)", re.IGNORECASE
)
_INSTANT = timedelta(microseconds=1)
"""Code may set windows finer than the variables' whole minutes; only nothing at all is refused."""


def check_types(settings: "Settings", problems: dict[str, Problem]) -> None:
    """Find fields whose value is of a wrong type."""
    for field, kind, wanted in (
        *((name, bool, "True or False") for name in ("worker_enabled", "v1", "dry_run", "allow_http")),
        *((name, timedelta, "a timedelta") for name in ("critical_window", "warning_window", "snooze")),
        ("tick_interval", timedelta, "a timedelta"),
        ("pause_length", timedelta | None, "a timedelta or None"),
        ("windows", Mapping, "a mapping of severity to timedelta"),
        ("targets", Mapping, "a mapping of name to URL"),
        ("routes", Sequence, "a list of Route"),
        ("tz", str, "an IANA name"),
        *((name, str, "text") for name in ("ops_admin_role", "ops_read_role")),
        *(
            (name, str | None, "text or None")
            for name in (
                "pause_cron",
                "database_url",
                "default_target",
                "heartbeat_url",
                "ops_hmac_secret",
                "ops_hmac_secret_previous",
            )
        ),
    ):
        value = getattr(settings, field)
        if not isinstance(value, kind):
            problems[VARIABLES[field]] = Problem(f"is {type(value).__name__}", f"give {wanted}")
    if not isinstance(settings.retry, RetryPolicy):
        problems["retry"] = Problem(f"is {type(settings.retry).__name__}", "give a RetryPolicy")
    for field, least, most in (("max_level", 1, MAX_LEVEL), ("canary_pct", 0, 100)):
        try:
            check_count(getattr(settings, field), field, least, most)
        except InvalidValue as fault:
            problems[VARIABLES[field]] = Problem(fault.fault, fault.remedy)


def check_limits(settings: "Settings", problems: dict[str, Problem]) -> None:
    """Find whatever is out of its limits, among the fields whose types are right."""
    for check, fields in (
        (_check_spans, ("critical_window", "warning_window", "snooze", "tick_interval", "windows")),
        (_check_targets, ("targets", "routes", "default_target", "allow_http")),
        (_check_heartbeat, ("heartbeat_url", "allow_http")),
        (_check_secrets, ("ops_hmac_secret", "ops_hmac_secret_previous")),
        (_check_roles, ("ops_admin_role", "ops_read_role")),
    ):
        if not any(VARIABLES[field] in problems for field in fields):
            check(settings, problems)


def _check_spans(settings: "Settings", problems: dict[str, Problem]) -> None:
    second = timedelta(seconds=1)
    for field, span, least, most, legal in (
        ("critical_window", settings.critical_window, _INSTANT, MAX_WINDOW, "1 to 525600 minutes"),
        ("warning_window", settings.warning_window, _INSTANT, MAX_WINDOW, "1 to 525600 minutes"),
        ("snooze", settings.snooze, timedelta(), MAX_WINDOW, "0 to 525600 minutes"),
        ("tick_interval", settings.tick_interval, second, 600 * second, "1000 to 600000 milliseconds"),
    ):
        if not least <= span <= most:
            problems[VARIABLES[field]] = Problem(f"is {span}", f"give {legal}")
    seen = {"critical": "ESC_CRIT_ACK_MIN", "warning": "ESC_WARN_ACK_MIN"}
    for severity, span in settings.windows.items():
        name = _name(severity)
        if not name:
            problems["ESC_ACK_MIN"] = Problem("names a severity that is empty, or no text for a store", "name it")
        elif name in seen:
            problems["ESC_ACK_MIN"] = Problem(f"sets {severity!r} a second time", f"set it once, in {seen[name]}")
        elif not isinstance(span, timedelta) or not _INSTANT <= span <= MAX_WINDOW:
            problems["ESC_ACK_MIN"] = Problem(f"{severity!r} is {span}", "give 1 to 525600 minutes")
        seen[name] = "ESC_ACK_MIN"


def _name(severity: object) -> str:
    # The windows' fingerprint is kept in the database.
    try:
        return check_text(severity, "severity").strip().casefold()
    except InvalidValue:
        return ""


def _check_targets(settings: "Settings", problems: dict[str, Problem]) -> None:
    schemes = _schemes(settings)
    for name, url in settings.targets.items():
        try:
            check_target(name, "target")
        except InvalidValue as fault:
            problems["ESC_TARGETS"] = Problem(f"a name {fault.fault}", fault.remedy)
            continue
        wrong = _url_fault(url, schemes)
        if wrong is not None:
            problems["ESC_TARGETS"] = Problem(f"the URL of {name!r} {wrong.fault}", wrong.remedy)
    default = settings.default_target
    if default is not None:
        default = _keep_fault(problems, "default_target", lambda name: check_target(name, "target"), default)
    if not all(isinstance(route, Route) for route in settings.routes):
        problems["ESC_ROUTES"] = Problem("holds something that is no Route", "give Route(...) objects")
    elif settings.targets:
        named = dict.fromkeys(target for route in settings.routes for target in route.targets)
        for target in named:
            if target not in settings.targets and target != LOG_TARGET:
                problems["ESC_ROUTES"] = Problem(f"names the target {target!r}", "define it in ESC_TARGETS")
        if default is not None and default not in settings.targets and default != LOG_TARGET:
            problems["ESC_DEFAULT_TARGET"] = Problem(f"names the target {default!r}", "define it in ESC_TARGETS")


def _url_fault(url: object, schemes: tuple[str, ...]) -> Problem | None:
    if not isinstance(url, str) or not url.lower().startswith(schemes) or not url.isprintable() or " " in url:
        return Problem("is not https", "write https://..., or set ESC_ALLOW_HTTP=true for http")
    authority = _AUTHORITY.match(url)
    if authority is None or int(authority["port"] or 1) > 65535:
        return Problem("names no host, or no port that exists", "write https://HOST/PATH")
    return None


def _check_heartbeat(settings: "Settings", problems: dict[str, Problem]) -> None:
    if settings.heartbeat_url is not None:
        wrong = _url_fault(settings.heartbeat_url, _schemes(settings))
        if wrong is not None:
            problems["ESC_HEARTBEAT_URL"] = wrong


def _schemes(settings: "Settings") -> tuple[str, ...]:
    return ("https://", "http://") if settings.allow_http else ("https://",)


def _check_secrets(settings: "Settings", problems: dict[str, Problem]) -> None:
    for field in ("ops_hmac_secret", "ops_hmac_secret_previous"):
        fault = _secret_fault(getattr(settings, field))
        if fault is not None:
            remedy = "give whsec_ with base64 of 24 random bytes or more, or 32 plain bytes or more"
            problems[VARIABLES[field]] = Problem(fault, remedy)


def _check_roles(settings: "Settings", problems: dict[str, Problem]) -> None:
    for field in ("ops_admin_role", "ops_read_role"):
        if not getattr(settings, field).strip():
            problems[VARIABLES[field]] = Problem("is empty", "name the role; an empty one admits nobody")


def _secret_fault(secret: str | None) -> str | None:
    if secret is None:
        return None
    if secret == "change_me":  # noqa: S105 - the seed's placeholder, which is refused here
        return "is the placeholder"
    if secret != secret.strip():
        return "has surrounding blanks"
    try:
        if not secret.startswith("whsec_"):
            # An environment's bytes that are no UTF-8 are surrogates to Python, and bytes again to who signs.
            return "is shorter than 32 bytes" if len(secret.encode(errors="surrogateescape")) < 32 else None
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except UnicodeEncodeError:
        return "holds a lone surrogate"
    except ValueError:  # binascii.Error is one
        return "is not base64 after whsec_"
    return "is shorter than 24 bytes" if size < 24 else None


def make_pause(settings: "Settings", problems: dict[str, Problem], warnings: list[str]) -> PauseSchedule | None:
    """Return the scheduled pause, if there is one."""
    cron, length = settings.pause_cron, settings.pause_length
    # Without a schedule the zone and the length are checked all the same: a typo shows today, not when it counts.
    for field, check, value in (
        ("pause_cron", check_cron, cron),
        ("pause_length", check_duration, length),
        ("tz", check_zone, settings.tz),
    ):
        if value is not None and VARIABLES[field] not in problems:
            _keep_fault(problems, field, check, value)
    if cron is not None and length is None:
        problems["ESC_PAUSE_CRON"] = Problem("is set without ESC_PAUSE_MIN", "set how many minutes a pause lasts")
    if cron is None and length is not None:
        warnings.append("ESC_PAUSE_MIN is set without ESC_PAUSE_CRON: nothing is paused; set both")
    if cron is None or length is None or any(VARIABLES[field] in problems for field in ("pause_length", "tz")):
        return None
    return _keep_fault(problems, "pause_cron", lambda text: PauseSchedule(text, length, settings.tz), cron)


def _keep_fault(
    problems: dict[str, Problem], field: str, check: Callable[[Any], Result], value: object
) -> Result | None:
    try:
        return check(value)
    except InvalidValue as fault:
        problems[VARIABLES[field]] = Problem(fault.fault, fault.remedy)
        return None
