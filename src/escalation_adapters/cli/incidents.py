"""Commands that change one incident: the engine's verbs."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import click

from escalation_core import Engine, Incident, InvalidValue
from escalation_core.model import NEEDS_REPLAN, State

from .base import Context, pass_context
from .output import Times, print_json, say, show
from .params import INSTANT, actor_option, json_option, parse_labels, reason_option, utc_option


def _tell(
    context: Context,
    verb: Callable[[Engine], Awaitable[Incident]],
    *,
    as_json: bool,
    utc: bool,
    create: bool = False,
) -> None:
    """Run a verb, and print the incident that it leaves."""

    async def work(engine: Engine) -> tuple[Incident, datetime]:
        return await verb(engine), await engine.now()

    incident, now = context.run(work, create=create, plugins=False)
    if as_json:
        print_json(incident)
        return
    say(f"{state_of(incident)}; {_comes(incident, Times(now, utc))}")


def _comes(incident: Incident, times: Times) -> str:
    """Say what the incident's row waits for."""
    due = incident.next_due_at
    if due is None:
        return "nothing is due"
    if due == NEEDS_REPLAN:
        return "a worker plans it with its next tick"
    if incident.state is State.ACKNOWLEDGED:
        return f"the acknowledgement expires {times.sentence(due)}"
    return f"next escalation {times.sentence(due)}"


def state_of(incident: Incident) -> str:
    """Return an incident's key, state, severity, level and episode on one line."""
    return (
        f"{show(incident.incident_key)}: {incident.state.value}, {show(incident.severity or 'no severity')},"
        f" level {incident.level}, episode {incident.episode}"
    )


@click.command("open")
@click.argument("key")
@click.option("--severity", help="For example critical; the default of a new incident is warning.")
@click.option("--summary", help="One line for people.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; repeat the option for more.")
@click.option("--first-seen", type=INSTANT, help="When the incident began; default: now.")
@click.option("--policy", metavar="NAME", help="A policy of the policies file, or builtin; default: its assignments.")
@actor_option
@utc_option
@json_option
@pass_context
def open_command(
    context: Context,
    key: str,
    severity: str | None,
    summary: str | None,
    labels: tuple[str, ...],
    first_seen: datetime | timedelta | None,
    policy: str | None,
    by: str | None,
    utc: bool,
    as_json: bool,
) -> None:
    """Open the incident KEY, or update it if it is open or acknowledged."""
    given = parse_labels(labels) or None

    async def work(engine: Engine) -> Incident:
        began = await engine.now() + first_seen if isinstance(first_seen, timedelta) else first_seen
        return await engine.open(
            key, severity=severity, summary=summary, labels=given, first_seen=began, policy=policy, by=by
        )

    _tell(context, work, as_json=as_json, utc=utc, create=True)


@click.command("ack")
@click.argument("key")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def ack(context: Context, key: str, reason: str | None, by: str | None, utc: bool, as_json: bool) -> None:
    """Acknowledge the incident KEY: it escalates no further."""
    _tell(context, lambda engine: engine.acknowledge(key, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("unack")
@click.argument("key")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def unack(context: Context, key: str, reason: str | None, by: str | None, utc: bool, as_json: bool) -> None:
    """Take an acknowledgement back: the episode goes on."""
    _tell(context, lambda engine: engine.unacknowledge(key, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("resolve")
@click.argument("key")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def resolve(context: Context, key: str, reason: str | None, by: str | None, utc: bool, as_json: bool) -> None:
    """Resolve the incident KEY."""
    _tell(context, lambda engine: engine.resolve(key, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("snooze")
@click.argument("key")
@click.option("--until", type=INSTANT, help="An instant with a zone, or a span from now, for example 2h.")
@click.option("--end", is_flag=True, help="End the snooze.")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def snooze(
    context: Context,
    key: str,
    until: datetime | timedelta | None,
    end: bool,
    reason: str | None,
    by: str | None,
    utc: bool,
    as_json: bool,
) -> None:
    """Stop escalations of the incident KEY for a while."""
    if end == (until is not None):
        raise InvalidValue("until", "is missing, or given beside --end", "give --until INSTANT or --end")
    _tell(context, lambda engine: engine.snooze(key, until, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("severity")
@click.argument("key")
@click.argument("severity")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def change_severity(
    context: Context, key: str, severity: str, reason: str | None, by: str | None, utc: bool, as_json: bool
) -> None:
    """Give the incident KEY another SEVERITY."""
    _tell(context, lambda engine: engine.change_severity(key, severity, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("drain")
@click.argument("key")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def drain(context: Context, key: str, reason: str | None, by: str | None, utc: bool, as_json: bool) -> None:
    """Take the incident KEY down one level, in a new episode."""
    _tell(context, lambda engine: engine.drain(key, reason=reason, by=by), as_json=as_json, utc=utc)


@click.command("rebind")
@click.argument("key")
@click.option("--restart", is_flag=True, help="Begin again at the first level of the policy.")
@reason_option
@actor_option
@utc_option
@json_option
@pass_context
def rebind(
    context: Context, key: str, restart: bool, reason: str | None, by: str | None, utc: bool, as_json: bool
) -> None:
    """Give the incident KEY the present version of its policy. It keeps its place in the policy."""
    _tell(context, lambda engine: engine.rebind(key, restart=restart, reason=reason, by=by), as_json=as_json, utc=utc)


COMMANDS = (open_command, ack, unack, resolve, snooze, change_severity, drain, rebind)
