"""Each verb races claim, commit and POST: the worker is stopped exactly there, and the verb begins meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from time import time
from typing import Any

import pytest

from .arena import Arena
from .conftest import Stage
from .history import Held
from .hook import Act
from .points import Point, line_of

COURIER, RECORDING = "escalation_core.courier", "escalation_core.recording"
WHERE: Mapping[str, Point] = {
    "claim": line_of(RECORDING, "Recorder.write", "decisions = await"),
    "commit": line_of("escalation_adapters.postgres.session", "Session.flush", "for name, values in waiting"),
    "page claim": line_of(COURIER, "Courier._round", "leased.append"),
    "POST": line_of(COURIER, "Courier._send", "answer = await within"),
    "settle": line_of(COURIER, "Courier._settle", "written = await"),
}
"""Where it is stopped: with rows locked, writes on their way, pages locked, before a page is sent, and after."""
HEAD_START = 0.2
"""Seconds that the verb has before the worker goes on: it may have to wait for what that has locked."""
Race = Callable[[Arena, str], Coroutine[Any, Any, None]]


def verb(name: str, *, sql: bool) -> Race:
    """Return a race of one verb, by the API or by SQL."""

    async def race(arena: Arena, key: str) -> None:
        anything: dict[str, object] = {"sql": sql}
        await arena.hosts.do(name, key, **anything)  # type: ignore[arg-type]

    return race


def twice(*, sql: bool) -> Race:
    """Return a race of an acknowledgement that is taken back."""

    async def race(arena: Arena, key: str) -> None:
        await arena.hosts.do("acknowledge", key, sql=sql)
        await arena.hosts.do("unacknowledge", key, sql=sql)

    return race


def reopening(*, sql: bool) -> Race:
    """Return a race of an end and a new beginning."""

    async def race(arena: Arena, key: str) -> None:
        await arena.hosts.do("resolve", key, sql=sql)
        await arena.hosts.do("open", key, sql=sql)

    return race


async def _pause(arena: Arena, key: str) -> None:
    engine, began = arena.hosts.engine, time()
    await engine.pause(timedelta(hours=1), by="faults")
    paused = time()
    await asyncio.sleep(2 * HEAD_START)
    resuming = time()
    await engine.resume(by="faults")
    arena.held.append(Held(began=began, sure_from=paused, sure_to=resuming, ended=time()))


async def _recalc(arena: Arena, key: str) -> None:
    await arena.hosts.engine.recalc(by="faults")


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
@pytest.mark.parametrize("where", list(WHERE))
async def test_verb_races(stage: Stage, full: bool, where: str) -> None:
    """Whoever wins, each escalation is there once, an end is an end, and nobody is heard twice or not at all."""
    async with stage(seed=20) as arena:
        for number in range(5 if full else 1):
            for name, race in VERBS.items():
                await _race(arena, f"{name} {number}", WHERE[where], race)
        await arena.work("w")
        assert [] == await arena.judge()


async def _race(arena: Arena, key: str, where: Point, race: Race) -> None:
    """Let one worker come to its point, the verb begin, and the worker go on; then it goes."""
    with arena.trial("race", stops=True):
        await arena.hosts.do("open", key, severity="critical", first_seen=round(time() - 1, 6))
        worker = await arena.work("r", proxied=False, ready=False, act=Act(where, "stop"))
        await worker.stopped()
        racing = asyncio.create_task(race(arena, key))
        await asyncio.sleep(HEAD_START)
        worker.resume()
        await racing
        await arena.kill(worker)
