"""What a rebind of every incident of a policy would do, before an operator decides."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

import attrs

from ..errors import InvalidValue, TransitionRefused
from ..model import BUILTIN, Incident, State
from ..rules.planner import Planner, pin_of
from ..rules.policies import Policies, check_policy_name
from ..rules.policy import Policy
from ..rules.settled import Note
from ..rules.transitions import rebind


@attrs.define(kw_only=True)
class RebindForecast:
    """Counts of the unresolved incidents that are pinned to a policy, by what a rebind would do to them now."""

    policy: str
    version: str
    """The digest of the version to which a rebind pins: that of this engine's policies file."""
    versions: Counter[str] = attrs.field(factory=Counter)
    """The incidents by the digest of the version that they are pinned to."""
    pages: int = 0
    """Incidents of older versions that would escalate within a tick interval, if no pause and no switch prevents it."""
    restarts: int = 0
    """Incidents of older versions whose walk would begin again at the first level."""

    @property
    def older(self) -> int:
        """The incidents that are pinned to older versions."""
        return self.versions.total() - self.versions[self.version]

    def count(self, incidents: Iterable[Incident], planner: Planner, now: datetime, *, restart: bool) -> None:
        """Add incidents to the counts. ``restart`` begins each walk again."""
        for incident in incidents:
            pin = pin_of(incident)
            if pin is None:
                continue
            self.versions[pin.digest] += 1
            if pin.digest == self.version:
                continue
            try:
                change = rebind(incident, planner=planner, now=now, begin_again=restart)
            except (InvalidValue, TransitionRefused):
                continue  # The rebind itself reports it.
            after = change.incident
            soon = now + planner.builtin.tick_interval
            self.pages += after.state is State.OPEN and after.next_due_at is not None and after.next_due_at <= soon
            self.restarts += any(note is Note.RESTART for note, _ in change.notes)


def versioned(policies: Policies | None, name: str) -> Policy:
    """Return the policy of this name in a policies file.

    Raises:
        InvalidValue: the file has no policy of this name, or it is the built-in one, which has no versions.
    """
    if check_policy_name(name, policies) == BUILTIN or policies is None:
        raise InvalidValue("policy", f"{BUILTIN!r} has no versions", "give the name of a policy of the file")
    return policies.policies[name]
