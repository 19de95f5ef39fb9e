"""The command ``escalation``, with the options that all commands share."""

import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click
from click.core import ParameterSource

from escalation_core import __version__

from ..worker.app import Pooler
from .base import Context, errors_in_one_line

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "ack": ("incidents", "Acknowledge the incident KEY: it escalates no further."),
        "audit": ("audit", "Show the audit: escalations, pages, acknowledgements and operators' actions."),
        "config": ("config", "Commands about the settings."),
        "dead": ("operate", "Commands about dead pages, which the engine has given up."),
        "demo": ("play", "Show the engine at work: two hours of an on-call night in a few seconds."),
        "drain": ("incidents", "Take the incident KEY down one level, in a new episode."),
        "health": ("health", "Show the engine's health; exit code 1 if it is not ok."),
        "list": ("look", "List the open incidents: what escalates next comes first."),
        "migrate": ("migrate", "Prepare a PostgreSQL database, and attach the engine to a table."),
        "next": ("look", "Show which incidents escalate soon, and whom that pages."),
        "notices": ("notices", "List notices: what those who were paged learn of an incident."),
        "oncall": ("oncall", "Commands about who is on call."),
        "open": ("incidents", "Open the incident KEY, or update it if it is open or acknowledged."),
        "pages": ("pages", "List pages, oldest first: those that wait, or those in a state."),
        "pause": ("operators", "Pause all workers: no incident escalates, and no page is claimed."),
        "policy": ("policy", "Commands about the policies file."),
        "prove": ("operators", "Check the records: each escalation once, each with its pages."),
        "prune": ("operators", "Remove old escalations, pages and audit entries."),
        "rebind": ("incidents", "Give the incident KEY the present version of its policy."),
        "recalc": ("operate", "Plan every open incident anew, after the windows changed."),
        "replay": ("play", "Run the engine on a log of host events, whose instants set the clock."),
        "resolve": ("incidents", "Resolve the incident KEY."),
        "resume": ("operators", "End every pause that operators set."),
        "run": ("operate", "Escalate and page until SIGTERM or SIGINT."),
        "severity": ("incidents", "Give the incident KEY another SEVERITY."),
        "show": ("history", "Show the incident KEY: its state, whom it pages next, its pages and its history."),
        "sign": ("operators", "Print a signed curl line for ACTION at the operators' endpoints."),
        "snooze": ("incidents", "Stop escalations of the incident KEY for a while."),
        "tail": ("tail", "Follow the audit: print each entry as it comes."),
        "test-page": ("page_test", "Send a page to TARGET that says that it is a test."),
        "tick": ("operate", "Escalate due incidents and deliver their pages, once."),
        "unack": ("incidents", "Take an acknowledgement back: the episode goes on."),
    }
)
"""The module of each command, and the line that ``--help`` shows for it."""
WITHOUT_ENGINE = ("demo", "migrate", "replay", "sign")
"""Commands that use the environment's settings alone, or none, and so nothing of the engine of ``--app``."""


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used, and none for ``--help``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Import the command's module, and return the command; None if there is no command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"{__package__}.{COMMANDS[cmd_name][0]}")
        found: dict[str, click.Command] = {command.name: command for command in module.COMMANDS}
        return found[cmd_name]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        """Write the commands with their lines."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in sorted(COMMANDS.items())])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--database", metavar="URL", help="sqlite:///FILE or postgresql://...; default: ESC_DATABASE_URL.")
@click.option("--schema", default="public", show_default=True, help="PostgreSQL: the schema of the incidents table.")
@click.option(
    "--pooler", type=click.Choice(["transaction"]), help="PostgreSQL: connections go through a pooler in that mode."
)
@click.option("--app", metavar="MODULE:ATTRIBUTE", help="The engine that your code makes, instead of the settings'.")
@click.version_option(__version__, prog_name="escalation")
@click.pass_context
def cli(ctx: click.Context, database: str | None, schema: str, pooler: Pooler | None, app: str | None) -> None:
    """Escalate incidents that are not acknowledged in time, and page the next target.

    Settings come from the environment; `escalation config check` shows those in force. With --app all commands use the
    engine that your code makes, with its settings, notifiers, policies and database.
    """
    if app is not None:
        _check_beside_app(ctx)
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False  # click itself asks only whether the output is a terminal
    ctx.obj = Context(database=database, schema=schema, pooler=pooler, app=app)


def _check_beside_app(ctx: click.Context) -> None:
    """Refuse what would have no effect beside ``--app``: a database, and commands that use no engine."""
    for name in ("database", "schema", "pooler"):
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} has no effect beside --app: its engine has a database already")
    if ctx.invoked_subcommand in WITHOUT_ENGINE:
        raise click.UsageError(f"{ctx.invoked_subcommand} uses no engine: leave --app out")


@errors_in_one_line
def run() -> None:
    """Run the command line."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Print an escape for a character that the stream's encoding lacks, instead of an error.
        sys.stdout.reconfigure(errors="backslashreplace")
    cli(prog_name="escalation")
