"""Policies: what a policies file says. Named policies, and the assignments that choose one for an incident."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from typing import Any

import attrs

from ..checks import nearest, quoted
from ..errors import InvalidValue, PoliciesError, Problem
from ..model import BUILTIN, Incident
from .assignment import Assignment
from .hours import Hours
from .on_call import schedule_of
from .policies_file import read_content
from .policies_limits import DEFAULT, names_faults, settings_faults, warnings_of, warnings_of_schedules
from .policy import Policy
from .rotation import Rotation


@attrs.frozen(kw_only=True)
class Policies:
    """Named policies and the assignments, as a policies file has them.

    ``Policies.from_mapping`` reads them from a plain mapping. The built-in policy is always known, as ``builtin``.
    """

    policies: Mapping[str, Policy]
    assignments: tuple[Assignment, ...] = ()
    hours: Mapping[str, Hours] = attrs.field(factory=dict)
    """All hours by name. Those that a policy or a schedule uses need not be given."""
    schedules: Mapping[str, Rotation] = attrs.field(factory=dict)
    """The rotations by name."""
    calendars: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """The place of each schedule that is a calendar: a path, or an https URL, which is a secret."""
    people: Mapping[str, str] = attrs.field(factory=dict)
    """The target of each person."""
    digest: str = attrs.field(init=False, eq=False, repr=False)
    """The sha256 of the file's content in canonical form, by which workers compare their files."""

    def __attrs_post_init__(self) -> None:
        """Complete the hours, and compute the digest."""
        hours = dict(self.hours)
        for policy in self.policies.values():
            hours |= policy.hours
        for rotation in self.schedules.values():
            hours |= rotation.hours
        object.__setattr__(self, "hours", hours)
        text = json.dumps(self.as_mapping(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @classmethod
    def from_mapping(cls, mapping: object) -> "Policies":
        """Return the policies that a plain mapping describes, for example a parsed YAML file.

        ``docs/reference/policies.md`` lists the fields. Scalars may be text, as in a file.

        Raises:
            PoliciesError: the mapping is wrong. The error has all problems, by path.
        """
        content = read_content(mapping)
        return cls(
            policies=content.policies,
            hours=content.hours,
            assignments=content.assignments,
            schedules=content.schedules.rotations,
            calendars=content.schedules.calendars,
            people=content.people,
        )

    def check(
        self,
        *,
        max_level: int | None,
        tick_interval: timedelta,
        targets: AbstractSet[str] | None,
        schedules: AbstractSet[str] | None = frozenset(),
    ) -> None:
        """Check what depends on settings: windows against the tick interval, lengths against MAX_ESC_LEVEL, and names.

        Give ``max_level`` only if MAX_ESC_LEVEL is set, and ``targets`` only if all targets are known; else None.
        ``schedules`` are those that other sources have, beside the file. None: there may be any.

        Raises:
            PoliciesError: a policy does not fit the settings. The error has all problems, by path.
        """
        limits = settings_faults(self.policies.values(), self.hours.values(), max_level, tick_interval=tick_interval)
        known = None if schedules is None else {*self.schedules, *self.calendars, *schedules}
        names = names_faults(self.policies.values(), self.people, targets=targets, schedules=known)
        problems = {path: Problem(fault.fault, fault.remedy) for path, fault in (*limits, *names)}
        if problems:
            raise PoliciesError(problems)

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings about what is valid, but probably not intended."""
        policies = warnings_of(self.policies, self.hours, self.assignments, self.schedules)
        return (*policies, *warnings_of_schedules(self.policies, self.schedules, self.calendars, self.people))

    @property
    def names(self) -> frozenset[str]:
        """All names that an incident may have as its policy, with ``builtin``."""
        return frozenset((*self.policies, BUILTIN))

    @property
    def targets(self) -> frozenset[str]:
        """All targets that the policies and the people name. Schedules are not targets."""
        named = [name for policy in self.policies.values() for level in policy.levels for name in level.to]
        return frozenset((*(name for name in named if schedule_of(name) is None), *self.people.values()))

    @property
    def reads_labels(self) -> bool:
        """Whether an assignment depends on labels."""
        return any(assignment.labels for assignment in self.assignments)

    def choose(self, incident: Incident) -> str:
        """Return the name of the policy for an incident whose host names none: the last assignment that matches."""
        for assignment in reversed(self.assignments):
            if assignment.matches(incident, incident.level):
                return assignment.policy
        return DEFAULT if DEFAULT in self.policies else BUILTIN

    def as_mapping(self) -> Mapping[str, Any]:
        """Return the content as a policies file has it. Defaults of policies are left out."""
        schedules = {
            **{name: rotation.as_mapping() for name, rotation in self.schedules.items()},
            **{name: {"ical": place} for name, place in self.calendars.items()},
        }
        return {
            "policies": {name: policy.as_mapping() for name, policy in self.policies.items()},
            "hours": {name: each.as_mapping() for name, each in self.hours.items()},
            "assign": [
                {"policy": each.policy}
                | ({"labels": dict(each.labels)} if each.labels else {})
                | ({} if each.severity is None else {"severity": each.severity})
                for each in self.assignments
            ],
            **({"schedules": schedules} if schedules else {}),
            **({"people": dict(self.people)} if self.people else {}),
        }


def check_policy_name(name: str, policies: Policies | None) -> str:
    """Return a policy's name that a caller gives.

    Raises:
        InvalidValue: the policies do not have this name; the remedy has the nearest one. Or there are no policies.
    """
    if name == BUILTIN or (policies is not None and name in policies.policies):
        return name
    if policies is None:
        remedy = f"give the engine its policies, for example with ESC_POLICIES, or name {BUILTIN!r}"
        raise InvalidValue("policy", f"{quoted(name)} is not known without a policies file", remedy)
    known = sorted(policies.names)
    remedy = f"give one that exists; the nearest is {nearest(name, known)!r}"
    raise InvalidValue("policy", f"{quoted(name)} is not a known policy", remedy)
