"""The command that lists pages: those that wait, or those in a state, to one target or to all."""

from collections.abc import Sequence
from datetime import datetime

import click

from escalation_core import Engine
from escalation_core.engine.outbox_views import PAGES, usual_limit
from escalation_core.model import PageRecord, PageState
from escalation_core.rules.bundle import MAX_BUNDLE

from .audit import PAGE_COLUMNS, page_row, short_bundle
from .base import Context, pass_context
from .output import Times, on_terminal, print_json, table
from .params import json_option, utc_option

COLUMNS = ("id", "incident", "episode", "level", "target", "state", "attempts", "due", "reason", "bundle")


@click.command("pages")
@click.option("--target", metavar="TARGET", help="Only pages to this target.")
@click.option(
    "--state",
    type=click.Choice([state.value for state in PageState]),
    help="Pages in this state. Default: those that wait, which are pending, leased or cancelling.",
)
@click.option(
    "--bundle",
    metavar="KEY",
    help="Pages of this bundle, worst first, whatever their state is unless one is given. 8 digits of its key will do.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    help=f"Pages at most. Default: {PAGES}, of a bundle {MAX_BUNDLE}.",
)
@click.option("--after", type=click.IntRange(0), default=0, metavar="ID", help="Continue behind the page with this id.")
@utc_option
@json_option
@pass_context
def pages(
    context: Context,
    target: str | None,
    state: str | None,
    bundle: str | None,
    limit: int | None,
    after: int,
    utc: bool,
    as_json: bool,
) -> None:
    """List pages: those that wait or those in a state, oldest first, or those of a bundle, worst first."""
    most = limit or usual_limit(bundle)

    async def work(engine: Engine) -> tuple[Sequence[PageRecord], datetime]:
        # One more than the limit shows whether any follow.
        asked = await engine.pages(target=target, state=state, bundle=bundle, after=after, limit=most + 1)
        return asked, await engine.now()

    found, now = context.run(work, plugins=False)
    shown = found[:most]
    if as_json:
        print_json(list(shown))
    else:
        empty, title = "no page waits", "Pages that wait"
        if state is not None:
            empty, title = f"no {state} pages", f"Pages that are {state}"
        elif bundle is not None:
            empty, title = "no pages in this bundle", "Pages of a bundle"
        if on_terminal():
            table(title, PAGE_COLUMNS, [page_row(page) for page in shown], empty=empty, times=Times(now, utc))
        else:
            table(title, COLUMNS, [_row(page) for page in shown], empty=empty)
    if len(found) > most:
        click.echo(f"there are more: give the same options, and --after {shown[-1].id}", err=True)


def _row(page: PageRecord) -> tuple[object, ...]:
    p = page
    return (
        p.id,
        p.incident_key,
        p.episode,
        p.level,
        p.target,
        p.state,
        p.attempts,
        p.due_at,
        p.reason,
        short_bundle(p),
    )


COMMANDS = (pages,)
