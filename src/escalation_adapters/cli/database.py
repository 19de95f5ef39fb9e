"""Commands that prepare: migrations of a PostgreSQL schema, and a check of the settings."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from escalation_core import EscalationError, InvalidValue, Settings
from escalation_core.settings import SECRETS

from ..logs import set_up_logging
from ..worker.app import (
    NO_DATABASE,
    UNKNOWN_DATABASE,
    MissingExtra,
    make_heartbeat,
    make_notifiers,
    settings_from,
    unheard,
)
from .base import INSTANT, Context, json_option, pass_context, print_json, table

if TYPE_CHECKING:
    from ..postgres.attach import Existing

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
    try:
        from ..postgres import migrate as migrations
    except ImportError:
        raise MissingExtra("PostgreSQL", "postgres") from None
    return migrations, url


def _run(work: Callable[[], Awaitable[Result]]) -> Result:
    async def main() -> Result:
        return await work()

    return asyncio.run(main())


@click.group()
def migrate() -> None:
    """Prepare a PostgreSQL schema for this version."""


class ExistingChoice(click.ParamType["Existing"]):
    """The choice of ``--existing``: page, skip or since=INSTANT."""

    name = "page|skip|since=INSTANT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Existing":
        """Return the choice."""
        if isinstance(value, datetime) or value in ("page", "skip"):
            choice: Existing = value
            return choice
        if not value.startswith("since="):
            self.fail("write page, skip or since=INSTANT", param, ctx)
        since = INSTANT.convert(value.removeprefix("since="), param, ctx)
        if not isinstance(since, datetime):
            self.fail("since is a span from now; write an instant, for example since=2025-01-31T12:00:00Z", param, ctx)
        return since


def _columns(pairs: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column:
            remedy = "write NAME=COLUMN, for example first_seen=created_at"
            raise InvalidValue("column", f"{pair!r} is not a valid column mapping", remedy)
        columns[name] = column
    return columns


_table_option = click.option("--table", help="The host's table; default: incidents.")
_column_option = click.option(
    "--column", "pairs", multiple=True, metavar="NAME=COLUMN", help="The host's name of a column, if it differs."
)


@migrate.command("up")
@_table_option
@_column_option
@click.option("--existing", type=ExistingChoice(), help="How to treat the open incidents that exist already.")
@click.option("--no-trigger", is_flag=True, help="Make no triggers; then hosts must use the API alone.")
@json_option
@pass_context
def up(
    context: Context,
    table: str | None,
    pairs: tuple[str, ...],
    existing: "Existing | None",
    no_trigger: bool,
    as_json: bool,
) -> None:
    """Apply the migrations that are missing; the first time, attach to the host's incidents table."""
    migrations, url = _postgres(context)
    policy = context.settings().policy

    async def work() -> Any:
        return await migrations.up(
            url,
            schema=context.schema,
            table=table,
            columns=_columns(pairs) or None,
            existing=existing,
            trigger=not no_trigger,
            policy=policy,
            say=lambda line: click.echo(line, err=True),
        )

    applied = _run(work)
    if as_json:
        print_json({"applied": list(applied)})
    else:
        click.echo(f"{len(applied)} migrations applied" if applied else "up to date: nothing to apply")


@migrate.command("status")
@json_option
@pass_context
def status(context: Context, as_json: bool) -> None:
    """Show the applied migrations and the state of the triggers; exit code 1 if anything is missing or wrong."""
    migrations, url = _postgres(context)

    async def work() -> Any:
        return await migrations.status(url, schema=context.schema), await migrations.check(url, schema=context.schema)

    found, faults = _run(work)
    if as_json:
        print_json({"migrations": list(found), "faults": list(faults)})
    else:
        rows = [
            (entry.name, entry.applied_at or "missing: run escalation migrate up", "changed" if entry.changed else "")
            for entry in found
        ]
        table("Migrations", ("migration", "applied", "file"), rows, empty="no migrations")
        for fault in faults:
            click.echo(f"warning: {fault}", err=True)
    if faults or any(entry.applied_at is None or entry.changed for entry in found):
        raise SystemExit(1)


@migrate.command("print")
@_table_option
@_column_option
@json_option
@pass_context
def print_command(context: Context, table: str | None, pairs: tuple[str, ...], as_json: bool) -> None:
    """Print the SQL of all migrations, so that you can read it before you run it."""
    try:
        from ..postgres import migrate as migrations
    except ImportError:
        raise MissingExtra("PostgreSQL", "postgres") from None
    text = migrations.print_sql(schema=context.schema, table=table or "incidents", columns=_columns(pairs) or None)
    if as_json:
        print_json({"sql": text})
    else:
        click.echo(text)


@click.group()
def config() -> None:
    """Commands about the settings."""


@config.command("check")
@json_option
@pass_context
def check(context: Context, as_json: bool) -> None:
    """Check the environment's settings and show those in force, without secrets."""
    set_up_logging(level="ERROR")  # the command prints the warnings itself
    settings = settings_from(os.environ)
    # Only the notifiers can check a URL's host. Make them here, to report what would stop a worker's start.
    make_notifiers(settings)
    make_heartbeat(settings)
    rows = in_force(settings, database=context.database)
    if as_json:
        print_json({"settings": dict(rows), "warnings": [*settings.warnings, *unheard(settings)]})
        return
    table("Settings in force", ("variable", "value"), rows, empty="")
    for warning in (*settings.warnings, *unheard(settings)):
        click.echo(f"warning: {warning}", err=True)


def in_force(settings: Settings, database: str | None = None) -> list[tuple[str, object]]:
    """Return each variable and its value as an environment holds it; of secrets, only whether they are set."""
    values = settings.as_variables()
    if database is not None:
        values["ESC_DATABASE_URL"] = database
    return [
        (name, ("set" if value is not None else None) if name in SECRETS else value) for name, value in values.items()
    ]


COMMANDS = (migrate, config)
