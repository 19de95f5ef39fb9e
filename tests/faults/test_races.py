"""Each verb races claim, commit and POST: the worker is stopped exactly there, and the verb begins meanwhile."""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from time import time
from typing import Any, Literal

import attrs
import pytest

from escalation_core import TransitionRefused

from .arena import QUIET, Arena
from .conftest import Stage
from .history import INFINITY, Held, Verb
from .hook import Act
from .points import Point, line_of
from .receiver import BROKEN, OK, Answer
from .workers import Worker

COURIER, RECORDING = "escalation_core.engine.deliver", "escalation_core.engine.batch"
SETTLING = "escalation_core.engine.settle"
Mark = Literal["recorded", "leased", "sent", "delivered", "pending"]
"""What a step leaves behind, of one incident's escalation."""


@attrs.frozen
class Site:
    """A step at which the worker is stopped."""

    point: Point
    after: Mark | None
    """What has been done when it gets there."""
    leads_to: Mark
    """What is done once it has gone on."""
    answer: Answer = OK
    """What the receiver says of the pages until then."""


SITES: Mapping[str, Site] = {
    "claim": Site(line_of(RECORDING, "BatchRunner._write", "decisions = await"), None, "recorded"),
    "commit": Site(
        line_of("escalation_adapters.postgres.session", "Session.flush", "for name, expected, values in waiting"),
        None,
        "recorded",
    ),
    "page claim": Site(line_of(COURIER, "Delivery._settle_and_claim", "leased.append"), "recorded", "leased"),
    "POST": Site(line_of(COURIER, "Delivery._send", "outcome = await within"), "leased", "sent"),
    "settle": Site(line_of(SETTLING, "settle", "after_attempt(leased"), "sent", "delivered"),
    "failure": Site(line_of(SETTLING, "settle", "jitter = random"), "sent", "pending", BROKEN),
}
"""Where it is stopped: with rows locked, writes on their way, pages locked, before a page is sent, before its arrival
is written down, and with the pages locked that are to be tried again."""
RECORDED = """
SELECT count(*) FROM escalation_events e JOIN faults.written w ON w.event = e.id
WHERE e.incident_key = %s AND w.began < to_timestamp(%s)
"""
STEPPED = """
SELECT count(*) FROM escalation_pages p JOIN faults.steps s ON s.page = p.id
WHERE p.incident_key = %s AND s.began < to_timestamp(%s) AND s.state = %s
"""
KEYS = "SELECT dedup_key FROM escalation_pages WHERE incident_key = %s"
WAITS = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')"
UNSETTLED = "SELECT EXISTS (SELECT FROM escalation_pages WHERE state IN ('pending', 'leased', 'cancelling'))"
TRIES = 5
"""How often a race is run at most. One is void if the machine is so slow that the server ends the transaction that
stands still, or if a page of an earlier race was what the worker was stopped at."""
Race = Callable[[Arena, str], Coroutine[Any, Any, bool]]
"""Does something to an incident, and tells whether it was done."""


def verb(name: Verb, *, sql: bool) -> Race:
    """Return a race of one verb, by the API or by SQL."""

    async def race(arena: Arena, key: str) -> bool:
        try:
            return await arena.hosts.do(name, key, sql=sql)
        except TransitionRefused:
            # The worker was stopped at another incident's page, and this one has no level yet that could be drained.
            return False

    return race


def twice(*, sql: bool) -> Race:
    """Return a race of an acknowledgement that is taken back."""

    async def race(arena: Arena, key: str) -> bool:
        acknowledged = await arena.hosts.do("acknowledge", key, sql=sql)
        return await arena.hosts.do("unacknowledge", key, sql=sql) and acknowledged

    return race


def reopening(*, sql: bool) -> Race:
    """Return a race of an end and a new beginning."""

    async def race(arena: Arena, key: str) -> bool:
        resolved = await arena.hosts.do("resolve", key, sql=sql)
        return await arena.hosts.do("open", key, sql=sql) and resolved

    return race


async def _pause(arena: Arena, key: str) -> bool:
    """Pause, until the step has gone on."""
    began = time()
    await arena.hosts.engine.pause(timedelta(hours=1), by="faults")
    arena.held.append(Held(began=began, sure_from=time()))
    return True


async def _unpause(arena: Arena) -> None:
    if arena.held and arena.held[-1].ended == INFINITY:
        resuming = time()
        await arena.hosts.engine.resume(by="faults")
        arena.held[-1] = attrs.evolve(arena.held[-1], sure_to=resuming, ended=time())


async def _recalc(arena: Arena, key: str) -> bool:
    await arena.hosts.engine.recalc(by="faults")
    return True


VERBS: Mapping[str, Race] = {
    **{f"{name}, {'SQL' if sql else 'API'}": verb(name, sql=sql)
       for name in ("acknowledge", "resolve", "change_severity", "snooze") for sql in (False, True)},
    "open again, API": reopening(sql=False),
    "open again, SQL": reopening(sql=True),
    "taken back, API": twice(sql=False),
    "taken back, SQL": twice(sql=True),
    "drain": verb("drain", sql=False),
    "pause": _pause,
    "recalc": _recalc,
}  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", list(SITES))
async def test_verb_races(stage: Stage, full: bool, where: str) -> None:
    """Whoever wins, each escalation is there once, an end is an end, and nobody is heard twice or not at all."""
    rounds, raced = (5 if full else 1), Counter[str]()
    async with stage(seed=20) as arena:
        for number in range(rounds):
            for name in VERBS:
                for again in range(TRIES):
                    if await _race(arena, f"{name} {number}.{again}", SITES[where], VERBS[name]):
                        raced[name] += 1
                        break
        await arena.work("w")
        assert [] == await arena.judge()
        arena.also["steps that went on after a verb had begun"] = raced.total()
    assert dict.fromkeys(VERBS, rounds) == raced


async def _race(arena: Arena, key: str, site: Site, race: Race) -> bool:
    """Let one worker come to its step, the verb begin, and the step go on; then the worker goes.

    Returns whether the step was about that incident, and did go on after the verb had begun, and the verb was done.
    """
    with arena.trial("race", stops=True):
        arena.receiver.answers = lambda number: site.answer
        await arena.hosts.do("open", key, severity="critical", first_seen=round(time() - 1, 6))
        worker = await arena.work("r", proxied=False, ready=False, act=Act(site.point, "stop"))
        await worker.stopped()
        met = await _is(arena, key, site.after) and not await _is(arena, key, site.leads_to)
        racing = asyncio.create_task(race(arena, key))
        await _begun(arena, racing)
        arena.receiver.answers = lambda number: OK
        going_on = time()
        worker.resume()

    async def gone_on() -> bool:
        return await _is(arena, key, site.leads_to, began=going_on)

    async with asyncio.timeout(QUIET):
        done = await racing
    went_on = met and done and await arena.until(gone_on, arena.rules.lease)
    await _unpause(arena)
    await _leave(arena, worker)
    return went_on


async def _begun(arena: Arena, racing: "asyncio.Task[bool]") -> None:
    """Wait until the verb is done, or waits for what the worker has locked."""

    async def begun() -> bool:
        return racing.done() or bool((await arena.execute(WAITS))[0][0])

    assert await arena.until(begun), "the verb neither ends nor waits"


async def _is(arena: Arena, key: str, mark: Mark | None, began: float = INFINITY) -> bool:
    """Tell whether a mark is there for all to see, by a transaction that had begun before an instant."""
    if mark is None:
        return True
    if mark == "sent":
        keys = {row[0] for row in await arena.execute(KEYS, key)}
        return any(post.dedup_key in keys for post in arena.receiver.posts)
    statement, more = (RECORDED, ()) if mark == "recorded" else (STEPPED, (mark,))
    [[count]] = await arena.execute(statement, key, began, *more)
    return bool(count)


async def _leave(arena: Arena, worker: Worker) -> None:
    """Let the worker end what it has begun, so that the next one begins with nothing but its own race, and go."""

    async def settled() -> bool:
        return not (await arena.execute(UNSETTLED))[0][0]

    await arena.until(settled)
    worker.signal(signal.SIGTERM)
    assert 0 == await worker.gone()
