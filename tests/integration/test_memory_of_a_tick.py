"""Tests of a tick's memory: it depends on the number of rows, not on the length of the hosts' texts."""

import subprocess
import sys

import psycopg
import pytest

MOST = 120
"""Mebibytes that a worker's whole process may take, libraries included."""
WORKER = """
import asyncio, sys
from escalation_adapters.postgres import PostgresStore
from escalation_core import Engine, Route, Settings
from escalation_core.testing import RecordingNotifier

async def main():
    notifier = RecordingNotifier("default", "team")
    settings = Settings(default_target="default", routes=[Route(labels={"team": "ops"}, targets=["team"])])
    async with Engine(await PostgresStore.connect(sys.argv[1]), settings=settings, notifiers=[notifier]) as engine:
        notifier.pages = Counted()
        report = await engine.tick()
        while (await engine.deliver()).sent:
            pass
        print(report.escalated, report.labels_left_out, *(notifier.pages.count[t] for t in ("default", "team")))
    # The peak of this process alone: getrusage would include the peak of the process that started it.
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(int(peak) // 1024)

class Counted(list):
    def __init__(self):
        self.count = {"default": 0, "team": 0}
    def append(self, page):
        self.count[page.target] += 1

asyncio.run(main())
"""
INSERT = """
INSERT INTO incidents (incident_key, severity, first_seen, summary, labels)
SELECT 'k' || n, %(severity)s, now() - interval '1 hour', repeat('x', %(summary)s),
    jsonb_build_object('team', 'ops', 'more', (
        SELECT string_agg(md5(random()::text), '') FROM generate_series(1, %(label)s / 32) WHERE n > 0))
FROM generate_series(1, %(count)s) AS n
"""
KIB = 1024


@pytest.mark.skipif(sys.platform != "linux", reason="how much a process took at most stands in /proc on Linux alone")
@pytest.mark.parametrize(
    ("count", "summary", "label", "severity", "told"),
    [
        (600, 2_000_000, 32, "critical", "600 0 0 600"),
        (1000, 10, 63 * KIB, "critical", "1000 0 0 1000"),
        (40, 10, 2000 * KIB, "critical", "40 40 40 0"),
        (300, 10, 32, "s" * 1_000_000, "300 0 0 300"),
    ],
    ids=["summaries", "labels", "labels too long", "severities"],
)
@pytest.mark.direct("memory is the worker's own")
def test_a_tick_stays_small(migrated_dsn: str, count: int, summary: int, label: int, severity: str, told: str) -> None:
    """The worker pages each row within ``MOST`` MiB; rows whose labels are left out page the default target."""
    with psycopg.connect(migrated_dsn) as connection:
        values = {"count": count, "summary": summary, "label": label, "severity": severity}
        connection.execute(INSERT, values)
    # Run the worker as a process of its own: the test must not measure the memory of this interpreter.
    run = subprocess.run(
        [sys.executable, "-c", WORKER, migrated_dsn], capture_output=True, text=True, timeout=60, check=True
    )
    said, most = run.stdout.split("\n")[:2]
    assert told == said
    assert int(most) < MOST
