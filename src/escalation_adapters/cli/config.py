"""The command that checks the settings."""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import attrs
import click

from escalation_core import Engine, NoticeKind, Notifier, Settings
from escalation_core.rules.abilities import abilities_of
from escalation_core.rules.notices import Wanted
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
    """Check the environment's settings and the plug-ins, and show those in force, without secrets."""
    set_up_logging(level="ERROR")  # the command prints the warnings itself
    checked = _checked(context) if context.app is None else context.look(_in_code)
    settings = checked.settings
    rows = in_force(settings, database=context.database)
    if as_json:
        found = {
            "settings": dict(rows),
            "rhythm": settings.rhythms(),
            "plugins": checked.plugins,
            "targets": checked.targets,
            "warnings": checked.warnings,
        }
        print_json(found)
        return
    table("Settings in force", ("variable", "value"), rows, empty="")
    last = f"level {settings.policy.max_level}, the last"
    columns = ("without an ack", "level 1 after", "then every", "because of", last)
    table("Rhythm", columns, [_rhythm(settings, *each) for each in settings.rhythms().items()], empty="")
    if checked.plugins:
        plugins = [(one["name"], one["kind"], ", ".join(one["targets"])) for one in checked.plugins]
        table("Plug-ins", ("plug-in", "kind", "targets"), plugins, empty="")
    if context.app is not None or len(checked.targets) > 1:
        table("Targets", ("target", "channel", "can", "notices"), _target_rows(checked.targets), empty="no notifier")
    for warning in checked.warnings:
        click.echo(f"warning: {warning}", err=True)


@attrs.frozen
class _Checked:
    """What ``config check`` shows."""

    settings: Settings
    warnings: Sequence[str]
    targets: Mapping[str, Mapping[str, Any]]
    """Of each target its channel, what its notifier can do, and the notices that it gets."""
    plugins: Sequence[Mapping[str, Any]] = ()


def _checked(context: Context) -> _Checked:
    """Check all that would stop a worker's start."""
    # Only the notifiers can check a URL's host. Make them here, before a plug-in is run.
    settings = settings_from(os.environ, own_targets=None)
    notifiers = make_notifiers(settings)
    make_heartbeat(settings)
    settings, plugins = context.load()
    load = policies_loader(settings)
    file = () if load is None else check_policies(load(), settings, any_schedule=bool(plugins.schedules))
    listed = [{"name": one.name, "kind": one.kind.value, "targets": list(one.targets)} for one in plugins.loaded]
    targets, beyond = _targets(settings, [*notifiers, *plugins.notifiers])
    warnings = [*settings.warnings, *unheard(settings, plugins), *file, *beyond]
    return _Checked(settings, warnings, targets, listed)


def _in_code(engine: Engine) -> _Checked:
    """Return what is known of the engine of ``--app``. Its code has checked the rest."""
    targets, beyond = _targets(engine.settings, engine.notifiers)
    return _Checked(engine.settings, [*engine.settings.warnings, *beyond], targets)


def _targets(settings: Settings, notifiers: Sequence[Notifier]) -> tuple[Mapping[str, Mapping[str, Any]], list[str]]:
    """Return what each target can get and gets, and warnings of what it cannot."""
    served = {target: one for one in notifiers for target in one.targets}
    abilities = {target: abilities_of(one) for target, one in served.items()}
    wanted = Wanted(abilities=abilities, given=settings.notices, routes=settings.routes)
    found = {
        target: {
            "channel": served[target].channel,
            "bundles": can.bundles,
            "threads": can.threads,
            "notices": [kind.value for kind in NoticeKind if wanted.wants(kind, target, None, 0)],
        }
        for target, can in abilities.items()
    }
    return found, wanted.warnings()


def _target_rows(targets: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            one["channel"],
            ", ".join(ability for ability in ("bundles", "threads") if one[ability]),
            ", ".join(one["notices"]),
        )
        for name, one in targets.items()
    ]


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
