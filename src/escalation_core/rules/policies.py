"""Policies: what a policies file says. Named policies, and the assignments that choose one for an incident."""

import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import InvalidValue
from ..model import BUILTIN, Incident
from .policy import Policy
from .routing import Conditions

DEFAULT = "default"
"""The name of the policy that incidents get if no assignment matches; without it, they get the built-in policy."""


@attrs.frozen(kw_only=True)
class Assignment(Conditions):
    """Gives a policy to the incidents that match its conditions."""

    policy: str


@attrs.frozen(kw_only=True)
class Policies:
    """Named policies and the assignments, as a policies file has them.

    ``Policies.from_mapping`` reads them from a plain mapping. The built-in policy is always known, as ``builtin``.
    """

    policies: Mapping[str, Policy]
    assignments: tuple[Assignment, ...] = ()
    digest: str = attrs.field(init=False, eq=False, repr=False)
    """The sha256 of the file's content in canonical form, by which workers compare their files."""

    def __attrs_post_init__(self) -> None:
        """Compute the digest."""
        text = json.dumps(self.as_mapping(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def names(self) -> frozenset[str]:
        """All names that an incident may have as its policy, with ``builtin``."""
        return frozenset((*self.policies, BUILTIN))

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
        """Return the content as a policies file has it, with every default written out."""
        hours = {name: each for policy in self.policies.values() for name, each in policy.hours.items()}
        return {
            "policies": {name: policy.as_mapping() for name, policy in self.policies.items()},
            "hours": {name: each.as_mapping() for name, each in hours.items()},
            "assign": [
                {"policy": each.policy, "labels": dict(each.labels)}
                | ({} if each.severity is None else {"severity": each.severity})
                for each in self.assignments
            ],
        }


def check_policy_name(name: str, policies: Policies | None) -> str:
    """Return a policy's name that a caller gives.

    Raises:
        InvalidValue: the policies do not have this name; the remedy has the nearest one.
    """
    known = sorted(policies.names) if policies is not None else [BUILTIN]
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    raise InvalidValue("policy", f"{name!r} is not a known policy", f"give one that exists; the nearest is {near!r}")
