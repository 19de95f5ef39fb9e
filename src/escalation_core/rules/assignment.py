"""Assignments: which incidents get which policy."""

import attrs

from .routing import Conditions


@attrs.frozen(kw_only=True)
class Assignment(Conditions):
    """Gives a policy to the incidents that match its conditions."""

    policy: str
