"""The command that lists notices: what those who were paged learn of an incident."""

from collections.abc import Sequence
from datetime import datetime

import click

from escalation_core import Engine
from escalation_core.engine.outbox_views import PAGES, usual_limit
from escalation_core.model import NoticeRecord, NoticeState
from escalation_core.rules.bundle import MAX_BUNDLE

from .base import Context, pass_context
from .output import Times, on_terminal, print_json, show, table
from .params import json_option, utc_option

COLUMNS = ("id", "incident", "episode", "kind", "target", "state", "attempts", "at", "who", "due", "reason")
NOTICE_COLUMNS = ("incident", "at", "notice", "outcome")


def notice_row(notice: NoticeRecord) -> tuple[str, datetime, str, str]:
    """Return a notice in the columns of a terminal."""
    episode = f", episode {notice.episode}" if notice.episode > 1 else ""
    by = "" if notice.actor is None else f" by {show(notice.actor)}"
    attempts = "1 attempt" if notice.attempts == 1 else f"{notice.attempts} attempts"
    outcome = f"{notice.state.value}, {attempts}" + ("" if notice.reason is None else f": {show(notice.reason)}")
    said = f"{notice.id} to {show(notice.target)}: {notice.kind.value}{by}{episode}"
    return notice.incident_key, notice.due_at, said, outcome


def whole_notice_row(notice: NoticeRecord) -> tuple[object, ...]:
    """Return a notice with a column for each value, for machines."""
    n = notice
    return (
        n.id,
        n.incident_key,
        n.episode,
        n.kind.value,
        n.target,
        n.state.value,
        n.attempts,
        n.at,
        n.actor,
        n.due_at,
        n.reason,
    )


@click.command("notices")
@click.option("--target", metavar="TARGET", help="Only notices to this target.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in NoticeState]),
    help="Notices in this state. Default: all.",
)
@click.option("--bundle", metavar="KEY", help="Notices of this message. 8 digits of its key will do.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    help=f"Notices at most. Default: {PAGES}, of a bundle {MAX_BUNDLE}.",
)
@click.option(
    "--after", type=click.IntRange(0), default=0, metavar="ID", help="Continue behind the notice with this id."
)
@utc_option
@json_option
@pass_context
def notices(
    context: Context,
    target: str | None,
    state: str | None,
    bundle: str | None,
    limit: int | None,
    after: int,
    utc: bool,
    as_json: bool,
) -> None:
    """List notices, oldest first: what those who were paged learn of an incident."""
    most = limit or usual_limit(bundle)

    async def work(engine: Engine) -> tuple[Sequence[NoticeRecord], datetime]:
        # One more than the limit shows whether any follow.
        asked = await engine.notices(target=target, state=state, bundle=bundle, after=after, limit=most + 1)
        return asked, await engine.now()

    found, now = context.run(work, plugins=False)
    shown = found[:most]
    if as_json:
        print_json(list(shown))
    else:
        empty, title = ("no notices", "Notices") if state is None else (f"no {state} notices", f"Notices: {state}")
        if on_terminal():
            table(title, NOTICE_COLUMNS, [notice_row(one) for one in shown], empty=empty, times=Times(now, utc))
        else:
            table(title, COLUMNS, [whole_notice_row(one) for one in shown], empty=empty)
    if len(found) > most:
        click.echo(f"there are more: give the same options, and --after {shown[-1].id}", err=True)


COMMANDS = (notices,)
