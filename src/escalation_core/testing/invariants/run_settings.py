"""The settings of a run as the checks know them, with its policies and who is on call."""

from collections.abc import Collection, Mapping

import attrs

from ...errors import InvalidValue
from ...model import Budget, normal_severity
from ...rules.fallback import FALLBACK_AFTER
from ...rules.policies import Policies
from ...rules.priority import STARVED_AFTER
from ...settings import Settings
from .ladders import Ladder, Roster, ladders_of


@attrs.frozen(kw_only=True)
class RunSettings:
    """The settings that all workers of a run share, in seconds."""

    windows: Mapping[str, float] = attrs.field(factory=lambda: {"critical": 0.4, "warning": 0.8})
    """The acknowledgement window of each severity. Any other severity has the window of ``warning``."""
    snooze: float = 1.0
    tick: float = 1.0
    max_level: int = 3
    """The escalations of the built-in policy."""
    ladders: Mapping[str, Ladder] = attrs.field(factory=dict)
    """The policy that the policies file assigns, by severity. Other severities have the built-in policy."""
    rosters: Mapping[str, Roster] = attrs.field(factory=dict)
    """Who is on call, by schedule. Any other schedule is one that the engines do not know."""
    people: Mapping[str, str] = attrs.field(factory=dict)
    """The target of each person."""
    default_target: str | None = None
    """The target that is paged if it is not known who is on call, or if no one is. None: the router decides."""
    lease: float = 2.0
    send_timeout: float = 0.5
    budgets: Mapping[str, Budget] = attrs.field(factory=dict)
    """The budget of each target that has one."""
    fallbacks: Mapping[str, str] = attrs.field(factory=dict)
    """The fallback of each target that has one."""
    fallback_after: float = FALLBACK_AFTER.total_seconds()
    """After how long the fallback gets a page that is not delivered."""
    notices: Mapping[str, Collection[str]] = attrs.field(factory=dict)
    """The kinds of notices that each target gets."""
    threads: Collection[str] = frozenset()
    """The targets whose receiver keeps a thread open for each episode."""
    starved_after: float = STARVED_AFTER.total_seconds()
    """After how long a page goes before all other pages of its target."""

    @classmethod
    def from_settings(
        cls, settings: Settings, policies: Policies | None = None, rosters: Mapping[str, Roster] | None = None
    ) -> "RunSettings":
        """Return the part of an engine's settings and of its policies file that the invariants depend on.

        ``rosters`` say who is on call during the run by each schedule, also by the schedules of the policies file.

        Raises:
            InvalidValue: the policies use what the checks do not know, see ``ladders_of``; or a schedule of the file
                has no roster.
        """
        rosters = {} if rosters is None else rosters
        for name in () if policies is None else (*policies.schedules, *policies.calendars):
            if name not in rosters:
                raise InvalidValue("rosters", f"has no roster of schedule {name!r}", "give one for the time of the run")
        return cls(
            windows={name: window.total_seconds() for name, window in settings.policy.windows.items()},
            snooze=settings.snooze.total_seconds(),
            tick=settings.tick_interval.total_seconds(),
            max_level=settings.policy.max_level,
            ladders={} if policies is None else ladders_of(policies),
            rosters=rosters,
            people={} if policies is None else policies.people,
            default_target=settings.default_target,
            lease=settings.retry.lease.total_seconds(),
            send_timeout=settings.retry.send_timeout.total_seconds(),
            budgets={target: budget for target, budget in settings.budgets.items() if budget is not None},
            fallbacks=settings.fallbacks,
            fallback_after=settings.fallback_after.total_seconds(),
        )

    @property
    def gap(self) -> float:
        """The least time between two escalations of one incident by the built-in policy."""
        return max(self.snooze, self.tick)

    def ladder(self, severity: str | None, ladders: Mapping[str, Ladder] | None = None) -> Ladder:
        """Return the policy of a severity. ``ladders`` are those of a later file, by severity."""
        assigned = (self.ladders if ladders is None else ladders).get(normal_severity(severity or ""))
        if assigned is not None:
            return assigned
        window = self.windows.get(severity or "", self.windows["warning"])
        return Ladder(gaps=(window,) * self.max_level, min_gap=self.snooze, adds_up=True)
