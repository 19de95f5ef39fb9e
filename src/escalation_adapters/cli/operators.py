"""Commands for operators about the engine as a whole: pause, resume, sign a request, prune and prove the records."""

import json
import os
import re
import shlex
from datetime import datetime, timedelta

import attrs
import click

from escalation_core import Engine, EscalationError, Health, Integrity, Pause, Pruned, Resumed

from ..worker.app import settings_from
from .base import Context, pass_context
from .output import Times, print_json, progress, table
from .params import INSTANT, SPAN, actor_option, json_option, parse_labels, reason_option, utc_option


@click.command("pause")
@click.option(
    "--until", type=INSTANT, required=True, help="An instant, or a span from now, for example 2h; at most 24h away."
)
@click.option("--reason", metavar="TEXT", help="The reason, for health and the audit.")
@actor_option
@utc_option
@json_option
@pass_context
def pause(
    context: Context, until: datetime | timedelta, reason: str | None, by: str | None, utc: bool, as_json: bool
) -> None:
    """Pause all workers for a while: no incident escalates, and no page is claimed."""

    async def work(engine: Engine) -> tuple[Pause, Health]:
        return await engine.pause(until, reason=reason, by=by), await engine.health()

    made, health = context.run(work, plugins=False)
    paused_until = health.paused_until or made.ends_at
    if as_json:
        print_json({**attrs.asdict(made), "paused_until": paused_until})
    else:
        click.echo(
            f"paused until {Times(health.at, utc).sentence(paused_until)}; end it earlier with: escalation resume"
        )


@click.command("resume")
@click.option("--override-schedule", is_flag=True, help="Also end the scheduled pause that is running.")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def resume(
    context: Context, override_schedule: bool, reason: str | None, by: str | None, utc: bool, as_json: bool
) -> None:
    """End every pause that operators set; due incidents escalate with the next tick."""

    async def work(engine: Engine) -> tuple[Resumed, Health]:
        resumed = await engine.resume(override_schedule=override_schedule, reason=reason, by=by)
        return resumed, await engine.health()

    resumed, health = context.run(work, plugins=False)
    held = None if health.mode.value == "open" else health.mode.value
    if as_json:
        print_json({"ended": resumed.ended, "schedule_lifted_until": resumed.schedule_lifted_until, "held": held})
        return
    lifted = resumed.schedule_lifted_until
    said = f"pauses ended: {resumed.ended}"
    if lifted is not None:
        said += f", the schedule lifted until {Times(health.at, utc).sentence(lifted)}"
    if override_schedule and lifted is None:
        said += ", no schedule lifted: these settings (ESC_PAUSE_CRON) have no scheduled pause now"
    click.echo(said if held is None else f"{said}; mode is still {held}: see escalation health")


@click.command("sign")
@click.argument("action")
@click.option(
    "--url", default="http://127.0.0.1:8080/ops/escalation", show_default=True, help="Where the endpoints are mounted."
)
@click.option("--field", "pairs", multiple=True, metavar="NAME=VALUE", help="A field of the body.")
def sign_command(action: str, url: str, pairs: tuple[str, ...]) -> None:
    """Print a curl line for ACTION (tick, pause, ...) at the operators' endpoints, signed with OPS_HMAC_SECRET.

    The line works once, within five minutes.
    """
    from ..auth.hmac_signature import signed_headers
    from ..ops.handler import ACTIONS
    from ..ops.messages import JSON

    secret = settings_from(os.environ).ops_hmac_secret
    if secret is None:
        raise EscalationError("OPS_HMAC_SECRET is not set; set it to the secret that the service verifies with")
    if action not in ACTIONS:
        raise click.UsageError(f"{action!r} is not a valid action; the actions are {', '.join(ACTIONS)}")
    known = ACTIONS[action].fields
    given = parse_labels(pairs)
    if unknown := sorted(given.keys() - set(known)):
        raise click.UsageError(f"{action} has no field {unknown[0]!r}; its fields are {', '.join(known)}")
    fields = {name: _value(name, value) for name, value in given.items()}
    body = json.dumps({"action": action, **fields}).encode()
    words = ["curl", "-sS", "-X", "POST", f"{url.rstrip('/')}/{action}"]
    for name, value in {"content-type": JSON, **signed_headers(body, secret=secret)}.items():
        words += ["-H", f"{name}: {value}"]
    click.echo(shlex.join([*words, "--data-binary", body.decode()]))


def _value(name: str, text: str) -> object:
    """Return a field's value. Most fields are texts; an incident key of digits is a text, too."""
    if name in ("dry_run", "override_schedule", "restart"):
        if text not in ("true", "false"):
            raise click.UsageError(f"{name} is {text!r}; give true or false")
        return text == "true"
    if name == "minutes":
        if not re.fullmatch("[0-9]{1,4}", text):
            raise click.UsageError(f"minutes is {text!r}; give a whole number, 1 to 1440")
        return int(text)
    return text


@click.command("prune")
@click.option("--older-than", type=SPAN, required=True, help="For example 400d; at least one day.")
@reason_option
@actor_option
@json_option
@pass_context
def prune(context: Context, older_than: timedelta, reason: str | None, by: str | None, as_json: bool) -> None:
    """Remove old escalations, pages and audit entries, but none of an open incident or a key's highest episode."""

    async def work(engine: Engine) -> Pruned:
        with progress("pruning", None, quiet=as_json) as tell:
            return await engine.prune(older_than, reason=reason, by=by, progress=tell)

    gone = context.run(work, plugins=False)
    if as_json:
        print_json(gone)
    else:
        click.echo(f"removed: {gone.escalations} escalations, {gone.pages} pages, {gone.audit} audit entries")


@click.command("prove")
@json_option
@pass_context
def prove(context: Context, as_json: bool) -> None:
    """Check the records: each escalation once, each with its pages; exit code 1 if a check fails."""

    async def work(engine: Engine) -> Integrity:
        return await engine.prove()

    proof = context.run(work, plugins=False)
    if as_json:
        print_json({"holds": proof.holds, **attrs.asdict(proof)})
    else:
        click.echo("the promise holds" if proof.holds else "THE PROMISE IS BROKEN")
        rows = [(name, count) for name, count in attrs.asdict(proof).items() if name != "pages"]
        table("Integrity", ("what", "count"), [*rows, *((f"pages {s}", n) for s, n in proof.pages.items())], empty="")
    if not proof.holds:
        raise SystemExit(1)


COMMANDS = (pause, resume, sign_command, prune, prove)
