"""Commands that show the engine at work: the demonstration, and the replay of a log."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from escalation_core import Engine, EscalationError, Policies, Settings, SettingsRouter, Store
from escalation_core.testing import ManualClock, MemoryStore

from ..files import write_whole
from ..logs import set_up_logging
from ..replay import KEEPABLE, Event, Replay, read_events, replay, replay_settings, write_escalations
from ..worker.app import NamedTargets, Pooler, open_store, policies_loader, settings_from
from .base import Context, pass_context, run_to_the_end
from .output import ascii_only, print_json, progress, show, table
from .params import json_option

NO_CALENDARS = "calendars say who is on call now, and not in the past, so they are not read: {}"


@click.command("demo")
@click.option("--svg", type=click.Path(path_type=Path), default=Path("escalation-demo.svg"), show_default=True)
@json_option
def demo_command(svg: Path, as_json: bool) -> None:
    """Show the engine at work: two hours of an on-call night in a few seconds, on this machine alone."""
    from ..demo import SCENES, Line, demo
    from ..timeline import svg as draw
    from ..timeline import text

    set_up_logging(level="ERROR")
    lines: list[Line] = []
    colours = {"host": "cyan", "escalate": "red", "page": "yellow"}

    def tell(line: Line) -> None:
        lines.append(line)
        if not as_json:
            stamp = click.style(f"{line.at:%H:%M}", dim=True)
            kind = click.style(f"{line.kind:<9}", fg=colours[line.kind])
            click.echo(f"{stamp}  {kind} {line.incident_key:<17} {line.text}".rstrip())

    if not as_json:
        click.echo(f"A night on call: {len(SCENES)} scenes; each minute takes a twentieth of a second.\n")
    tracks = run_to_the_end(demo(tell, pace=0 if as_json else 0.05))
    write_whole(svg, draw(tracks, title="A night on call"))
    if as_json:
        print_json({"lines": lines, "svg": str(svg)})
        return
    click.echo(f"\n{text(tracks, plain=ascii_only())}\n\nThe same as a picture: {svg}")


@click.command("replay")
@click.argument("events", type=click.Path(path_type=Path))
@click.option("--store", "url", required=True, help="memory, sqlite:///FILE (empty or new) or postgresql://DSN.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the escalations to this file, as CSV.")
@click.option(
    "--keep", multiple=True, type=click.Choice(KEEPABLE), help="A setting that a replay turns off unless you keep it."
)
@json_option
@pass_context
def replay_command(
    context: Context, events: Path, url: str, out: Path | None, keep: tuple[str, ...], as_json: bool
) -> None:
    """Run the engine on a log of host events (CSV: at, incident_key, event, severity), whose instants set the clock.

    Policies come from ESC_POLICIES, with their rotations.
    """
    set_up_logging(level="ERROR")
    settings = replay_settings(settings_from(os.environ), keep)
    load = policies_loader(settings)
    policies = None if load is None else load()
    usable, unusable = read_events(events)
    outcome = run_to_the_end(_replay(usable, url, settings, policies, context.pooler, quiet=as_json))
    outcome.unusable = unusable
    if policies is not None and policies.calendars:
        click.echo(NO_CALENDARS.format(", ".join(policies.calendars)), err=True)
    if out is not None:
        write_escalations(out, outcome.escalations, policies=policies is not None)
    if as_json:
        print_json(outcome.as_dict())
        return
    span = f"{show(outcome.first)} to {show(outcome.last)}" if outcome.events else "no events"
    click.echo(
        f"{outcome.events} events about {outcome.incidents} incidents, {span}: {len(outcome.escalations)} escalations"
    )
    table("Escalations", ("level", "count"), list(outcome.levels.items()), empty="no escalations")
    if policies is not None:
        table("Policies", ("policy", "escalations"), list(outcome.policies.items()), empty="no policies")
        table("Outcomes", ("outcome", "levels"), list(outcome.outcomes.items()), empty="each level paged whom it names")
    for name, faults in (("unusable row", outcome.unusable), ("refused event", outcome.refused)):
        rows = [(fault.line, fault.reason) for fault in faults]
        table(f"{name.capitalize()}s: {len(rows)}", (f"{name}, line", "reason"), rows, empty=f"no {name}s")


async def _replay(
    events: list[Event],
    url: str,
    settings: Settings,
    policies: Policies | None,
    pooler: Pooler | None,
    *,
    quiet: bool,
) -> Replay:
    clock = ManualClock(events[0].at) if events else ManualClock()
    async with _fresh_store(url, clock, pooler) as store:
        # The replay records pages for the targets of the policies, and else for one of its own. It sends none of them.
        named = () if policies is None else policies.targets
        engine = Engine(
            store,
            settings=settings,
            notifiers=[NamedTargets(sorted({"replay", *named}))],
            router=SettingsRouter((), "replay"),
            policies=policies,
        )
        with progress("replaying", len(events), quiet=quiet) as tell:
            return await replay(engine, clock, events, progress=tell)


@asynccontextmanager
async def _fresh_store(url: str, clock: ManualClock, pooler: Pooler | None) -> AsyncIterator[Store]:
    """Open an empty store: in memory, on a new file, or in a new PostgreSQL schema that is dropped at the end."""
    if url == "memory":
        yield MemoryStore(clock)
    elif url.startswith(("postgresql://", "postgres://")):
        from ..postgres.scratch import scratch_store

        async with scratch_store(url, clock, pooler=pooler) as scratch:
            yield scratch
    else:
        path = Path(url.removeprefix("sqlite:///"))
        if url.startswith("sqlite:///") and _holds_something(path):
            raise EscalationError(f"{path} is not empty; a replay needs a new file")
        store = await open_store(url, clock=clock)
        try:
            yield store
        finally:
            await store.aclose()


def _holds_something(path: Path) -> bool:
    try:
        return path.exists() and path.stat().st_size > 0
    except OSError as error:
        raise EscalationError(f"{path} cannot be read: {error.strerror}") from None


COMMANDS = (demo_command, replay_command)
