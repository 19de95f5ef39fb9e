"""Other systems to compare with the engine: each posts the same number of messages to the same server.

Job queues get their jobs before the clock starts, and run until the last job is done. Each uses the driver and the
settings that its own documentation recommends for throughput.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
from psycopg.conninfo import conninfo_to_dict

from .ground import peak_megabytes, stopwatch, under, when_told

JOBS = ("pgqueuer", "procrastinate", "APScheduler")
AT_ONCE = 64
BODY = json.dumps({"text": "Incident bench, severity critical, level 1", "dedup_key": "0" * 64}).encode()
CONFIG = """
route:
  receiver: sink
  group_by: ['...']
  group_wait: 0s
  group_interval: 5m
  repeat_interval: 4h
receivers:
  - name: sink
    webhook_configs:
      - url: {url}
        send_resolved: false
"""


def in_child(way: str, dsn: str, url: str, count: int) -> dict[str, Any]:
    """Let one of the job queues send ``count`` messages."""
    works: dict[str, Callable[[str, str, int], Coroutine[Any, Any, float]]] = {
        "pgqueuer": _pgqueuer,
        "procrastinate": _procrastinate,
        "APScheduler": _apscheduler,
    }
    seconds = under("uvloop", works[way](dsn, url, count))
    return {"rate": count / seconds, "megabytes": peak_megabytes()}


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE), cookie_jar=aiohttp.DummyCookieJar())


async def _post(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(url, data=BODY) as reply:
        await reply.read()


async def post_all(url: str, count: int) -> tuple[float, float]:
    """Post ``count`` messages and do nothing else; return the seconds of wall clock and of processor."""
    left = iter(range(count))

    async def sender(http: aiohttp.ClientSession) -> None:
        for _ in left:
            await _post(http, url)

    async with _session() as http:
        when_told()
        wall, cpu = stopwatch()
        await asyncio.gather(*(sender(http) for _ in range(AT_ONCE)))
        return stopwatch()[0] - wall, stopwatch()[1] - cpu


async def _pgqueuer(dsn: str, url: str, count: int) -> float:
    import asyncpg  # noqa: PLC0415 - installed for the bench alone
    from pgqueuer.db import AsyncpgPoolDriver  # noqa: PLC0415
    from pgqueuer.models import Job  # noqa: PLC0415
    from pgqueuer.qm import QueueManager  # noqa: PLC0415
    from pgqueuer.queries import Queries  # noqa: PLC0415
    from pgqueuer.types import QueueExecutionMode  # noqa: PLC0415

    async with asyncpg.create_pool(_uri(dsn), min_size=4, max_size=8) as pool, _session() as http:
        driver = AsyncpgPoolDriver(pool)
        queries = Queries(driver)
        await queries.install()
        await queries.enqueue(["page"] * count, [None] * count, [0] * count)
        manager = QueueManager(queries)

        @manager.entrypoint("page")
        async def page(_: Job) -> None:
            await _post(http, url)

        when_told()
        began = time.perf_counter()
        await manager.run(batch_size=AT_ONCE, mode=QueueExecutionMode.drain)
        return time.perf_counter() - began


async def _procrastinate(dsn: str, url: str, count: int) -> float:
    import procrastinate  # noqa: PLC0415

    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, min_size=4, max_size=8))
    async with app.open_async(), _session() as http:

        @app.task(name="page")
        async def page() -> None:
            await _post(http, url)

        await app.schema_manager.apply_schema_async()
        await page.batch_defer_async(*({} for _ in range(count)))
        when_told()
        began = time.perf_counter()
        await app.run_worker_async(
            wait=False, concurrency=AT_ONCE, delete_jobs="always", install_signal_handlers=False, listen_notify=False
        )
        return time.perf_counter() - began


_HTTP: list[aiohttp.ClientSession] = []
_LEFT: list[int] = []
_DONE: list[asyncio.Event] = []


async def apscheduler_job(url: str) -> None:
    """Post one message. A public function, since APScheduler stores a job by its function's name."""
    await _post(_HTTP[0], url)
    _LEFT[0] -= 1
    if not _LEFT[0]:
        _DONE[0].set()


async def _apscheduler(dsn: str, url: str, count: int) -> float:
    from apscheduler.executors.asyncio import AsyncIOExecutor  # noqa: PLC0415
    from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore  # noqa: PLC0415
    from apscheduler.schedulers.asyncio import AsyncIOScheduler  # noqa: PLC0415
    from sqlalchemy import create_engine  # noqa: PLC0415

    _LEFT[:], _DONE[:] = [count], [asyncio.Event()]
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn))
    scheduler = AsyncIOScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine)}, executors={"default": AsyncIOExecutor()}, timezone=UTC
    )
    scheduler.start(paused=True)
    now = datetime.now(UTC)
    for _ in range(count):
        scheduler.add_job(apscheduler_job, "date", run_date=now, args=[url], misfire_grace_time=None)
    async with _session() as http:
        _HTTP[:] = [http]
        when_told()
        began = time.perf_counter()
        scheduler.resume()
        await _DONE[0].wait()
        seconds = time.perf_counter() - began
    scheduler.shutdown(wait=False)
    return seconds


def _uri(dsn: str) -> str:
    """Return a DSN in the form that asyncpg reads."""
    parts = conninfo_to_dict(dsn)
    return f"postgresql://{parts['user']}@/{parts['dbname']}?host={parts['host']}&port={parts['port']}"


@contextlib.contextmanager
def alertmanager(url: str) -> Iterator[tuple[int, str]]:
    """Start Prometheus' Alertmanager with one group for each alert, sent at once; yield its process id and address."""
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        raise SystemExit("this part of the bench needs Alertmanager: apt-get install prometheus-alertmanager")
    with tempfile.TemporaryDirectory(prefix="escalation-bench-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        config = Path(folder) / "alertmanager.yml"
        config.write_text(CONFIG.format(url=url), encoding="utf-8")
        server = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
                "--log.level=error",
            ],
            env={**os.environ, "GOMAXPROCS": str(os.cpu_count())},
        )
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                    break
                time.sleep(0.1)
            yield server.pid, f"http://127.0.0.1:{port}/api/v2/alerts"
        finally:
            server.terminate()
            server.wait(20)


def rate_of_alertmanager(url: str, count: int, taken: Callable[[], int]) -> dict[str, Any]:
    """Give Alertmanager ``count`` alerts, and wait until the receiver has taken all messages."""
    with alertmanager(url) as (process, address):
        began = time.perf_counter()
        asyncio.run(_alerts(address, count))
        while taken() < count:
            if time.perf_counter() - began > 300:
                raise SystemExit(f"Alertmanager sent {taken()} of {count} messages in five minutes")
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return {"rate": count / seconds, "megabytes": int(kilobytes) / 1024}


async def _alerts(address: str, count: int) -> None:
    async with aiohttp.ClientSession() as http:
        for first in range(0, count, 500):
            alerts = [
                {"labels": {"alertname": "bench", "key": str(n), "severity": "critical"}}
                for n in range(first, min(first + 500, count))
            ]
            async with http.post(address, json=alerts) as reply:
                reply.raise_for_status()
