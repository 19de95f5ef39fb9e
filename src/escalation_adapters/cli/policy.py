"""The commands about the policies file."""

import sys

import attrs
import click

from escalation_core import Engine, EscalationError, PoliciesError, Settings
from escalation_core.rules.builtin_file import file_of

from ..logs import set_up_logging
from ..policies_file import load_policies
from ..worker.app import check_policies
from .base import Context, pass_context
from .output import print_json
from .params import json_option
from .policy_in_force import rebind, reload, show
from .policy_table import as_json as policies_json
from .policy_table import print_policies

NO_FILE = "there is no policies file: name one, or set ESC_POLICIES"


@click.group()
def policy() -> None:
    """Commands about the policies file."""


@policy.command("check")
@click.argument("file", required=False)
@json_option
@pass_context
def check(context: Context, file: str | None, as_json: bool) -> None:
    """Check a policies FILE (default: ESC_POLICIES) against the settings, and show what its policies do."""
    set_up_logging(level="ERROR")  # the command prints the warnings itself
    settings, schedules = _settings(context)
    path = file or settings.policies_file
    if path is None:
        raise EscalationError(NO_FILE)
    try:
        policies = load_policies(path)
        warnings = check_policies(policies, settings, any_schedule=schedules)
    except PoliciesError as error:
        if not as_json:
            raise
        found = {path: {"fault": each.fault, "remedy": each.remedy} for path, each in error.problems.items()}
        print_json({"problems": found})
        sys.exit(1)
    if as_json:
        print_json(policies_json(policies, settings.tick_interval, warnings))
        return
    print_policies(policies, settings.tick_interval)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _settings(context: Context) -> tuple[Settings, bool]:
    """Return the settings with all targets, and whether sources may have schedules beside those of the file."""

    def of_engine(engine: Engine) -> tuple[Settings, bool]:
        served = tuple(target for notifier in engine.notifiers for target in notifier.targets)
        return attrs.evolve(engine.settings, own_targets=served), bool(engine.schedule_loader.sources)

    if context.app is not None:
        return context.look(of_engine)
    settings, plugins = context.load()
    return settings, bool(plugins.schedules)


@policy.command("from-settings")
@pass_context
def from_settings(context: Context) -> None:
    """Print a policies file, in YAML, that means the same as the environment's windows, snooze and maximum level."""
    set_up_logging(level="ERROR")
    import yaml

    settings = context.settings() if context.app is None else context.look(lambda engine: engine.settings)
    click.echo(_HEADER, nl=False)
    click.echo(yaml.safe_dump(file_of(settings.policy), sort_keys=False, allow_unicode=True, width=100), nl=False)


_HEADER = """\
# The policies that escalate at the same instants as ESC_CRIT_ACK_MIN, ESC_WARN_ACK_MIN, ESC_ACK_MIN, ESC_SNOOZE_MIN and
# MAX_ESC_LEVEL. One thing differs: an incident whose severity changes gets another policy.
"""

for _command in (show, rebind, reload):
    policy.add_command(_command)
COMMANDS = (policy,)
