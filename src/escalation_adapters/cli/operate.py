"""Commands for operators: run a worker, tick once, recalculate, and retry dead pages."""

import signal
from collections.abc import Sequence
from datetime import datetime

import click
from click.core import ParameterSource

from escalation_core import Engine, TickReport
from escalation_core.engine.report import Example
from escalation_core.engine.retry_dead import RetriedDead
from escalation_core.model import PageRecord

from .audit import PAGE_COLUMNS, page_row, short_bundle
from .base import Context, pass_context
from .output import Times, on_terminal, print_json, progress, show, table
from .params import actor_option, json_option, reason_option, utc_option


@click.command("run")
@click.option("--json", "as_json", is_flag=True, help="Log JSON; the default without a terminal.")
@pass_context
def run_command(context: Context, as_json: bool) -> None:
    """Escalate and page until SIGTERM or SIGINT; then finish the tick and the pages being sent.

    SIGHUP, and the command policy reload, let it read the policies file again.
    """
    if hasattr(signal, "SIGHUP") and context.app is None and context.settings().policies_file is not None:
        # Until the worker handles it. Without this, a SIGHUP during the start would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from ..worker.app import policies_loader
    from ..worker.runner import run

    async def work(engine: Engine) -> None:
        await run(engine, policies=policies_loader(engine.settings))

    context.run(
        work, level="INFO", json_lines=True if as_json else None, long_running=True, create=True, ticks=True, pages=True
    )


@click.command("tick")
@click.option("--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@click.option("--record-only", is_flag=True, help="Record escalations, and leave delivery to other workers.")
@reason_option
@actor_option
@json_option
@pass_context
def tick(context: Context, dry_run: bool, record_only: bool, reason: str | None, by: str | None, as_json: bool) -> None:
    """Escalate due incidents and deliver their pages, once: for your own scheduler, or by hand.

    By hand, give --by or --reason: then the audit keeps the tick with its actor and its reason. A tick without either
    is a scheduler's.
    """
    # The endpoints note each tick, since an operator sends it. Cron runs this command as well: 1,440 notes a day would
    # hide the actions of people, and the audit has each escalation and each page of a tick anyway.
    # A terminal does not prove an operator (ssh without one, a container with one), so an operator gives an option.
    given = click.get_current_context().get_parameter_source("by") is ParameterSource.COMMANDLINE
    by_hand = given or reason is not None

    async def work(engine: Engine) -> TickReport:
        if by_hand and not dry_run and not engine.settings.dry_run:
            await engine.note("tick", reason=reason, by=by)
        return await engine.tick(dry_run=dry_run, deliver=not record_only)

    report = context.run(work, create=not dry_run, ticks=True, pages=not (dry_run or record_only))
    if as_json:
        print_json(report.as_dict())
        return
    counts = report.as_dict()
    would = " (dry run: nothing was changed)" if report.dry_run else ""
    click.echo(f"{report.escalated} escalated, mode {report.mode.value}{would}")
    rows = [
        (name, value)
        for name, value in counts.items()
        if value and show(value) and name not in ("examples", "at", "mode", "dry_run", "escalation_tick_ms")
    ]
    table("Tick", ("count", "value"), rows, empty="nothing was due")
    examples = [(e.incident_key, e.level, e.outcome, _paged(e), e.detail) for e in report.examples[:20]]
    if examples:
        table("Examples", ("incident", "level", "outcome", "targets", "detail"), examples, empty="")


def _paged(example: Example) -> str | None:
    """Return the targets that the tick pages about an incident; None if it does not escalate."""
    return ", ".join(example.targets) or ("no target" if example.outcome == "escalate" else None)


@click.command("recalc")
@reason_option
@actor_option
@json_option
@pass_context
def recalc(context: Context, reason: str | None, by: str | None, as_json: bool) -> None:
    """Plan every unresolved incident anew, after you shortened a window or raised the maximum level."""

    async def work(engine: Engine) -> int:
        with progress("recalculating", None, quiet=as_json) as tell:
            return await engine.recalc(reason=reason, by=by, progress=tell)

    visited = context.run(work)
    if as_json:
        print_json({"visited": visited})
    else:
        click.echo(f"{visited} unresolved incidents visited")


@click.group("dead")
def dead() -> None:
    """Commands about dead pages, which the engine has given up."""


@dead.command("list")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="Pages at most.")
@utc_option
@json_option
@pass_context
def dead_list(context: Context, limit: int, utc: bool, as_json: bool) -> None:
    """List dead pages, each with its reason."""

    async def work(engine: Engine) -> tuple[Sequence[PageRecord], datetime]:
        return await engine.dead(limit=limit), await engine.now()

    pages, now = context.run(work, plugins=False)
    if as_json:
        print_json(list(pages))
        return
    if on_terminal():
        rows = [page_row(page) for page in pages]
        table("Dead pages", PAGE_COLUMNS, rows, empty="no dead pages", times=Times(now, utc))
        return
    table(
        "Dead pages",
        ("id", "incident", "episode", "level", "target", "attempts", "since", "reason", "bundle"),
        [
            (p.id, p.incident_key, p.episode, p.level, p.target, p.attempts, p.due_at, p.reason, short_bundle(p))
            for p in pages
        ],
        empty="no dead pages",
    )


@dead.command("retry")
@click.argument("ids", nargs=-1, type=click.IntRange(1))
@click.option("--all", "everything", is_flag=True, help="Every dead page.")
@reason_option
@actor_option
@json_option
@pass_context
def dead_retry(
    context: Context, ids: tuple[int, ...], everything: bool, reason: str | None, by: str | None, as_json: bool
) -> None:
    """Queue dead pages again, under their old dedup keys: those with these IDS, or --all."""
    if everything == bool(ids):
        raise click.UsageError("give the ids of pages (escalation dead list shows them), or --all")

    async def work(engine: Engine) -> RetriedDead:
        return await engine.retry_dead(None if everything else ids, reason=reason, by=by)

    retried = context.run(work)
    if as_json:
        print_json(retried)
    else:
        click.echo(f"pages queued again: {retried.queued}, cancelled: {retried.cancelled}, still dead: {retried.left}")


COMMANDS = (run_command, tick, recalc, dead)
