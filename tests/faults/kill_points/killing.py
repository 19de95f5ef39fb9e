"""The mill: one worker after the other walks to a point and is killed there; a last one puts everything in order."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from time import time
from typing import Any

import attrs

from escalation_core.testing.invariants.history import KILL

from ..harness.hook import LATER, Act, How
from ..harness.receiver import Answer
from ..harness.rules import Rules
from ..harness.run import Run
from ..harness.worker import COUNTED, STRUCK
from ..harness.workers import Worker
from .points import Point

RULES = Rules(max_level=2, per_target=2)
"""Two levels, one of which is not the last; and few pages at once, so that some wait for others."""
SLOW = {"cancelled": 0.3, "tick": 0.03}
"""Seconds that the receiver takes for each page, by walk."""
INTERRUPTED = ("cancelled", "held", "silent", "trouble")
"""Walks that interrupt themselves: what they had sent may be sent once more. A tick that is left is none of them."""
Route = tuple[str, int]
"""A walk, and how often it came by."""
TRIES = 32
"""How often a walk is begun that does not come by its point the time that it is to be killed.

The first time may be too late in the walk, and of two walks one has a recalculation that was asked for, the other none.
"""
PREPARE = """
-- Of rows that nothing ever becomes of only the last few stay: each costs every later walk something.
DELETE FROM incidents WHERE incident_key IN (
    'refused-' || %(n)s - 4, 'unseen-' || %(n)s - 4, 'unreadable-' || %(n)s - 4
);
-- A batch that a host's constraint refuses, in a tick as in a recalculation.
INSERT INTO incidents (incident_key, severity, first_seen)
VALUES ('refused-' || %(n)s, 'critical', now() - interval '1 s');
-- A row that cannot be planned, and one that could not be and can be now.
INSERT INTO incidents (incident_key, severity, first_seen)
VALUES ('poison-' || %(n)s, 'critical', now() - interval '2 years');
UPDATE incidents SET first_seen = now() - interval '1 s' WHERE incident_key = 'poison-' || (%(n)s - 1);
-- An escalation that is recorded already: as after a host restored its table alone.
UPDATE incidents SET escalation_level = 0, last_escalated_at = NULL, next_due_at = now()
WHERE incident_key = (
    SELECT incident_key FROM escalation_events WHERE incident_key LIKE 'k%%' ORDER BY id DESC LIMIT 1
);
-- A row that may not even be deferred, and an unseen one that may not be marked: twice in a row, and then nothing is
-- passed over twice. Every other try at a point is for the first time that it is reached.
DELETE FROM incidents WHERE incident_key LIKE 'unwritable%%';
DELETE FROM escalation_unreadable WHERE incident_key LIKE 'unwritable%%';
INSERT INTO incidents (incident_key, severity, first_seen)
SELECT 'unwritable-' || %(n)s, 'critical', now() - interval '1 s' WHERE %(n)s %% 4 < 2;
SET session_replication_role = replica;
INSERT INTO incidents (incident_key, severity, first_seen)
VALUES ('unseen-' || %(n)s, 'critical', now() + interval '20 h');
INSERT INTO incidents (incident_key, severity, first_seen)
SELECT 'unwritable-unseen-' || %(n)s, 'critical', now() WHERE %(n)s %% 4 < 2;
RESET session_replication_role;
-- A heartbeat from ahead of the clock, an incident that came in then, and a row that was deferred then as unreadable.
INSERT INTO escalation_workers (worker, ticked_at, version)
SELECT 'ahead', now() + interval '1 h', '?' WHERE %(n)s %% 3 = 0 ON CONFLICT DO NOTHING;
INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
SELECT 'ahead-' || %(n)s, 'critical', at, at FROM (SELECT now() + interval '9 min' AS at) AS ahead WHERE %(n)s %% 3 = 0;
INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, next_due_at)
SELECT 'unreadable-' || %(n)s, 'critical', now(), -1, now() + interval '2 days' WHERE %(n)s %% 3 = 0;
-- A recalculation that was asked for, or none ever.
UPDATE escalation_recalc SET requested_at = CASE WHEN %(n)s %% 2 = 0 THEN now() END, fingerprint = NULL, cursor = NULL;
"""
UPSET_ROWS = ("refused", "poison", "unwritable", "unseen", "unwritable-unseen", "ahead", "unreadable")
CONSTRAINT = """
ALTER TABLE incidents ADD CONSTRAINT refused CHECK (
    incident_key NOT LIKE 'refused%'
    OR escalation_level = 0 AND next_due_at IS DISTINCT FROM first_seen + interval '400 ms'
);
CREATE FUNCTION faults.unwritable() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    -- By a name that tells of a refusal, or by one that tells of a table that is missing.
    RAISE 'it may not be written' USING ERRCODE = TG_ARGV[0];
END $body$;
CREATE TRIGGER unwritable BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (OLD.incident_key LIKE 'unwritable-unseen%') EXECUTE FUNCTION faults.unwritable('23514');
CREATE TRIGGER unwritable_strangely BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (OLD.incident_key SIMILAR TO 'unwritable-[0-9]+') EXECUTE FUNCTION faults.unwritable('42P01')
"""
HOST = """
CREATE SCHEMA "{schema}" AUTHORIZATION escalation_worker;
CREATE TABLE "{schema}".incidents (
    incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL, next_due_at timestamptz
);
ALTER TABLE "{schema}".incidents OWNER TO escalation_worker;
INSERT INTO "{schema}".incidents SELECT 'k' || n, 'critical', now() - interval '1 h' FROM generate_series(1, 3) AS n;
-- What a build leaves that was interrupted.
CREATE INDEX escalation_due ON "{schema}".incidents (next_due_at);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"{schema}".escalation_due'::regclass
"""


@attrs.define
class Killer:
    """Kills one worker after the other in one run."""

    run: Run
    killed: Counter[Point] = attrs.field(factory=Counter)
    schemas: list[str] = attrs.field(factory=list)
    upset: bool = False
    """Whether the tables are prepared so that a walk meets refused rows, unseen rows and the like."""
    _number: int = 0
    _constrained: bool = False

    async def prepare(self, walk: str) -> str:
        """Prepare the tables for a walk; return the walk as the worker's spec names it."""
        self._number += 1
        if walk == "migrate":
            schema = f"host{self._number}"
            self.schemas.append(schema)
            await self.run.execute(HOST.replace("{schema}", schema))
            return f"migrate {schema}"
        number = self._number
        hosts = self.run.hosts
        await asyncio.gather(*(hosts.do("open", f"k{number}-{each}", sql=each % 2 == 0) for each in range(2)))
        # And two for all targets that surely are due, so that each walk finds pages.
        due: dict[str, Any] = {"severity": "critical", "first_seen": round(time() - 2, 6)}
        await asyncio.gather(*(hosts.do("open", f"k{number}-{each}", sql=each % 2 == 0, **due) for each in (2, 3)))
        if self.upset:
            await self._upset(number)
        self.run.receiver.answers = lambda at: _answer(at, SLOW.get(walk, 0.0))
        return walk

    async def _upset(self, number: int) -> None:
        if not self._constrained:
            self._constrained = True
            await self.run.execute(CONSTRAINT)
        self.run.unplannable |= {f"{each}-{number}" for each in UPSET_ROWS}
        await self.run.execute(PREPARE.replace("%(n)s", str(number)).replace("%%", "%"))

    async def walk(self, walk: str, act: Act | None = None, counts: Sequence[Point] = ()) -> tuple[Worker, int]:
        """Let one worker walk to its end; return it and its exit code."""
        named = await self.prepare(walk)
        start = time()
        worker = await self.run.work("m", proxied=False, ready=False, walk=named, act=act, counts=counts, batch_size=3)
        code = await worker.gone()
        if code == -9:
            [struck] = [line for line in worker.text.splitlines() if line.startswith(STRUCK)]
            self.run.note(KILL, float(struck.removeprefix(STRUCK)), worker)
        if walk in INTERRUPTED:
            self.run.note("walk", start, worker)
        return worker, code

    async def explore(self, walk: str, among: Sequence[Point]) -> Counter[Point]:
        """Let a worker walk unharmed; return how often it came by each point."""
        worker, code = await self.walk(walk, counts=among)
        if code:
            raise AssertionError(f"the walk {walk!r} ended with code {code}:\n{worker.text[-3000:]}")
        by_place = {(point.module, str(point.line)): point for point in among}
        found: Counter[Point] = Counter()
        for line in worker.text.splitlines():
            if line.startswith(COUNTED):
                _, module, number, count = line.removeprefix(COUNTED[:-3]).split()
                found[by_place[module, number]] += int(count)
        return found

    async def kill(self, point: Point, routes: Sequence[Route], random: Random, first: int = 0) -> bool:
        """Kill a worker on a walk that comes by a point, the ``first`` one first; return whether it happened."""
        for attempt in range(TRIES):
            walk, often = routes[(first + attempt // 2) % len(routes)]
            nth = random.randint(1, min(often, 4)) if attempt % 2 == 0 else 1
            how: How = random.choice(["kill", "soon"])
            _, code = await self.walk(walk, Act(point, how, nth, random.random() * LATER))
            if code == -9:
                self.killed[point] += 1
                return True
        return False


def _answer(number: int, slow: float) -> Answer:
    if number % 11 == 10:
        return Answer(status=429, accepts=False)
    return Answer(status=503, accepts=False) if number % 4 == 3 else Answer(delay=slow)
