"""Commands that prepare a PostgreSQL schema: migrate, attach to the host's table, detach."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from escalation_core import EscalationError, InvalidValue

from ..worker.app import NO_DATABASE, UNKNOWN_DATABASE
from .base import Context, pass_context
from .output import print_json, table
from .params import ExistingChoice, json_option

if TYPE_CHECKING:
    from ..postgres.existing import Existing
    from ..postgres.mapping import StatusMapping

Result = TypeVar("Result")


def _postgres(context: Context) -> tuple[Any, str]:
    """Return the module of the migrations and the DSN; SQLite files have no migrations."""
    url = context.settings().database_url
    if url is None:
        raise EscalationError(NO_DATABASE)
    if url.startswith("sqlite:"):
        raise EscalationError("an SQLite file makes its own schema when it is opened; there is nothing to migrate")
    if not url.startswith(("postgresql://", "postgres://")):
        raise EscalationError(UNKNOWN_DATABASE)
    from ..postgres import migrate as migrations

    return migrations, url


def _run(work: Callable[[], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        return await work()

    return asyncio.run(main())


@click.group()
def migrate() -> None:
    """Prepare a PostgreSQL schema for this version."""


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column:
            remedy = "write NAME=COLUMN, for example first_seen=created_at"
            raise InvalidValue("column", f"{pair!r} is not a valid column mapping", remedy)
        columns[name] = column
    return columns


def _mapping(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which table, and which of its columns stand for the engine's."""
    options = (
        click.option("--table", help="The host's table; default: incidents."),
        click.option(
            "--column",
            "pairs",
            multiple=True,
            metavar="NAME=COLUMN[:read]",
            help="The host's name of a column, if it differs; with :read the engine never writes it.",
        ),
        click.option(
            "--status", "status_column", metavar="COLUMN", help="A column that says open, acknowledged, resolved."
        ),
        click.option(
            "--open", "open_words", metavar="WORD,...", help="The host's words for open; the first is written."
        ),
        click.option("--acknowledged", "acknowledged_words", metavar="WORD,...", help="The words for acknowledged."),
        click.option("--resolved", "resolved_words", metavar="WORD,...", help="The words for resolved."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _choices(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a first attach."""
    options = (
        click.option("--existing", type=ExistingChoice(), help="How to treat the open incidents that exist already."),
        click.option("--create", is_flag=True, help="Create the table if there is none."),
        click.option("--no-trigger", is_flag=True, help="Make no triggers; then hosts must use the API alone."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _mapped(
    table: str | None,
    pairs: tuple[str, ...],
    status_column: str | None,
    open_words: str | None,
    acknowledged_words: str | None,
    resolved_words: str | None,
) -> dict[str, Any]:
    """Return the arguments of ``migrate.up`` and ``attach`` for the mapping."""
    return {
        "table": table,
        "columns": _columns(pairs) or None,
        "status": _status(status_column, open_words, acknowledged_words, resolved_words),
    }


def _status(column: str | None, *lists: str | None) -> "StatusMapping | None":
    if column is None:
        if any(words is not None for words in lists):
            raise InvalidValue("status", "is missing, and words are given", "name the column: --status COLUMN")
        return None
    from ..postgres.mapping import StatusMapping

    words = [[word.strip() for word in (given or "").split(",") if word.strip()] for given in lists]
    return StatusMapping(column=column, open=words[0], acknowledged=words[1], resolved=words[2])


def _prepare(context: Context, command: str, as_json: bool, **how: Any) -> None:
    migrations, url = _postgres(context)
    policy = context.settings().policy

    async def work() -> Any:
        return await getattr(migrations, command)(
            url, schema=context.schema, policy=policy, say=lambda line: click.echo(line, err=True), **how
        )

    done = _run(work)
    if as_json:
        print_json({"done": list(done)})
    else:
        click.echo("\n".join(done) if done else "up to date: nothing to do")


@migrate.command("up")
@_mapping
@_choices
@json_option
@pass_context
def up(
    context: Context, /, existing: "Existing | None", create: bool, no_trigger: bool, as_json: bool, **mapping: Any
) -> None:
    """Apply the missing migrations, and repair triggers and indexes; the first time, attach to the host's table."""
    choices = {"existing": existing, "create": create, "trigger": not no_trigger}
    _prepare(context, "up", as_json, **_mapped(**mapping), **choices)


@migrate.command("attach")
@_mapping
@_choices
@json_option
@pass_context
def attach(
    context: Context, /, existing: "Existing | None", create: bool, no_trigger: bool, as_json: bool, **mapping: Any
) -> None:
    """Attach to the host's table, or again with other columns; report which columns are written, and by which verbs."""
    choices = {"existing": existing, "create": create, "trigger": not no_trigger}
    _prepare(context, "attach", as_json, **_mapped(**mapping), **choices)


@migrate.command("detach")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--drop-tables", is_flag=True, help="Also drop the engine's own tables, with all history.")
@json_option
@pass_context
def detach(context: Context, yes: bool, drop_tables: bool, as_json: bool) -> None:
    """Remove everything that the engine added to the host's table; the engine's own tables stay."""
    migrations, url = _postgres(context)
    interval = context.settings().tick_interval

    async def plan() -> Any:
        return await migrations.plan_detach(url, schema=context.schema, drop_tables=drop_tables)

    async def work() -> Any:
        return await migrations.detach(url, schema=context.schema, tick_interval=interval, drop_tables=drop_tables)

    planned = _run(plan)
    if not yes:
        for line in _removed(planned):
            click.echo(line, err=True)
        click.confirm(f"Detach from {planned.table}?", abort=True, err=True)
    done = _run(work)
    if as_json:
        print_json(done)
    else:
        click.echo(f"detached from {done.table}")


def _removed(planned: Any) -> Iterator[str]:
    for what in ("triggers", "indexes", "columns"):
        names = getattr(planned, what)
        yield f"removes {what}: {', '.join(names) if names else 'none'}"
    if planned.created:
        yield f"keeps the table {planned.table}, which an attach created; drop it yourself if you do not need it"
    elif planned.columns and not planned.tables:
        yield "keeps the values of those columns in escalation_detached; a later attach restores them"
    if planned.tables:
        yield f"drops the engine's own tables, with all history: {', '.join(planned.tables)}"
    yield f"cancels pages that were not sent: {planned.pages}"


@migrate.command("status")
@json_option
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show migrations, attached columns and what changed since; exit code 1 if anything is missing or wrong."""
    migrations, url = _postgres(context)

    async def work() -> Any:
        schema = context.schema
        return [await read(url, schema=schema) for read in (migrations.status, migrations.check, migrations.attachment)]

    found, faults, columns = _run(work)
    if as_json:
        entries = [{"column": column, "meaning": meaning, "written_by": verbs} for column, meaning, verbs in columns]
        print_json({"migrations": list(found), "faults": list(faults), "columns": entries})
    else:
        rows = [
            (entry.name, entry.applied_at or "missing: run escalation migrate up", "changed" if entry.changed else "")
            for entry in found
        ]
        table("Migrations", ("migration", "applied", "file"), rows, empty="no migrations")
        if columns:
            table("Columns of the host's table", ("column", "meaning", "written by"), columns, empty="")
        for fault in faults:
            click.echo(f"warning: {fault}", err=True)
    if faults or any(entry.applied_at is None or entry.changed for entry in found):
        raise SystemExit(1)


@migrate.command("print")
@_mapping
@_choices
@click.option("--status-type", metavar="TYPE", help="The type of the status column, if it is not text.")
@click.option("--detach", is_flag=True, help="Print the SQL of a detach instead; give the options of the attach.")
@click.option("--drop-tables", is_flag=True, help="With --detach: also drop the engine's own tables.")
@json_option
@pass_context
def print_command(
    context: Context,
    /,
    existing: "Existing | None",
    create: bool,
    no_trigger: bool,
    status_type: str | None,
    detach: bool,
    drop_tables: bool,
    as_json: bool,
    **mapping: Any,
) -> None:
    """Print the SQL of an attach, with all migrations, as a script for one transaction: your migration can run it."""
    from ..postgres import printing

    if drop_tables and not detach:
        raise click.UsageError("--drop-tables is an option of a detach; add --detach")
    if detach and (existing is not None or no_trigger or status_type is not None):
        raise click.UsageError("--existing, --no-trigger and --status-type belong to an attach; leave --detach out")
    if status_type is not None and mapping["status_column"] is None:
        raise click.UsageError("--status-type is the type of the status column; name that with --status")
    mapped: dict[str, Any] = _mapped(**mapping)
    mapped |= {"schema": context.schema, "table": mapped["table"] or "incidents", "create": create}
    if detach:
        interval = context.settings().tick_interval
        text = printing.print_detach_sql(**mapped, drop_tables=drop_tables, tick_interval=interval)
    else:
        types = {} if status_type is None else {"status": status_type}
        text = printing.print_sql(**mapped, types=types, existing=existing, trigger=not no_trigger)
    if as_json:
        print_json({"sql": text})
    else:
        click.echo(text)


COMMANDS = (migrate,)
