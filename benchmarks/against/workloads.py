"""The workloads of a comparison. To add one, write one function: prepare rows, then measure what is done with them.

A workload uses what both commits have: public names, and SQL on the tables.
"""

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from .delivering import deliver_postgres  # noqa: F401 - found by its type
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
Columns = Mapping[str, str]
How = Literal["builtin", "named", "pinning"]
"""Which policy decides about the rows: the built-in one, or one of a file, which they are pinned to before or now."""


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
    _tick_memory(meter, "builtin")


@workload()
def tick_memory_named(meter: Meter) -> None:
    """Tick over rows in memory that are pinned to a policy of a file."""
    _tick_memory(meter, "named")


@workload()
def tick_memory_pinning(meter: Meter) -> None:
    """Tick over rows in memory that a host inserted: the tick pins each of them to a policy of a file."""
    _tick_memory(meter, "pinning")


def _tick_memory(meter: Meter, how: How) -> None:
    from escalation_core.testing import MemoryStore

    store = MemoryStore()

    async def fill(turn: int, pinned: Columns) -> None:
        now = datetime.now(UTC)
        for n in range(DUE):
            at = {"first_seen": now - 10 * MINUTE, "next_due_at": now - 5 * MINUTE}
            await store.host.insert(f"due/{turn}/{n}", severity="critical", **at)
            store.rows[f"due/{turn}/{n}"].update(pinned)
        for n in range(NOT_DUE):
            await store.host.insert(f"new/{turn}/{n}", severity="critical", first_seen=now)
            store.rows[f"new/{turn}/{n}"].update(pinned)

    asyncio.run(_ticks(meter, store, fill, how))


@workload()
def tick_sqlite(meter: Meter) -> None:
    """Tick over rows in an SQLite file, by the built-in policy."""
    _tick_sqlite(meter, "builtin")


@workload()
def tick_sqlite_named(meter: Meter) -> None:
    """Tick over rows in an SQLite file that are pinned to a policy of a file."""
    _tick_sqlite(meter, "named")


@workload()
def tick_sqlite_pinning(meter: Meter) -> None:
    """Tick over rows in an SQLite file that a host inserted: the tick pins each of them to a policy of a file."""
    _tick_sqlite(meter, "pinning")


def _tick_sqlite(meter: Meter, how: How) -> None:
    from escalation_adapters.sqlite import SQLiteStore
    from escalation_core import canary_bucket

    file = meter.folder / "bench.db"

    async def fill(turn: int, pinned: Columns) -> None:
        now = int(datetime.now(UTC).timestamp() * 1e6)
        due = ((f"due/{turn}/{n}", now - 600_000_000, now - 300_000_000) for n in range(DUE))
        new = ((f"new/{turn}/{n}", now, 0) for n in range(NOT_DUE))
        columns, places = "".join(f", {column}" for column in pinned), ", ?" * len(pinned)
        with sqlite3.connect(file) as connection:
            connection.executemany(
                f"INSERT INTO incidents (incident_key, severity, first_seen, next_due_at, canary_bucket{columns})"
                f" VALUES (?, 'critical', ?, ?, ?{places})",
                ((*row, canary_bucket(row[0]), *pinned.values()) for row in (*due, *new)),
            )
        connection.close()

    async def work() -> None:
        await _ticks(meter, await SQLiteStore.connect(file), fill, how)

    asyncio.run(work())


@workload(postgres=True)
def tick_postgres(meter: Meter) -> None:
    """Tick over rows in PostgreSQL, by the built-in policy."""
    _tick_postgres(meter, "builtin")


@workload(postgres=True)
def tick_postgres_named(meter: Meter) -> None:
    """Tick over rows in PostgreSQL that are pinned to a policy of a file."""
    _tick_postgres(meter, "named")


@workload(postgres=True)
def tick_postgres_pinning(meter: Meter) -> None:
    """Tick over rows in PostgreSQL that a host inserted: the tick pins each of them to a policy of a file."""
    _tick_postgres(meter, "pinning")


def _tick_postgres(meter: Meter, how: How) -> None:
    import psycopg

    from escalation_adapters.postgres import PostgresStore, migrate

    async def fill(turn: int, pinned: Columns) -> None:
        due = ("due", "now() - interval '10 minutes'", "now() - interval '5 minutes'", DUE)
        new = ("new", "now()", "to_timestamp(0)", NOT_DUE)
        columns = "".join(f", {column}" for column in pinned)
        values = "".join(f", '{value}'" for value in pinned.values())
        with psycopg.connect(meter.dsn, autocommit=True) as connection:
            # Without the triggers, which take back what a host writes into the engine's columns.
            connection.execute("SET session_replication_role = replica")
            for name, first_seen, next_due_at, rows in (due, new):
                statement = f"""
                    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at{columns})
                    SELECT '{name}/{turn}/' || n, 'critical', {first_seen}, {next_due_at}{values}
                    FROM generate_series(1, {rows}) AS n
                """
                connection.execute(statement.encode())
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    async def work() -> None:
        await migrate.up(meter.dsn, create=True)
        await _ticks(meter, await PostgresStore.connect(meter.dsn), fill, how)

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


async def _ticks(meter: Meter, store: "Store", fill: Callable[[int, Columns], Awaitable[None]], how: How) -> None:
    """Measure ticks without deliveries. ``fill`` writes ``DUE`` and ``NOT_DUE`` rows before each."""
    from escalation_adapters.channels.log import LogNotifier
    from escalation_core import Engine

    file, pinned = ({}, {}) if how == "builtin" else _named_policies()
    async with Engine(store, notifiers=[LogNotifier("log")], **file) as engine:
        for turn in range(TICKS):
            await fill(turn, pinned if how == "named" else {})
            with meter.measure(rows=DUE + NOT_DUE):
                report = await engine.tick(deliver=False)
            if (report.escalated, report.rescheduled.total()) != (DUE, NOT_DUE):
                raise SystemExit(f"the tick escalated {report.escalated}, rescheduled {report.rescheduled.total()}")


def _named_policies() -> tuple[dict[str, Any], Columns]:
    """Return the argument that gives an engine a policies file, and the columns of a row that was planned by it.

    The file says what the built-in policy says, so that both sides do the same. A commit without policies files
    measures the built-in policy.
    """
    try:
        from escalation_core import Policies
    except ImportError:
        return {}, {}
    critical = {"levels": [{"after": "5m"}], "repeat": {"times": 6}, "anchor": "first_seen", "min_gap": "30m"}
    assign = [{"severity": "critical", "policy": "critical"}]
    policies = Policies.from_mapping({"policies": {"critical": critical}, "assign": assign})
    return {"policies": policies}, {"policy_pin": f"critical@{policies.policies['critical'].digest}@critical"}
