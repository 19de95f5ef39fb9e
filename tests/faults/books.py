"""The books of a run: everything that is known of it once it is over."""

from typing import TYPE_CHECKING

import psycopg

from . import trail
from .history import History

if TYPE_CHECKING:
    from .arena import Arena


def history(arena: "Arena", ended: float, dead: int) -> tuple[History, dict[str, str]]:
    """Return what is known of a run, and every text that was written in it. ``dead`` pages are what health counts."""
    texts = {worker.name: worker.text for worker in arena.workers}
    with psycopg.connect(arena.dsn) as connection:
        pages = trail.pages(connection)
        texts["the database"] = trail.written_text(connection)
        buried = [page.id for page in pages if page.state == "dead"]
        found = History(
            ended=ended,
            rules=arena.rules,
            ops=arena.hosts.ops,
            held=arena.held,
            events=trail.events(connection),
            pages=pages,
            steps=trail.steps(connection),
            posts=arena.receiver.posts,
            faults=arena.faults + arena.watcher.machine.faults(),
            looks=arena.watcher.looks,
            # Health counts the dead; who reads it is alarmed, even if the worker died before it logged them.
            alarmed=frozenset(buried if dead == len(buried) else ()),
            poison=frozenset(arena.poison),
            queries={slot: proxy.asked for slot, proxy in arena.proxies.items()},
        )
    return found, texts
