"""How policies are shown: each escalation with its instant and its targets, the assignments and the hours."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import attrs

from escalation_core import Policies
from escalation_core.model import BUILTIN
from escalation_core.rules.hours import Hours
from escalation_core.rules.policies_limits import DEFAULT
from escalation_core.rules.policy import Anchor, OnExpiry, Policy, Step

from .output import exact_length, on_terminal, say, table

_COLUMNS = ("escalation", "round", "level", "gap", "since start", "targets", "waits for")


@attrs.frozen
class _Escalation:
    """An escalation of an incident that nothing holds back."""

    escalation: int
    round: int
    level: int
    gap: timedelta
    since_start: timedelta
    targets: tuple[str, ...]
    """The targets that the policy names; empty if the routes decide."""
    waits_for: str | None
    """The hours in which it may page; None if it may always."""

    def cells(self) -> Sequence[object]:
        """Return the cells of a table."""
        spans = (exact_length(self.gap), exact_length(self.since_start))
        targets = ", ".join(self.targets) or "by the routes"
        return (self.escalation, self.round, self.level, *spans, targets, self.waits_for)


def _escalations(policy: Policy, tick_interval: timedelta) -> Iterator[_Escalation]:
    before = timedelta()
    for position, since in enumerate(policy.rhythm(tick_interval), 1):
        version, levels = policy.digest, len(policy.levels)
        step = Step(policy=policy.name, version=version, position=position, total=policy.total, levels=levels)
        level = policy.level(position)
        waits_for = None if level.deliver is None else level.deliver.name
        yield _Escalation(position, step.round, step.level, since - before, since, level.to, waits_for)
        before = since


def print_policies(policies: Policies, tick_interval: timedelta) -> None:
    """Print a table of each policy, and tables of the assignments and the hours."""
    flat = []
    for name, each in policies.policies.items():
        rows = [found.cells() for found in _escalations(each, tick_interval)]
        if on_terminal():
            table(f"Policy {name}", _COLUMNS, rows, empty="")
        flat += [(name, *row) for row in rows]
    if not on_terminal():
        table("", ("policy", *_COLUMNS), flat, empty="")
    for name, each in policies.policies.items():
        for sentence in _sentences(each):
            say(f"{name}: {sentence}")
    table("Assignments, the first that matches wins", ("severity", "labels", "policy"), _assigned(policies), empty="")
    if policies.hours:
        table("Hours", ("hours", "zone", "windows", "closed"), list(map(_hours, policies.hours.values())), empty="")


def _sentences(policy: Policy) -> Iterator[str]:
    """Yield what the table of a policy does not show."""
    if policy.clock is not None:
        yield f"gaps run only while {policy.clock.name} is open"
    if policy.anchor is Anchor.FIRST_SEEN:
        yield "gaps add up from the start, so the engine makes up for an outage"
    if policy.ack_timeout is not None:
        then = "begins again" if policy.on_ack_expiry is OnExpiry.RESTART else "goes on"
        yield f"an acknowledgement expires after {exact_length(policy.ack_timeout)}, and the policy {then}"


def _assigned(policies: Policies) -> Sequence[Sequence[object]]:
    """Return the assignments from the last to the first: in the file, the last one that matches wins."""
    found = [(each.severity or "any", dict(each.labels), each.policy) for each in reversed(policies.assignments)]
    return [*found, ("any other", {}, DEFAULT if DEFAULT in policies.policies else BUILTIN)]


def _hours(hours: Hours) -> Sequence[object]:
    found = hours.as_mapping()
    windows = [f"{','.join(each['days'])} {each['from']} to {each['to']}" for each in found["windows"]]
    return (hours.name, hours.zone, windows, found["closed"])


def as_json(policies: Policies, tick_interval: timedelta, warnings: Sequence[str]) -> Mapping[str, object]:
    """Return policies for JSON, each with its escalations."""
    shown = {
        name: {"version": each.digest, "escalations": list(_escalations(each, tick_interval))}
        for name, each in policies.policies.items()
    }
    return {"digest": policies.digest, "policies": shown, "file": _without_urls(policies), "warnings": warnings}


def _without_urls(policies: Policies) -> Mapping[str, object]:
    """Return the content of the file. The URL of a calendar is a secret, so it is left out."""
    places = {name: "a URL" if "://" in place else place for name, place in policies.calendars.items()}
    return attrs.evolve(policies, calendars=places).as_mapping()
