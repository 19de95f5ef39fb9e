"""The command that checks the settings."""

import os
from collections.abc import Sequence
from datetime import timedelta

import click

from escalation_core import Settings
from escalation_core.settings import SECRETS

from ..logs import set_up_logging
from ..worker.app import (
    check_policies,
    make_heartbeat,
    make_notifiers,
    policies_loader,
    settings_from,
    unheard,
)
from .base import Context, pass_context
from .output import print_json, table
from .params import json_option


@click.group()
def config() -> None:
    """Commands about the settings."""


@config.command("check")
@json_option
@pass_context
def check(context: Context, as_json: bool) -> None:
    """Check the environment's settings and show those in force, without secrets."""
    set_up_logging(level="ERROR")  # the command prints the warnings itself
    settings = settings_from(os.environ)
    # Only the notifiers can check a URL's host. Make them here, to report what would stop a worker's start.
    make_notifiers(settings)
    make_heartbeat(settings)
    load = policies_loader(settings)
    warnings = [*settings.warnings, *unheard(settings), *(check_policies(load(), settings) if load is not None else ())]
    rows = in_force(settings, database=context.database)
    if as_json:
        found = {
            "settings": dict(rows),
            "rhythm": settings.rhythms(),
            "warnings": warnings,
        }
        print_json(found)
        return
    table("Settings in force", ("variable", "value"), rows, empty="")
    last = f"level {settings.policy.max_level}, the last"
    columns = ("without an ack", "level 1 after", "then every", "because of", last)
    table("Rhythm", columns, [_rhythm(settings, *each) for each in settings.rhythms().items()], empty="")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def _rhythm(settings: Settings, severity: str, spans: Sequence[timedelta]) -> tuple[object, ...]:
    """Return the row of a severity: when it escalates, and the setting that decides from level 2 on."""
    if len(spans) == 1:
        return severity, str(spans[0]), None, None, str(spans[0])
    step = spans[1] - spans[0]
    cause = "ESC_TICK_MS" if settings.snooze < settings.tick_interval else "ESC_SNOOZE_MIN"
    return severity, str(spans[0]), str(step), "its window" if step == spans[0] else cause, str(spans[-1])


def in_force(settings: Settings, database: str | None = None) -> list[tuple[str, object]]:
    """Return each variable and its value as an environment holds it; of secrets, only whether they are set."""
    values = settings.as_variables()
    if database is not None:
        values["ESC_DATABASE_URL"] = database
    return [
        (name, ("set" if value is not None else None) if name in SECRETS else value) for name, value in values.items()
    ]


COMMANDS = (config,)
