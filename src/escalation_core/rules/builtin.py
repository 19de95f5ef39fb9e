"""The built-in policy: one window for each severity, from the settings. All rules: ``docs/reference/rules.md``."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import attrs

from ..checks import check_mapping
from ..errors import InvalidValue
from ..model import BUILTIN, Incident, State, normal_severity
from .policy import Anchor, Level, Policy, Repeat

MAX_WINDOW = timedelta(minutes=525_600)
"""A year: the longest acknowledgement window and the longest snooze between escalations."""
MAX_LEVEL = 100
DEFAULT_MAX_LEVEL = 7


def _windows(windows: Mapping[str, timedelta]) -> Mapping[str, timedelta]:
    normal: dict[str, timedelta] = {}
    for severity, window in check_mapping(windows, "windows", "map severities to timedeltas").items():
        if not isinstance(severity, str) or normal_severity(severity) in normal:
            raise InvalidValue("windows", f"names {severity!r} twice or not as text", "name each severity once")
        normal[normal_severity(severity)] = _span(window, f"windows[{severity!r}]", shortest=timedelta(microseconds=1))
    return normal


def _span(value: object, field: str, *, shortest: timedelta = timedelta()) -> timedelta:
    if not isinstance(value, timedelta):
        raise InvalidValue(field, f"is {type(value).__name__}", "give a timedelta")
    if not shortest <= value <= MAX_WINDOW:
        raise InvalidValue(field, f"is {value}", f"give at least {shortest} and at most {MAX_WINDOW.days} days")
    return value


@attrs.frozen(kw_only=True)
class BuiltinPolicy:
    """The policy of how long an incident may stay unacknowledged. The defaults are those of ``Settings()``.

    Raises:
        InvalidValue: a window, the snooze, the tick interval or the maximum level is outside its limits.
    """

    windows: Mapping[str, timedelta] = attrs.field(
        factory=lambda: {"critical": timedelta(minutes=5), "warning": timedelta(minutes=15)}, converter=_windows
    )
    """The acknowledgement window of each severity. A match ignores case and surrounding blanks."""
    default_window: timedelta = timedelta(minutes=15)
    """The window of each severity that ``windows`` does not list."""
    max_level: int = DEFAULT_MAX_LEVEL
    snooze: timedelta = timedelta(minutes=30)
    """The shortest time between two escalations of one incident."""
    tick_interval: timedelta = timedelta(minutes=1)
    """The shortest time between two escalations even with snooze 0, so that one tick raises at most one level."""

    _walks: dict[str | None, Policy] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Check the limits."""
        _span(self.default_window, "default_window", shortest=timedelta(microseconds=1))
        _span(self.snooze, "snooze")
        _span(self.tick_interval, "tick_interval", shortest=timedelta(microseconds=1))
        if isinstance(self.max_level, bool) or not isinstance(self.max_level, int):
            raise InvalidValue("max_level", f"is {type(self.max_level).__name__}", "give an int")
        if not 1 <= self.max_level <= MAX_LEVEL:
            raise InvalidValue("max_level", f"is {self.max_level}", f"give 1 to {MAX_LEVEL}")

    def configured(self, severity: str | None) -> bool:
        """Return whether ``windows`` lists this severity."""
        return severity is not None and normal_severity(severity) in self.windows

    def window(self, severity: str | None) -> timedelta:
        """Return the acknowledgement window of a severity."""
        return (
            self.default_window
            if severity is None
            else self.windows.get(normal_severity(severity), self.default_window)
        )

    def next_due_at(self, incident: Incident, now: datetime | None = None) -> datetime | None:
        """Return the instant at which the incident is due for its next escalation; None if it has none.

        The instant is the latest of ``first_seen + window * (level + 1)``, ``last_escalated_at + max(snooze,
        tick_interval)`` and ``snoozed_until``. With ``now``, a ``last_escalated_at`` in the future counts as ``now``.
        """
        if incident.state is not State.OPEN:
            return None
        last = incident.last_escalated_at
        last = last if last is None or now is None else min(last, now)
        return self.walk(incident.severity).next_due_at(incident, incident.level, last, self.tick_interval)

    def walk(self, severity: str | None) -> Policy:
        """Return the policy of a severity: one level, which is walked ``max_level`` times."""
        normal = None if severity is None else normal_severity(severity)
        name = normal if normal in self.windows else None
        found = self._walks.get(name)
        if found is None:
            found = self._walks[name] = Policy(
                name=BUILTIN,
                levels=(Level(after=self.window(name)),),
                repeat=Repeat(times=self.max_level - 1),
                anchor=Anchor.FIRST_SEEN,
                min_gap=self.snooze,
            )
        return found

    def rhythm(self, severity: str | None) -> Sequence[timedelta]:
        """Return when an incident escalates without an acknowledgement: the time from first_seen to each level."""
        return self.walk(severity).rhythm(self.tick_interval)

    def fingerprint(self) -> str:
        """Return the policy's values as one text. A recalculation saves it, and health compares it with later ones."""
        windows = ",".join(f"{name}={window.total_seconds()}" for name, window in sorted(self.windows.items()))
        rest = (self.default_window, self.snooze, self.tick_interval)
        return f"{windows};{';'.join(f'{span.total_seconds()}' for span in rest)};{self.max_level}"
