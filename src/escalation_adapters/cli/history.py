"""The command that shows one incident: its state, whom its next escalation pages, its pages and its history."""

from collections.abc import Iterator
from datetime import datetime

import click

from escalation_core import Engine, Incident, IncidentHistory, InvalidValue
from escalation_core.model import BUILTIN
from escalation_core.rules.next_pages import NextPages
from escalation_core.rules.upcoming import HeldBy, Upcoming

from ..timeline import text, track
from .audit import ENTRY_COLUMNS, PAGE_COLUMNS, entry_row, page_row, short_bundle
from .base import Context, pass_context
from .incidents import state_of
from .notices import COLUMNS as NOTICES
from .notices import NOTICE_COLUMNS, notice_row, whole_notice_row
from .output import Times, ascii_only, facts, on_terminal, print_json, say, screen_width, show, table
from .params import json_option, utc_option

_TOLD = (HeldBy.ACKNOWLEDGED, HeldBy.RESOLVED, HeldBy.SNOOZED)


@click.command("show")
@click.argument("key")
@utc_option
@json_option
@pass_context
def show_command(context: Context, key: str, utc: bool, as_json: bool) -> None:
    """Show the incident KEY: its state, its next escalation and whom that pages, its pages and its history."""

    async def work(engine: Engine) -> tuple[IncidentHistory, datetime]:
        return await engine.history(key), await engine.now()

    history, now = context.run(work)
    if not history.known:
        raise InvalidValue("key", f"{key!r} is unknown", "open it first, or look at: escalation audit --since 24h")
    if as_json:
        print_json(history)
        return
    times, incident = Times(now, utc), history.incident
    comes = _next(history.upcoming, times)
    if history.fault is not None:
        say(f"{show(key)}: the row cannot be read; {comes}")
    elif incident is None:
        say(f"{show(key)}: the row is gone")
    else:
        say(f"{state_of(incident)}; {comes}")
        told = [
            *_unheard(history),
            *_facts(incident, times),
            *_place(history),
            *_expiry(history, times),
            *_whom(history.next_pages),
        ]
        facts([(name, show(value)) for name, value in told])
        click.echo(text([track(history, "", now)], width=screen_width(), plain=ascii_only(), there=times.there))
    _tables(history, times)


def _tables(history: IncidentHistory, times: Times) -> None:
    """Print the pages and the audit: in three columns on a terminal, with a column for each value elsewhere."""
    if on_terminal():
        table("Pages", PAGE_COLUMNS[1:], [page_row(page)[1:] for page in history.pages], empty="no pages", times=times)
        if history.notices:
            rows = [notice_row(notice)[1:] for notice in history.notices]
            table("Notices", NOTICE_COLUMNS[1:], rows, empty="", times=times)
        rows = [entry_row(entry)[:2] + entry_row(entry)[3:] for entry in history.audit]
        table("History", (*ENTRY_COLUMNS[:2], ENTRY_COLUMNS[3]), rows, empty="no history", times=times)
        return
    table(
        "Pages",
        ("id", "episode", "level", "target", "state", "attempts", "at", "reason", "bundle"),
        [
            (p.id, p.episode, p.level, p.target, p.state, p.attempts, p.due_at, p.reason, short_bundle(p))
            for p in history.pages
        ],
        empty="no pages",
    )
    if history.notices:
        own = [whole_notice_row(notice) for notice in history.notices]
        table("Notices", (NOTICES[0], *NOTICES[2:]), [(row[0], *row[2:]) for row in own], empty="")
    table(
        "History",
        ("at", "what", "episode", "level", "who", "target", "reason"),
        [(e.at, e.action, e.episode, e.level, e.actor, e.target, e.reason) for e in history.audit],
        empty="no history",
    )


def _unheard(history: IncidentHistory) -> Iterator[tuple[str, object]]:
    """Yield that no page of the incident has arrived."""
    if history.unheard:
        yield "UNHEARD", "no page of its highest level was delivered, and none is tried again"


def _facts(incident: Incident, times: Times) -> Iterator[tuple[str, object]]:
    """Yield what else is known of an incident, without what it does not have."""
    if incident.summary is not None:
        yield "summary", incident.summary
    if incident.labels:
        yield "labels", ", ".join(f"{name}={value}" for name, value in sorted(incident.labels.items()))
    yield "first seen", times.sentence(incident.first_seen)
    if incident.last_escalated_at is not None:
        yield "last escalation", times.sentence(incident.last_escalated_at)
    if incident.snoozed_until is not None:
        yield "snoozed until", times.sentence(incident.snoozed_until)
    if incident.acknowledged_at is not None:
        by = "" if incident.acknowledged_by is None else f" by {incident.acknowledged_by}"
        yield "acknowledged", times.sentence(incident.acknowledged_at) + by
    if incident.resolved_at is not None:
        yield "resolved", times.sentence(incident.resolved_at)


def _place(history: IncidentHistory) -> Iterator[tuple[str, object]]:
    """Yield the policy with its version, the place in it, and whom the last escalation paged."""
    step, incident = history.step, history.incident
    if step is None or incident is None or (step.policy == BUILTIN and incident.policy_pin is None):
        return
    yield "policy", step.policy if not step.version else f"{step.policy}, version {step.version[:12]}"
    yield "place", f"level {incident.level}: {step}" if step.position else str(step)
    if incident.policy is not None and incident.policy != step.policy:
        yield "host's policy", f"{incident.policy}, which no worker has assigned yet"
    last = [
        f"{page.target or 'nobody'}{'' if page.via is None else f' via {page.via}'} ({page.state.value})"
        for page in history.pages
        if (page.episode, page.level) == (incident.episode, incident.level)
    ]
    if last:
        yield "told", ", ".join(last)


def _expiry(history: IncidentHistory, times: Times) -> Iterator[tuple[str, object]]:
    """Yield when the acknowledgement expires, and what happens then."""
    expires, coming = history.upcoming.ack_expires_at, history.next_pages
    if expires is None:
        return
    at = "with the next tick" if expires <= times.now else times.sentence(expires)
    if coming is None:
        yield "expires", f"{at}; no escalation comes then"
        return
    begins = history.step is not None and coming.step.position <= history.step.position
    then = f"{coming.step.policy} {'begins again' if begins else 'goes on'}"
    yield "expires", f"{at}; then {then}"


def _whom(coming: NextPages | None) -> Iterator[tuple[str, object]]:
    """Yield whom the next escalation pages, and which of its pages will be dead."""
    if coming is None:
        return
    place = f"level {coming.level}" + ("" if coming.step.policy == BUILTIN else f" ({coming.step})")
    yield "next pages", f"{place}: {', '.join(coming.targets) or 'nobody'}"
    for fault in coming.faults:
        yield "dead page", fault


def _next(coming: Upcoming, times: Times) -> str:
    """Describe the next escalation: its instant, and the reason that delays it."""
    held = "" if coming.held_by is None else coming.held_by.value.replace("_", " ")
    # On a terminal the lines below say it, in the zone of all other times.
    if held and not (on_terminal() and coming.held_by in _TOLD):
        held += f": {show(coming.detail)}"
    if coming.at is None:
        return f"no escalation comes ({held})"
    due = "the next tick escalates it" if coming.at <= times.now else f"next escalation {times.sentence(coming.at)}"
    return f"{due} ({held})" if held else due


COMMANDS = (show_command,)
