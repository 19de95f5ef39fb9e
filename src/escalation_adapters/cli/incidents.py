"""Commands about one incident: the engine's verbs, and the incident's history."""

from datetime import datetime, timedelta

import click

from escalation_core import Engine, Incident, IncidentHistory, InvalidValue
from escalation_core.rules.upcoming import Upcoming

from ..timeline import text, track
from .base import Context, pass_context
from .output import print_json, show, table
from .params import INSTANT, actor_option, json_option, parse_labels, reason_option


def _tell(incident: Incident, as_json: bool) -> None:
    if as_json:
        print_json(incident)
        return
    due = "nothing is due" if incident.next_due_at is None else f"next escalation {show(incident.next_due_at)}"
    click.echo(f"{_state(incident)}; {due}")


def _state(incident: Incident) -> str:
    return (
        f"{show(incident.incident_key)}: {incident.state.value}, {show(incident.severity)},"
        f" level {incident.level}, episode {incident.episode}"
    )


def _next(coming: Upcoming, now: datetime) -> str:
    """Describe the next escalation: its instant, and the reason that delays it."""
    held = "" if coming.held_by is None else f"{coming.held_by.value.replace('_', ' ')}: {show(coming.detail)}"
    if coming.at is None:
        return f"no escalation comes ({held})"
    due = "the next tick escalates it" if coming.at <= now else f"next escalation {show(coming.at)}"
    return f"{due} ({held})" if held else due


@click.command("open")
@click.argument("key")
@click.option("--severity", help="For example critical; the default of a new incident is warning.")
@click.option("--summary", help="One line for people.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label; repeat the option for more.")
@click.option("--first-seen", type=INSTANT, help="When the incident began; default: now.")
@actor_option
@json_option
@pass_context
def open_command(
    context: Context,
    key: str,
    severity: str | None,
    summary: str | None,
    labels: tuple[str, ...],
    first_seen: datetime | timedelta | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Open the incident KEY, or update it if it is open or acknowledged."""
    given = parse_labels(labels) or None

    async def work(engine: Engine) -> Incident:
        began = await engine.now() + first_seen if isinstance(first_seen, timedelta) else first_seen
        return await engine.open(key, severity=severity, summary=summary, labels=given, first_seen=began, by=by)

    _tell(context.run(work, create=True), as_json)


@click.command("ack")
@click.argument("key")
@reason_option
@actor_option
@json_option
@pass_context
def ack(context: Context, key: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Acknowledge the incident KEY: it escalates no further."""
    _tell(context.run(lambda engine: engine.acknowledge(key, reason=reason, by=by)), as_json)


@click.command("unack")
@click.argument("key")
@reason_option
@actor_option
@json_option
@pass_context
def unack(context: Context, key: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Take an acknowledgement back: the episode goes on."""
    _tell(context.run(lambda engine: engine.unacknowledge(key, reason=reason, by=by)), as_json)


@click.command("resolve")
@click.argument("key")
@reason_option
@actor_option
@json_option
@pass_context
def resolve(context: Context, key: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Resolve the incident KEY."""
    _tell(context.run(lambda engine: engine.resolve(key, reason=reason, by=by)), as_json)


@click.command("snooze")
@click.argument("key")
@click.option("--until", type=INSTANT, help="An instant with a zone, or a span from now, for example 2h.")
@click.option("--end", is_flag=True, help="End the snooze.")
@reason_option
@actor_option
@json_option
@pass_context
def snooze(
    context: Context,
    key: str,
    until: datetime | timedelta | None,
    end: bool,
    reason: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Stop escalations of the incident KEY for a while."""
    if end == (until is not None):
        raise InvalidValue("until", "is missing, or given beside --end", "give --until INSTANT or --end")
    _tell(context.run(lambda engine: engine.snooze(key, until, reason=reason, by=by)), as_json)


@click.command("severity")
@click.argument("key")
@click.argument("severity")
@reason_option
@actor_option
@json_option
@pass_context
def change_severity(
    context: Context, key: str, severity: str, reason: str | None, by: str | None, as_json: bool
) -> None:
    """Give the incident KEY another SEVERITY."""
    _tell(context.run(lambda engine: engine.change_severity(key, severity, reason=reason, by=by)), as_json)


@click.command("drain")
@click.argument("key")
@reason_option
@actor_option
@json_option
@pass_context
def drain(context: Context, key: str, reason: str | None, by: str | None, as_json: bool) -> None:
    """Take the incident KEY down one level, in a new episode."""
    _tell(context.run(lambda engine: engine.drain(key, reason=reason, by=by)), as_json)


@click.command("show")
@click.argument("key")
@json_option
@pass_context
def show_command(context: Context, key: str, as_json: bool) -> None:
    """Show the incident KEY: its state, its next escalation, its pages and its history."""

    async def work(engine: Engine) -> tuple[IncidentHistory, datetime]:
        return await engine.history(key), (await engine.health()).at

    history, now = context.run(work)
    if not history.known:
        raise InvalidValue("key", f"{key!r} is unknown", "open it first, or look at: escalation audit --since 24h")
    if as_json:
        print_json(history)
        return
    if history.fault is not None:
        click.echo(f"{show(key)}: the row cannot be read; {_next(history.upcoming, now)}")
    elif history.incident is None:
        click.echo(f"{show(key)}: the row is gone")
    else:
        click.echo(f"{_state(history.incident)}; {_next(history.upcoming, now)}")
        click.echo(text([track(history, "", now)]))
    table(
        "Pages",
        ("id", "episode", "level", "target", "state", "attempts", "at", "reason"),
        [(p.id, p.episode, p.level, p.target, p.state, p.attempts, p.due_at, p.reason) for p in history.pages],
        empty="no pages",
    )
    table(
        "History",
        ("at", "what", "episode", "level", "who", "target", "reason"),
        [(e.at, e.action, e.episode, e.level, e.actor, e.target, e.reason) for e in history.audit],
        empty="no history",
    )


COMMANDS = (open_command, ack, unack, resolve, snooze, change_severity, drain, show_command)
