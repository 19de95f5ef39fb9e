"""The command that shows health: the engine's state, its policies and its targets."""

from collections.abc import Iterator

import click

from escalation_core import Engine, Health
from escalation_core.engine.policies_health import PoliciesHealth
from escalation_core.engine.targets_health import TargetHealth

from .base import Context, pass_context
from .output import Times, on_terminal, print_json, say, show, table
from .params import json_option, utc_option

MAX_TARGETS = 30
"""How many targets the table has at most: first those to which pages wait or do not get through."""
TARGET_COLUMNS = (
    "target", "waiting", "oldest", "budget", "throttled until", "last success", "last error", "error", "fallback"
)  # fmt: skip


@click.command("health")
@utc_option
@json_option
@pass_context
def health(context: Context, utc: bool, as_json: bool) -> None:
    """Show the engine's health; exit code 1 if it is not ok, for example if no worker ticks."""

    async def work(engine: Engine) -> Health:
        return await engine.health()

    found = context.run(work)
    if as_json:
        print_json(found.as_dict())
    else:
        state = "ok" if found.ok else f"NOT OK: {found.fault}"
        say(f"{state}; mode {found.mode.value}")
        values = found.as_dict() | {
            "at": found.at,
            "pausedUntil": found.paused_until,
            "policies": _policies_of(found.policies),
        }
        # The second table shows the targets.
        rows = [
            (name, value) for name, value in values.items() if name != "targets" and value is not None and show(value)
        ]
        table("Health", ("what", "value"), rows, empty="", times=Times(found.at, utc))
        _targets(found, Times(found.at, utc))
        for warning in found.warnings:
            click.echo(f"warning: {warning}", err=True)
    if not found.ok:
        raise SystemExit(1)


def _targets(found: Health, times: Times) -> None:
    """Print the targets, those in trouble first."""
    if not found.targets:
        return
    if on_terminal():
        click.echo()
    names = sorted(found.targets, key=lambda name: (not _in_trouble(found.targets[name]), name))
    rows = [(name, *_cells(found.targets[name], times)) for name in names[:MAX_TARGETS]]
    kept = [place for place in range(len(TARGET_COLUMNS)) if not on_terminal() or any(row[place] for row in rows)]
    table(
        "Targets",
        [TARGET_COLUMNS[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        empty="",
        times=times,
    )
    if len(names) > MAX_TARGETS:
        click.echo(f"{len(names) - MAX_TARGETS} more targets: escalation health --json", err=True)


def _in_trouble(target: TargetHealth) -> bool:
    return bool(target.backlog or target.throttled_until or target.failing)


def _cells(target: TargetHealth, times: Times) -> Iterator[object]:
    """Yield the cells behind the target's name."""
    budget = target.budget
    yield target.backlog
    yield None if target.oldest_page is None else times.when(target.oldest_page)
    yield None if budget is None else f"{budget.rate:.3g} a second, burst {budget.burst}"
    for at in (target.throttled_until, target.last_delivered_at, target.last_failed_at):
        yield None if at is None else times.when(at)
    yield target.last_error
    yield target.fallback


def _policies_of(found: PoliciesHealth) -> list[str]:
    """Return what health says about policies, for people: digests are short. Warnings stand below the table."""
    stats = found.stats
    if found.digest is None and not stats.worker_digests:
        return []
    said = [f"file {found.digest[:12]}" if found.digest else "no file"]
    said += [f"workers with {digest[:12] or 'no file'} {count}" for digest, count in stats.worker_digests.items()]
    said += [f"unknown {name} {count}" for name, count in stats.unknown_policies.items()]
    said += [f"put off {stats.put_off}"] if stats.put_off else []
    return said + [f"{action} in a day {count}" for action, count in stats.lately.items()]


COMMANDS = (health,)
