"""The command ``escalation``, with the options that all commands share."""

import io
import sys

import click

from escalation_core import __version__

from ..worker.app import Pooler
from . import config, incidents, migrate, operate, operators, page_test, play
from .base import Context, errors_in_one_line


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://...; default: ESC_DATABASE_URL.")
@click.option("--schema", default="public", show_default=True, help="PostgreSQL: the schema of the incidents table.")
@click.option(
    "--pooler", type=click.Choice(["transaction"]), help="PostgreSQL: connections go through a pooler in that mode."
)
@click.version_option(__version__, prog_name="escalation")
@click.pass_context
def cli(ctx: click.Context, database: str | None, schema: str, pooler: Pooler | None) -> None:
    """Escalate incidents that are not acknowledged in time, and page the next target.

    Settings come from the environment; `escalation config check` shows those in force.
    """
    ctx.obj = Context(database=database, schema=schema, pooler=pooler)


for _module in (play, incidents, operate, operators, page_test, migrate, config):
    for _command in _module.COMMANDS:
        cli.add_command(_command)


@errors_in_one_line
def run() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Print an escape for a character that the stream's encoding lacks, instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="escalation")
