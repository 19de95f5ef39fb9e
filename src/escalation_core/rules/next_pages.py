"""The pages of an incident's next escalation, before it happens. They follow the rules of the tick."""

from datetime import datetime

import attrs

from ..model import Incident
from .plan import escalate
from .planner import Planner
from .policy import Step
from .routing import Pager, paged_targets, undeliverable_reasons


@attrs.frozen(kw_only=True)
class NextPages:
    """The level of an incident's next escalation, and the targets that it pages if nothing changes until then."""

    level: int
    step: Step
    """The place of that escalation in its policy."""
    targets: tuple[str, ...]
    """The targets that are paged; empty if all its pages will be dead."""
    faults: tuple[str, ...] = ()
    """Why pages will be dead, for example that no route matches, or that no notifier serves a target."""


def next_pages(incident: Incident | None, *, planner: Planner, pager: Pager, now: datetime) -> NextPages | None:
    """Return the next escalation's level and targets; None if the row has no next escalation.

    A snooze, a pause, a switch or the canary delays or prevents the escalation and does not change its targets:
    ``upcoming`` says when it comes. The host's router answers, as it does in a tick.
    """
    coming = None if incident is None else planner.next_step(incident, now)
    if coming is None:
        return None
    found, due = coming
    rise = escalate(found, max(due, now), planner.on_call)
    pages = pager.pages_for(rise.incident, rise.escalation.unique_hash, rise.recipients)
    return NextPages(
        level=rise.incident.level,
        step=found.policy.step(rise.incident),
        targets=paged_targets(pages),
        faults=undeliverable_reasons(pages),
    )
