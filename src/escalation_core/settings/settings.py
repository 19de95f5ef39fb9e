"""Settings: what is in force. One strict reader of variables, and every problem reported at once.

``Settings()`` equals ``Settings.from_env({})``. In code every span is a timedelta, so finer steps are possible.
"""

import difflib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs

from ..errors import Problem, SettingsError
from ..model import Canary
from ..rules.gate import Switches
from ..rules.maintenance import PauseSchedule
from ..rules.policy import EscalationPolicy
from ..rules.retry import RetryPolicy
from ..rules.routing import Route
from . import parse
from .limits import VARIABLES, check_limits, check_types, make_pause

log = logging.getLogger("escalation_core")

_MINUTE = timedelta(minutes=1)
_MILLISECOND = timedelta(milliseconds=1)
_READERS: Mapping[str, Callable[[str], Any]] = {
    "worker_enabled": parse.boolean,
    "v1": parse.boolean,
    "dry_run": parse.boolean,
    "max_level": parse.whole,
    "critical_window": parse.minutes,
    "warning_window": parse.minutes,
    "windows": parse.severity_minutes,
    "snooze": parse.minutes,
    "tick_interval": parse.milliseconds,
    "canary_pct": parse.whole,
    "pause_cron": parse.words,
    "pause_length": parse.minutes,
    "tz": parse.words,
    "database_url": parse.words,
    "targets": parse.targets,
    "routes": parse.routes,
    "default_target": parse.target,
    "heartbeat_url": parse.words,
    "allow_http": parse.boolean,
    "ops_hmac_secret": parse.words,
    "ops_hmac_secret_previous": parse.words,
    "ops_admin_role": parse.words,
    "ops_read_role": parse.words,
}
"""How each field's variable is read. Limits are in limits.py."""
SECRETS = ("ESC_DATABASE_URL", "ESC_TARGETS", "ESC_HEARTBEAT_URL", "OPS_HMAC_SECRET", "OPS_HMAC_SECRET_PREVIOUS")
"""Variables whose value is never shown. Each may come as ``NAME_FILE``, the path of a file that holds it."""


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
    heartbeat_url: str | None = attrs.field(default=None, repr=False)
    """Called after each good tick: a dead man's switch."""
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

    @property
    def canary(self) -> Canary:
        """The part of all incidents that these settings let escalate."""
        return Canary(self.canary_pct)

    @property
    def switches(self) -> Switches:
        """What these settings say of acting at all."""
        return Switches(enabled=self.worker_enabled, v1=self.v1, schedule=self.pause)

    def __attrs_post_init__(self) -> None:
        """Check everything, and build the policy and the pause from it."""
        problems: dict[str, Problem] = {}
        warnings = list(self.warnings)
        check_types(self, problems)
        check_limits(self, problems)
        object.__setattr__(self, "pause", make_pause(self, problems, warnings))
        if problems:
            raise SettingsError(problems)
        if self.canary_pct == 0:
            warnings.append("ESC_CANARY_PCT is 0: no incident escalates; write 100 for all of them")
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))
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
        return {name: _written(name, getattr(self, field)) for field, name in VARIABLES.items()}

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
        for field, read in _READERS.items():
            name = VARIABLES[field]
            try:
                text = _text(mapping, name, read_file)
                if text is not None:
                    values[field] = read(text)
            except parse.Fault as fault:
                problems[name] = Problem("is no legal value", fault.problem.remedy) if name in _BARE else fault.problem
                if field == "pause_length":
                    values[field] = _MINUTE  # it is there, if wrong: the cron expression is not without a length
        try:
            settings = cls(**values, warnings=_unknown(mapping))
        except SettingsError as error:
            raise SettingsError(error.problems | problems) from None
        if problems:
            raise SettingsError(problems)
        for warning in settings.warnings:
            log.warning("%s", warning)
        return settings


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _written(name: str, value: Any) -> str | None:
    if value is None or (not value and isinstance(value, Mapping | Sequence)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return str(_number(value / (_MILLISECOND if name == "ESC_TICK_MS" else _MINUTE)))
    if name == "ESC_ACK_MIN":
        return json.dumps({severity: _number(window / _MINUTE) for severity, window in value.items()})
    if name == "ESC_ROUTES":
        return json.dumps([attrs.asdict(route) for route in value])
    return json.dumps(dict(value)) if name == "ESC_TARGETS" else str(value)


_BARE = frozenset({"ESC_HEARTBEAT_URL", "OPS_HMAC_SECRET", "OPS_HMAC_SECRET_PREVIOUS", "ESC_DATABASE_URL"})
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
    known = [*VARIABLES.values(), *(f"{name}_FILE" for name in SECRETS)]
    found = []
    for name in sorted(mapping):
        if name.startswith("ESC_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            found.append(f"{name} is no setting and was ignored; the nearest is {near[0]}")
    return tuple(found)
