"""Settings: what is in force. One strict reader of variables, and every problem reported at once.

``Settings()`` equals ``Settings.from_env({})``. In code every span is a timedelta, so finer steps are possible.
"""

import base64
import binascii
import difflib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs

from . import parse
from .checks import check_count
from .delivery import RetryPolicy
from .errors import InvalidValue, Problem, SettingsError
from .pause import PauseSchedule
from .policy import MAX_LEVEL, MAX_WINDOW, EscalationPolicy
from .routes import Route, check_target

log = logging.getLogger("escalation_core")

_MINUTE = timedelta(minutes=1)
_MILLISECOND = timedelta(milliseconds=1)
_READERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "ESCALATION_WORKER_ENABLED": ("worker_enabled", parse.boolean),
    "ESCALATION_V1": ("v1", parse.boolean),
    "ESC_DRY_RUN": ("dry_run", parse.boolean),
    "MAX_ESC_LEVEL": ("max_level", parse.whole),
    "ESC_CRIT_ACK_MIN": ("critical_window", parse.minutes),
    "ESC_WARN_ACK_MIN": ("warning_window", parse.minutes),
    "ESC_ACK_MIN": ("windows", parse.severity_minutes),
    "ESC_SNOOZE_MIN": ("snooze", parse.minutes),
    "ESC_TICK_MS": ("tick_interval", parse.milliseconds),
    "ESC_CANARY_PCT": ("canary_pct", parse.whole),
    "ESC_PAUSE_CRON": ("pause_cron", parse.words),
    "ESC_PAUSE_MIN": ("pause_length", parse.minutes),
    "ESC_TZ": ("tz", parse.words),
    "ESC_DATABASE_URL": ("database_url", parse.words),
    "ESC_TARGETS": ("targets", parse.targets),
    "ESC_ROUTES": ("routes", parse.routes),
    "ESC_DEFAULT_TARGET": ("default_target", parse.target),
    "ESC_ALLOW_HTTP": ("allow_http", parse.boolean),
    "OPS_HMAC_SECRET": ("ops_hmac_secret", parse.words),
    "OPS_HMAC_SECRET_PREVIOUS": ("ops_hmac_secret_previous", parse.words),
    "OPS_ADMIN_ROLE": ("ops_admin_role", parse.words),
    "OPS_READ_ROLE": ("ops_read_role", parse.words),
}
"""Every variable: the field it sets, and how its text is read. Limits are checked where the fields are."""
SECRETS = ("ESC_DATABASE_URL", "ESC_TARGETS", "OPS_HMAC_SECRET", "OPS_HMAC_SECRET_PREVIOUS")
"""Variables whose value is never shown. Each may come as ``NAME_FILE``, the path of a file that holds it."""
_VARIABLES = {field: name for name, (field, _) in _READERS.items()}


@attrs.frozen(kw_only=True)
class Settings:
    """What the engine works with. Defaults and limits: ``docs/reference/settings.md``.

    Raises:
        SettingsError: anything is out of its limits; all problems at once, by the variable's name.
    """

    worker_enabled: bool = True
    v1: bool = True
    dry_run: bool = False
    max_level: int = 7
    critical_window: timedelta = timedelta(minutes=5)
    warning_window: timedelta = timedelta(minutes=15)
    """The window of ``warning``, and of every severity without one of its own."""
    windows: Mapping[str, timedelta] = attrs.field(factory=dict)
    """Windows of further severities."""
    snooze: timedelta = timedelta(minutes=30)
    tick_interval: timedelta = timedelta(minutes=1)
    canary_pct: int = 100
    pause_cron: str | None = None
    pause_length: timedelta | None = None
    tz: str = "UTC"
    database_url: str | None = attrs.field(default=None, repr=False)
    targets: Mapping[str, str] = attrs.field(factory=dict, repr=lambda targets: repr(sorted(targets)))
    routes: Sequence[Route] = ()
    default_target: str | None = None
    allow_http: bool = False
    ops_hmac_secret: str | None = attrs.field(default=None, repr=False)
    ops_hmac_secret_previous: str | None = attrs.field(default=None, repr=False)
    ops_admin_role: str = "ops_admin"
    ops_read_role: str = "ops_read"
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    """Times of delivery; set in code alone."""
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False)
    """What is legal but probably not meant."""
    policy: EscalationPolicy = attrs.field(init=False, eq=False, repr=False)
    pause: PauseSchedule | None = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Check everything, and build the policy and the pause from it."""
        problems: dict[str, Problem] = {}
        warnings = list(self.warnings)
        _check_types(self, problems)
        if not problems:
            _check_spans(self, problems)
            _check_targets(self, problems)
            _check_secrets(self, problems)
            object.__setattr__(self, "pause", _pause(self, problems, warnings))
        if problems:
            raise SettingsError(problems)
        if self.canary_pct == 0:
            warnings.append("ESC_CANARY_PCT is 0: no incident escalates; write 100 for all of them")
        object.__setattr__(self, "warnings", tuple(warnings))
        policy = EscalationPolicy(
            windows={"critical": self.critical_window, "warning": self.warning_window} | dict(self.windows),
            default_window=self.warning_window,
            max_level=self.max_level,
            snooze=self.snooze,
            tick_interval=self.tick_interval,
        )
        object.__setattr__(self, "policy", policy)

    def as_variables(self) -> dict[str, str | None]:
        """Return what is in force as variables, the way ``from_env`` reads them; secrets among them. None is unset."""
        return {name: _written(name, getattr(self, field)) for name, (field, _) in _READERS.items()}

    @classmethod
    def from_env(cls, mapping: Mapping[str, str], *, read_file: Callable[[str], str] | None = None) -> "Settings":
        """Read settings from variables, such as ``os.environ``.

        ``read_file`` returns a file's text, for secrets that come as ``NAME_FILE``; the core opens no files itself
        (``escalation_adapters.files.read_secret`` does). Unknown ``ESC_*`` names are warned of with the nearest known.

        Raises:
            SettingsError: all problems at once, by the variable's name; no secret is in it.
        """
        problems: dict[str, Problem] = {}
        values: dict[str, Any] = {}
        for name, (field, read) in _READERS.items():
            try:
                text = _text(mapping, name, read_file)
                if text is not None:
                    values[field] = read(text)
            except parse.Fault as fault:
                problems[name] = Problem("is no legal value", fault.problem.remedy) if name in _BARE else fault.problem
        try:
            settings = cls(**values, warnings=_unknown(mapping))
        except SettingsError as error:
            raise SettingsError(error.problems | problems) from None
        if problems:
            raise SettingsError(problems)
        for warning in settings.warnings:
            log.warning("%s", warning)
        return settings


def _written(name: str, value: Any) -> str | None:
    if value is None or (not value and isinstance(value, Mapping | Sequence)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return f"{value / (_MILLISECOND if name == 'ESC_TICK_MS' else _MINUTE):g}"
    if name == "ESC_ACK_MIN":
        return json.dumps({severity: window / _MINUTE for severity, window in value.items()})
    if name == "ESC_ROUTES":
        return json.dumps([attrs.asdict(route) for route in value])
    return json.dumps(dict(value)) if name == "ESC_TARGETS" else str(value)


_BARE = frozenset({"OPS_HMAC_SECRET", "OPS_HMAC_SECRET_PREVIOUS", "ESC_DATABASE_URL"})
"""Secrets whose faults are told without a word of the value."""


def _text(mapping: Mapping[str, str], name: str, read_file: Callable[[str], str] | None) -> str | None:
    path = mapping.get(f"{name}_FILE") if name in SECRETS else None
    if path is None:
        return mapping.get(name)
    if name in mapping:
        raise parse.Fault(f"is set beside {name}_FILE", "set one of the two")
    if read_file is None:
        remedy = "call Settings.from_env(..., read_file=escalation_adapters.files.read_secret)"
        raise parse.Fault(f"{name}_FILE names a file, and the core opens none", remedy)
    try:
        return read_file(path).rstrip("\r\n")
    except (OSError, ValueError) as error:
        fault = f"{name}_FILE cannot be read ({type(error).__name__})"
        raise parse.Fault(fault, "name a UTF-8 file that this process may read") from None


def _unknown(mapping: Mapping[str, str]) -> tuple[str, ...]:
    known = [*_READERS, *(f"{name}_FILE" for name in SECRETS)]
    found = []
    for name in sorted(mapping):
        if name.startswith("ESC_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            found.append(f"{name} is no setting and was ignored; the nearest is {near[0]}")
    return tuple(found)


def _check_types(settings: Settings, problems: dict[str, Problem]) -> None:
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
                "ops_hmac_secret",
                "ops_hmac_secret_previous",
            )
        ),
    ):
        value = getattr(settings, field)
        if not isinstance(value, kind):
            problems[_VARIABLES[field]] = Problem(f"is {type(value).__name__}", f"give {wanted}")
    for field, least, most in (("max_level", 1, MAX_LEVEL), ("canary_pct", 0, 100)):
        try:
            check_count(getattr(settings, field), field, least, most)
        except InvalidValue as fault:
            problems[_VARIABLES[field]] = Problem(fault.fault, fault.remedy)


def _check_spans(settings: Settings, problems: dict[str, Problem]) -> None:
    second = timedelta(seconds=1)
    for field, span, least, most, legal in (
        ("critical_window", settings.critical_window, _INSTANT, MAX_WINDOW, "1 to 525600 minutes"),
        ("warning_window", settings.warning_window, _INSTANT, MAX_WINDOW, "1 to 525600 minutes"),
        ("snooze", settings.snooze, timedelta(), MAX_WINDOW, "0 to 525600 minutes"),
        ("tick_interval", settings.tick_interval, second, 600 * second, "1000 to 600000 milliseconds"),
    ):
        if not least <= span <= most:
            problems[_VARIABLES[field]] = Problem(f"is {span}", f"give {legal}")
    seen = {"critical": "ESC_CRIT_ACK_MIN", "warning": "ESC_WARN_ACK_MIN"}
    for severity, span in settings.windows.items():
        name = severity.strip().casefold() if isinstance(severity, str) else ""
        if not name:
            problems["ESC_ACK_MIN"] = Problem("names a severity that is empty or no text", "name it")
        elif name in seen:
            problems["ESC_ACK_MIN"] = Problem(f"sets {severity!r} a second time", f"set it once, in {seen[name]}")
        elif not isinstance(span, timedelta) or not _INSTANT <= span <= MAX_WINDOW:
            problems["ESC_ACK_MIN"] = Problem(f"{severity!r} is {span}", "give 1 to 525600 minutes")
        seen[name] = "ESC_ACK_MIN"


_INSTANT = timedelta(microseconds=1)
"""Code may set windows finer than the variables' whole minutes; only nothing at all is refused."""


def _check_targets(settings: Settings, problems: dict[str, Problem]) -> None:
    schemes = ("https://", "http://") if settings.allow_http else ("https://",)
    for name, url in settings.targets.items():
        try:
            check_target(name, "target")
        except InvalidValue as fault:
            problems["ESC_TARGETS"] = Problem(f"a name {fault.fault}", fault.remedy)
            continue
        if not isinstance(url, str) or not url.lower().startswith(schemes) or not url.isprintable() or " " in url:
            remedy = "write https://..., or set ESC_ALLOW_HTTP=true for http"
            problems["ESC_TARGETS"] = Problem(f"the URL of {name!r} is not https", remedy)
    if not all(isinstance(route, Route) for route in settings.routes):
        problems["ESC_ROUTES"] = Problem("holds something that is no Route", "give Route(...) objects")
    elif settings.targets:
        named = dict.fromkeys(target for route in settings.routes for target in route.targets)
        for target in named:
            if target not in settings.targets and target != LOG_TARGET:
                problems["ESC_ROUTES"] = Problem(f"names the target {target!r}", "define it in ESC_TARGETS")
        default = settings.default_target
        if default is not None and default not in settings.targets and default != LOG_TARGET:
            problems["ESC_DEFAULT_TARGET"] = Problem(f"names the target {default!r}", "define it in ESC_TARGETS")


LOG_TARGET = "log"
"""The target that every installation has: the process's own log."""


def _check_secrets(settings: Settings, problems: dict[str, Problem]) -> None:
    for field in ("ops_hmac_secret", "ops_hmac_secret_previous"):
        fault = _secret_fault(getattr(settings, field))
        if fault is not None:
            remedy = "give whsec_ with base64 of 24 random bytes or more, or 32 plain bytes or more"
            problems[_VARIABLES[field]] = Problem(fault, remedy)
    for field in ("ops_admin_role", "ops_read_role"):
        if not getattr(settings, field).strip():
            problems[_VARIABLES[field]] = Problem("is empty", "name the role; an empty one admits nobody")


def _secret_fault(secret: str | None) -> str | None:
    if secret is None:
        return None
    if secret == "change_me":  # noqa: S105 - the seed's placeholder, which is refused here
        return "is the placeholder"
    if secret != secret.strip():
        return "has surrounding blanks"
    if not secret.startswith("whsec_"):
        return "is shorter than 32 bytes" if len(secret.encode(errors="replace")) < 32 else None
    try:
        size = len(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        return "is not base64 after whsec_"
    return "is shorter than 24 bytes" if size < 24 else None


def _pause(settings: Settings, problems: dict[str, Problem], warnings: list[str]) -> PauseSchedule | None:
    names = {"cron": "ESC_PAUSE_CRON", "duration": "ESC_PAUSE_MIN", "tz": "ESC_TZ"}
    cron, length = settings.pause_cron, settings.pause_length
    try:
        # Without a schedule the zone and the length are checked all the same: a typo shows today, not when it counts.
        schedule = PauseSchedule(cron or "0 0 * * *", length or _MINUTE, settings.tz)
    except InvalidValue as fault:
        problems[names[fault.field]] = Problem(fault.fault, fault.remedy)
        return None
    if cron is None:
        if length is not None:
            warnings.append("ESC_PAUSE_MIN is set without ESC_PAUSE_CRON: nothing is paused; set both")
        return None
    if length is None:
        problems["ESC_PAUSE_CRON"] = Problem("is set without ESC_PAUSE_MIN", "set how many minutes a pause lasts")
        return None
    return schedule
