"""Kill one worker after the other, each at a kill point on its walk. Later workers do the work that is left."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from time import time
from typing import Any

import attrs

from escalation_core.testing.invariants import Roster
from escalation_core.testing.invariants.history import KILL

from ..harness import policies
from ..harness.hook import MAX_KILL_DELAY, How, Interrupt
from ..harness.receiver import Answer
from ..harness.rules import Rules
from ..harness.run import Run
from ..harness.worker import INTERRUPTED_AT, MIGRATE, PASSED
from ..harness.workers import Worker
from .points import Point

RULES = Rules(
    max_level=3,
    per_target=2,
    reserves=("spare",),
    fallbacks={"ops": "spare"},
    notices=dict.fromkeys(("ops", "boss"), ("acknowledged", "resolved", "ack_expired")),
)
"""Few levels, so that walks end soon; and two pages per target at a time, so that other pages wait."""
ENDS = {"ack_timeout": "1s"}
FILE: Mapping[str, Any] = {
    "policies": {
        "ops": {
            "levels": [
                {"after": "1s", "to": ["oncall:gap"]},
                {"after": "1s", "to": ["ops"]},
                {"after": "1s", "to": ["boss", "ops"]},
            ],
            **ENDS,
        },
        "days": {"levels": [{"after": "1s"}, {"after": "1s"}], **ENDS, "on_ack_expiry": "restart"},
    },
    "assign": policies.FILE["assign"],
}
"""Policies whose acknowledgements expire before a later walk. One begins with a level that is passed over."""
ROSTERS = {"gap": Roster()}
"""No one is ever on call."""
FILES_EVERY = 3
"""The policies file changes before one walk in so many, which then pins an incident to a version that is not kept."""
SLOW = {"cancelled": 0.3, "tick": 0.03}
"""Seconds that the receiver takes for each page, by walk."""
INTERRUPTED = ("cancelled", "rows locked", "no answer", "store unavailable")
"""Walks that interrupt their own work, so that another worker may send their pages again."""
Route = tuple[str, int]
"""A walk that passes a point, and how often it passes the point."""
TRIES = 32
"""The most walks to try until a worker is killed at a point.

A walk may pass the point less often than before, and only every second walk finds a requested recalculation.
"""
PREPARE = """
-- Keep only the last few of the rows that stay faulty: each row slows every later walk.
DELETE FROM incidents WHERE incident_key IN (
    'refused-' || %(n)s - 4, 'unseen-' || %(n)s - 4, 'unreadable-' || %(n)s - 4
);
-- A row that a host's constraint refuses, in a tick and in a recalculation.
INSERT INTO incidents (incident_key, severity, first_seen)
VALUES ('refused-' || %(n)s, 'critical', now() - interval '1 s');
-- A row that cannot be planned, and an earlier one that now can be planned.
INSERT INTO incidents (incident_key, severity, first_seen)
VALUES ('poison-' || %(n)s, 'critical', now() - interval '2 years');
UPDATE incidents SET first_seen = now() - interval '1 s' WHERE incident_key = 'poison-' || (%(n)s - 1);
-- An escalation that is already recorded, as after a host has restored only its own table.
UPDATE incidents SET escalation_level = 0, last_escalated_at = NULL, next_due_at = now()
WHERE incident_key = (
    SELECT e.incident_key FROM escalation_events e JOIN incidents i USING (incident_key, episode)
    -- A walk that began above level 0 would begin there in the host's restored table, too.
    WHERE e.incident_key LIKE 'k%%' AND i.acknowledged_at IS NULL AND coalesce(i.policy_level, 0) = 0
    ORDER BY e.id DESC LIMIT 1
);
-- A row that cannot even be deferred, and an unseen row whose next_due_at cannot be written. They exist in two walks in
-- a row, and not in the next two: of two tries in a row, one kills at the first pass of its point.
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
-- A heartbeat of a clock that was ahead, an incident opened by that clock, and an unreadable row deferred by it.
INSERT INTO escalation_workers (worker, ticked_at, version)
SELECT 'ahead', now() + interval '1 h', '?' WHERE %(n)s %% 3 = 0 ON CONFLICT DO NOTHING;
INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
SELECT 'ahead-' || %(n)s, 'critical', at, at FROM (SELECT now() + interval '9 min' AS at) AS ahead WHERE %(n)s %% 3 = 0;
INSERT INTO incidents (incident_key, severity, first_seen, escalation_level, next_due_at)
SELECT 'unreadable-' || %(n)s, 'critical', now(), -1, now() + interval '2 days' WHERE %(n)s %% 3 = 0;
-- A request to read the policies file again, a requested recalculation in every second walk, and in every fourth walk
-- the values of other settings.
UPDATE escalation_recalc SET reload_requested_at = now(), cursor = NULL,
    requested_at = CASE WHEN %(n)s %% 2 = 0 THEN now() END, fingerprint = CASE WHEN %(n)s %% 4 = 1 THEN 'other' END;
"""
PAGED = """
(SELECT i.incident_key FROM incidents i JOIN escalation_pages p USING (incident_key, episode)
    WHERE resolved_at IS NULL AND incident_key ~ '^k[0-9]+-[0-9]+$'
    AND target = 'spare' AND state = 'delivered' LIMIT 1)
UNION
(SELECT i.incident_key FROM incidents i JOIN escalation_pages p USING (incident_key, episode)
    WHERE resolved_at IS NULL AND incident_key ~ '^k[0-9]+-[0-9]+$'
    AND target = 'ops' AND state = 'delivered' LIMIT 4)
"""
"""Open incidents: one whose page came to the target in reserve, which gets no notices, and some of another target."""
FAULTY_ROWS = ("refused", "poison", "unwritable", "unseen", "unwritable-unseen", "ahead", "unreadable")
CONSTRAINT = """
ALTER TABLE incidents ADD CONSTRAINT refused CHECK (
    incident_key NOT LIKE 'refused%'
    OR escalation_level = 0 AND next_due_at IS DISTINCT FROM first_seen + interval '1 s'
);
CREATE FUNCTION faults.unwritable() RETURNS trigger LANGUAGE plpgsql AS $body$ BEGIN
    -- With the SQLSTATE of a refusal, or with the one of a missing table.
    RAISE 'the host refuses the row' USING ERRCODE = TG_ARGV[0];
END $body$;
CREATE TRIGGER unwritable BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (OLD.incident_key LIKE 'unwritable-unseen%') EXECUTE FUNCTION faults.unwritable('23514');
CREATE TRIGGER unwritable_strangely BEFORE UPDATE ON incidents
    FOR EACH ROW WHEN (OLD.incident_key SIMILAR TO 'unwritable-[0-9]+') EXECUTE FUNCTION faults.unwritable('42P01')
"""
HOST = """
CREATE SCHEMA "{schema}" AUTHORIZATION escalation_worker;
CREATE TABLE "{schema}".incidents (
    incident_key text PRIMARY KEY, severity text, first_seen timestamptz NOT NULL, next_due_at timestamptz, status text
);
ALTER TABLE "{schema}".incidents OWNER TO escalation_worker;
INSERT INTO "{schema}".incidents SELECT 'k' || n, 'critical', now() - interval '1 h' FROM generate_series(1, 3) AS n;
-- The invalid index that an interrupted build leaves.
CREATE INDEX escalation_interrupted ON "{schema}".incidents (next_due_at);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"{schema}".escalation_interrupted'::regclass
"""


@attrs.define
class Killer:
    """Kills one worker after the other in one run."""

    run: Run
    killed: Counter[Point] = attrs.field(factory=Counter)
    schemas: list[str] = attrs.field(factory=list)
    _number: int = 0
    _constrained: bool = False

    async def prepare(self, walk: str) -> str:
        """Prepare the tables for a walk; return the walk as the worker's spec names it."""
        self._number += 1
        if walk == "migrate":
            schema = f"host{self._number}"
            self.schemas.append(schema)
            await self.run.execute(HOST.replace("{schema}", schema))
            return MIGRATE + schema
        number = self._number
        hosts = self.run.hosts
        await asyncio.gather(*(hosts.do("open", f"k{number}-{each}", sql=each % 2 == 0) for each in range(2)))
        # Two critical incidents that are surely due, so that each walk finds pages for all targets.
        due: dict[str, Any] = {"severity": "critical", "first_seen": round(time() - 2, 6)}
        await asyncio.gather(*(hosts.do("open", f"k{number}-{each}", sql=each % 2 == 0, **due) for each in (2, 3)))
        if number % FILES_EVERY == 0:
            await self.run.change_file(policies.new_version(FILE, number))
        await self._change_earlier(number - 1)
        if walk == "told together":
            for [key] in await self.run.execute(PAGED):
                await hosts.do("resolve", key, sql=True)
        await self._add_faulty_rows(number)
        self.run.receiver.answers = lambda at: _answer(at, SLOW.get(walk, 0.0))
        return walk

    async def _change_earlier(self, number: int) -> None:
        """Acknowledge an incident of an earlier walk, and give another one another severity, and so another policy."""
        hosts, opened = self.run.hosts, {write.key: write for write in self.run.hosts.writes}
        if f"k{number}-3" in opened:
            await hosts.do("acknowledge", f"k{number}-3", sql=True)
            await hosts.do("change_severity", f"k{number}-2", sql=True, severity="warning")

    async def _add_faulty_rows(self, number: int) -> None:
        """Add refused, unreadable and unseen rows, and instants of a clock that was ahead."""
        if not self._constrained:
            self._constrained = True
            await self.run.execute(CONSTRAINT)
        self.run.unplannable |= {f"{each}-{number}" for each in FAULTY_ROWS}
        await self.run.execute(PREPARE.replace("%(n)s", str(number)).replace("%%", "%"))

    async def walk(
        self, walk: str, interrupt: Interrupt | None = None, counts: Sequence[Point] = ()
    ) -> tuple[Worker, int]:
        """Run one walk to its end. Return the worker and its exit code."""
        named = await self.prepare(walk)
        start = time()
        worker = await self.run.start_worker(
            "m", proxied=False, ready=False, walk=named, interrupt=interrupt, counts=counts, batch_size=3
        )
        code = await worker.until_ended()
        if code == -9:
            [killed] = [line for line in worker.text.splitlines() if line.startswith(INTERRUPTED_AT)]
            self.run.note(KILL, float(killed.removeprefix(INTERRUPTED_AT)), worker)
        if walk in INTERRUPTED:
            self.run.note("walk", start, worker)
        return worker, code

    async def explore(self, walk: str, among: Sequence[Point]) -> Counter[Point]:
        """Run a walk without a kill. Return how often the worker passed each point."""
        worker, code = await self.walk(walk, counts=among)
        if code:
            raise AssertionError(f"the walk {walk!r} ended with code {code}:\n{worker.text[-3000:]}")
        by_place = {(point.module, str(point.line)): point for point in among}
        found: Counter[Point] = Counter()
        for line in worker.text.splitlines():
            if line.startswith(PASSED):
                module, number, count = line.removeprefix(PASSED).split()
                found[by_place[module, number]] += int(count)
        return found

    async def kill(self, point: Point, routes: Sequence[Route], random: Random, first: int = 0) -> bool:
        """Kill a worker at a point. Return whether a walk reached the point.

        Args:
            point: the kill point.
            routes: the walks that pass the point.
            random: chooses the time of the kill.
            first: the number of the route of the first two tries. ``random`` chooses the later ones.
        """
        for attempt in range(TRIES):
            # In turn, the numbers of a walk's tries would have a pattern, and so would what the walk finds.
            walk, often = routes[first % len(routes)] if attempt < 2 else random.choice(routes)
            nth = random.randint(1, min(often, 4)) if attempt % 2 == 0 else 1
            how: How = random.choice(["kill", "kill soon"])
            _, code = await self.walk(walk, Interrupt(point, how, nth, random.random() * MAX_KILL_DELAY))
            if code == -9:
                self.killed[point] += 1
                return True
        return False


def _answer(number: int, slow: float) -> Answer:
    if number % 11 == 10:
        return Answer(status=429, accepts=False)
    if number % 13 == 12:
        return Answer(status=404, accepts=False)
    return Answer(status=503, accepts=False) if number % 4 == 3 else Answer(delay=slow)
