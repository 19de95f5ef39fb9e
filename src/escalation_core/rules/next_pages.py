"""The pages of an incident's next escalation, before it happens. They follow the rules of the tick."""

from datetime import datetime

import attrs

from ..model import Incident
from .builtin import BuiltinPolicy
from .plan import escalate
from .routing import Pager, paged_targets, undeliverable_reasons


@attrs.frozen(kw_only=True)
class NextPages:
    """The level of an incident's next escalation, and the targets that it pages if nothing changes until then."""

    level: int
    targets: tuple[str, ...]
    """The targets that are paged; empty if all its pages will be dead."""
    faults: tuple[str, ...] = ()
    """Why pages will be dead, for example that no route matches, or that no notifier serves a target."""


def next_pages(incident: Incident | None, *, policy: BuiltinPolicy, pager: Pager, now: datetime) -> NextPages | None:
    """Return the next escalation's level and targets; None if the row has no next escalation.

    A snooze, a pause, a switch or the canary delays or prevents the escalation and does not change its targets:
    ``upcoming`` says when it comes. The host's router answers, as it does in a tick.
    """
    if incident is None or policy.next_due_at(incident, now) is None:
        return None
    step = escalate(incident, policy, now)
    pages = pager.pages_for(step.incident, step.escalation.unique_hash)
    return NextPages(
        level=step.incident.level,
        targets=paged_targets(pages),
        faults=undeliverable_reasons(pages),
    )
