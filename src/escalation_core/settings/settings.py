"""The settings, read from variables or set in code. All problems are reported at once.

``Settings()`` equals ``Settings.from_env({})``. Code sets a span as a timedelta, finer than the variables' units.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import attrs

from ..checks import nearest
from ..errors import InvalidValue, Problem, SettingsError
from ..model import Budget, Canary, NoticeKind
from ..rules.builtin import DEFAULT_MAX_LEVEL, BuiltinPolicy
from ..rules.bundle import BUNDLE_AFTER
from ..rules.fallback import FALLBACK_AFTER, Fallbacks
from ..rules.gate import Switches
from ..rules.maintenance import PauseSchedule
from ..rules.priority import WORST_FIRST, SeverityOrder
from ..rules.retry import RetryPolicy
from ..rules.routing import Route
from .fields import FIELDS, SECRETS, find_problems
from .limits import make_schedule
from .rhythm_warnings import rhythm_warnings
from .secrets import secret_text
from .write import MINUTE

log = logging.getLogger("escalation_core")

_LENIENT = {"allow_http": True, "pause_length": MINUTE, "tz": "UTC"}
"""Stand-ins for invalid values, so that the checks of the other fields can run. They cause no problem themselves."""


def _hide_secrets(_cls: type, attributes: list["attrs.Attribute[object]"]) -> list["attrs.Attribute[object]"]:
    secrets = {field.name for field in FIELDS if field.secret}
    return [each.evolve(repr=False) if each.name in secrets and each.repr is True else each for each in attributes]


@attrs.frozen(kw_only=True, field_transformer=_hide_secrets)
class Settings:
    """The settings of an engine. ``docs/reference/settings.md`` lists defaults and limits.

    Raises:
        SettingsError: a value is invalid. The error has all problems, by the variable's name.
    """

    worker_enabled: bool = True
    v1: bool = True
    dry_run: bool = False
    max_level: int | None = None
    """The highest level. None: 7 for the built-in policy, and no limit for the policies of a file."""
    critical_window: timedelta = timedelta(minutes=5)
    warning_window: timedelta = timedelta(minutes=15)
    """The window of ``warning``, and of every severity without a window of its own."""
    windows: Mapping[str, timedelta] = attrs.field(factory=dict)
    """Windows of further severities."""
    snooze: timedelta = timedelta(minutes=30)
    tick_interval: timedelta = timedelta(minutes=1)
    canary_pct: int = 100
    pause_cron: str | None = None
    pause_length: timedelta | None = None
    tz: str = "UTC"
    database_url: str | None = None
    targets: Mapping[str, str] = attrs.field(factory=dict, repr=lambda targets: repr(sorted(targets)))
    budgets: Mapping[str, Budget | None] = attrs.field(factory=dict)
    """How many messages a second each target may get; None: no limit. Without an entry its notifier's budget counts."""
    notices: Mapping[str, AbstractSet[NoticeKind]] = attrs.field(factory=dict)
    """The kinds of notices that a target gets. Without an entry those count that its notifier asks for."""
    fallbacks: Mapping[str, str] = attrs.field(factory=dict)
    """The target that gets the pages which another target, the key, does not deliver."""
    fallback_after: timedelta = FALLBACK_AFTER
    """How long a page may stay undelivered, pauses left out, before the fallback of its target gets it."""
    bundle_after: timedelta = BUNDLE_AFTER
    """Pages are bundled if more wait for a target than its budget takes in this time, and its channel can do it."""
    severity_order: Sequence[str] = WORST_FIRST
    """Severities, worst first. The pages of the worst one are sent first."""
    routes: Sequence[Route] = ()
    policies_file: str | None = None
    """The path of a policies file. The core opens no file: ``escalation_adapters.policies_file`` reads it."""
    default_target: str | None = None
    heartbeat_url: str | None = None
    """The URL of a dead man's switch. The worker calls it after each successful tick."""
    allow_http: bool = False
    plugins: Sequence[str] = ()
    """Factories of plug-ins, as ``package.module:factory``. The core imports none: the program ``escalation`` does."""
    ops_hmac_secret: str | None = None
    ops_hmac_secret_previous: str | None = None
    ops_admin_role: str = "ops_admin"
    ops_read_role: str = "ops_read"
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    """Times and limits of delivery. Only code can set them."""
    own_targets: Collection[str] | None = ()
    """The targets that notifiers of your own serve: the other settings may name them as well. Only code can set them.

    None: they are not known yet, so the names of targets in the settings are not checked.
    """
    warnings: tuple[str, ...] = attrs.field(default=(), eq=False)
    """Warnings about settings that are valid but probably not intended."""
    policy: BuiltinPolicy = attrs.field(init=False, eq=False, repr=False)
    pause: PauseSchedule | None = attrs.field(init=False, eq=False, repr=False)

    @property
    def canary(self) -> Canary:
        """The share of incidents that may escalate with these settings."""
        return Canary(self.canary_pct)

    @property
    def fallback(self) -> Fallbacks:
        """The fallback of each target that has one."""
        return Fallbacks(self.fallbacks, self.fallback_after)

    @property
    def order(self) -> SeverityOrder:
        """The order of severities."""
        return SeverityOrder(tuple(self.severity_order))

    @property
    def switches(self) -> Switches:
        """The switches that can stop the engine, and the maintenance schedule."""
        return Switches(enabled=self.worker_enabled, v1=self.v1, schedule=self.pause)

    def __attrs_post_init__(self) -> None:
        """Check all fields, and build the policy and the maintenance schedule."""
        given = {field.name: getattr(self, field.name) for field in FIELDS}
        problems = find_problems(given | {"own_targets": self.own_targets})
        if not isinstance(self.retry, RetryPolicy):
            problems["retry"] = Problem(f"is {type(self.retry).__name__}", "give a RetryPolicy")
        if problems:
            raise SettingsError(problems)
        warnings = list(self.warnings)
        if self.pause_cron is None and self.pause_length is not None:
            warnings.append("ESC_PAUSE_MIN is set without ESC_PAUSE_CRON: nothing is paused; set both")
        if self.canary_pct == 0:
            warnings.append("ESC_CANARY_PCT is 0: no incident escalates; write 100 for all of them")
        object.__setattr__(self, "pause", make_schedule(self.pause_cron, self.pause_length, self.tz))
        policy = BuiltinPolicy(
            windows={"critical": self.critical_window, "warning": self.warning_window} | dict(self.windows),
            default_window=self.warning_window,
            max_level=DEFAULT_MAX_LEVEL if self.max_level is None else self.max_level,
            snooze=self.snooze,
            tick_interval=self.tick_interval,
        )
        object.__setattr__(self, "policy", policy)
        warnings += rhythm_warnings(policy)
        object.__setattr__(self, "warnings", tuple(dict.fromkeys(warnings)))

    def rhythms(self) -> Mapping[str, Sequence[timedelta]]:
        """Return when an incident escalates without an acknowledgement: the time from first_seen to each level.

        The keys are the severities that have a window, and ``any other``.
        """
        policy = self.policy
        return {name: policy.rhythm(name) for name in policy.windows} | {"any other": policy.rhythm(None)}

    def as_variables(self) -> dict[str, str | None]:
        """Return the settings as variables for ``from_env``, including secrets. The value None means unset."""
        written: dict[str, str | None] = {}
        for field in FIELDS:
            value = getattr(self, field.name)
            unset = value is None or (isinstance(value, Sized) and not value)
            written[field.variable] = None if unset else field.write(value)
        return written

    @classmethod
    def from_env(
        cls,
        mapping: Mapping[str, str],
        *,
        read_file: Callable[[str], str] | None = None,
        own_targets: Collection[str] | None = (),
    ) -> "Settings":
        """Read settings from variables, for example ``os.environ``.

        ``read_file`` returns the text of a file, for secrets set as ``NAME_FILE``. The core opens no files itself;
        ``escalation_adapters.files.read_secret`` does. An unknown ``ESC_*`` name logs a warning with the nearest name.
        ``own_targets`` becomes the field of that name.

        Raises:
            SettingsError: a variable is invalid. The error has all problems, by the variable's name, and no secret.
        """
        values, problems = _read(mapping, read_file)
        if problems:
            defaults = cls()
            rest = {field.name: getattr(defaults, field.name) for field in FIELDS if field.variable not in problems}
            raise SettingsError(problems | find_problems(_LENIENT | rest | values | {"own_targets": own_targets}))
        settings = cls(**values, own_targets=own_targets, warnings=_unknown(mapping))
        for warning in settings.warnings:
            log.warning("%s", warning)
        return settings


def _read(
    mapping: Mapping[str, str], read_file: Callable[[str], str] | None
) -> tuple[dict[str, Any], dict[str, Problem]]:
    """Return the values that are set, by field, and the problems of invalid texts, by variable."""
    values: dict[str, Any] = {}
    problems: dict[str, Problem] = {}
    for field in FIELDS:
        try:
            name = field.variable
            text = secret_text(mapping, name, read_file) if field.secret else mapping.get(name)
            if text is not None:
                values[field.name] = field.read(text)
        except InvalidValue as fault:
            problems[field.variable] = Problem(fault.fault, fault.remedy)
    return values, problems


def _unknown(mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Return a warning for each ``ESC_*`` variable that is not a setting."""
    known = [*(field.variable for field in FIELDS), *(f"{name}_FILE" for name in SECRETS)]
    return tuple(
        f"{name} is not a setting and was ignored; the nearest is {nearest(name, known)}"
        for name in sorted(mapping)
        if name.startswith("ESC_") and name not in known
    )
