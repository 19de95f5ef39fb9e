"""The books of a run: everything that is known of it once it is over."""

import re
from time import time
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from . import trail
from .history import History, Look

if TYPE_CHECKING:
    from .arena import Arena


DEAD = re.compile(r" ERROR page (\d+) is dead: ")
"""What a worker logs of a page that it has buried."""


def so_far(arena: "Arena") -> History:
    """Return what is known by now of what hosts wrote and what is recorded."""
    with psycopg.connect(arena.dsn) as connection:
        return _outline(arena, time(), connection)


def _outline(arena: "Arena", ended: float, connection: "psycopg.Connection[Any]") -> History:
    return History(
        ended=ended,
        rules=arena.rules,
        targets=arena.targets,
        ops=list(arena.hosts.ops),
        held=list(arena.held),
        events=trail.events(connection),
        faults=arena.faults + arena.watcher.machine.faults(),
        poison=frozenset(arena.poison),
    )


def history(arena: "Arena", last: Look, dead: int) -> tuple[History, dict[str, str]]:
    """Return what is known of a run, and every text that was written in it. ``dead`` pages are what health counts."""
    texts = {worker.name: worker.text for worker in arena.workers}
    alarmed = frozenset(int(page) for text in texts.values() for page in DEAD.findall(text))
    with psycopg.connect(arena.dsn) as connection:
        texts["the database"] = trail.written_text(connection)
        texts["hosts"] = "\n".join(arena.hosts.errors)
        texts["who looks at health"] = "\n".join(arena.watcher.errors)
        found = attrs.evolve(
            _outline(arena, last.at, connection),
            pages=trail.pages(connection),
            steps=trail.steps(connection),
            posts=arena.receiver.posts,
            looks=[*(look for look in arena.watcher.looks if look.at < last.at), last],
            alarmed=alarmed,
            counted=dead,
            queries={slot: proxy.asked for slot, proxy in arena.proxies.items()},
        )
    return found, texts
