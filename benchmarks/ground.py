"""Shared means of the parts: a durable PostgreSQL with templates of rows, and child processes to measure in."""

import asyncio
import contextlib
import gc
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import uvloop

from escalation_adapters.embedded import EmbeddedPostgres
from escalation_adapters.postgres import migrate

Found = TypeVar("Found")
ROOT = Path(__file__).parent.parent
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
"""Python's own event loop, and uvloop, which ``escalation run`` uses where it is installed."""
DUE = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'bench/' || n, 'critical', now() - interval '10 minutes', now() - interval '5 minutes'
    FROM generate_series(1, {due}) AS n
"""
"""Rows that are due."""
OTHERS = """
    INSERT INTO incidents (incident_key, severity, first_seen, next_due_at)
    SELECT 'other/' || n, 'critical', now(), now() + interval '1 day' + n * interval '1 ms'
    FROM generate_series(1, {others}) AS n
"""
"""Rows that are not due yet."""


class Ground:
    """The server of the whole bench, with databases from templates."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._number = 0
        self._templates: dict[tuple[str, ...], str] = {}
        self.version = self._ask("SHOW server_version_num")

    @contextlib.contextmanager
    def database(self, *statements: str) -> Iterator[str]:
        """Yield the DSN of a migrated database with the rows of these statements, after a checkpoint.

        The statements run once, in a template; each database is a copy of the template's files.
        """
        if statements not in self._templates:
            self._templates[statements] = self._template(statements)
        with self.empty(f"TEMPLATE {self._templates[statements]} STRATEGY file_copy") as dsn:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
            yield dsn

    @contextlib.contextmanager
    def empty(self, how: str = "") -> Iterator[str]:
        """Yield the DSN of an empty database, or of one that is made as ``how`` says."""
        name = self._create(how)
        try:
            yield self._server.dsn(name)
        finally:
            self._drop(name)

    def set(self, *settings: str) -> None:
        """Change settings of the server that need no restart, for example ``autovacuum = off``."""
        for setting in settings:
            self._ask(f"ALTER SYSTEM SET {setting}")
        self._ask("SELECT pg_reload_conf()::int")

    def forget(self) -> None:
        """Drop the templates: each part has its own, and they would fill the disk."""
        for name in self._templates.values():
            self._drop(name)
        self._templates.clear()

    def _template(self, statements: Sequence[str]) -> str:
        name = self._create("")
        asyncio.run(migrate.up(self._server.dsn(name), create=True))
        with psycopg.connect(self._server.dsn(name), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())
            connection.execute("VACUUM ANALYZE")
        return name

    def _create(self, how: str) -> str:
        self._number += 1
        name = f"bench_{self._number}"
        self._ask(f"CREATE DATABASE {name} {how}")
        return name

    def _drop(self, name: str) -> None:
        self._ask(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _ask(self, statement: str) -> int:
        with psycopg.connect(self._server.dsn(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return 0 if row is None else int(row[0])


@contextlib.contextmanager
def ground() -> Iterator[Ground]:
    """Start the server with fsync and synchronous_commit on, and with commit timestamps, to measure lateness."""
    with EmbeddedPostgres.start(durable=True) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        server.restart()
        yield Ground(server)


def child(part: str, **arguments: Any) -> dict[str, Any]:
    """Run ``in_child`` of a part in its own process, which measures its peak memory separately; return its figures."""
    [figures] = children(part, [arguments])
    return figures


def children(part: str, arguments: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run several child processes at once: each begins when all are ready."""
    command = [sys.executable, "-m", "benchmarks", "--child", part]
    running = [
        subprocess.Popen([*command, json.dumps(each)], cwd=ROOT, stdin=-1, stdout=-1, text=True) for each in arguments
    ]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"the bench's child for {part} did not start")
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate()[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [json.loads(output) for output in outputs]


def when_told() -> None:
    """Report from a child process that it is ready, and wait for the start.

    The garbage collector skips the objects that exist by then, as in ``escalation run``; the bench does so for every
    system.
    """
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    sys.stdin.readline()


def under(loop: str, work: Coroutine[Any, Any, Found]) -> Found:
    """Run a coroutine under one of the event loops."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(work)


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's getrusage would begin with the peak of the process that started this one.
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))
        return int(kilobytes) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def wal_bytes(dsn: str) -> int:
    """Return the bytes of write-ahead log that the server has written."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')").fetchone()
        assert row is not None
        return int(row[0])


def stopwatch() -> tuple[float, float]:
    """Return the wall clock and this process's processor time, in seconds."""
    return time.perf_counter(), time.process_time()
