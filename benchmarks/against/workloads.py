"""The workloads of a comparison. To add one, write one function: prepare rows, then measure what is done with them.

A workload uses what both commits have: public names, and SQL on the tables.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .workload import Meter, workload

if TYPE_CHECKING:
    from escalation_core import Store

DUE = 1000
"""Rows that a tick escalates."""
NOT_DUE = 1000
"""Rows that a host wrote just now: a tick claims them, and finds that they are not due yet."""
TICKS = 10
"""How many ticks a process measures, each over new rows."""
MINUTE = timedelta(minutes=1)


@workload()
def plan(meter: Meter) -> None:
    """Plan a million rows: 10,000 different ones, 100 times each."""
    from escalation_core import Incident, Settings, plan
    from escalation_core.model import Candidate

    now, policy = datetime.now(UTC), Settings().policy
    ages = (0, 3, 10, 20, 45, 90, 400, 3000)
    severities = ("critical", "warning", " Critical", None, "of the host")
    shapes: tuple[dict[str, Any], ...] = (
        {},
        {"level": 1, "last_escalated_at": now - 10 * MINUTE},
        {"level": 2, "last_escalated_at": now - 40 * MINUTE},
        {"level": 7, "last_escalated_at": now - 40 * MINUTE},
        {"snoozed_until": now + 10 * MINUTE},
        {"acknowledged_at": now, "acknowledged_by": "a responder"},
    )
    kinds = itertools.islice(itertools.cycle(itertools.product(ages, severities, shapes)), 10_000)
    rows = [
        Candidate(
            incident_key=f"bench/{n}",
            incident=Incident(
                incident_key=f"bench/{n}",
                severity=severity,
                first_seen=now - age * MINUTE,
                next_due_at=now - MINUTE,
                **shape,
            ),
        )
        for n, (age, severity, shape) in enumerate(kinds)
    ]
    for _ in range(100):
        with meter.measure(rows=len(rows)):
            for row in rows:
                plan(row, policy=policy, now=now)


@workload()
def tick_memory(meter: Meter) -> None:
    """Tick over rows in memory, by the built-in policy."""
    _tick_memory(meter)


@workload()
def tick_memory_named(meter: Meter) -> None:
    """Tick over rows in memory, by a policy of a file."""
    _tick_memory(meter, named=True)


def _tick_memory(meter: Meter, *, named: bool = False) -> None:
    from escalation_core.testing import MemoryStore

    store = MemoryStore()

    async def fill(turn: int) -> None:
        now = datetime.now(UTC)
        for n in range(DUE):
            at = {"first_seen": now - 10 * MINUTE, "next_due_at": now - 5 * MINUTE}
            await store.host.insert(f"due/{turn}/{n}", severity="critical", **at)
        for n in range(NOT_DUE):
            await store.host.insert(f"new/{turn}/{n}", severity="critical", first_seen=now)

    asyncio.run(_ticks(meter, store, fill, named=named))


@workload()
def tick_sqlite(meter: Meter) -> None:
    """Tick over rows in an SQLite file, by the built-in policy."""
    _tick_sqlite(meter)


@workload()
def tick_sqlite_named(meter: Meter) -> None:
    """Tick over rows in an SQLite file, by a policy of a file."""
    _tick_sqlite(meter, named=True)


def _tick_sqlite(meter: Meter, *, named: bool = False) -> None:
    from escalation_adapters.sqlite import SQLiteStore
    from escalation_core import canary_bucket

    file = meter.folder / "bench.db"

    async def fill(turn: int) -> None:
        now = int(datetime.now(UTC).timestamp() * 1e6)
        due = ((f"due/{turn}/{n}", now - 600_000_000, now - 300_000_000) for n in range(DUE))
        new = ((f"new/{turn}/{n}", now, 0) for n in range(NOT_DUE))
        with sqlite3.connect(file) as connection:
            connection.executemany(
                "INSERT INTO incidents (incident_key, severity, first_seen, next_due_at, canary_bucket)"
                " VALUES (?, 'critical', ?, ?, ?)",
                ((*row, canary_bucket(row[0])) for row in (*due, *new)),
            )
        connection.close()

    async def work() -> None:
        await _ticks(meter, await SQLiteStore.connect(file), fill, named=named)

    asyncio.run(work())


@workload(postgres=True)
def tick_postgres(meter: Meter) -> None:
    """Tick over rows in PostgreSQL, by the built-in policy."""
    _tick_postgres(meter)


@workload(postgres=True)
def tick_postgres_named(meter: Meter) -> None:
    """Tick over rows in PostgreSQL, by a policy of a file."""
    _tick_postgres(meter, named=True)


def _tick_postgres(meter: Meter, *, named: bool = False) -> None:
    import psycopg

    from escalation_adapters.postgres import PostgresStore, migrate

    async def fill(turn: int) -> None:
        with psycopg.connect(meter.dsn, autocommit=True) as connection:
            connection.execute(
                """
                INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
                SELECT 'due/' || %s || n, 'critical', now() - interval '10 minutes', now() - interval '5 minutes'
                FROM generate_series(1, %s) AS n
                """,
                [f"{turn}/", DUE],
            )
            connection.execute(
                """
                INSERT INTO incidents (incident_key, severity, first_seen)
                SELECT 'new/' || %s || n, 'critical', now() FROM generate_series(1, %s) AS n
                """,
                [f"{turn}/", NOT_DUE],
            )
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    async def work() -> None:
        await migrate.up(meter.dsn, create=True)
        await _ticks(meter, await PostgresStore.connect(meter.dsn), fill, named=named)

    asyncio.run(work())


@workload(postgres=True)
def host_writes(meter: Meter) -> None:
    """Write 10,000 rows as a host, each in a statement of its own, inside the server: the cost of the triggers."""
    import psycopg

    from escalation_adapters.postgres import migrate

    asyncio.run(migrate.up(meter.dsn, create=True))
    writes = {
        "insert": "INSERT INTO incidents (incident_key, severity) VALUES ('bench/' || n, 'critical')",
        "update of another column": "UPDATE incidents SET summary = 'disk full' WHERE incident_key = 'bench/' || n",
        "acknowledge": "UPDATE incidents SET acknowledged_at = now(), acknowledged_by = 'host'"
        " WHERE incident_key = 'bench/' || n",
    }
    with psycopg.connect(meter.dsn, autocommit=True) as connection:
        for name, write in writes.items():
            for first in range(0, 10_000, 1000):
                loop = f"FOR n IN {first}..{first + 999} LOOP {write}; END LOOP"
                with meter.measure(name, rows=1000, backend=connection.info.backend_pid):
                    connection.execute(f"DO $$ BEGIN {loop}; END $$".encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


async def _ticks(meter: Meter, store: "Store", fill: Callable[[int], Awaitable[None]], *, named: bool = False) -> None:
    """Measure ticks without deliveries. ``fill`` writes ``DUE`` and ``NOT_DUE`` rows before each."""
    from escalation_adapters.channels.log import LogNotifier
    from escalation_core import Engine

    file = _named_policies() if named else {}
    async with Engine(store, notifiers=[LogNotifier("log")], **file) as engine:
        for turn in range(TICKS):
            await fill(turn)
            with meter.measure(rows=DUE + NOT_DUE):
                report = await engine.tick(deliver=False)
            if (report.escalated, report.rescheduled.total()) != (DUE, NOT_DUE):
                raise SystemExit(f"the tick escalated {report.escalated}, rescheduled {report.rescheduled.total()}")


def _named_policies() -> dict[str, Any]:
    """Return the argument that gives an engine a policies file. A commit without policies files measures the built-in.

    The file says what the built-in policy says, so that both sides do the same. Each tick pins the new rows.
    """
    try:
        from escalation_core import Policies
    except ImportError:
        return {}
    critical = {"levels": [{"after": "5m"}], "repeat": {"times": 6}, "anchor": "first_seen", "min_gap": "30m"}
    assign = [{"severity": "critical", "policy": "critical"}]
    return {"policies": Policies.from_mapping({"policies": {"critical": critical}, "assign": assign})}
