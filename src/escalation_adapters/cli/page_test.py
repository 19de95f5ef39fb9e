"""The command that sends test pages, without a database if there is none."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import click

from escalation_core import Engine, EscalationError, Notifier, PageTest, Settings, Verdict, send_test_page
from escalation_core.model import By
from escalation_core.settings.limits import LOG_TARGET

from ..logs import set_up_logging
from ..worker.app import make_notifiers, open_store
from ..worker.plugin_records import Plugins
from .base import Context, MakeEngine, pass_context
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
Names = Sequence[str] | None
"""The targets to test. None: all of them."""
NOTE_TIMEOUT = 10
"""Seconds to try to write the audit: the database may be down."""


@click.command("test-page")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--all", "everything", is_flag=True, help="Every target of ESC_TARGETS and of the plug-ins.")
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
    names = None if everything else tuple(dict.fromkeys(targets))
    who = By(by, reason)
    make = context.engine_in_code()
    if make is None:
        sent = asyncio.run(_of_settings(context, *context.load(), names, who, as_json=as_json))
    else:
        sent = asyncio.run(_in_code(make, names, who, as_json=as_json))
    raise SystemExit(next((code for one in sent if (code := CODES[one.verdict])), 0))


async def _of_settings(
    context: Context, settings: Settings, plugins: Plugins, names: Names, who: By, *, as_json: bool
) -> Sequence[PageTest]:
    """Send test pages with the notifiers of the settings and the plug-ins, and note them if there is a database."""
    notifiers = [*make_notifiers(settings), *plugins.notifiers]
    if names is None:
        names = (*settings.targets, *plugins.targets) or (LOG_TARGET,)
    try:
        sent = await _send(notifiers, names, who, settings)
    finally:
        for notifier in notifiers:
            await notifier.aclose()
    _print(sent, as_json=as_json)
    url = settings.database_url

    async def open_engine() -> Engine:
        store = await open_store(url, schema=context.schema, pooler=context.pooler, create=False)
        return Engine(store, settings=settings)

    if url:
        await _note(open_engine, sent, who)
    return sent


async def _in_code(make: MakeEngine, names: Names, who: By, *, as_json: bool) -> Sequence[PageTest]:
    """Send test pages with the notifiers of the engine of ``--app``, and note them in its database."""
    engine = await make()
    try:
        all_targets = tuple(target for notifier in engine.notifiers for target in notifier.targets)
        sent = await _send(engine.notifiers, all_targets if names is None else names, who, engine.settings)
    except BaseException:
        await engine.aclose()
        raise
    _print(sent, as_json=as_json)

    async def open_engine() -> Engine:
        return engine

    await _note(open_engine, sent, who)
    return sent


async def _send(notifiers: Sequence[Notifier], names: Sequence[str], who: By, settings: Settings) -> Sequence[PageTest]:
    """Send all test pages at once."""
    served = {target for notifier in notifiers for target in notifier.targets}
    if unknown := [name for name in names if name not in served]:
        # Before any page is sent. The core's own check, so that the message is the same and quotes no URL.
        names = unknown[:1]
    at = datetime.now(UTC)
    return await asyncio.gather(
        *(
            send_test_page(notifiers, name, at=at, by=who.actor, reason=who.reason, retry=settings.retry)
            for name in names
        )
    )


def _print(sent: Sequence[PageTest], *, as_json: bool) -> None:
    if as_json:
        print_json(sent)
        return
    for one in sent:
        line = describe(one)
        # On a terminal a long line folds between words. Elsewhere each target has one line.
        width = shutil.get_terminal_size().columns
        click.echo(click.wrap_text(line, width, subsequent_indent="  ") if on_terminal() else line)


async def _note(open_engine: Callable[[], Awaitable[Engine]], sent: Sequence[PageTest], who: By) -> None:
    """Write the audit, and say on standard error why it could not be written."""
    fault: str | None = None
    try:
        async with asyncio.timeout(NOTE_TIMEOUT), await open_engine() as engine:
            for one in sent:
                await engine.note_test_page(one, reason=who.reason, by=who.actor)
    except TimeoutError:
        fault = f"the database did not answer within {NOTE_TIMEOUT} s"
    except EscalationError as error:
        fault = str(error)
    if fault is not None:
        click.echo(f"escalation: the audit has no note of this test: {fault}", err=True)


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
