"""The policies and schedules of a run as the checks know them: a second, short form of the rules."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import attrs

from ...errors import InvalidValue
from ...model import BUILTIN, normal_severity
from ...rules.policies import Policies
from ...rules.policies_limits import DEFAULT
from ...rules.policy import Anchor, OnExpiry, Policy

_YEAR = timedelta(days=365)


@attrs.frozen(kw_only=True)
class Roster:
    """Who is on call by one schedule, in seconds since 1970. Where no shift is, the schedule names no one."""

    shifts: Sequence[tuple[str, float, float]] = ()
    """The person, the start and the end of each shift. Shifts may overlap."""
    horizon: float = float("inf")
    """From then on it is not known who is on call."""
    known_from: float = 0.0
    """Before that it is not known who is on call, because no engine has loaded the schedule."""
    digest: str | None = None
    """The digest of the schedule, which its pages must have. None: the checks accept any."""

    def people(self, at: float) -> frozenset[str] | None:
        """Return who is on call at an instant; None if that is not known."""
        if not self.known_from <= at < self.horizon:
            return None
        return frozenset(person for person, start, end in self.shifts if start <= at < end)


@attrs.frozen(kw_only=True)
class Ladder:
    """The escalations of a policy, all rounds of them. All spans are seconds."""

    name: str = BUILTIN
    gaps: tuple[float, ...]
    """The gap before each escalation."""
    targets: tuple[tuple[str, ...], ...] = ()
    """The targets and ``oncall:`` schedules of each escalation. An empty one, or none at all: the router decides."""
    round_length: int | None = None
    """The escalations of one round; None: the walk has one round."""
    min_gap: float = 0.0
    """The least time between two escalations. The tick interval always counts as well."""
    adds_up: bool = False
    """Whether gaps count from the beginning of the walk, and not from the escalation before."""
    ack_timeout: float | None = None
    restarts: bool = False
    """Whether the walk begins again when an acknowledgement expires. It always does if it was over."""
    version: str = ""
    """The digest of the policy's version; empty for the built-in policy."""

    @classmethod
    def of(cls, policy: Policy) -> "Ladder":
        """Return the ladder of a policy.

        Raises:
            InvalidValue: the policy has hours that close, or the anchor first_seen: the checks do not know these.
        """
        closed = any(hours.least_open(_YEAR.days) < _YEAR for hours in policy.hours.values())
        if closed or policy.anchor is Anchor.FIRST_SEEN:
            fault = f"{policy.name!r} has hours that close, or the anchor first_seen, which the checks do not know"
            raise InvalidValue("policies", fault, "leave them out of the run")
        positions = range(1, policy.total + 1)
        return cls(
            name=policy.name,
            gaps=tuple(gap.total_seconds() for gap in policy.gaps),
            targets=tuple(policy.level(position).to for position in positions),
            round_length=len(policy.levels),
            min_gap=0.0 if policy.min_gap is None else policy.min_gap.total_seconds(),
            ack_timeout=None if policy.ack_timeout is None else policy.ack_timeout.total_seconds(),
            restarts=policy.on_ack_expiry is OnExpiry.RESTART,
            version=policy.digest,
        )

    @property
    def total(self) -> int:
        """The escalations of one walk."""
        return len(self.gaps)

    def targets_at(self, position: int) -> tuple[str, ...]:
        """Return the targets of the escalation at a position, from 1; empty if the router decides."""
        return self.targets[position - 1] if self.targets else ()

    def ends_round(self, position: int) -> bool:
        """Return whether the escalation at a position is the last one of its round."""
        return position % (self.round_length or self.total) == 0


def ladders_of(policies: Policies) -> Mapping[str, Ladder]:
    """Return the ladder of each severity that a policies file assigns. Other severities have the built-in policy.

    Raises:
        InvalidValue: the file assigns by labels, has a policy ``default``, or a policy that
            ``Ladder.of`` refuses.
    """
    found: dict[str, Ladder] = {}
    for one in policies.assignments:
        if one.labels or one.severity is None or DEFAULT in policies.policies:
            raise InvalidValue("policies", "assign by more than the severity", "assign each policy by its severity")
        if one.policy == BUILTIN:
            found.pop(normal_severity(one.severity), None)
        else:
            found[normal_severity(one.severity)] = Ladder.of(policies.policies[one.policy])
    return found
