"""The command that follows the audit: it prints the entries as they come."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import attrs
import click

from escalation_core import AuditEntry, Engine, StoreError

from ..wire import to_json
from .audit import entry_row, whole_row
from .base import Context, pass_context
from .output import Times, on_terminal, show
from .params import SPAN, json_option, utc_option

POLL_SECONDS = 1.0
"""How long to wait between two reads. After a read that took longer, the next one waits as long as that took."""
LATE = timedelta(minutes=3)
"""How long after its instant an entry is still found, beside two tick intervals: a transaction may commit late."""
MAX_READ, MAX_SEEN = 1000, 100_000
"""How many entries are read in one transaction, and how many are remembered beyond those that are read again."""


@click.command("tail")
@click.option("--since", type=SPAN, default="5m", show_default=True, help="How far back to begin.")
@utc_option
@json_option
@pass_context
def tail(context: Context, since: timedelta, utc: bool, as_json: bool) -> None:
    """Follow the audit: print each entry as it comes, until Ctrl-C (exit code 0).

    If the database goes away, the command says so, goes on trying, and misses nothing.
    """

    async def work(engine: Engine) -> None:
        start = await engine.now()
        if on_terminal() and not as_json:
            click.echo(f"following the audit, in {Times(start, utc).zone}; Ctrl-C ends", err=True)
        async for entries, now in follow(Reader(engine, start - since), lambda line: click.echo(line, err=True)):
            for entry in entries:
                click.echo(json.dumps(to_json(entry)) if as_json else line_of(entry, Times(now, utc)))

    with suppress(KeyboardInterrupt):
        # The driver would warn of each attempt to connect: the command itself says it, once.
        context.run(work, level="ERROR", plugins=False)


def line_of(entry: AuditEntry, times: Times) -> str:
    """Return an entry on one line: for people on a terminal, else with a tab between its values."""
    if not on_terminal():
        return "\t".join("" if value is None else show(value) for value in whole_row(entry))
    at, what, incident, why = entry_row(entry)
    return "  ".join(part for part in (times.at(at), show(what), show(incident), why) if part)


async def follow(reader: "Reader", say: Callable[[str], None]) -> AsyncIterator[tuple[Sequence[AuditEntry], datetime]]:
    """Yield the new entries and the store's instant again and again, also after the database was away."""
    loop, away = asyncio.get_running_loop(), False
    while True:
        asked = loop.time()
        try:
            read = await reader.read()
        except StoreError as error:
            if not away:
                say(f"escalation: {error}; trying again")
            away = True
        else:
            if away:
                say("escalation: the database answers again")
            away = False
            yield read
        await asyncio.sleep(max(POLL_SECONDS, loop.time() - asked))


@attrs.define
class Reader:
    """Reads the entries of the audit that are new since the last read.

    An entry has the instant at which its transaction, or its tick, began. It is visible when that commits: late, and in
    any order. So each read goes back over the last minutes again, and leaves out the entries that it has seen. It
    misses only an entry of a host's transaction that commits later than that.
    """

    engine: Engine
    began: datetime
    """Older entries are left out."""
    _last: datetime | None = None
    """The store's instant before the last read that succeeded."""
    _seen: dict[str, datetime] = attrs.field(factory=dict)

    async def read(self) -> tuple[Sequence[AuditEntry], datetime]:
        """Return the new entries, oldest first, and the store's instant."""
        now = await self.engine.now()
        # If the store's clock has stepped back, new entries lie before the last read, or before the beginning.
        self.began = min(self.began, now)
        late = 2 * self.engine.settings.tick_interval + LATE
        since = self.began if self._last is None else max(self.began, min(now, self._last) - late)
        found: list[AuditEntry] = []
        after: str | None = None
        while True:
            read = await self.engine.audit(since, limit=MAX_READ, after=after)
            found += [entry for entry in read if entry.cursor not in self._seen]
            if len(read) < MAX_READ:
                break
            after = read[-1].cursor
        self._last = now
        self._seen |= {entry.cursor: entry.at for entry in found if entry.cursor is not None}
        if len(self._seen) > MAX_SEEN:
            self._seen = {cursor: at for cursor, at in self._seen.items() if at >= since}
        # Of one instant, an escalation stands before its pages: the audit has them in that order.
        return sorted(found, key=lambda entry: entry.at), now


COMMANDS = (tail,)
