"""The command that sends test pages, without a database if there is none."""

import asyncio
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from escalation_core import Engine, EscalationError, PageTest, Settings, Verdict, send_test_page
from escalation_core.settings.limits import LOG_TARGET

from ..logs import set_up_logging
from ..worker.app import make_notifiers, open_store
from .base import Context, pass_context
from .output import on_terminal, print_json, show
from .params import actor_option, json_option, reason_option

CODES = {
    Verdict.DELIVERED: 0,
    Verdict.REJECTED: 3,
    Verdict.THROTTLED: 4,
    Verdict.UNREACHABLE: 5,
    Verdict.FAILED: 6,
}
"""The exit code of each verdict. Of several targets, the first one whose page was not delivered decides."""
MEANING = {
    Verdict.REJECTED: "a real page would be dead",
    Verdict.UNREACHABLE: "no answer came; a real page would be tried again",
    Verdict.FAILED: "a real page would be tried again",
}
NOTE_TIMEOUT = 10
"""Seconds to try to write the audit: the database may be down."""


@click.command("test-page")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--all", "everything", is_flag=True, help="Every target of ESC_TARGETS.")
@reason_option
@actor_option
@json_option
@pass_context
def test_page(
    context: Context, targets: tuple[str, ...], everything: bool, reason: str | None, by: str | None, as_json: bool
) -> None:
    """Send a page to TARGET that says that it is a test, and tell whether the receiver accepted it.

    No database is needed. If one is set and in reach, the audit gets a note. Exit code 0 means delivered, 3 rejected,
    4 throttled, 5 unreachable, 6 failed.
    """
    if everything == bool(targets):
        raise click.UsageError("give the name of a target, or --all")
    set_up_logging(level="WARNING")
    settings = context.settings()
    names = tuple(settings.targets) or (LOG_TARGET,) if everything else tuple(dict.fromkeys(targets))
    sent = asyncio.run(_send(settings, names, by=by, reason=reason))
    if as_json:
        print_json(sent)
    else:
        for one in sent:
            line = describe(one)
            # On a terminal a long line folds between words. Elsewhere each target has one line.
            width = shutil.get_terminal_size().columns
            click.echo(click.wrap_text(line, width, subsequent_indent="  ") if on_terminal() else line)
    if settings.database_url:
        fault = asyncio.run(_note(context, settings, sent, by=by, reason=reason))
        if fault is not None:
            click.echo(f"escalation: the audit has no note of this test: {fault}", err=True)
    raise SystemExit(next((code for one in sent if (code := CODES[one.verdict])), 0))


async def _send(settings: Settings, names: Sequence[str], *, by: str | None, reason: str | None) -> list[PageTest]:
    """Send all test pages at once."""
    notifiers = make_notifiers(settings)
    try:
        served = {target for notifier in notifiers for target in notifier.targets}
        if unknown := [name for name in names if name not in served]:
            # Before any page is sent. The core's own check, so that the message is the same and quotes no URL.
            names = unknown[:1]
        at = datetime.now(UTC)
        return await asyncio.gather(
            *(send_test_page(notifiers, name, at=at, by=by, reason=reason, retry=settings.retry) for name in names)
        )
    finally:
        for notifier in notifiers:
            await notifier.aclose()


async def _note(
    context: Context, settings: Settings, sent: Sequence[PageTest], *, by: str | None, reason: str | None
) -> str | None:
    """Write the audit; return why it could not be written, None if it was."""
    try:
        async with asyncio.timeout(NOTE_TIMEOUT):
            url = settings.database_url
            store = await open_store(url, schema=context.schema, pooler=context.pooler, create=False)
            async with Engine(store, settings=settings) as engine:
                for one in sent:
                    await engine.note_test_page(one, reason=reason, by=by)
    except TimeoutError:
        return f"the database did not answer within {NOTE_TIMEOUT} s"
    except EscalationError as error:
        return str(error)
    return None


def describe(sent: PageTest) -> str:
    """Return one line for people about a test page and what a real page would meet."""
    said = f"{show(sent.target)}: {sent.verdict.value}"
    if sent.verdict is Verdict.DELIVERED:
        alone = ", to the log of this process alone: it reaches no person"
        return said + (alone if sent.channel == "log" else "")
    if sent.after is not None:
        return f"{said}: {show(sent.reason)}; a real page would wait {sent.after.total_seconds():g} s"
    return f"{said}: {show(sent.reason)}; {MEANING[sent.verdict]}"


COMMANDS = (test_page,)
