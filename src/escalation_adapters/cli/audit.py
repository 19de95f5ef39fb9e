"""The command that shows the audit, and how entries and pages are written for people and for machines."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import click

from escalation_core import AuditEntry, Engine
from escalation_core.model import PageRecord

from .base import Context, pass_context
from .output import Times, on_terminal, print_json, show, table
from .params import SPAN, json_option, utc_option

ENTRY_COLUMNS = ("at", "what", "incident", "who and why")
PAGE_COLUMNS = ("incident", "at", "page", "outcome")


def entry_row(entry: AuditEntry) -> tuple[datetime, str, str, str]:
    """Return an entry in the columns of a terminal."""
    place = [] if entry.level is None else [f"level {entry.level}"]
    if entry.episode is not None and entry.episode > 1:
        place.append(f"episode {entry.episode}")
    what = ", ".join([entry.action, *([show(entry.target)] if entry.target else []), *place])
    why = ": ".join(show(part) for part in (entry.actor, entry.reason) if part)
    return entry.at, what, entry.incident_key or "", why


def page_row(page: PageRecord) -> tuple[str, datetime, str, str]:
    """Return a page in the columns of a terminal."""
    episode = f", episode {page.episode}" if page.episode > 1 else ""
    attempts = "1 attempt" if page.attempts == 1 else f"{page.attempts} attempts"
    outcome = f"{page.state.value}, {attempts}" + ("" if page.reason is None else f": {show(page.reason)}")
    bundle = f", bundle {short_bundle(page)}" if page.bundle else ""
    said = f"{page.id} to {show(page.target) or 'nobody'}, level {page.level}{episode}{bundle}"
    return page.incident_key, page.due_at, said, outcome


def short_bundle(page: PageRecord) -> str | None:
    """Return the beginning of the key of a page's bundle, which ``escalation pages --bundle`` takes."""
    return page.bundle and page.bundle[:12]


def whole_row(entry: AuditEntry) -> tuple[object, ...]:
    """Return an entry with a column for each value, for machines."""
    e = entry
    return e.at, e.action, e.incident_key, e.episode, e.level, e.actor, e.target, e.reason


@click.command("audit")
@click.option("--since", type=SPAN, default="24h", show_default=True, help="How far back.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Entries at most.")
@click.option(
    "--after", metavar="CURSOR", help="Continue after this entry: the cursor at the end of the previous page."
)
@utc_option
@json_option
@pass_context
def audit(context: Context, since: timedelta, limit: int, after: str | None, utc: bool, as_json: bool) -> None:
    """Show the audit, newest first: escalations, pages, acknowledgements and operators' actions."""

    async def work(engine: Engine) -> tuple[Sequence[AuditEntry], datetime]:
        now = await engine.now()
        return await engine.audit(now - since, limit=limit, after=after), now

    entries, now = context.run(work, plugins=False)
    if as_json:
        print_json(list(entries))
        return
    empty, times = "nothing happened", Times(now, utc)
    if on_terminal():
        table("Audit", ENTRY_COLUMNS, [entry_row(entry) for entry in entries], empty=empty, times=times)
    else:
        columns = ("at", "what", "incident", "episode", "level", "who", "target", "reason")
        table("Audit", columns, [whole_row(entry) for entry in entries], empty=empty)
    if len(entries) == limit:
        click.echo(f"there may be more: --after {entries[-1].cursor}", err=True)


COMMANDS = (audit,)
