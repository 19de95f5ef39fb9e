"""Rows that cannot be planned, and a million rows that are due at once."""

import asyncio
from time import time

import pytest

from escalation_core import Budget
from escalation_core.testing.invariants.history import History

from .conftest import NewRun
from .harness.rules import Rules

POISON = {
    "older than a year": "now() - interval '2 years', 0",
    "infinite": "'infinity', 0",
    "minus infinite": "'-infinity', 0",
    "far in the future": "now() + interval '3 days', 0",
    "with a negative level": "now(), -3",
}
MILLION = 1_000_000
ROWS = """
INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
SELECT 'm' || n, 'critical', now() - interval '1 min', now() - interval '1 s' FROM generate_series(1, %s) AS n
"""
COUNTS = """
SELECT (SELECT count(*) FROM escalation_events), (SELECT count(DISTINCT unique_hash) FROM escalation_events),
    (SELECT count(*) FROM escalation_pages), (SELECT count(*) FROM incidents WHERE escalation_level = 1),
    (SELECT count(*) FROM escalation_events e WHERE NOT EXISTS (
        SELECT FROM escalation_pages p WHERE p.incident_key = e.incident_key AND p.level = e.level))
"""


async def test_poison(new_run: NewRun) -> None:
    """Rows that cannot be planned delay no other row. Health counts them, and they escalate after a repair."""
    async with new_run(seed=19) as run:
        await run.start_workers(2)
        with run.disturbance("poison rows"):
            for number, row in enumerate(POISON.values()):
                run.unplannable.add(f"poison-{number}")
                await run.execute(
                    "INSERT INTO incidents (incident_key, severity, first_seen, escalation_level)"
                    f" VALUES ('poison-{number}', NULL, {row})"
                )
            run.start_incidents(15, over=2)
            await run.finish_incidents()
        assert len(POISON) == (await run.hosts.engine.health()).stats.unreadable
        await run.execute(
            "UPDATE incidents SET first_seen = now(), escalation_level = 0 WHERE incident_key LIKE 'poison-%'"
        )

        async def healed() -> bool:
            # Up to the highest level, because the end of the run does not wait for unplannable rows.
            rows = await run.execute("SELECT incident_key FROM escalation_events WHERE level = %s", run.rules.max_level)
            return run.unplannable <= {key for (key,) in rows}

        assert await run.until(healed)
        assert [] == await run.judge()


PROGRESS = """
SELECT EXISTS (SELECT FROM incidents WHERE next_due_at <= now()),
    (SELECT extract(epoch FROM now() - max(ticked_at))::float8 FROM escalation_workers)
"""


@pytest.mark.timeout(1500)
async def test_a_million_due_at_once(new_run: NewRun, full: bool) -> None:
    """Of a million due rows each is recorded once with its page, and heartbeats continue meanwhile."""
    count = MILLION if full else MILLION // 100
    # The budget leaves almost all pages waiting, because the receiver would limit the speed. Without a target each page
    # would be dead, and each incident would be noted as unheard.
    async with new_run(rules=Rules(max_level=1, budgets={"ops": Budget(rate=0.001, burst=1)})) as run:
        run.watcher.enabled = False
        await run.execute("DROP TRIGGER faults_written ON escalation_events")
        await run.execute(ROWS, count)
        run.targets = ("ops",)
        began = time()
        await asyncio.gather(
            *(run.start_worker(f"w{n + 1}", proxied=False, walk="run without log", batch_size=1000) for n in range(3))
        )

        lags: list[float] = []

        async def done() -> bool:
            [[left, lag]] = await run.execute(PROGRESS)
            if lag is not None:
                lags.append(lag)
            return not left and bool(lags)

        assert await run.until(done, 1200), "due rows are left, or no worker wrote a heartbeat"
        seconds = time() - began
        assert [(count, count, count, count, 0)] == await run.execute(COUNTS)
        assert max(lags) < 3 * run.rules.tick
        run.measured = {
            "due at once": count,
            "per second": int(count / seconds),
            "ms without a heartbeat": int(1000 * max(lags)),
        }
        # The query above has judged the run.
        run.result = History(ended=time()), []
