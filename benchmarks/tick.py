"""Measure a tick on a durable PostgreSQL: incidents a second, as a ratio to the cheapest SQL for the same rows; memory.

Run by ``nox -s bench``. Both figures come from one run, turn by turn, so that a slow machine slows both. The tables and
the machine are written to ``benchmarks/results/tick.json``, and the figures to the README.
"""

import argparse
import asyncio
import json
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.log_notifier import LogNotifier
from escalation_adapters.postgres import PostgresStore, migrate
from escalation_core import Engine

MOST_MEGABYTES = 150
"""What a process may take at its peak while it ticks, however much is due."""
RESULTS = Path(__file__).parent / "results"
FILL = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'bench/' || n, 'critical', now() - interval '10 minutes', now() - interval '5 minutes'
    FROM generate_series(1, {count}) AS n
"""
FLOOR = (
    """
    INSERT INTO escalation_events (incident_key, level, unique_hash, episode)
    SELECT incident_key, 1, encode(sha256(convert_to(incident_key || '|1', 'UTF8')), 'hex'), 1 FROM incidents
    """,
    """
    INSERT INTO escalation_pages (incident_key, episode, level, target, dedup_key, state, created_at, due_at)
    SELECT incident_key, 1, 1, 'log', encode(sha256(convert_to(incident_key || '|1', 'UTF8')), 'hex'), 'pending',
        now(), now() FROM incidents
    """,
    """
    UPDATE incidents SET escalation_level = 1, last_escalated_at = now(), next_due_at = now() + interval '30 minutes'
    """,
)


def prepare(dsn: str, count: int) -> None:
    """Leave ``count`` incidents that are due, and nothing else."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE incidents, escalation_events, escalation_pages, escalation_audit")
        connection.execute(FILL.format(count=count).encode())
        connection.execute("VACUUM ANALYZE incidents")
        connection.execute("CHECKPOINT")


def floor(dsn: str) -> float:
    """Return the seconds that the same rows take as three statements in one transaction."""
    with psycopg.connect(dsn) as connection:
        began = time.perf_counter()
        for statement in FLOOR:
            connection.execute(statement.encode())
        connection.commit()
        return time.perf_counter() - began


async def tick(dsn: str, count: int, batch: int) -> float:
    """Return the seconds that the engine's tick takes."""
    store = await PostgresStore.connect(dsn)
    engine = Engine(store, notifiers=[LogNotifier("log")], batch_size=batch)
    try:
        began = time.perf_counter()
        report = await engine.tick(deliver=False)
        took = time.perf_counter() - began
    finally:
        await store.aclose()
    if report.escalated != count:
        raise SystemExit(f"the tick escalated {report.escalated} of {count}")
    return took


def child(dsn: str, count: int, batch: int) -> dict[str, float]:
    """Tick in a process of its own, so that its peak memory is the tick's; return seconds and megabytes."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", dsn, str(count), str(batch)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def in_child(dsn: str, count: int, batch: int) -> None:
    """Tick, and print the figures."""
    seconds = asyncio.run(tick(dsn, count, batch))
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


def peak_megabytes() -> float:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's getrusage would begin with the peak of the process that started this one.
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        return int(kilobytes) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Measure, show and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 incidents instead of 100,000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("DSN", "COUNT", "BATCH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        in_child(options.child[0], int(options.child[1]), int(options.child[2]))
        return
    count = 20_000 if options.quick else 100_000
    batches = (500, 1000, 2000)
    console = Console()
    floors: list[float] = []
    ticks: dict[int, list[dict[str, float]]] = {batch: [] for batch in batches}
    with EmbeddedPostgres.start(durable=True) as server:
        dsn = server.dsn()
        asyncio.run(migrate.up(dsn))
        for number in range(options.rounds):
            console.print(f"round {number + 1} of {options.rounds}", style="dim")
            prepare(dsn, count)
            floors.append(floor(dsn))
            for batch in batches:
                prepare(dsn, count)
                ticks[batch].append(child(dsn, count, batch))
        with psycopg.connect(dsn) as connection:
            version = connection.info.server_version
    report(console, count, version, floors, ticks)


def report(
    console: Console, count: int, version: int, floors: list[float], ticks: dict[int, list[dict[str, float]]]
) -> None:
    """Print the table, and write it."""
    base = count / statistics.median(floors)
    table = Table("what", "incidents/s", "of the floor", "peak MB", title=f"A tick over {count} due incidents")
    table.add_row("the same rows in three statements (floor)", f"{base:,.0f}", "1.00", "")
    rows: dict[str, dict[str, Any]] = {}
    for batch, runs in ticks.items():
        rate = count / statistics.median(run["seconds"] for run in runs)
        peak = max(run["megabytes"] for run in runs)
        table.add_row(f"engine.tick(), batches of {batch}", f"{rate:,.0f}", f"{rate / base:.2f}", f"{peak:.0f}")
        rows[str(batch)] = {"incidents_per_second": rate, "of_floor": rate / base, "peak_megabytes": peak, "runs": runs}
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "system": platform.platform(), "postgres": version}
    figures = {"count": count, "floor_per_second": base, "floors": floors, "ticks": rows, "machine": machine}
    path = RESULTS / "tick.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_readme(figures)
    worst = max(row["peak_megabytes"] for row in rows.values())
    console.print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")

    kept = worst <= MOST_MEGABYTES
    console.print(f"{'ok' if kept else 'MISSED'}: peak memory {worst:.0f} MB, at most {MOST_MEGABYTES} MB wanted")
    if not kept:
        raise SystemExit(1)


def write_readme(figures: dict[str, Any]) -> None:
    """Put the table where the README shows it."""
    readme = RESULTS.parent.parent / "README.md"
    head, _, rest = readme.read_text(encoding="utf-8").partition("<!-- bench: begin -->\n")
    _, _, tail = rest.partition("<!-- bench: end -->")
    lines = [
        f"| a tick over {figures['count']:,} due incidents, durable PostgreSQL | incidents/s | ratio | peak memory |",
        "| --- | --- | --- | --- |",
        f"| the same rows as three SQL statements: the floor | {figures['floor_per_second']:,.0f} | 1.00 | |",
        *(
            f"| `engine.tick()`, batches of {batch} | {row['incidents_per_second']:,.0f} | {row['of_floor']:.2f} |"
            f" {row['peak_megabytes']:.0f} MB |"
            for batch, row in figures["ticks"].items()
        ),
    ]
    table = "\n".join(lines)
    text = f"{head}<!-- bench: begin -->\n\n{table}\n\n<!-- bench: end -->{tail}"
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
