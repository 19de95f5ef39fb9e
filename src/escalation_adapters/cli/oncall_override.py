"""The command that puts a person on call for some time."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import click

from escalation_core import Engine
from escalation_core.model import ShiftOverride

from .base import Context, pass_context
from .oncall_read import Snapshot, Zones, read
from .output import print_json, say
from .params import INSTANT, ZONE, actor_option, json_option, reason_option


@click.command("override")
@click.argument("schedule")
@click.argument("person")
@click.option(
    "--until", type=INSTANT, required=True, help="An instant, or for how long, for example 8h; at most 366 days."
)
@click.option("--from", "start", type=INSTANT, help="An instant, or a span from now. Default: now.")
@click.option("--zone", type=ZONE, help="The zone of instants on a terminal. Default: that of the rotation, or UTC.")
@reason_option
@actor_option
@json_option
@pass_context
def override(
    context: Context,
    schedule: str,
    person: str,
    until: datetime | timedelta,
    start: datetime | timedelta | None,
    zone: ZoneInfo | None,
    reason: str | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Put PERSON on call for SCHEDULE, alone, for some time. All workers obey it from their next tick on."""

    async def work(engine: Engine) -> tuple[Snapshot, ShiftOverride]:
        snapshot = await read(engine)
        begins = None if start is None else snapshot.after(start)
        return snapshot, await engine.override(schedule, person, until=until, start=begins, reason=reason, by=by)

    snapshot, made = context.run(work)
    if as_json:
        print_json(made)
        return
    zones = Zones(snapshot.on_call.schedules, made.made_at, zone)
    start_text, end_text = (zones.when(schedule, at) for at in (made.starts_at, made.ends_at))
    say(f"{person} is on call for {schedule} from {start_text} until {end_text}")
