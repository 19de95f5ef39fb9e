"""The commands that look ahead: the list of open incidents, and what falls due next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import click

from escalation_core import Conditions, Engine, InvalidValue, OpenIncident, OpenIncidents, StoreError
from escalation_core.model import BUILTIN, PageState
from escalation_core.rules.policy import Step

from .base import Context, pass_context
from .output import Times, length, on_terminal, print_json, show, table, whole_screen
from .params import SPAN, json_option, parse_labels, utc_option

WATCH_SECONDS = 5
"""The pause between two readings of a list that is watched."""


@click.command("list")
@click.option("--severity", help="Only this severity.")
@click.option("--min-level", type=click.IntRange(0), default=0, help="Only incidents at this level or above.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only with this label; may be repeated.")
@click.option("--unheard", is_flag=True, help="Only incidents of which no page has arrived, and none is tried again.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Incidents at most.")
@click.option("--after", metavar="CURSOR", help="Continue behind this incident: the cursor at the end of a list.")
@click.option("--watch", is_flag=True, help=f"Show the list anew every {WATCH_SECONDS} seconds, until Ctrl-C.")
@utc_option
@json_option
@pass_context
def list_command(
    context: Context,
    severity: str | None,
    min_level: int,
    labels: tuple[str, ...],
    unheard: bool,
    limit: int,
    after: str | None,
    watch: bool,
    utc: bool,
    as_json: bool,
) -> None:
    """List the open incidents: what escalates next comes first, what no longer escalates comes last."""
    conditions = Conditions(severity=severity, min_level=min_level, labels=parse_labels(labels))
    match = None if conditions == Conditions() else conditions

    async def read(engine: Engine) -> OpenIncidents:
        return await engine.open_incidents(limit=limit, after=after, match=match, unheard=unheard)

    whole = match is None and after is None and not unheard
    if watch:
        if as_json or not on_terminal():
            raise InvalidValue("watch", "needs a terminal, and no --json", "leave it out, or use: escalation tail")
        with suppress(KeyboardInterrupt):
            # The driver would warn of each attempt to connect: the screen itself says it.
            context.run(lambda engine: _watch(read, engine, utc=utc, whole=whole), level="ERROR")
        return
    found = context.run(read)
    if as_json:
        print_json(found)
        return
    _print_list(found, utc=utc, whole=whole)
    _print_more(found)


@click.command("next")
@click.option("--within", type=SPAN, default="1h", show_default=True, help="How far ahead.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Incidents at most.")
@click.option("--after", metavar="CURSOR", help="Continue behind this incident: the cursor at the end of a list.")
@utc_option
@json_option
@pass_context
def next_command(context: Context, within: timedelta, limit: int, after: str | None, utc: bool, as_json: bool) -> None:
    """Show which incidents escalate soon, to which level, and whom that pages."""

    async def read(engine: Engine) -> OpenIncidents:
        return await engine.open_incidents(limit=limit, after=after, within=within)

    found = context.run(read)
    if as_json:
        print_json(found)
        return
    times = Times(found.at, utc)
    steps = [None if one.next_pages is None else one.next_pages.step for one in found.incidents]
    table(
        f"Next {length(within)}, from {times.at(found.at)} {times.zone}",
        ("at", "incident", "severity", "level", "pages", *_policy_columns(steps)),
        [
            (
                _coming(one, times),
                one.incident_key,
                _severity(one),
                _next_level(one),
                _next_targets(one),
                *_policy_cells(step, steps),
            )
            for one, step in zip(found.incidents, steps, strict=True)
        ],
        empty=f"no open incident escalates within {length(within)}"
        if after is None
        else "no further incident escalates by then",
        times=times,
    )
    _print_more(found)


def _print_list(found: OpenIncidents, *, utc: bool, whole: bool) -> None:
    times = Times(found.at, utc)
    steps = [one.step for one in found.incidents]
    table(
        f"Open incidents at {times.at(found.at)} {times.zone}",
        ("incident", "severity", "level", "age", "next", "told", *_policy_columns(steps)),
        [
            (
                one.incident_key,
                _severity(one),
                None if one.incident is None else one.incident.level,
                None if one.incident is None else length(found.at - one.incident.first_seen),
                _coming(one, times),
                _told(one),
                *_policy_cells(step, steps),
            )
            for one, step in zip(found.incidents, steps, strict=True)
        ],
        empty="no incident is open" if whole else "no open incident matches, or none follows",
        times=times,
    )


def _print_more(found: OpenIncidents) -> None:
    if found.more:
        click.echo(f"there are more: give the same options, and --after {found.incidents[-1].cursor}", err=True)


def _severity(one: OpenIncident) -> str | None:
    return None if one.incident is None else one.incident.severity


def _coming(one: OpenIncident, times: Times) -> str:
    """Return when an incident escalates, and what prevents or delays that."""
    coming = one.upcoming
    held = "" if coming.held_by is None else coming.held_by.value.replace("_", " ")
    if coming.at is None:
        return f"{held}: {show(coming.detail)}"
    # The relative time comes first, so that a narrow column folds between the two.
    due = f"{times.relative(coming.at)} ({times.at(coming.at)})" if on_terminal() else times.at(coming.at)
    due = "next tick" if coming.at <= times.now else due
    return f"{due}, {held}" if held else due


def _policy_columns(steps: Sequence[Step | None]) -> Sequence[str]:
    """Return the columns about policies. On a terminal it is one, and none if every incident has the built-in one."""
    if not on_terminal():
        return "policy", "round", "level of round"
    return ("policy",) if _any_named(steps) else ()


def _policy_cells(step: Step | None, steps: Sequence[Step | None]) -> Sequence[object]:
    """Return the cells of the columns about policies."""
    if not on_terminal():
        return (None, None, None) if step is None else (step.policy, step.round, step.level)
    if not _any_named(steps):
        return ()
    return ("" if step is None else step.policy if step.policy == BUILTIN else f"{step.policy}: {step}",)


def _any_named(steps: Sequence[Step | None]) -> bool:
    return any(step is not None and step.policy != BUILTIN for step in steps)


def _next_level(one: OpenIncident) -> int | None:
    return None if one.next_pages is None else one.next_pages.level


def _next_targets(one: OpenIncident) -> str | None:
    """Return whom the next escalation pages. A page that reaches no target says why."""
    pages = one.next_pages
    if pages is None:
        return None
    return ", ".join([*pages.targets, *(f"NONE: {fault}" for fault in pages.faults)])


def _told(one: OpenIncident) -> str:
    """Return each target of the present episode, with the state of its last page unless that was delivered."""
    last = {page.target: page for page in one.pages}
    return ("UNHEARD: " if one.unheard else "") + ", ".join(
        (target or "nobody") if page.state is PageState.DELIVERED else f"{target or 'nobody'} ({page.state.value})"
        for target, page in last.items()
    )


async def _watch(read: Callable[[Engine], Awaitable[OpenIncidents]], engine: Engine, *, utc: bool, whole: bool) -> None:
    """Show the list again and again. While the database is out of reach, keep the last list and say how old it is."""
    found: OpenIncidents | None = None
    while True:
        fault = None
        try:
            found = await read(engine)
        except StoreError as error:
            fault = str(error)
        with whole_screen() as foot:
            if found is not None:
                _print_list(found, utc=utc, whole=whole)
                foot.append(f"every {WATCH_SECONDS} seconds; Ctrl-C ends")
            if fault is not None:
                foot.append(f"NOT UP TO DATE, trying again: {fault}")
        await asyncio.sleep(WATCH_SECONDS)


COMMANDS: Sequence[click.Command] = (list_command, next_command)
