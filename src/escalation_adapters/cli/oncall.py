"""The commands that show who is on call: now, at the next handover, where there are gaps, and as a picture."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import attrs
import click

from escalation_core import Cover, Engine, InvalidValue
from escalation_core.engine.on_call import OnCallNow
from escalation_core.rules.coverage import MAX_COVERAGE

from ..files import write_whole
from ..oncall_picture.days import Rota, days_from, people_text
from ..oncall_picture.svg import svg
from .base import Context, pass_context
from .oncall_override import override
from .oncall_read import Snapshot, Zones, read
from .output import ascii_only, console, on_terminal, print_json, say, screen_width, show, table
from .params import INSTANT, ZONE, json_option

Command = TypeVar("Command", bound=Callable[..., object])
NO_SCHEDULE = "there is no schedule: the policies file has none"
_DAY = timedelta(days=1)
_COLUMNS = ("schedule", "on call", "targets", "until", "why")


@attrs.frozen
class _Next:
    """The next handover of a schedule."""

    schedule: str
    at: datetime | None
    """None: none is known."""
    before: tuple[str, ...] | None
    """Empty: no one. None: it is not known."""
    after: tuple[str, ...] | None


@click.group()
def oncall() -> None:
    """Commands about who is on call."""


def _zone_option(command: Command) -> Command:
    what = "The zone of instants on a terminal and in pictures. Default: that of the rotation, or UTC."
    return click.option("--zone", type=ZONE, help=what)(command)


def _until_option(command: Command) -> Command:
    what = "A span from now, or an instant."
    return click.option("--until", type=INSTANT, default="14d", show_default=True, help=what)(command)


@oncall.command("now")
@click.argument("schedule", required=False)
@click.option("--at", type=INSTANT, help="Another instant, or a span from now.")
@_zone_option
@json_option
@pass_context
def now_command(
    context: Context, schedule: str | None, at: datetime | timedelta | None, zone: ZoneInfo | None, as_json: bool
) -> None:
    """Show who is on call for each schedule, or for SCHEDULE. Show their targets, until when, and why, too."""

    async def work(engine: Engine) -> tuple[Snapshot, datetime, Sequence[OnCallNow]]:
        snapshot = await read(engine)
        chosen, wanted = snapshot.chosen(schedule), snapshot.after(timedelta() if at is None else at)
        return snapshot, wanted, [one for one in await engine.on_call(wanted) if one.schedule in chosen]

    snapshot, wanted, found = context.run(work)
    if as_json:
        print_json({"at": wanted, "schedules": found})
        return
    zones = Zones(snapshot.on_call.schedules, snapshot.now, zone)
    rows = [_row(one, wanted, zones) for one in found]
    table("On call", _COLUMNS, rows, empty=NO_SCHEDULE)


def _row(one: OnCallNow, at: datetime, zones: Zones) -> Sequence[object]:
    until = None if one.until is None else zones.when(one.schedule, one.until)
    return (one.schedule, _people(one.people), ", ".join(one.targets), until, _why(one, at, zones))


def _people(people: Sequence[str] | None) -> str:
    return "not known" if people is None else ", ".join(people) or "no one"


def _why(one: OnCallNow, at: datetime, zones: Zones) -> str:
    """Return what decides who is on call."""
    if one.override is not None:
        by = "" if one.override.actor is None else f" by {one.override.actor}"
        return f"override{by}" + ("" if one.override.reason is None else f": {one.override.reason}")
    if one.people is None:
        if one.horizon is None:
            return "the schedule could not be loaded"
        return f"ends at {zones.at(one.schedule, one.horizon)}" if one.horizon <= at else "it cannot be read"
    if not one.people:
        return "a gap"
    return "the schedule" if len(one.targets) == len(one.people) else "the schedule; a person has no target"


@oncall.command("next")
@click.argument("schedule", required=False)
@_zone_option
@json_option
@pass_context
def next_command(context: Context, schedule: str | None, zone: ZoneInfo | None, as_json: bool) -> None:
    """Show the next handover of each schedule, or of SCHEDULE."""
    snapshot = context.run(read)
    found = [_next(snapshot, name) for name in snapshot.chosen(schedule)]
    if as_json:
        print_json({"at": snapshot.now, "handovers": found})
        return
    zones = Zones(snapshot.on_call.schedules, snapshot.now, zone)
    rows = [
        (one.schedule, "", _people(one.before), "no handover is known")
        if one.at is None
        else (one.schedule, zones.when(one.schedule, one.at), _people(one.before), _people(one.after))
        for one in found
    ]
    table("Handovers", ("schedule", "at", "from", "to"), rows, empty=NO_SCHEDULE)


def _next(snapshot: Snapshot, schedule: str) -> _Next:
    at = snapshot.on_call.next_change(schedule, snapshot.now)
    before, _ = snapshot.on_call.on_call(schedule, snapshot.now)
    after = None if at is None else snapshot.on_call.on_call(schedule, at)[0]
    return _Next(schedule, at, *(None if people is None else tuple(sorted(people)) for people in (before, after)))


@oncall.command("gaps")
@click.argument("schedule", required=False)
@_until_option
@_zone_option
@json_option
@pass_context
def gaps_command(
    context: Context, schedule: str | None, until: datetime | timedelta, zone: ZoneInfo | None, as_json: bool
) -> None:
    """Show when no one is on call. What is not known counts, too. Exit code 1 if there is such a time."""
    snapshot = context.run(read)
    end = _after_now(snapshot, until)
    found = [
        (name, span)
        for name in snapshot.chosen(schedule)
        for span in snapshot.coverage(name, snapshot.now, end)
        if not span.people
    ]
    if as_json:
        told = [
            {"schedule": name, "start": span.start, "end": span.end, "what": people_text(span)} for name, span in found
        ]
        print_json({"at": snapshot.now, "until": end, "gaps": told})
    else:
        zones = Zones(snapshot.on_call.schedules, snapshot.now, zone)
        rows = [(name, people_text(s), zones.at(name, s.start), zones.at(name, s.end)) for name, s in found]
        empty = "there is no gap" if snapshot.names else NO_SCHEDULE
        table("Gaps", ("schedule", "on call", "from", "until"), rows, empty=empty)
    if found:
        raise SystemExit(1)


@oncall.command("show")
@click.argument("schedule", required=False)
@_until_option
@click.option("--svg", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture to FILE.")
@_zone_option
@json_option
@pass_context
def show_command(
    context: Context,
    schedule: str | None,
    until: datetime | timedelta,
    file: Path | None,
    zone: ZoneInfo | None,
    as_json: bool,
) -> None:
    """Show who has which hours, from today on. On a terminal there is a line for each day, in a file a picture."""

    async def work(engine: Engine) -> Snapshot:
        return await read(engine, past=2 * _DAY)  # the whole of today, in each zone

    snapshot = context.run(work)
    zones = Zones(snapshot.on_call.schedules, snapshot.now, zone)
    span = _after_now(snapshot, until) - snapshot.now
    if span > MAX_COVERAGE:
        raise InvalidValue("until", "is too far away", f"give at most {MAX_COVERAGE.days} days")
    rotas = []
    for name in snapshot.chosen(schedule):
        # A span of n days counts today; an instant counts with its day.
        days = days_from(snapshot.now, -(-span // _DAY) + 1, zones.of(name))
        days = [day for day in days if day.start < snapshot.now + span] if isinstance(until, datetime) else days[:-1]
        rotas.append(Rota(name, days, snapshot.coverage(name, days[0].start, days[-1].end)))
    if file is not None and rotas:
        names = ", ".join(rota.schedule for rota in rotas)
        write_whole(file, svg(rotas, title=f"Who is on call: {names}"))
    if as_json:
        print_json({"at": snapshot.now, "schedules": list(map(_as_json, rotas))})
    elif file is not None and rotas:
        say(f"written: {file}")
    else:
        _print(rotas, zones)


def _after_now(snapshot: Snapshot, until: datetime | timedelta) -> datetime:
    end = snapshot.after(until)
    if end <= snapshot.now:
        raise InvalidValue("until", "is not after now", "give a later instant, or a span, for example 14d")
    return end


def _as_json(rota: Rota) -> dict[str, object]:
    return {"schedule": rota.schedule, "zone": rota.zone, "spans": [_span(span) for span in rota.spans]}


def _span(span: Cover) -> dict[str, object]:
    people = None if span.people is None else sorted(span.people)
    return {"start": span.start, "end": span.end, "people": people, "override": span.override}


def _print(rotas: Sequence[Rota], zones: Zones) -> None:
    """Print a picture on a terminal that is wide enough; elsewhere a row for each span."""
    from .oncall_lines import MIN_CHARS, lines

    if rotas and on_terminal() and screen_width() >= MIN_CHARS:
        screen = console()
        for rota in rotas:
            say(f"{show(rota.schedule)}, hours of {rota.zone}")
            for line in lines(rota, screen_width(), plain=ascii_only()):
                screen.print(line)
        return
    rows = [
        (
            rota.schedule,
            zones.at(rota.schedule, span.start),
            zones.at(rota.schedule, span.end),
            people_text(span),
            "" if span.override is None else "override",
        )
        for rota in rotas
        for span in rota.spans
    ]
    table("On call", ("schedule", "from", "until", "on call", "why"), rows, empty=NO_SCHEDULE)


oncall.add_command(override)
COMMANDS = (oncall,)
