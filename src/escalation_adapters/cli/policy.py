"""The commands about the policies file."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import attrs
import click

from escalation_core import EscalationError, Policies, PoliciesError
from escalation_core.model import BUILTIN
from escalation_core.rules.builtin_file import file_of
from escalation_core.rules.hours import Hours
from escalation_core.rules.policies_limits import DEFAULT
from escalation_core.rules.policy import Anchor, OnExpiry, Policy, Step
from escalation_core.settings.limits import LOG_TARGET

from ..logs import set_up_logging
from ..policies_file import load_policies
from ..worker.app import settings_from
from .output import exact_length, on_terminal, print_json, say, table
from .params import json_option

NO_FILE = "there is no policies file: name one, or set ESC_POLICIES"
UNCHECKED = "ESC_TARGETS is not set: whether the targets exist was not checked"
_COLUMNS = ("escalation", "round", "level", "gap", "since start", "targets", "waits for")


@click.group()
def policy() -> None:
    """Commands about the policies file."""


@policy.command("check")
@click.argument("file", required=False)
@json_option
def check(file: str | None, as_json: bool) -> None:
    """Check a policies FILE (default: ESC_POLICIES) against the settings, and show what its policies do."""
    set_up_logging(level="ERROR")  # the command prints the warnings itself
    settings = settings_from(os.environ)
    path = file or settings.policies_file
    if path is None:
        raise EscalationError(NO_FILE)
    try:
        policies = load_policies(path)
        policies.check(
            max_level=settings.max_level,
            tick_interval=settings.tick_interval,
            # Without a URL, a service may define the targets with notifiers of its own.
            targets={*settings.targets, LOG_TARGET} if settings.targets else None,
        )
    except PoliciesError as error:
        if not as_json:
            raise
        found = {path: {"fault": each.fault, "remedy": each.remedy} for path, each in error.problems.items()}
        print_json({"problems": found})
        sys.exit(1)
    named = any(level.to for each in policies.policies.values() for level in each.levels)
    warnings = [*policies.warnings, *([UNCHECKED] if named and not settings.targets else [])]
    if as_json:
        print_json(_as_json(policies, settings.tick_interval, warnings))
        return
    _print(policies, settings.tick_interval)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


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


def _print(policies: Policies, tick_interval: timedelta) -> None:
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


def _as_json(policies: Policies, tick_interval: timedelta, warnings: Sequence[str]) -> Mapping[str, object]:
    shown = {
        name: {"version": each.digest, "escalations": list(_escalations(each, tick_interval))}
        for name, each in policies.policies.items()
    }
    return {"digest": policies.digest, "policies": shown, "file": policies.as_mapping(), "warnings": warnings}


@policy.command("from-settings")
def from_settings() -> None:
    """Print a policies file, in YAML, that means the same as the environment's windows, snooze and maximum level."""
    set_up_logging(level="ERROR")
    import yaml

    settings = settings_from(os.environ)
    click.echo(_HEADER, nl=False)
    click.echo(yaml.safe_dump(file_of(settings.policy), sort_keys=False, allow_unicode=True, width=100), nl=False)


_HEADER = """\
# The policies that escalate at the same instants as ESC_CRIT_ACK_MIN, ESC_WARN_ACK_MIN, ESC_ACK_MIN, ESC_SNOOZE_MIN and
# MAX_ESC_LEVEL. One thing differs: an incident whose severity changes gets another policy.
"""

COMMANDS = (policy,)
