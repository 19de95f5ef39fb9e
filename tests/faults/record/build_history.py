"""Build the history of a run: everything that the hosts, the database, the receiver and the watcher recorded."""

import re
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any

import attrs
import psycopg

from escalation_core.testing.invariants.history import HealthSample, History, Request
from escalation_core.testing.invariants.notice_records import Told

from ..harness.proxy import Proxy
from . import page_changes

if TYPE_CHECKING:
    from ..harness.run import Run


DEAD = re.compile(r" ERROR page (\d+) is dead: ")
"""The line that a worker logs for a page that it gives up."""


def so_far(run: "Run") -> History:
    """Return the history until now, with hosts' writes, escalations, notes and faults only."""
    with psycopg.connect(run.dsn) as connection:
        return _outline(run, time(), connection)


def _outline(run: "Run", ended: float, connection: "psycopg.Connection[Any]") -> History:
    return History(
        ended=ended,
        settings=attrs.evolve(
            run.rules,
            ladders=run.ladders,
            rosters=run.rosters,
            people=(run.policies or {}).get("people", {}),
            default_target=run.targets[0],
        ),
        targets=run.targets,
        writes=list(run.hosts.writes),
        pauses=list(run.pauses),
        overrides=list(run.overrides),
        files=list(run.files),
        kept=page_changes.kept(connection),
        escalations=page_changes.escalations(connection),
        notes=page_changes.notes(connection),
        faults=run.faults + run.watcher.machine.faults(),
        unplannable=frozenset(run.unplannable),
    )


def history(run: "Run", last: HealthSample, dead: int) -> tuple[History, dict[str, str]]:
    """Return the history of a run, and every text that it wrote. ``dead`` is the number of dead pages in health."""
    texts = {worker.name: worker.text for worker in run.workers}
    logged_dead = frozenset(int(page) for text in texts.values() for page in DEAD.findall(text))
    with psycopg.connect(run.dsn) as connection:
        texts["the database"] = page_changes.written_text(connection)
        texts["hosts"] = "\n".join(run.hosts.errors)
        texts["the watcher"] = "\n".join(run.watcher.errors)
        keys, requests = page_changes.notice_keys(connection), [*run.receiver.requests, *run.pager.requests]
        found = attrs.evolve(
            _outline(run, last.at, connection),
            pages=page_changes.pages(connection),
            changes=page_changes.changes(connection),
            requests=[each for each in requests if each.dedup_key not in keys],
            notices=page_changes.notices(connection),
            notice_claims=page_changes.notice_claims(connection),
            told=[*run.pager.told, *(_told(each) for each in requests if each.dedup_key in keys)],
            health=[*(sample for sample in run.watcher.samples if sample.at < last.at), last],
            logged_dead=logged_dead,
            counted_dead=dead,
            statements=_statements(run.proxies),
        )
    return found, texts


def _told(request: Request) -> Told:
    """Return a request with a notice."""
    return Told(
        dedup_key=request.dedup_key,
        target=request.target,
        worker=request.worker,
        at=request.at,
        accepted=request.accepted,
        answered=request.answered_at is not None,
    )


def _statements(proxies: Mapping[str, Proxy]) -> dict[str, list[float]]:
    """Return the instants of statements of each slot. A slot has one proxy before each server: w1, w1.1 and w1.2."""
    found: dict[str, list[float]] = {}
    for name, proxy in proxies.items():
        found.setdefault(name.partition(".")[0], []).extend(proxy.statements)
    return found
